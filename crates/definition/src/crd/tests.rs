use super::*;
use expect_test::{Expect, expect};

/// A CRD that is right in every respect.
pub(crate) fn sample() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "crontabs.stable.example.com"},
        "spec": {
            "group": "stable.example.com",
            "scope": "Namespaced",
            "names": {"plural": "crontabs", "singular": "crontab", "kind": "CronTab", "listKind": "CronTabList",
                      "shortNames": ["ct"], "categories": ["all"]},
            "versions": [
                {"name": "v1beta1", "served": true, "storage": false, "deprecated": true,
                 "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object"}}}}},
                {"name": "v1", "served": true, "storage": true,
                 "schema": {"openAPIV3Schema": {"type": "object", "description": "A table of times.", "properties": {
                     "spec": {"type": "object", "properties": {
                         "cronSpec": {"type": "string"},
                         "replicas": {"type": "integer"},
                         "suspended": {"type": "boolean"},
                         "any": {"x-kubernetes-preserve-unknown-fields": true},
                     }},
                     "status": {"type": "object", "properties": {
                         "replicas": {"type": "integer"},
                         "labelSelector": {"type": "string"},
                         "lastRun": {"type": "string", "format": "date-time"},
                         "conditions": {"type": "array", "items": {"type": "object", "properties": {
                             "type": {"type": "string"}, "status": {"type": "string"}}}},
                     }},
                     "binding": {"type": "object", "properties": {"worker": {"type": "string"}}},
                 }}},
                 "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.replicas",
                                  "statusReplicasPath": ".status.replicas", "labelSelectorPath": ".status.labelSelector"}},
                 "selectableFields": [{"jsonPath": ".spec.cronSpec"}, {"jsonPath": ".spec.suspended"}],
                 "additionalPrinterColumns": [
                     {"name": "Spec", "type": "string", "jsonPath": ".spec.cronSpec", "description": "When to run."},
                     {"name": "Replicas", "type": "integer", "jsonPath": ".spec.replicas"},
                     {"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status"},
                     {"name": "Last Run", "type": "date", "jsonPath": ".status.lastRun", "priority": 1},
                     {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
                 ]},
            ],
        },
    })
}

fn check_errors(change: impl FnOnce(&mut Value), expected: Expect) {
    let mut crd = sample();
    change(&mut crd);
    let errors: Vec<String> = validate(&crd, None, Origin::CustomResource)
        .iter()
        .map(ToString::to_string)
        .collect();
    expected.assert_eq(&errors.join("\n"));
    assert_eq!(
        ResourceDefinition::from_crd(&crd, Origin::CustomResource).is_err(),
        !errors.is_empty()
    );
}

#[test]
fn a_right_one_makes_a_definition() {
    let def = ResourceDefinition::from_crd(&sample(), Origin::CustomResource).unwrap();
    assert_eq!(
        (&*def.group, &*def.kind, &*def.list_kind),
        ("stable.example.com", "CronTab", "CronTabList")
    );
    assert_eq!(
        def.versions.iter().map(|v| &*v.name).collect::<Vec<_>>(),
        ["v1", "v1beta1"]
    );
    assert_eq!(&*def.stored().name, "v1");
    let v1 = def.served("v1").unwrap();
    assert!(v1.part("status").is_some() && v1.part("binding").is_none());
    assert_eq!(v1.scale.as_ref().unwrap().spec_replicas, ["spec", "replicas"]);
    assert_eq!(v1.selectable_fields, ["spec.cronSpec", "spec.suspended"]);
    assert_eq!(v1.columns.len(), 6);
    assert!(v1.schema.properties["metadata"].properties.contains_key("finalizers"));
    assert_eq!(
        def.served("v1beta1").unwrap().deprecation.as_deref(),
        Some("stable.example.com/v1beta1 CronTab is deprecated; use stable.example.com/v1 CronTab")
    );
    assert!(def.generation && !def.unconditional_update && !def.create_on_update);
}

#[test]
fn names_are_defaulted() {
    let mut crd = sample();
    crd["spec"]["names"] = json!({"plural": "crontabs", "kind": "CronTab"});
    let def = ResourceDefinition::from_crd(&crd, Origin::CustomResource).unwrap();
    assert_eq!((&*def.singular, &*def.list_kind), ("crontab", "CronTabList"));
    defaults(&mut crd);
    assert_eq!(
        crd["spec"]["names"],
        json!({"plural": "crontabs", "kind": "CronTab", "singular": "crontab", "listKind": "CronTabList"})
    );
    assert_eq!(crd["spec"]["conversion"], json!({"strategy": "None"}));
}

#[test]
fn names() {
    check_errors(
        |crd| crd["metadata"]["name"] = json!("tabs.example.com"),
        expect![[r#"metadata.name: Invalid value: "tabs.example.com": must be spec.names.plural+"."+spec.group"#]],
    );
    check_errors(
        |crd| crd["spec"]["scope"] = json!("Global"),
        expect![[r#"spec.scope: Unsupported value: "Global": supported values: "Cluster", "Namespaced""#]],
    );
    check_errors(
        |crd| crd["spec"]["names"]["listKind"] = json!("CronTab"),
        expect![[r#"spec.names.listKind: Invalid value: "CronTab": kind and listKind may not be the same"#]],
    );
    check_errors(
        |crd| crd["spec"]["names"]["shortNames"] = json!(["C T"]),
        expect![[
            r#"spec.names.shortNames[0]: Invalid value: "C T": a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"#
        ]],
    );
}

#[test]
fn versions() {
    check_errors(
        |crd| crd["spec"]["versions"][0]["storage"] = json!(true),
        expect![[
            r#"spec.versions: Invalid value: ["v1beta1","v1"]: must have exactly one version marked as storage version"#
        ]],
    );
    check_errors(
        |crd| crd["spec"]["versions"][0]["name"] = json!("v1"),
        expect![[r#"spec.versions: Invalid value: ["v1","v1"]: must contain unique version names"#]],
    );
    check_errors(
        |crd| crd["spec"]["versions"][0]["schema"] = Value::Null,
        expect!["spec.versions[0].schema.openAPIV3Schema: Required value: schemas are required"],
    );
    check_errors(
        |crd| crd["spec"]["versions"][1]["deprecationWarning"] = json!("old"),
        expect![[
            r#"spec.versions[1].deprecationWarning: Invalid value: "old": can only be set for deprecated versions"#
        ]],
    );
}

#[test]
fn subresources() {
    check_errors(
        |crd| {
            crd["spec"]["versions"][1]["subresources"]["scale"] =
                json!({"specReplicasPath": ".status.n", "labelSelectorPath": "x"})
        },
        expect![[r#"
            spec.versions[1].subresources.scale.specReplicasPath: Invalid value: ".status.n": should be a json path under .spec
            spec.versions[1].subresources.scale.statusReplicasPath: Required value
            spec.versions[1].subresources.scale.labelSelectorPath: Invalid value: "x": must be a simple json path starting with ."#]],
    );
    check_errors(
        |crd| crd["spec"]["versions"][1]["subresources"]["x-setpoint-parts"] = json!(["binding"]),
        expect![
            "spec.versions[1].subresources.x-setpoint-parts: Forbidden: reserved for the kinds that Setpoint ships"
        ],
    );
}

#[test]
fn setpoints_own_kinds_have_parts() {
    let mut crd = sample();
    crd["spec"]["versions"][1]["subresources"]["x-setpoint-parts"] = json!(["binding"]);
    let def = ResourceDefinition::from_crd(&crd, Origin::Setpoint).unwrap();
    let parts: Vec<&str> = def.served("v1").unwrap().parts.iter().map(|part| &*part.name).collect();
    assert_eq!(parts, ["status", "binding"]);
    crd["spec"]["versions"][1]["subresources"]["x-setpoint-parts"] = json!(["absent", "spec"]);
    assert_eq!(
        ResourceDefinition::from_crd(&crd, Origin::Setpoint).unwrap_err().len(),
        2
    );
}

#[test]
fn columns_and_selectable_fields() {
    check_errors(
        |crd| crd["spec"]["versions"][1]["additionalPrinterColumns"] = json!([{"name": "A", "type": "list", "jsonPath": "spec"}, {"name": "B", "type": "string", "jsonPath": ".a["}]),
        expect![[r#"
            spec.versions[1].additionalPrinterColumns[0].type: Invalid value: "list": must be one of boolean,date,integer,number,string
            spec.versions[1].additionalPrinterColumns[0].jsonPath: Invalid value: "spec": must be a simple json path starting with .
            spec.versions[1].additionalPrinterColumns[1].jsonPath: Invalid value: ".a[": is not a json path: expected an index, a quoted field, a filter or * at offset 3"#]],
    );
    check_errors(
        |crd| {
            crd["spec"]["versions"][1]["selectableFields"] =
                json!([{"jsonPath": ".spec"}, {"jsonPath": ".spec.absent"}, {"jsonPath": ".metadata.name"}])
        },
        expect![[r#"
            spec.versions[1].selectableFields[0].jsonPath: Invalid value: ".spec": must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.
            spec.versions[1].selectableFields[1].jsonPath: Invalid value: ".spec.absent": is an invalid path: does not refer to a valid field
            spec.versions[1].selectableFields[2].jsonPath: Invalid value: ".metadata.name": must not point to fields in metadata"#]],
    );
}

#[test]
fn groups_of_kubernetes_are_protected() {
    let protected = |crd: &mut Value| {
        crd["spec"]["group"] = json!("batch.k8s.io");
        crd["metadata"] = json!({"name": "crontabs.batch.k8s.io"});
    };
    let mut crd = sample();
    protected(&mut crd);
    let errors = validate(&crd, None, Origin::CustomResource);
    assert!(
        errors[0]
            .to_string()
            .starts_with("metadata.annotations[api-approved.kubernetes.io]: Required value: "),
        "{errors:?}"
    );
    crd["metadata"]["annotations"] = json!({"api-approved.kubernetes.io": "unapproved, a test"});
    assert_eq!(validate(&crd, None, Origin::CustomResource), []);
}

#[test]
fn updates() {
    let mut old = sample();
    old["status"] = json!({"conditions": [{"type": "Established", "status": "True"}], "storedVersions": ["v1"]});
    let mut new = old.clone();
    new["spec"]["scope"] = json!("Cluster");
    new["status"]["storedVersions"] = json!(["v1", "v0"]);
    let errors: Vec<String> = validate(&new, Some(&old), Origin::CustomResource)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        errors,
        [
            "status.storedVersions[1]: Invalid value: \"v0\": must appear in spec.versions",
            "spec.scope: Invalid value: \"Cluster\": field is immutable",
        ]
    );
}

#[test]
fn conversion() {
    check_errors(
        |crd| crd["spec"]["conversion"] = json!({"strategy": "Webhook", "webhook": {"clientConfig": {"url": "http://a"}, "conversionReviewVersions": ["v2"]}}),
        expect![[r#"
            spec.conversion.webhookClientConfig.url: Invalid value: "http://a": 'https' is the only allowed URL scheme
            spec.conversion.conversionReviewVersions: Invalid value: ["v2"]: must include at least one of v1, v1beta1"#]],
    );
}
