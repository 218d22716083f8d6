use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::builtin;
use crate::resource::{Origin, ResourceDefinition};

fn defs() -> Vec<Arc<ResourceDefinition>> {
    let mut defs: Vec<Arc<ResourceDefinition>> = builtin::all().into_iter().map(Arc::new).collect();
    let crd = crate::crd::tests::sample();
    defs.push(Arc::new(
        ResourceDefinition::from_crd(&crd, Origin::CustomResource).unwrap(),
    ));
    defs
}

#[test]
fn golden() {
    let defs = defs();
    let index: Vec<String> = v3_index(&defs)["paths"].as_object().unwrap().keys().cloned().collect();
    insta::assert_json_snapshot!("v3_index", index);
    let custom = v3_document("stable.example.com", "v1", &defs).unwrap();
    insta::assert_json_snapshot!(
        "v3_crontab",
        custom["components"]["schemas"]["com.example.stable.v1.CronTab"]
    );
    insta::assert_json_snapshot!(
        "v3_crontab_list",
        custom["components"]["schemas"]["com.example.stable.v1.CronTabList"]
    );
    let item = &custom["paths"]["/apis/stable.example.com/v1/namespaces/{namespace}/crontabs/{name}"];
    insta::assert_json_snapshot!("v3_crontab_patch", item["patch"]);
    let core = v3_document("", "v1", &defs).unwrap();
    insta::assert_json_snapshot!(
        "v3_core_paths",
        core["paths"].as_object().unwrap().keys().collect::<Vec<_>>()
    );
    insta::assert_json_snapshot!(
        "v3_core_configmap",
        core["components"]["schemas"]["io.k8s.api.core.v1.ConfigMap"]
    );
    let v2 = v2_document(&defs);
    insta::assert_json_snapshot!("v2_crontab", v2["definitions"]["com.example.stable.v1.CronTab"]);
    insta::assert_json_snapshot!(
        "v2_configmap_post",
        v2["paths"]["/api/v1/namespaces/{namespace}/configmaps"]["post"]
    );
}

/// Every `$ref` below a value, by its full text.
fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(reference)) = map.get("$ref") {
                found.insert(reference.clone());
            }
            map.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

fn dangling(document: &Value, prefix: &str, schemas: &Value) -> Vec<String> {
    let mut found = BTreeSet::new();
    references(document, &mut found);
    found.retain(|reference| {
        reference
            .strip_prefix(prefix)
            .is_none_or(|name| schemas.get(name).is_none())
    });
    found.into_iter().collect()
}

#[test]
fn documents_refer_to_nothing_outside() {
    let defs = defs();
    for def in &defs {
        for version in &def.versions {
            let document = v3_document(&def.group, &version.name, &defs).unwrap();
            let none: Vec<String> = Vec::new();
            assert_eq!(
                dangling(&document, "#/components/schemas/", &document["components"]["schemas"]),
                none,
                "{}",
                def.group
            );
        }
    }
    let document = v2_document(&defs);
    assert_eq!(
        dangling(&document, "#/definitions/", &document["definitions"]),
        Vec::<String>::new()
    );
}

/// kubectl asks whether the server validates fields by looking for the parameter on the PATCH operation of the kind.
#[test]
fn patches_say_that_fields_are_validated() {
    let defs = defs();
    for (group, kind) in [("", "Namespace"), ("", "ConfigMap"), ("stable.example.com", "CronTab")] {
        let document = v3_document(group, "v1", &defs).unwrap();
        let patch = document["paths"]
            .as_object()
            .unwrap()
            .values()
            .map(|item| &item["patch"])
            .find(|patch| {
                patch["x-kubernetes-group-version-kind"] == json!({"group": group, "version": "v1", "kind": kind})
            });
        let parameters = patch.unwrap()["parameters"].as_array().unwrap();
        assert!(
            parameters
                .iter()
                .any(|parameter| parameter["name"] == "fieldValidation"),
            "{kind}"
        );
        let media = patch.unwrap()["requestBody"]["content"].as_object().unwrap();
        assert_eq!(
            media.contains_key("application/strategic-merge-patch+json"),
            group.is_empty()
        );
        assert!(media.contains_key("application/apply-patch+yaml"));
    }
}

#[test]
fn every_kind_has_a_schema_with_its_name() {
    let defs = defs();
    let document = v2_document(&defs);
    let named: BTreeSet<String> = document["definitions"]
        .as_object()
        .unwrap()
        .values()
        .flat_map(|schema| {
            schema["x-kubernetes-group-version-kind"]
                .as_array()
                .cloned()
                .unwrap_or_default()
        })
        .map(|gvk| gvk.to_string())
        .collect();
    for def in &defs {
        for version in &def.versions {
            let gvk = json!({"group": def.group, "kind": def.kind, "version": version.name}).to_string();
            assert!(named.contains(&gvk), "{gvk}");
        }
    }
}

#[test]
fn operation_ids_are_unique() {
    let document = v2_document(&defs());
    let mut seen = BTreeSet::new();
    for item in document["paths"].as_object().unwrap().values() {
        for operation in item.as_object().unwrap().values().filter(|value| value.is_object()) {
            let id = operation["operationId"].as_str().unwrap();
            assert!(seen.insert(id.to_owned()), "{id}");
        }
    }
}

#[test]
fn hashes_follow_what_documents_are_made_from() {
    let mut defs = defs();
    let before = v3_hash("stable.example.com", "v1", &defs).unwrap();
    assert_eq!(v3_hash("stable.example.com", "v1", &defs).as_ref(), Some(&before));
    let url = format!("/openapi/v3/apis/stable.example.com/v1?hash={before}");
    assert_eq!(
        v3_index(&defs)["paths"]["apis/stable.example.com/v1"]["serverRelativeURL"],
        json!(url)
    );
    let mut crd = crate::crd::tests::sample();
    crd["spec"]["versions"][1]["schema"]["openAPIV3Schema"]["description"] = json!("Changed.");
    defs.pop();
    defs.push(Arc::new(
        ResourceDefinition::from_crd(&crd, Origin::CustomResource).unwrap(),
    ));
    assert_ne!(v3_hash("stable.example.com", "v1", &defs).unwrap(), before);
    assert_eq!(v3_hash("absent", "v1", &defs), None);
}
