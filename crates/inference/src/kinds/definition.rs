//! Kinds as CustomResourceDefinition manifests: how the API server learns of them.
//!
//! # Guarantees
//! Each manifest is what Kubernetes itself would accept (`apiextensions.k8s.io/v1`, structural schema without references), apart from one
//! extension: `subresources.x-setpoint-parts` lists the parts beyond `status`. The manifests are golden files in `crds/`.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};
use setpoint_reconcile::Object;

use super::{GROUP, VERSION};

/// The manifests of every kind of the group, in order of their plural names.
pub fn definitions() -> Vec<Value> {
    [
        super::autoscaler::definition(),
        super::gpu_flavor::definition(),
        super::gpu_pool::definition(),
        super::model_deployment::definition(),
        super::model_route::definition(),
        super::model::definition(),
        super::replica::definition(),
        super::worker::definition(),
    ]
    .into_iter()
    .map(Definition::manifest)
    .collect()
}

/// A column of `kubectl get`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    name: &'static str,
    type_: &'static str,
    path: &'static str,
    wide: bool,
}

impl Column {
    /// The age of the object.
    pub(super) const AGE: Self = Self::new("Age", "date", ".metadata.creationTimestamp");

    /// A column that is always shown.
    pub(super) const fn new(name: &'static str, type_: &'static str, path: &'static str) -> Self {
        Self {
            name,
            type_,
            path,
            wide: false,
        }
    }

    /// The same, shown with `-o wide` only.
    pub(super) const fn wide(mut self) -> Self {
        self.wide = true;
        self
    }
}

/// A kind on its way to a manifest.
pub(super) struct Definition {
    description: &'static str,
    names: Map<String, Value>,
    scope: &'static str,
    properties: Map<String, Value>,
    subresources: Map<String, Value>,
    columns: Vec<Value>,
}

impl Definition {
    /// Kind `K` with main part `S`.
    pub(super) fn new<K: Object, S: JsonSchema>(description: &'static str) -> Self {
        let kind = K::kind_id();
        let names = [
            ("kind", json!(kind.kind)),
            ("listKind", json!(format!("{}List", kind.kind))),
            ("plural", json!(kind.plural)),
            ("singular", json!(kind.kind.to_ascii_lowercase())),
            ("categories", json!(["inference"])),
        ];
        let of_all_kinds = json!({
            "apiVersion": {
                "type": "string",
                "description": "Version of this representation of the object.",
            },
            "kind": {"type": "string", "description": "What the object is."},
            "metadata": {"type": "object"},
        });
        let mut properties = into_object(of_all_kinds);
        properties.insert("spec".to_owned(), schema_of::<S>());
        Self {
            description,
            names: names.map(|(key, value)| (key.to_owned(), value)).into_iter().collect(),
            scope: if kind.namespaced { "Namespaced" } else { "Cluster" },
            properties,
            subresources: Map::new(),
            columns: Vec::new(),
        }
    }

    pub(super) fn short_names(mut self, names: &[&str]) -> Self {
        self.names.insert("shortNames".to_owned(), json!(names));
        self
    }

    /// Shown by `kubectl get all`.
    pub(super) fn all(mut self) -> Self {
        self.names.insert("categories".to_owned(), json!(["all", "inference"]));
        self
    }

    /// A part with its own subresource: `status`, or another.
    pub(super) fn part<P: JsonSchema>(mut self, name: &str) -> Self {
        self.properties.insert(name.to_owned(), schema_of::<P>());
        if name == "status" {
            self.subresources.insert("status".to_owned(), json!({}));
        } else {
            let parts = self.subresources.entry("x-setpoint-parts").or_insert_with(|| json!([]));
            if let Some(parts) = parts.as_array_mut() {
                parts.push(json!(name));
            }
        }
        self
    }

    /// The paths of `/scale`.
    pub(super) fn scale(mut self, paths: Value) -> Self {
        self.subresources.insert("scale".to_owned(), paths);
        self
    }

    pub(super) fn columns(mut self, columns: &[Column]) -> Self {
        self.columns = columns
            .iter()
            .map(|column| {
                let mut printed = json!({
                    "name": column.name,
                    "type": column.type_,
                    "jsonPath": column.path,
                });
                if column.wide {
                    printed["priority"] = json!(1);
                }
                printed
            })
            .collect();
        self
    }

    fn manifest(self) -> Value {
        let plural = self.names["plural"].as_str().unwrap_or_default().to_owned();
        let mut version = json!({
            "name": VERSION,
            "served": true,
            "storage": true,
            "additionalPrinterColumns": self.columns,
            "schema": {"openAPIV3Schema": {
                "type": "object",
                "description": self.description,
                "required": ["spec"],
                "properties": self.properties,
            }},
        });
        if !self.subresources.is_empty() {
            version["subresources"] = Value::Object(self.subresources);
        }
        sorted(json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{plural}.{GROUP}")},
            "spec": {
                "group": GROUP,
                "names": self.names,
                "scope": self.scope,
                "versions": [version],
            },
        }))
    }
}

/// The structural schema of a type.
fn schema_of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft07().with(|settings| settings.inline_subschemas = true);
    structural(SchemaGenerator::new(settings).into_root_schema_for::<T>().to_value())
}

fn into_object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// Keys in order, whatever the map of the JSON library does, so that a manifest is the same in every build.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.into_iter().collect();
            fields.sort_by(|(a, _), (b, _)| a.cmp(b));
            fields.into_iter().map(|(key, value)| (key, sorted(value))).collect()
        }
        Value::Array(items) => items.into_iter().map(sorted).collect(),
        scalar => scalar,
    }
}

/// Rewrites a JSON schema by Kubernetes' rules for structural schemas: one type a node, no null, no references, no titles.
///
/// An optional field is one that may be absent. None is nullable: the API server drops nulls, so that a type never meets one.
fn structural(schema: Value) -> Value {
    let Value::Object(mut schema) = schema else {
        return json!({"type": "object"});
    };
    for key in ["$schema", "title", "nullable", "uniqueItems"] {
        schema.remove(key);
    }
    let int_or_string = schema.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true));
    if !int_or_string {
        unwrap_optional(&mut schema);
        collapse_enum(&mut schema);
    }
    if let Some(Value::Array(types)) = schema.get("type") {
        let of_values = types.iter().find(|name| *name != "null").cloned();
        schema.extend(of_values.map(|name| ("type".to_owned(), name)));
    }
    if schema.get("default") == Some(&Value::Null) {
        schema.remove("default");
    }
    signed_formats(&mut schema);
    if let Some(Value::String(description)) = schema.get_mut("description") {
        *description = unwrapped(description);
    }
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        for property in properties.values_mut() {
            *property = structural(property.take());
        }
        schema.remove("additionalProperties");
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get_mut(key) {
            *inner = structural(inner.take());
        }
    }
    Value::Object(schema)
}

/// A description whose lines were broken to fit the source, with paragraphs and list items kept.
fn unwrapped(description: &str) -> String {
    let mut out = String::with_capacity(description.len());
    for line in description.lines() {
        let joins = !out.is_empty() && !out.ends_with('\n') && !line.is_empty() && !line.starts_with("- ");
        if !out.is_empty() {
            out.push(if joins { ' ' } else { '\n' });
        }
        out.push_str(line);
    }
    out
}

/// `anyOf: [X, null]` becomes X. What is said of the field wins over what is said of its type.
fn unwrap_optional(schema: &mut Map<String, Value>) {
    let is_null = |branch: &Value| branch.get("type") == Some(&json!("null"));
    let Some(Value::Array(branches)) = schema.remove("anyOf") else {
        return;
    };
    let mut branches: Vec<_> = branches.into_iter().filter(|branch| !is_null(branch)).collect();
    match (branches.len(), branches.pop()) {
        (1, Some(Value::Object(branch))) => {
            for (key, value) in branch {
                schema.entry(key).or_insert(value);
            }
            schema.remove("title");
            // The branch may be another union.
            if schema.contains_key("anyOf") && !schema.contains_key("x-kubernetes-int-or-string") {
                unwrap_optional(schema);
            }
        }
        (_, last) => {
            branches.extend(last);
            schema.insert("anyOf".to_owned(), Value::Array(branches));
        }
    }
}

/// `oneOf` over documented string constants becomes an `enum`; the documentation of the constants joins the description.
fn collapse_enum(schema: &mut Map<String, Value>) {
    let Some(Value::Array(branches)) = schema.get("oneOf") else {
        return;
    };
    let mut values = Vec::new();
    let mut notes = String::new();
    for branch in branches {
        let constants = match (branch.get("const"), branch.get("enum")) {
            (Some(constant), _) => vec![constant.clone()],
            (None, Some(Value::Array(constants))) => constants.clone(),
            _ => return,
        };
        if let (Some(note), [Value::String(value)]) =
            (branch.get("description").and_then(Value::as_str), &constants[..])
        {
            notes.push_str(&format!("\n- {value}: {note}"));
        }
        values.extend(constants);
    }
    let description = schema.get("description").and_then(Value::as_str).unwrap_or_default();
    let description = format!("{description}{notes}");
    schema.remove("oneOf");
    schema.insert("type".to_owned(), json!("string"));
    schema.insert("enum".to_owned(), Value::Array(values));
    schema.insert("description".to_owned(), json!(description));
}

/// Kubernetes knows signed formats only. The bounds of the unsigned type stay as bounds of the value.
fn signed_formats(schema: &mut Map<String, Value>) {
    let (format, maximum) = match schema.get("format").and_then(Value::as_str) {
        Some("uint8") => ("int32", Some(i64::from(u8::MAX))),
        Some("uint16") => ("int32", Some(i64::from(u16::MAX))),
        Some("uint32") => ("int32", Some(i64::from(i32::MAX))),
        Some("uint64" | "uint") => ("int64", None),
        _ => return,
    };
    schema.insert("format".to_owned(), json!(format));
    if let Some(maximum) = maximum {
        schema.entry("maximum").or_insert(json!(maximum));
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    const HEADER: &str =
        "# Generated from the types in src/kinds. Do not edit: UPDATE_GOLDEN=1 cargo test -p setpoint-inference crds\n";

    #[test]
    fn crds_are_golden() {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("crds");
        let update = std::env::var_os("UPDATE_GOLDEN").is_some();
        for manifest in definitions() {
            let name = manifest["spec"]["names"]["plural"].as_str().unwrap();
            let path = folder.join(format!("{name}.yaml"));
            let text = format!("{HEADER}{}", serde_saphyr::to_string(&manifest).unwrap());
            let again: Value = serde_saphyr::from_str(&text).unwrap();
            assert_eq!(again, manifest, "{name} survives YAML");
            if update {
                std::fs::create_dir_all(&folder).unwrap();
                std::fs::write(&path, text).unwrap();
            } else {
                let stored = std::fs::read_to_string(&path).unwrap_or_default();
                assert!(stored == text, "{} is stale; {HEADER}", path.display());
            }
        }
        let files = std::fs::read_dir(&folder).unwrap().count();
        assert_eq!(files, definitions().len(), "crds/ holds the kinds and nothing else");
    }

    /// The rules that `apiextensions.k8s.io/v1` applies to a structural schema, as far as these schemas could break them.
    fn assert_structural(schema: &Value, path: &str) {
        let fields = schema
            .as_object()
            .unwrap_or_else(|| panic!("{path}: a schema is an object"));
        for key in [
            "$ref",
            "$schema",
            "title",
            "oneOf",
            "allOf",
            "not",
            "const",
            "nullable",
            "definitions",
            "uniqueItems",
        ] {
            assert!(!fields.contains_key(key), "{path}: {key}");
        }
        if fields.contains_key("x-kubernetes-int-or-string") {
            assert!(!fields.contains_key("type"), "{path}: int-or-string has no type");
            return;
        }
        assert!(!fields.contains_key("anyOf"), "{path}: anyOf");
        let type_ = fields
            .get("type")
            .and_then(Value::as_str)
            .unwrap_or_else(|| panic!("{path}: one type"));
        let format = fields.get("format").and_then(Value::as_str);
        assert!(
            matches!(format, None | Some("int32" | "int64" | "double" | "date-time")),
            "{path}: format {format:?}"
        );
        let documented = fields.contains_key("description");
        assert!(
            documented || path.ends_with(".metadata") || path.ends_with("[]"),
            "{path}: no description"
        );
        let properties = fields.get("properties").and_then(Value::as_object);
        for (name, property) in properties.into_iter().flatten() {
            assert_structural(property, &format!("{path}.{name}"));
        }
        if let Some(values) = fields.get("additionalProperties") {
            assert!(properties.is_none(), "{path}: properties and additionalProperties");
            assert_structural(values, &format!("{path}[]"));
        }
        if type_ == "array" {
            let items = &schema["items"];
            assert_structural(items, &format!("{path}[]"));
            let list_type = fields.get("x-kubernetes-list-type").and_then(Value::as_str);
            assert!(list_type.is_some(), "{path}: a list says what kind of list it is");
            for key in fields
                .get("x-kubernetes-list-map-keys")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
            {
                let key = key.as_str().unwrap();
                let required = items["required"]
                    .as_array()
                    .is_some_and(|names| names.contains(&json!(key)));
                let defaulted = items["properties"][key].get("default").is_some();
                assert!(required || defaulted, "{path}: key {key} is required or has a default");
            }
        }
    }

    #[test]
    fn schemas_are_structural() {
        for manifest in definitions() {
            let kind = manifest["spec"]["names"]["kind"].as_str().unwrap();
            assert_structural(&manifest["spec"]["versions"][0]["schema"]["openAPIV3Schema"], kind);
        }
    }
}
