//! What the server itself does to an object on its way in: system metadata, generation, parts, defaults, validation
//! (Kubernetes' rest.BeforeCreate and BeforeUpdate). Pure, but for the clock and the dice that the caller hands in.
//!
//! # Guarantees
//! - A write to the main resource changes no part; a write to a part changes that field and managedFields, nothing else.
//! - uid, creationTimestamp, deletionTimestamp and generation are the server's.
//! - What this returns with no error is valid by schema and by the kind's own rules.

use jiff::Timestamp;
use serde_json::{Map, Value};
use setpoint_definition::{NameRule, Origin, ResourceDefinition, Scope};
use setpoint_meta::{
    field::{ErrorKind, FieldError, Path},
    names, object,
    status::Status,
};

use crate::{Answer, catalog::Served, kinds};

/// What of an object a request writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Everything but parts.
    Main,
    /// One part.
    Part(String),
}

/// Metadata that only the server writes. resourceVersion is not stored at all.
const SYSTEM: [&str; 6] = [
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "selfLink",
];

/// Makes a decoded object into one that can be created. `uid` and `now` are the server's.
pub(crate) fn prepare_create(served: &Served, value: &mut Value, uid: &str, now: Timestamp) -> Answer<()> {
    let definition = &served.definition;
    if object::resource_version(value).is_some() {
        return Err(Status::bad_request("resourceVersion should not be set on objects to be created").into());
    }
    let metadata = object::metadata_mut(value);
    SYSTEM.iter().for_each(|key| drop(metadata.remove(*key)));
    metadata.remove("resourceVersion");
    if definition.scope == Scope::Cluster {
        metadata.remove("namespace");
    }
    dedupe_owners(metadata);
    metadata.insert("uid".into(), uid.into());
    metadata.insert("creationTimestamp".into(), setpoint_meta::time::rfc3339(now).into());
    if definition.generation {
        metadata.insert("generation".into(), 1.into());
    }
    for part in &served.version().parts {
        remove(value, &part.name);
    }
    setpoint_schema::default(&served.version().schema, value);
    if let Some(defaults) = definition.defaulter {
        defaults(value);
    }
    kinds::of(definition).prepare_create(value, now);
    Ok(())
}

/// Makes a decoded object into the successor of `old`.
pub(crate) fn prepare_update(served: &Served, target: &Target, old: &Value, new: &mut Value) -> Answer<()> {
    let definition = &served.definition;
    check_identity(definition, old, new)?;
    match target {
        Target::Part(part) => {
            let written = new.get_mut(part).map(Value::take).unwrap_or_default();
            let managed = object::metadata_mut(new).remove("managedFields");
            *new = old.clone();
            set(new, part, written);
            let metadata = object::metadata_mut(new);
            metadata.remove("managedFields");
            managed
                .into_iter()
                .for_each(|m| drop(metadata.insert("managedFields".into(), m)));
        }
        Target::Main => {
            for part in &served.version().parts {
                set(new, &part.name, old.get(&*part.name).cloned().unwrap_or_default());
            }
            keep_system_metadata(old, new);
            dedupe_owners(object::metadata_mut(new));
        }
    }
    setpoint_schema::default(&served.version().schema, new);
    if let Some(defaults) = definition.defaulter {
        defaults(new);
    }
    kinds::of(definition).prepare_update(target, old, new);
    if definition.generation && *target == Target::Main && spec_differs(served, old, new) {
        let generation = object::generation(old) + 1;
        object::metadata_mut(new).insert("generation".into(), generation.into());
    }
    Ok(())
}

/// Preconditions that a client states in the object itself: uid and, checked by the caller, resourceVersion.
fn check_identity(definition: &ResourceDefinition, old: &Value, new: &Value) -> Answer<()> {
    match (object::uid(new), object::uid(old)) {
        (Some(given), Some(actual)) if given != actual => {
            let why = format!("Precondition failed: UID in precondition: {given}, UID in object meta: {actual}");
            Err(Status::conflict(&definition.group_resource(), object::name(old), why).into())
        }
        _ => Ok(()),
    }
}

fn keep_system_metadata(old: &Value, new: &mut Value) {
    let kept: Vec<(&str, Option<Value>)> = SYSTEM
        .iter()
        .map(|key| (*key, old["metadata"].get(*key).cloned()))
        .collect();
    let metadata = object::metadata_mut(new);
    for (key, value) in kept {
        match value {
            Some(value) => drop(metadata.insert(key.into(), value)),
            None => drop(metadata.remove(key)),
        }
    }
}

/// Whether anything outside metadata and parts differs.
fn spec_differs(served: &Served, old: &Value, new: &Value) -> bool {
    let outside = |value: &Value| -> Vec<(String, Value)> {
        let skip =
            |key: &str| matches!(key, "metadata" | "apiVersion" | "kind") || served.version().part(key).is_some();
        value
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(k, v)| !skip(k) && !v.is_null())
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect()
    };
    outside(old) != outside(new)
}

/// Equal owner references are one (SEMANTICS: creation "de-duplicates owner references").
fn dedupe_owners(metadata: &mut Map<String, Value>) {
    if let Some(Value::Array(owners)) = metadata.get_mut("ownerReferences") {
        // by text, so that a body full of them costs no more than reading it
        let mut seen = std::collections::HashSet::with_capacity(owners.len());
        owners.retain(|owner| seen.insert(owner.to_string()));
    }
}

fn remove(value: &mut Value, key: &str) {
    value.as_object_mut().and_then(|m| m.remove(key));
}

/// Sets a root field; null removes it.
pub(crate) fn set(value: &mut Value, key: &str, field: Value) {
    match field {
        Value::Null => remove(value, key),
        field => drop(value.as_object_mut().map(|m| m.insert(key.into(), field))),
    }
}

/// Every rule on the new object; `old` on updates.
pub(crate) fn validate(served: &Served, target: &Target, new: &Value, old: Option<&Value>) -> Answer<()> {
    let definition = &served.definition;
    let mut errors = Vec::new();
    if *target == Target::Main {
        metadata(definition, new, old, &mut errors);
    }
    errors.extend(setpoint_schema::validate(&served.version().schema, new, old));
    if let Some(validator) = definition.validator.filter(|_| errors.is_empty()) {
        errors.extend(validator(new, old));
    }
    if errors.is_empty() {
        return Ok(());
    }
    if definition.origin == Origin::Kubernetes
        && let Some(error) = errors.iter().find(|e| e.kind == ErrorKind::TypeInvalid)
    {
        // Kubernetes decodes its own kinds into Go structs: a wrong type there is no invalid object but no object at all
        let (kind, version) = (&definition.kind, &served.version().name);
        let wanted = error
            .detail
            .rsplit_once(" must be of type ")
            .map_or("", |(_, rest)| rest.split(':').next().unwrap_or_default());
        let found = error
            .bad_value
            .as_ref()
            .and_then(Value::as_str)
            .unwrap_or("value")
            .replace("integer", "number")
            .replace("boolean", "bool");
        let why = format!(
            "json: cannot unmarshal {found} into Go struct field {kind}.{} of type {wanted}",
            error.path
        );
        return Err(Status::bad_request(format!(
            "{kind} in version {:?} cannot be handled as a {kind}: {why}",
            &**version
        ))
        .into());
    }
    Err(Status::invalid(&definition.gvk(served.version()), object::name(new), errors).into())
}

/// ValidateObjectMeta: names, labels, annotations, finalizers, owners.
fn metadata(definition: &ResourceDefinition, new: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let path = Path::new("metadata");
    let name = object::name(new);
    if name.is_empty() {
        errors.push(FieldError::required(
            path.child("name"),
            "name or generateName is required",
        ));
    } else if old.is_none() {
        let problems = match definition.names {
            NameRule::Subdomain => names::dns1123_subdomain(name),
            NameRule::Label => names::dns1123_label(name),
            NameRule::PathSegment => names::path_segment(name),
        };
        errors.extend(
            problems
                .into_iter()
                .map(|p| FieldError::invalid(path.child("name"), name, p)),
        );
    }
    for (key, value) in object::labels(new).into_iter().flatten() {
        let at = path.child("labels");
        errors.extend(
            names::qualified_name(key)
                .into_iter()
                .map(|p| FieldError::invalid(at.clone(), key.as_str(), p)),
        );
        let text = value.as_str().unwrap_or_default();
        errors.extend(
            names::label_value(text)
                .into_iter()
                .map(|p| FieldError::invalid(at.clone(), text, p)),
        );
    }
    annotations(new, &path, errors);
    for finalizer in object::finalizers(new) {
        errors.extend(
            names::qualified_name(finalizer)
                .into_iter()
                .map(|p| FieldError::invalid(path.child("finalizers"), finalizer, p)),
        );
    }
    owners(new, &path, errors);
    if let Some(old) = old.filter(|old| object::deletion_timestamp(old).is_some()) {
        let had: std::collections::HashSet<&str> = object::finalizers(old).collect();
        let added: Vec<&str> = object::finalizers(new).filter(|f| !had.contains(*f)).collect();
        if !added.is_empty() {
            let detail = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers {added:?}"
            );
            errors.push(FieldError::forbidden(path.child("finalizers"), detail));
        }
    }
}

/// All annotations together may be 256 KiB (TotalAnnotationSizeLimitB).
fn annotations(new: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    const LIMIT: usize = 256 << 10;
    let mut total = 0;
    for (key, value) in object::annotations(new).into_iter().flatten() {
        total += key.len() + value.as_str().map_or(0, str::len);
        errors.extend(
            names::qualified_name(&key.to_lowercase())
                .into_iter()
                .map(|p| FieldError::invalid(path.child("annotations"), key.as_str(), p)),
        );
    }
    if total > LIMIT {
        errors.push(FieldError::too_long(path.child("annotations"), LIMIT));
    }
}

fn owners(new: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    let mut controllers = 0;
    for (index, owner) in object::owner_references(new).enumerate() {
        let at = path.child("ownerReferences").index(index);
        for (field, text) in [
            ("apiVersion", owner.api_version),
            ("kind", owner.kind),
            ("name", owner.name),
            ("uid", owner.uid),
        ] {
            if text.is_empty() {
                errors.push(FieldError::invalid(at.child(field), text, "must not be empty"));
            }
        }
        controllers += usize::from(owner.controller);
    }
    if controllers > 1 {
        errors.push(FieldError::invalid(
            path.child("ownerReferences"),
            Value::Null,
            "Only one reference can have Controller set to true",
        ));
    }
}

/// The object's generated name, if it wants one.
pub(crate) fn generate_name(value: &mut Value) -> bool {
    if !object::name(value).is_empty() {
        return false;
    }
    let Some(name) = object::generate_name(value).map(names::generate_name) else {
        return false;
    };
    object::metadata_mut(value).insert("name".into(), name.into());
    true
}
