//! The versions of a CustomResourceDefinition: schemas, subresources, columns, selectable fields.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;
use setpoint_meta::field::{FieldError, Path};
use setpoint_schema::{Schema, Type};

use super::{flag, items, priority, text, texts};
use crate::builtin::draft::{custom_age_column, name_column};
use crate::builtin::library;
use crate::resource::{Cell, Column, Origin, Part, ScalePaths, Version};
use crate::table::JsonPath;

/// A version, and whether it is the stored one.
pub(super) struct Described {
    pub(super) version: Version,
    pub(super) storage: bool,
}

/// Every version that can be made sense of, and everything that is wrong with any.
pub(super) fn all(crd: &Value, origin: Origin) -> (Vec<Described>, Vec<FieldError>) {
    let (mut versions, mut errors) = (Vec::new(), Vec::new());
    let path = Path::new("spec").child("versions");
    for (at, version) in items(&crd["spec"], "versions").iter().enumerate() {
        versions.extend(one(crd, version, &path.index(at), origin, &mut errors));
    }
    (versions, errors)
}

fn one(crd: &Value, version: &Value, path: &Path, origin: Origin, errors: &mut Vec<FieldError>) -> Option<Described> {
    errors.extend(deprecation_errors(version, &path.child("deprecationWarning")));
    let openapi = &version["schema"]["openAPIV3Schema"];
    let schema = schema(openapi, &path.child("schema").child("openAPIV3Schema"), errors);
    let (subresources, subpath) = (&version["subresources"], path.child("subresources"));
    let parts = parts(subresources, &subpath, openapi, origin, errors);
    let scale = scale(subresources, &subpath, errors);
    let columns = columns(
        items(version, "additionalPrinterColumns"),
        &path.child("additionalPrinterColumns"),
        errors,
    );
    let selectable_fields = selectable(
        items(version, "selectableFields"),
        &path.child("selectableFields"),
        schema.as_ref(),
        errors,
    );
    Some(Described {
        version: Version {
            name: text(version, "name").into(),
            served: flag(version, "served"),
            deprecation: deprecation(crd, version),
            schema: Arc::new(schema?),
            openapi: Arc::new(openapi.clone()),
            parts,
            scale,
            actions: Vec::new(),
            columns,
            selectable_fields,
        },
        storage: flag(version, "storage"),
    })
}

fn schema(openapi: &Value, path: &Path, errors: &mut Vec<FieldError>) -> Option<Schema> {
    if openapi.is_null() {
        errors.push(FieldError::required(path, "schemas are required"));
        return None;
    }
    if flag(openapi, "nullable") {
        errors.push(FieldError::forbidden(
            path.child("nullable"),
            "nullable cannot be true at the root",
        ));
    }
    match Schema::from_crd(openapi) {
        Ok(mut schema) => {
            complete(&mut schema);
            Some(schema)
        }
        Err(found) => {
            errors.extend(found.into_iter().map(|error| below(path, error)));
            None
        }
    }
}

/// An error in the schema, its path counted from the object.
fn below(path: &Path, mut error: FieldError) -> FieldError {
    let separator = if error.path.is_root() || error.path.as_str().starts_with('[') {
        ""
    } else {
        "."
    };
    error.path = Path::from(format!("{}{separator}{}", path.as_str(), error.path.as_str()));
    error
}

/// Adds what every object has. Of what a CRD says about metadata, only rules for the name count.
fn complete(schema: &mut Schema) {
    let text = || {
        Arc::new(Schema {
            ty: Type::String,
            ..Schema::default()
        })
    };
    schema.properties.insert("apiVersion".to_owned(), text());
    schema.properties.insert("kind".to_owned(), text());
    let mut meta = library::object_meta();
    if let Some(own) = schema.properties.get("metadata") {
        for field in ["name", "generateName"] {
            if let Some(rule) = own.properties.get(field) {
                Arc::make_mut(&mut meta)
                    .properties
                    .insert(field.to_owned(), Arc::clone(rule));
            }
        }
    }
    schema.properties.insert("metadata".to_owned(), meta);
}

/// Longest deprecation warning, in bytes.
const MAX_WARNING: usize = 256;

fn deprecation_errors(version: &Value, path: &Path) -> Vec<FieldError> {
    let Some(warning) = version.get("deprecationWarning").and_then(Value::as_str) else {
        return Vec::new();
    };
    let mut wrong = Vec::new();
    if !flag(version, "deprecated") {
        wrong.push("can only be set for deprecated versions".to_owned());
    } else {
        if warning.len() > MAX_WARNING {
            wrong.push("must be <= 256 characters long".to_owned());
        }
        if warning.is_empty() {
            wrong.push("must not be an empty string".to_owned());
        }
        if let Some((at, _)) = warning.char_indices().find(|(_, c)| c.is_control()) {
            wrong.push(format!(
                "must only contain printable UTF-8 characters; non-printable character found at index {at}"
            ));
        }
    }
    wrong
        .into_iter()
        .map(|detail| FieldError::invalid(path, warning, detail))
        .collect()
}

/// The warning of a deprecated version: its own, or one that names the best version to use instead.
fn deprecation(crd: &Value, version: &Value) -> Option<String> {
    if !flag(version, "deprecated") {
        return None;
    }
    if let Some(warning) = version.get("deprecationWarning").and_then(Value::as_str) {
        return Some(warning.to_owned());
    }
    let (spec, name) = (&crd["spec"], text(version, "name"));
    let (group, kind) = (text(spec, "group"), text(&spec["names"], "kind"));
    let better = items(spec, "versions")
        .iter()
        .filter(|other| flag(other, "served") && !flag(other, "deprecated"))
        .map(|other| text(other, "name"))
        .filter(|other| priority::compare(other, name) == Ordering::Greater)
        .max_by(|a, b| priority::compare(a, b));
    let instead = better
        .map(|better| format!("; use {group}/{better} {kind}"))
        .unwrap_or_default();
    Some(format!("{group}/{name} {kind} is deprecated{instead}"))
}

/// The key of our extension.
const PARTS: &str = "x-setpoint-parts";

fn parts(
    subresources: &Value,
    path: &Path,
    openapi: &Value,
    origin: Origin,
    errors: &mut Vec<FieldError>,
) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    if subresources.get("status").is_some_and(|status| !status.is_null()) {
        parts.push(Part { name: "status".into() });
    }
    let path = path.child(PARTS);
    let extra = texts(subresources, PARTS);
    if origin != Origin::Setpoint {
        if subresources.get(PARTS).is_some() {
            errors.push(FieldError::forbidden(
                path,
                "reserved for the kinds that Setpoint ships",
            ));
        }
        return parts;
    }
    for (at, name) in extra.iter().enumerate() {
        if matches!(name.as_str(), "spec" | "metadata" | "apiVersion" | "kind")
            || openapi["properties"].get(name).is_none()
        {
            errors.push(FieldError::invalid(
                path.index(at),
                name.as_str(),
                "must be a top-level field beside spec",
            ));
        } else if parts.iter().any(|part| *part.name == **name) || name == "scale" {
            errors.push(FieldError::duplicate(path.index(at), name.as_str()));
        } else {
            parts.push(Part {
                name: name.as_str().into(),
            });
        }
    }
    parts
}

fn scale(subresources: &Value, path: &Path, errors: &mut Vec<FieldError>) -> Option<ScalePaths> {
    let scale = subresources.get("scale").filter(|scale| !scale.is_null())?;
    let mut replicas = |field: &str, root: &str| {
        let path = path.child(&format!("scale.{field}"));
        match text(scale, field) {
            "" => errors.push(FieldError::required(path, "")),
            text => match dotted(text, &[root]) {
                Ok(fields) => return Some(fields),
                Err(detail) => errors.push(FieldError::invalid(path, text, detail)),
            },
        }
        None
    };
    let (spec_replicas, status_replicas) = (
        replicas("specReplicasPath", "spec"),
        replicas("statusReplicasPath", "status"),
    );
    let label_selector = match text(scale, "labelSelectorPath") {
        "" => None,
        text => match dotted(text, &["spec", "status"]) {
            Ok(fields) => Some(fields),
            Err(detail) => {
                errors.push(FieldError::invalid(path.child("scale.labelSelectorPath"), text, detail));
                None
            }
        },
    };
    Some(ScalePaths {
        spec_replicas: spec_replicas?,
        status_replicas: status_replicas?,
        label_selector,
    })
}

/// The fields of a path such as `.spec.replicas` below one of some roots; otherwise what is wrong with it.
fn dotted(text: &str, roots: &[&str]) -> Result<Vec<String>, String> {
    if !text.starts_with('.') {
        return Err("must be a simple json path starting with .".to_owned());
    }
    let path = JsonPath::compile(text).ok();
    let fields: Option<Vec<String>> = path
        .as_ref()
        .and_then(JsonPath::fields)
        .map(|fields| fields.into_iter().map(str::to_owned).collect());
    match fields {
        Some(fields) if fields.len() > 1 && roots.contains(&fields[0].as_str()) => Ok(fields),
        Some(_) if roots.len() > 1 => Err("should be a json path under either .spec or .status".to_owned()),
        Some(_) => Err(format!("should be a json path under .{}", roots[0])),
        None => Err("must be a json path in the dot notation".to_owned()),
    }
}

const COLUMN_TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
const COLUMN_FORMATS: [&str; 9] = [
    "byte",
    "date",
    "date-time",
    "double",
    "float",
    "int32",
    "int64",
    "name",
    "password",
];

/// NAME, and the columns named or else AGE.
fn columns(specs: &[Value], path: &Path, errors: &mut Vec<FieldError>) -> Vec<Column> {
    if specs.is_empty() {
        return vec![name_column(), custom_age_column()];
    }
    let named = specs
        .iter()
        .enumerate()
        .filter_map(|(at, spec)| column(spec, &path.index(at), errors));
    std::iter::once(name_column()).chain(named).collect()
}

fn column(spec: &Value, path: &Path, errors: &mut Vec<FieldError>) -> Option<Column> {
    let (name, ty, format, json_path) = (
        text(spec, "name"),
        text(spec, "type"),
        text(spec, "format"),
        text(spec, "jsonPath"),
    );
    if name.is_empty() {
        errors.push(FieldError::required(path.child("name"), ""));
    }
    if ty.is_empty() {
        errors.push(FieldError::required(
            path.child("type"),
            format!("must be one of {}", COLUMN_TYPES.join(",")),
        ));
    } else if !COLUMN_TYPES.contains(&ty) {
        errors.push(FieldError::invalid(
            path.child("type"),
            ty,
            format!("must be one of {}", COLUMN_TYPES.join(",")),
        ));
    }
    if !format.is_empty() && !COLUMN_FORMATS.contains(&format) {
        errors.push(FieldError::invalid(
            path.child("format"),
            format,
            format!("must be one of {}", COLUMN_FORMATS.join(",")),
        ));
    }
    let path = path.child("jsonPath");
    let cell = match JsonPath::compile(json_path) {
        _ if json_path.is_empty() => {
            errors.push(FieldError::required(path, ""));
            return None;
        }
        _ if !json_path.starts_with('.') => {
            errors.push(FieldError::invalid(
                path,
                json_path,
                "must be a simple json path starting with .",
            ));
            return None;
        }
        Ok(compiled) => Cell::Path(compiled),
        Err(error) => {
            errors.push(FieldError::invalid(
                path,
                json_path,
                format!("is not a json path: {error}"),
            ));
            return None;
        }
    };
    let priority = spec
        .get("priority")
        .and_then(Value::as_i64)
        .and_then(|p| i32::try_from(p).ok())
        .unwrap_or_default();
    Some(Column {
        name: name.to_owned(),
        ty: ty.to_owned(),
        format: format.to_owned(),
        description: text(spec, "description").to_owned(),
        priority,
        cell,
    })
}

/// Most selectable fields a version may name (KEP-4358).
const MAX_SELECTABLE: usize = 8;

fn selectable(specs: &[Value], path: &Path, schema: Option<&Schema>, errors: &mut Vec<FieldError>) -> Vec<String> {
    if specs.len() > MAX_SELECTABLE {
        errors.push(FieldError::too_many(path, specs.len(), MAX_SELECTABLE));
    }
    let mut seen = BTreeSet::new();
    let mut fields = Vec::new();
    for (at, spec) in specs.iter().enumerate() {
        let (path, json_path) = (path.index(at).child("jsonPath"), text(spec, "jsonPath"));
        if json_path.is_empty() {
            errors.push(FieldError::required(path, ""));
        } else if !seen.insert(json_path) {
            errors.push(FieldError::duplicate(path, json_path));
        } else {
            match selectable_field(json_path, schema) {
                Ok(field) => fields.push(field),
                Err(detail) => errors.push(FieldError::invalid(path, json_path, detail)),
            }
        }
    }
    fields
}

/// The dotted path of a field that exists, is a scalar, and lies outside metadata.
fn selectable_field(json_path: &str, schema: Option<&Schema>) -> Result<String, String> {
    let compiled = JsonPath::compile(json_path).map_err(|error| format!("is an invalid path: {error}"))?;
    let fields = compiled
        .fields()
        .filter(|fields| !fields.is_empty())
        .ok_or("must be a simple path of field names")?;
    if fields[0] == "metadata" {
        return Err("must not point to fields in metadata".to_owned());
    }
    let mut node = schema;
    for field in &fields {
        node = match node {
            // the schema's own errors have been told
            None => break,
            Some(schema) => Some(
                schema
                    .properties
                    .get(*field)
                    .ok_or("is an invalid path: does not refer to a valid field")?,
            ),
        };
    }
    match node.map(|schema| schema.ty) {
        None | Some(Type::String | Type::Boolean | Type::Integer) => Ok(fields.join(".")),
        Some(_) => Err(
            "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed."
                .to_owned(),
        ),
    }
}
