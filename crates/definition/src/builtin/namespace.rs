//! core/v1 Namespace. Its `finalize` subresource, the finalizer `kubernetes` of new namespaces and the life cycle are the API server's.

use serde_json::{Value, json};
use setpoint_meta::object;

use super::draft::{Draft, age_column, computed, name_column};
use crate::resource::{NameRule, ResourceDefinition, Verb};
use crate::table::Printer;

/// Namespaces cannot be deleted as a collection.
const VERBS: &[Verb] = &[
    Verb::Create,
    Verb::Delete,
    Verb::Get,
    Verb::List,
    Verb::Patch,
    Verb::Update,
    Verb::Watch,
];
/// Says in a label what the name is, so that selectors can name namespaces.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

pub(super) fn definition() -> ResourceDefinition {
    Draft::new("", "v1", "io.k8s.api.core.v1.Namespace", "namespaces")
        .cluster()
        .short_names(&["ns"])
        .verbs(VERBS)
        .names(NameRule::Label)
        .status()
        .action("finalize", ("", "v1", "Namespace"), &[Verb::Update])
        .columns(vec![
            name_column(),
            computed("Status", "The status of the namespace".to_owned(), STATUS),
            age_column(),
        ])
        .selectable_fields(&["status.phase"])
        .default("spec", json!({}))
        .default("status", json!({}))
        .defaulter(default)
        .build()
}

const STATUS: Printer = Printer {
    name: "namespaces.status",
    print: |object, _| object.pointer("/status/phase").cloned().unwrap_or_else(|| json!("")),
};

fn default(namespace: &mut Value) {
    let name = object::name(namespace).to_owned();
    if !name.is_empty()
        && let Value::Object(labels) = object::metadata_mut(namespace)
            .entry("labels")
            .or_insert_with(|| json!({}))
    {
        labels.insert(NAME_LABEL.to_owned(), Value::String(name));
    }
    if let Some(Value::Object(status)) = namespace.get_mut("status") {
        status.entry("phase").or_insert_with(|| json!("Active"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_becomes_a_label() {
        let mut namespace = json!({"metadata": {"name": "a", "labels": {NAME_LABEL: "b"}}, "status": {}});
        default(&mut namespace);
        assert_eq!(
            namespace,
            json!({"metadata": {"name": "a", "labels": {NAME_LABEL: "a"}}, "status": {"phase": "Active"}})
        );
    }

    #[test]
    fn a_name_yet_to_be_generated_is_no_label() {
        let mut namespace = json!({"metadata": {"generateName": "a-"}});
        default(&mut namespace);
        assert_eq!(namespace, json!({"metadata": {"generateName": "a-"}}));
    }
}
