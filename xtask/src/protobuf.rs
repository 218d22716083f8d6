//! `cargo xtask protobuf`: makes `crates/protobuf/schemas/kubernetes.json`, the table by which built-in kinds go between protobuf and JSON.
//!
//! Two published sources, neither enough alone:
//! - the Rust crate `k8s-pb` (a development dependency of `setpoint-protobuf`, generated from Kubernetes' `.proto` files) knows tags and
//!   types, but only snake_case names;
//! - `crates/definition/schemas/kubernetes-1.36.json` knows the JSON names and what is required. Names such as `clusterIPs`,
//!   `nonResourceURLs` or `x-kubernetes-int-or-string` cannot be derived, so they are matched without case and punctuation.
//!
//! What neither knows, Go's types do: which numbers and booleans are values and not pointers ([`PLAIN`]), and which messages have a JSON
//! form of their own ([`FORMS`]).
//!
//! The result holds one message a line, sorted, and is the same bytes for the same inputs. How to get it wrong: editing it by hand, or
//! raising `k8s-pb` without running this.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use serde_json::{Map, Value, json};

const SOURCE: &str = "k8s-pb";
const DEFINITIONS: &str = "crates/definition/schemas/kubernetes-1.36.json";
const RESULT: &str = "crates/protobuf/schemas/kubernetes.json";
const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";

/// Kinds that the API machinery registers in every group version. They have no definition of their own, except `DeleteOptions`.
const EVERYWHERE: &[&str] = &["CreateOptions", "DeleteOptions", "PatchOptions", "UpdateOptions"];

/// Messages that JSON writes as something else than an object of their fields.
const FORMS: &[(&str, &str)] = &[
    ("io.k8s.api.authentication.v1.ExtraValue", "items"),
    ("io.k8s.api.authorization.v1.ExtraValue", "items"),
    ("io.k8s.api.certificates.v1.ExtraValue", "items"),
    ("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON", "json"),
    (
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray",
        "schemaOrArray",
    ),
    (
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool",
        "schemaOrBool",
    ),
    (
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray",
        "schemaOrStrings",
    ),
    ("io.k8s.apimachinery.pkg.api.resource.Quantity", "quantity"),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1", "json"),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime", "microTime"),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.Time", "time"),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.Verbs", "items"),
    ("io.k8s.apimachinery.pkg.runtime.RawExtension", "json"),
    ("io.k8s.apimachinery.pkg.util.intstr.IntOrString", "intOrString"),
];

/// Optional numbers and booleans that are values in Go, with `omitempty`: Go always writes them to protobuf, and never writes their zero
/// to JSON. All others are pointers, so that a zero on the wire was meant. Source: the `types.go` of each group.
const PLAIN: &[&str] = &[
    "admissionregistration.v1.ValidatingAdmissionPolicyStatus.observedGeneration",
    "apiextensions.v1.CustomResourceColumnDefinition.priority",
    "apiextensions.v1.CustomResourceDefinitionCondition.observedGeneration",
    "apiextensions.v1.CustomResourceDefinitionSpec.preserveUnknownFields",
    "apiextensions.v1.CustomResourceDefinitionStatus.observedGeneration",
    "apiextensions.v1.CustomResourceDefinitionVersion.deprecated",
    "apiextensions.v1.JSONSchemaProps.exclusiveMaximum",
    "apiextensions.v1.JSONSchemaProps.exclusiveMinimum",
    "apiextensions.v1.JSONSchemaProps.nullable",
    "apiextensions.v1.JSONSchemaProps.uniqueItems",
    "apiextensions.v1.JSONSchemaProps.x-kubernetes-embedded-resource",
    "apiextensions.v1.JSONSchemaProps.x-kubernetes-int-or-string",
    "apiregistration.v1.APIServiceSpec.insecureSkipTLSVerify",
    "authentication.v1.TokenReviewStatus.authenticated",
    "authorization.v1.SubjectAccessReviewStatus.denied",
    "autoscaling.v1.ScaleSpec.replicas",
    "core.v1.Event.count",
    "core.v1.EventSeries.count",
    "events.v1.Event.deprecatedCount",
    "flowcontrol.v1.FlowSchemaSpec.matchingPrecedence",
    "flowcontrol.v1.QueuingConfiguration.handSize",
    "flowcontrol.v1.QueuingConfiguration.queueLengthLimit",
    "flowcontrol.v1.QueuingConfiguration.queues",
    "flowcontrol.v1.ResourcePolicyRule.clusterScope",
    "meta.v1.Condition.observedGeneration",
    "meta.v1.ObjectMeta.generation",
    "meta.v1.Status.code",
    "meta.v1.StatusDetails.retryAfterSeconds",
];

/// A message as `k8s-pb` has it: by the name of the Rust field.
type Messages = BTreeMap<String, Vec<Source>>;

struct Source {
    name: String,
    tag: u32,
    /// A scalar of protobuf, or the full name of a message.
    ty: String,
    shape: Option<&'static str>,
}

/// Reads both sources and writes the table.
pub(crate) fn run() -> anyhow::Result<()> {
    let (version, directory) = source()?;
    let definitions: Map<String, Value> = serde_json::from_slice(&std::fs::read(DEFINITIONS)?)
        .with_context(|| format!("{DEFINITIONS} is not an object"))?;
    // k8s-pb spells APIGroup as ApiGroup; the definitions have the last word
    let spelling = definitions
        .keys()
        .map(|name| (name.to_lowercase(), name.as_str()))
        .collect();
    let mut messages = Messages::new();
    read(&directory, &mut Vec::new(), &spelling, &mut messages)?;
    let document = generate(&version, &definitions, &messages)?;
    std::fs::write(RESULT, &document).with_context(|| format!("cannot write {RESULT}"))?;
    println!("{RESULT}: {} bytes", document.len());
    Ok(())
}

/// The version of the crate that the lock file names and the folder of its source.
fn source() -> anyhow::Result<(String, PathBuf)> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1"])
        .output()
        .context("cannot run cargo metadata")?;
    ensure!(
        output.status.success(),
        "cargo metadata: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let package = metadata["packages"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|package| package["name"] == SOURCE)
        .with_context(|| format!("{SOURCE} is not a dependency"))?;
    let manifest = Path::new(package["manifest_path"].as_str().context("no manifest_path")?);
    let directory = manifest.parent().context("the manifest lies nowhere")?.join("src");
    Ok((package["version"].as_str().unwrap_or_default().to_owned(), directory))
}

/// Reads every `mod.rs` below a folder; `module` is the path to it.
fn read(
    directory: &Path,
    module: &mut Vec<String>,
    spelling: &BTreeMap<String, &str>,
    found: &mut Messages,
) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))? {
        let path = entry?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
        if path.is_dir() {
            module.push(name);
            read(&path, module, spelling, found)?;
            module.pop();
        } else if name == "mod.rs" {
            parse(&std::fs::read_to_string(&path)?, module, spelling, found)
                .with_context(|| format!("in {}", path.display()))?;
        }
    }
    Ok(())
}

/// Reads the structs of one file. prost-build writes them in one regular way, so lines do: an attribute, then the field.
fn parse(text: &str, module: &[String], spelling: &BTreeMap<String, &str>, found: &mut Messages) -> anyhow::Result<()> {
    let mut lines = text.lines().map(str::trim).peekable();
    let mut current: Option<(String, Vec<Source>)> = None;
    while let Some(line) = lines.next() {
        if let Some(rest) = line.strip_prefix("pub struct ") {
            let name = full_name(module, rest.split([' ', '{']).next().unwrap_or_default(), spelling);
            if rest.ends_with("{}") {
                found.insert(name, Vec::new());
            } else {
                current = Some((name, Vec::new()));
            }
        } else if let Some(attribute) = line.strip_prefix("#[prost(")
            && let Some((message, fields)) = &mut current
        {
            let mut declaration = String::new();
            while let Some(next) =
                lines.next_if(|next| !next.starts_with("#[") && !next.starts_with("///") && *next != "}")
            {
                declaration.push_str(next);
            }
            let field = field(attribute, &declaration, module, spelling)
                .with_context(|| format!("{message}: {declaration}"))?;
            fields.push(field);
        } else if line == "}"
            && let Some((name, fields)) = current.take()
        {
            found.insert(name, fields);
        }
    }
    Ok(())
}

fn field(
    attribute: &str,
    declaration: &str,
    module: &[String],
    spelling: &BTreeMap<String, &str>,
) -> anyhow::Result<Source> {
    let quoted = |key: &str| {
        let start = attribute.find(&format!("{key} = \""))? + key.len() + 4;
        attribute[start..].split('"').next()
    };
    let tag = quoted("tag").context("no tag")?.parse()?;
    let (name, ty) = declaration
        .trim_start_matches("pub ")
        .split_once(':')
        .context("no type")?;
    let (scalar, shape) = match quoted("btree_map") {
        Some(pair) => (pair.split(", ").nth(1).context("no value of the map")?, Some("map")),
        None if attribute.contains(", repeated") => (word(attribute), Some("list")),
        None => (word(attribute), None),
    };
    let ty = match scalar {
        "message" => resolve(ty, module, spelling)?,
        "string" | "bool" | "int32" | "int64" | "double" | "bytes" => scalar.to_owned(),
        other => bail!("{other} is not supported"),
    };
    Ok(Source {
        name: name.trim_start_matches("r#").to_owned(),
        tag,
        ty,
        shape,
    })
}

fn word(attribute: &str) -> &str {
    attribute.split([',', ' ']).next().unwrap_or_default()
}

/// The full name of the message that a Rust type is about: what stands innermost and last.
fn resolve(ty: &str, module: &[String], spelling: &BTreeMap<String, &str>) -> anyhow::Result<String> {
    let path = ty
        .trim_end_matches([',', '>', ' '])
        .rsplit(['<', ' ', ','])
        .next()
        .context("no path")?;
    let mut at = module.to_vec();
    let mut parts: Vec<&str> = path.split("::").collect();
    let name = parts.pop().context("no name")?;
    for part in parts {
        match part {
            "super" => drop(at.pop()),
            "crate" => at.clear(),
            part => at.push(part.to_owned()),
        }
    }
    Ok(full_name(&at, name, spelling))
}

fn full_name(module: &[String], name: &str, spelling: &BTreeMap<String, &str>) -> String {
    // the two packages whose names have a dash
    let package = module
        .join(".")
        .replace("apiextensions_apiserver", "apiextensions-apiserver");
    let full = format!(
        "io.k8s.{}.{name}",
        package.replace("kube_aggregator", "kube-aggregator")
    );
    spelling
        .get(&full.to_lowercase())
        .map_or(full, |known| (*known).to_owned())
}

fn generate(version: &str, definitions: &Map<String, Value>, messages: &Messages) -> anyhow::Result<String> {
    let mut kinds = BTreeMap::new();
    let mut open: Vec<String> = definitions
        .keys()
        .filter(|name| messages.contains_key(*name))
        .cloned()
        .collect();
    for name in &open {
        for gvk in definitions[name]["x-kubernetes-group-version-kind"]
            .as_array()
            .into_iter()
            .flatten()
        {
            let part = |key: &str| gvk[key].as_str().unwrap_or_default();
            if !EVERYWHERE.contains(&part("kind")) {
                let slash = if part("group").is_empty() { "" } else { "/" };
                kinds.insert(
                    format!("{}{slash}{}/{}", part("group"), part("version"), part("kind")),
                    name.clone(),
                );
            }
        }
    }
    for kind in EVERYWHERE {
        kinds.insert(format!("*/{kind}"), format!("{META}{kind}"));
        open.push(format!("{META}{kind}"));
    }
    let mut lines = BTreeMap::new();
    let mut plain = BTreeSet::new();
    while let Some(name) = open.pop() {
        if lines.contains_key(&name) {
            continue;
        }
        let fields = messages.get(&name).with_context(|| format!("{SOURCE} has no {name}"))?;
        open.extend(
            fields
                .iter()
                .filter(|field| field.ty.contains('.'))
                .map(|field| field.ty.clone()),
        );
        lines.insert(
            name.clone(),
            message(&name, fields, definitions.get(&name), &mut plain)?,
        );
    }
    if let Some(stale) = PLAIN.iter().find(|entry| !plain.contains(**entry)) {
        bail!("PLAIN has {stale}, which is no optional number or boolean");
    }
    let about = format!("GENERATED by `cargo xtask protobuf` from {SOURCE} {version} and {DEFINITIONS}; do not edit");
    let rows = |rows: Vec<String>| rows.join(",\n");
    Ok(format!(
        "{{\n\"about\":{},\n\"kinds\":{{\n{}\n}},\n\"messages\":{{\n{}\n}}\n}}\n",
        json!(about),
        rows(
            kinds
                .iter()
                .map(|(kind, name)| format!("{}:{}", json!(kind), json!(name)))
                .collect()
        ),
        rows(
            lines
                .iter()
                .map(|(name, line)| format!("{}:{line}", json!(name)))
                .collect()
        ),
    ))
}

fn message(
    name: &str,
    fields: &[Source],
    definition: Option<&Value>,
    plain: &mut BTreeSet<String>,
) -> anyhow::Result<Value> {
    let mut result = json!({"fields": []});
    let form = FORMS.iter().find(|(of, _)| *of == name).map(|(_, form)| *form);
    if let Some(form) = form {
        result["form"] = json!(form);
    }
    let properties = definition
        .and_then(|d| d["properties"].as_object())
        .filter(|_| form.is_none());
    let mut names = BTreeMap::new();
    for property in properties.into_iter().flat_map(Map::keys) {
        ensure!(
            names.insert(letters(property), property).is_none(),
            "{name}: two properties read as {property}"
        );
    }
    let mut rows: Vec<(u32, Value)> = Vec::new();
    for field in fields {
        let mut row = json!({"tag": field.tag, "type": field.ty});
        if let Some(shape) = field.shape {
            row["shape"] = json!(shape);
        }
        match (names.get(&letters(&field.name)), properties) {
            (Some(known), _) => row["name"] = json!(known),
            // Go embeds the struct: its fields are written beside the others
            (None, Some(_)) if field.ty.contains('.') && field.shape.is_none() && !field.ty.contains(".meta.") => {
                row["inline"] = json!(true);
            }
            (None, _) => {
                if properties.is_some() {
                    eprintln!("{name}: no property for {}; its name is derived", field.name);
                }
                row["name"] = json!(camel(&field.name));
            }
        }
        let required = definition
            .and_then(|d| d["required"].as_array())
            .is_some_and(|required| required.contains(&row["name"]));
        if required {
            row["required"] = json!(true);
        } else if field.shape.is_none() && matches!(field.ty.as_str(), "bool" | "int32" | "int64" | "double") {
            // `core.v1.Event.count`
            let parts: Vec<&str> = name.rsplitn(4, '.').take(3).collect();
            let short = format!(
                "{}.{}.{}.{}",
                parts[2],
                parts[1],
                parts[0],
                row["name"].as_str().unwrap_or_default()
            );
            if PLAIN.contains(&short.as_str()) {
                plain.insert(short);
            } else {
                row["pointer"] = json!(true);
            }
        }
        rows.push((field.tag, row));
    }
    rows.sort_by_key(|(tag, _)| *tag);
    result["fields"] = rows.into_iter().map(|(_, row)| row).collect();
    Ok(result)
}

/// A name without case and punctuation.
fn letters(name: &str) -> String {
    name.chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_lowercase())
        .collect()
}

fn camel(name: &str) -> String {
    let mut words = name.split('_').filter(|word| !word.is_empty());
    let mut result = words.next().unwrap_or_default().to_owned();
    for word in words {
        let (first, rest) = word.split_at(1);
        result.push_str(&first.to_ascii_uppercase());
        result.push_str(rest);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_prost_writes() {
        let text = "pub struct A {\n    /// doc\n    #[prost(btree_map = \"string, message\", tag = \"4\")]\n    \
                    pub hard: ::prost::alloc::collections::BTreeMap<\n        ::prost::alloc::string::String,\n        \
                    super::super::super::apimachinery::pkg::api::resource::Quantity,\n    >,\n    \
                    #[prost(string, repeated, tag = \"2\")]\n    pub r#type: ::prost::alloc::vec::Vec<String>,\n}\n";
        let mut found = Messages::new();
        let module: Vec<String> = ["api", "core", "v1"].map(str::to_owned).to_vec();
        parse(text, &module, &BTreeMap::new(), &mut found).unwrap();
        let fields: Vec<_> = found["io.k8s.api.core.v1.A"]
            .iter()
            .map(|f| (f.name.as_str(), f.tag, f.ty.as_str(), f.shape))
            .collect();
        assert_eq!(
            fields,
            [
                ("hard", 4, "io.k8s.apimachinery.pkg.api.resource.Quantity", Some("map")),
                ("type", 2, "string", Some("list")),
            ]
        );
    }

    #[test]
    fn names_compare_without_case_and_punctuation() {
        assert_eq!(
            letters("x-kubernetes-int-or-string"),
            letters("x_kubernetes_int_or_string")
        );
        assert_eq!(letters("nonResourceURLs"), letters("non_resource_ur_ls"));
        assert_eq!(camel("field_manager"), "fieldManager");
    }
}
