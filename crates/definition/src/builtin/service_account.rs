//! core/v1 ServiceAccount. Its `token` subresource is the API server's.

use serde_json::Value;

use super::draft::{Draft, age_column, computed, doc, name_column};
use crate::resource::{ResourceDefinition, Verb};
use crate::table::Printer;

const SCHEMA: &str = "io.k8s.api.core.v1.ServiceAccount";

pub(super) fn definition() -> ResourceDefinition {
    Draft::new("", "v1", SCHEMA, "serviceaccounts")
        .short_names(&["sa"])
        .conditional_update()
        .action(
            "token",
            ("authentication.k8s.io", "v1", "TokenRequest"),
            &[Verb::Create],
        )
        .columns(vec![
            name_column(),
            computed("Secrets", doc(SCHEMA, "secrets"), SECRETS),
            age_column(),
        ])
        .build()
}

const SECRETS: Printer = Printer {
    name: "serviceaccounts.secrets",
    print: |object, _| {
        object
            .get("secrets")
            .and_then(Value::as_array)
            .map_or(0, Vec::len)
            .into()
    },
};
