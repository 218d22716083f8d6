//! Kubernetes' own kinds, one file each. To add one: write its file and its line in [`all`].
//!
//! A file says what Kubernetes' Go code says about the kind and its OpenAPI document does not: names, verbs, columns, defaults,
//! update rules, validation beyond the schema. The schema itself comes from the [`library`].
//!
//! What is here is served, so a kind that must act (a ValidatingAdmissionPolicy) comes in together with what makes it act.

mod access_review;
mod cluster_role;
mod cluster_role_binding;
mod config_map;
mod custom_resource_definition;
pub(crate) mod draft;
mod event;
mod events_event;
mod lease;
pub mod library;
mod local_subject_access_review;
mod namespace;
mod rbac;
mod resource_quota;
mod role;
mod role_binding;
mod secret;
mod self_subject_access_review;
mod self_subject_review;
mod self_subject_rules_review;
mod service_account;
mod subject_access_review;
mod token_review;

use crate::resource::ResourceDefinition;

/// Every built-in kind, in the order of their groups in discovery.
pub fn all() -> Vec<ResourceDefinition> {
    vec![
        config_map::definition(),
        event::definition(),
        namespace::definition(),
        resource_quota::definition(),
        secret::definition(),
        service_account::definition(),
        events_event::definition(),
        self_subject_review::definition(),
        token_review::definition(),
        local_subject_access_review::definition(),
        self_subject_access_review::definition(),
        self_subject_rules_review::definition(),
        subject_access_review::definition(),
        cluster_role::definition(),
        cluster_role_binding::definition(),
        role::definition(),
        role_binding::definition(),
        custom_resource_definition::definition(),
        lease::definition(),
    ]
}

#[cfg(test)]
mod tests;
