//! Roles and bindings: a binding's roleRef cannot change, since that would hand its subjects another role in silence.

use serde_json::Value;
use setpoint_meta::field::{FieldError, Path};

use super::Strategy;
use crate::strategy::Target;

pub(super) struct Roles;
pub(super) struct Bindings;

impl Strategy for Roles {
    fn validate(&self, _target: &Target, new: &Value, _old: Option<&Value>, errors: &mut Vec<FieldError>) {
        let namespaced = new["kind"] == "Role";
        for (index, rule) in new["rules"].as_array().into_iter().flatten().enumerate() {
            let path = Path::new("rules").index(index);
            let empty = |field: &str| rule[field].as_array().is_none_or(Vec::is_empty);
            if empty("verbs") {
                errors.push(FieldError::required(path.child("verbs"), "verbs must contain at least one value"));
            }
            if !empty("nonResourceURLs") {
                if namespaced {
                    errors.push(FieldError::invalid(path.child("nonResourceURLs"), rule["nonResourceURLs"].clone(), "namespaced rules cannot apply to non-resource URLs"));
                }
                if !empty("apiGroups") || !empty("resources") || !empty("resourceNames") {
                    errors.push(FieldError::invalid(path.child("nonResourceURLs"), rule["nonResourceURLs"].clone(), "rules cannot apply to both regular resources and non-resource URLs"));
                }
                continue;
            }
            if empty("apiGroups") {
                errors.push(FieldError::required(path.child("apiGroups"), "resource rules must supply at least one api group"));
            }
            if empty("resources") {
                errors.push(FieldError::required(path.child("resources"), "resource rules must supply at least one resource"));
            }
        }
    }
}

impl Strategy for Bindings {
    fn prepare_create(&self, new: &mut Value, _now: jiff::Timestamp) {
        default_groups(new);
    }

    fn prepare_update(&self, _target: &Target, _old: &Value, new: &mut Value) {
        default_groups(new);
    }

    fn validate(&self, _target: &Target, new: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
        let role = &new["roleRef"];
        let path = Path::new("roleRef");
        let known = role["kind"] == "ClusterRole" || (role["kind"] == "Role" && new["kind"] == "RoleBinding");
        if !known {
            let supported: &[&str] = if new["kind"] == "RoleBinding" { &["ClusterRole", "Role"] } else { &["ClusterRole"] };
            errors.push(FieldError::not_supported(path.child("kind"), role["kind"].clone(), supported));
        }
        if role["name"].as_str().unwrap_or_default().is_empty() {
            errors.push(FieldError::required(path.child("name"), ""));
        }
        if old.is_some_and(|old| old["roleRef"] != new["roleRef"]) {
            errors.push(FieldError::invalid(path, role.clone(), "cannot change roleRef"));
        }
        for (index, subject) in new["subjects"].as_array().into_iter().flatten().enumerate() {
            let path = Path::new("subjects").index(index);
            if subject["name"].as_str().unwrap_or_default().is_empty() {
                errors.push(FieldError::required(path.child("name"), ""));
            }
            match subject["kind"].as_str().unwrap_or_default() {
                "User" | "Group" => {}
                "ServiceAccount" if subject["namespace"].as_str().unwrap_or_default().is_empty() => errors.push(FieldError::required(path.child("namespace"), "")),
                "ServiceAccount" => {}
                _ => errors.push(FieldError::not_supported(path.child("kind"), subject["kind"].clone(), &["ServiceAccount", "User", "Group"])),
            }
        }
    }
}

/// Users and groups are of the RBAC group, service accounts of core; the Go types default it, OpenAPI does not say so.
fn default_groups(binding: &mut Value) {
    const RBAC: &str = "rbac.authorization.k8s.io";
    for subject in binding["subjects"].as_array_mut().into_iter().flatten() {
        let group = if subject["kind"] == "ServiceAccount" { "" } else { RBAC };
        if subject["apiGroup"].as_str().unwrap_or_default().is_empty() && !group.is_empty() {
            subject["apiGroup"] = group.into();
        }
    }
    if binding["roleRef"].is_object() && binding["roleRef"]["apiGroup"].as_str().unwrap_or_default().is_empty() {
        binding["roleRef"]["apiGroup"] = RBAC.into();
    }
}
