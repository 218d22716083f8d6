//! CustomResourceDefinition objects: their defaults, their validation, and the [`ResourceDefinition`] that each describes.
//!
//! Guarantees: a CRD that [`validate`] accepts makes a definition, and one that it refuses makes none; error texts and paths are those of
//! Kubernetes' apiextensions. Versions come out in Kubernetes' order of preference, whatever their order in the object.
//!
//! One word of ours is understood beside Kubernetes': `versions[].subresources.x-setpoint-parts`, a list of top-level fields with a
//! subresource of their own besides `status`. Only the kinds that Setpoint ships may use it.
//!
//! How to get it wrong: calling [`ResourceDefinition::from_crd`] with what a user sent before [`defaults`] and the schema's defaults
//! have run; names would be filled in here, silently, but not in the stored object.

mod priority;
mod validate;
mod versions;

#[cfg(test)]
pub(crate) mod tests;

use serde_json::{Value, json};
use setpoint_meta::field::{FieldError, Path};

pub use self::priority::compare as compare_versions;
use crate::resource::{NameRule, Origin, ResourceDefinition, Scope, Verb};

/// Fills in what Kubernetes defaults on a CustomResourceDefinition: the singular and list kind, the conversion strategy `None`, and
/// port 443 of a conversion webhook's service.
pub fn defaults(crd: &mut Value) {
    let Some(spec) = crd.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    let conversion = spec.entry("conversion").or_insert(Value::Null);
    if conversion.is_null() {
        *conversion = json!({"strategy": "None"});
    }
    if let Some(Value::Object(service)) = conversion.pointer_mut("/webhook/clientConfig/service") {
        service.entry("port").or_insert_with(|| json!(443));
    }
    if let Some(Value::Object(names)) = spec.get_mut("names") {
        let kind = names.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
        for (field, value) in [("singular", kind.to_lowercase()), ("listKind", format!("{kind}List"))] {
            let missing = names.get(field).and_then(Value::as_str).is_none_or(str::is_empty);
            if missing && !kind.is_empty() {
                names.insert(field.to_owned(), Value::String(value));
            }
        }
    }
}

/// Everything that is wrong with a CustomResourceDefinition, metadata apart but for its name; `old` on updates.
pub fn validate(crd: &Value, old: Option<&Value>, origin: Origin) -> Vec<FieldError> {
    let mut errors = validate::object(crd, &crd["spec"]["names"], old);
    errors.extend(versions::all(crd, origin).1);
    errors
}

impl ResourceDefinition {
    /// The definition that a CustomResourceDefinition describes. Its object may lack what [`defaults`] adds.
    ///
    /// # Errors
    /// What [`validate`] finds.
    pub fn from_crd(crd: &Value, origin: Origin) -> Result<Self, Vec<FieldError>> {
        let mut names = json!({"spec": {"names": crd["spec"]["names"]}});
        defaults(&mut names);
        let names = &names["spec"]["names"];
        let mut errors = validate::object(crd, names, None);
        let (mut versions, wrong) = versions::all(crd, origin);
        errors.extend(wrong);
        if !errors.is_empty() {
            return Err(errors);
        }
        let stored = versions
            .iter()
            .find(|version| version.storage)
            .map(|version| version.version.name.clone());
        versions.sort_by(|a, b| priority::compare(&b.version.name, &a.version.name));
        let storage = versions
            .iter()
            .position(|version| Some(&version.version.name) == stored.as_ref());
        let Some(storage) = storage else {
            return Err(vec![FieldError::internal(Path::new("spec"), "no storage version")]);
        };
        Ok(Self {
            group: text(&crd["spec"], "group").into(),
            kind: text(names, "kind").into(),
            list_kind: text(names, "listKind").into(),
            plural: text(names, "plural").into(),
            singular: text(names, "singular").into(),
            short_names: texts(names, "shortNames"),
            categories: texts(names, "categories"),
            scope: if text(&crd["spec"], "scope") == "Cluster" {
                Scope::Cluster
            } else {
                Scope::Namespaced
            },
            origin,
            versions: versions.into_iter().map(|version| version.version).collect(),
            storage,
            verbs: Verb::STORED,
            names: NameRule::Subdomain,
            unconditional_update: false,
            create_on_update: false,
            generation: true,
            view: None,
            defaulter: None,
            validator: None,
        })
    }
}

/// A text field; empty when absent.
fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// The items of a list field; none when absent.
fn items<'a>(object: &'a Value, field: &str) -> &'a [Value] {
    object.get(field).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn texts(object: &Value, field: &str) -> Vec<String> {
    items(object, field)
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

/// A flag; false when absent.
fn flag(object: &Value, field: &str) -> bool {
    object.get(field).and_then(Value::as_bool).unwrap_or_default()
}
