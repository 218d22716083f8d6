//! What the four kinds of rbac.authorization.k8s.io/v1 have in common.

use serde_json::{Map, Value, json};
use setpoint_meta::field::{FieldError, Path};
use setpoint_meta::names;

use super::draft::{Draft, age_column, computed, doc, name_column, wide};
use crate::resource::{Column, NameRule};
use crate::table::Printer;

pub(super) const GROUP: &str = "rbac.authorization.k8s.io";

/// A kind of the group: names are path segments (`system:node-proxier`), and PUT creates.
pub(super) fn draft(schema: &'static str, plural: &str) -> Draft {
    Draft::new(GROUP, "v1", schema, plural)
        .names(NameRule::PathSegment)
        .create_on_update()
}

/// NAME ROLE AGE, and who is bound with `-o wide`.
pub(super) fn binding_columns(schema: &str, what: &str) -> Vec<Column> {
    vec![
        name_column(),
        computed("Role", doc(schema, "roleRef"), ROLE),
        age_column(),
        wide(computed("Users", format!("Users in the {what}"), USERS)),
        wide(computed("Groups", format!("Groups in the {what}"), GROUPS)),
        wide(computed(
            "ServiceAccounts",
            format!("ServiceAccounts in the {what}"),
            SERVICE_ACCOUNTS,
        )),
    ]
}

const ROLE: Printer = Printer {
    name: "rbac.role",
    print: |object, _| {
        json!(format!(
            "{}/{}",
            text(&object["roleRef"], "kind"),
            text(&object["roleRef"], "name")
        ))
    },
};
const USERS: Printer = Printer {
    name: "rbac.users",
    print: |object, _| json!(subjects(object, "User")),
};
const GROUPS: Printer = Printer {
    name: "rbac.groups",
    print: |object, _| json!(subjects(object, "Group")),
};
const SERVICE_ACCOUNTS: Printer = Printer {
    name: "rbac.serviceaccounts",
    print: |object, _| json!(subjects(object, "ServiceAccount")),
};

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn items<'a>(object: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    object.get(field).and_then(Value::as_array).into_iter().flatten()
}

fn is_empty(object: &Value, field: &str) -> bool {
    items(object, field).next().is_none()
}

fn subjects(binding: &Value, kind: &str) -> String {
    let name = |subject: &Value| match (kind, text(subject, "namespace")) {
        ("ServiceAccount", namespace) if !namespace.is_empty() => format!("{namespace}/{}", text(subject, "name")),
        _ => text(subject, "name").to_owned(),
    };
    items(binding, "subjects")
        .filter(|subject| text(subject, "kind") == kind)
        .map(name)
        .collect::<Vec<_>>()
        .join(", ")
}

/// The API groups that a binding may leave out.
pub(super) fn default_binding(binding: &mut Value) {
    let fill = |reference: &mut Map<String, Value>, group: &str| {
        if reference
            .get("apiGroup")
            .and_then(Value::as_str)
            .is_none_or(str::is_empty)
        {
            reference.insert("apiGroup".to_owned(), json!(group));
        }
    };
    if let Some(Value::Object(role)) = binding.get_mut("roleRef") {
        fill(role, GROUP);
    }
    for subject in binding
        .get_mut("subjects")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        let is_principal = matches!(text(subject, "kind"), "User" | "Group");
        if let (true, Value::Object(subject)) = (is_principal, subject) {
            fill(subject, GROUP);
        }
    }
}

/// The rules of a Role (`namespaced`) or ClusterRole.
pub(super) fn validate_rules(role: &Value, namespaced: bool) -> Vec<FieldError> {
    let path = Path::new("rules");
    items(role, "rules")
        .enumerate()
        .flat_map(|(at, rule)| validate_rule(rule, namespaced, &path.index(at)))
        .collect()
}

fn validate_rule(rule: &Value, namespaced: bool, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if is_empty(rule, "verbs") {
        errors.push(FieldError::required(
            path.child("verbs"),
            "verbs must contain at least one value",
        ));
    }
    if !is_empty(rule, "nonResourceURLs") {
        let urls = || (path.child("nonResourceURLs"), rule["nonResourceURLs"].clone());
        if namespaced {
            let (path, value) = urls();
            errors.push(FieldError::invalid(
                path,
                value,
                "namespaced rules cannot apply to non-resource URLs",
            ));
        }
        if ["apiGroups", "resources", "resourceNames"]
            .iter()
            .any(|field| !is_empty(rule, field))
        {
            let (path, value) = urls();
            errors.push(FieldError::invalid(
                path,
                value,
                "rules cannot apply to both regular resources and non-resource URLs",
            ));
        }
        return errors;
    }
    if is_empty(rule, "apiGroups") {
        errors.push(FieldError::required(
            path.child("apiGroups"),
            "resource rules must supply at least one api group",
        ));
    }
    if is_empty(rule, "resources") {
        errors.push(FieldError::required(
            path.child("resources"),
            "resource rules must supply at least one resource",
        ));
    }
    errors
}

/// A RoleBinding (`namespaced`) or ClusterRoleBinding. What it binds cannot change: it would silently hand out other rights.
pub(super) fn validate_binding(new: &Value, old: Option<&Value>, namespaced: bool) -> Vec<FieldError> {
    let kinds: &[&str] = if namespaced {
        &["Role", "ClusterRole"]
    } else {
        &["ClusterRole"]
    };
    let (role, path) = (&new["roleRef"], Path::new("roleRef"));
    let mut errors = Vec::new();
    if text(role, "apiGroup") != GROUP {
        errors.push(FieldError::not_supported(
            path.child("apiGroup"),
            text(role, "apiGroup"),
            [GROUP],
        ));
    }
    if !kinds.contains(&text(role, "kind")) {
        errors.push(FieldError::not_supported(
            path.child("kind"),
            text(role, "kind"),
            kinds.iter().copied(),
        ));
    }
    let name = text(role, "name");
    if name.is_empty() {
        errors.push(FieldError::required(path.child("name"), ""));
    } else {
        errors.extend(
            names::path_segment(name)
                .into_iter()
                .map(|message| FieldError::invalid(path.child("name"), name, message)),
        );
    }
    let subjects = Path::new("subjects");
    for (at, subject) in items(new, "subjects").enumerate() {
        errors.extend(validate_subject(subject, namespaced, &subjects.index(at)));
    }
    if old.is_some_and(|old| old["roleRef"] != *role) {
        errors.push(FieldError::invalid(path, role.clone(), "cannot change roleRef"));
    }
    errors
}

fn validate_subject(subject: &Value, namespaced: bool, path: &Path) -> Vec<FieldError> {
    let (kind, name, group) = (text(subject, "kind"), text(subject, "name"), text(subject, "apiGroup"));
    let mut errors = Vec::new();
    if name.is_empty() {
        errors.push(FieldError::required(path.child("name"), ""));
    }
    match kind {
        "ServiceAccount" => {
            if !name.is_empty() {
                let wrong = names::dns1123_subdomain(name).into_iter();
                errors.extend(wrong.map(|message| FieldError::invalid(path.child("name"), name, message)));
            }
            if !group.is_empty() {
                errors.push(FieldError::not_supported(path.child("apiGroup"), group, [""]));
            }
            if !namespaced && text(subject, "namespace").is_empty() {
                errors.push(FieldError::required(path.child("namespace"), ""));
            }
        }
        "User" | "Group" if group == GROUP => {}
        "User" | "Group" => errors.push(FieldError::not_supported(path.child("apiGroup"), group, [GROUP])),
        _ => errors.push(FieldError::not_supported(
            path.child("kind"),
            kind,
            ["ServiceAccount", "User", "Group"],
        )),
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(errors: Vec<FieldError>) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn rules() {
        let role = json!({"rules": [
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]},
            {"resources": ["pods"]},
            {"nonResourceURLs": ["/healthz"], "verbs": ["get"], "resources": ["pods"]},
        ]});
        assert_eq!(
            texts(validate_rules(&role, true)),
            [
                "rules[1].verbs: Required value: verbs must contain at least one value",
                "rules[1].apiGroups: Required value: resource rules must supply at least one api group",
                "rules[2].nonResourceURLs: Invalid value: [\"/healthz\"]: namespaced rules cannot apply to non-resource URLs",
                "rules[2].nonResourceURLs: Invalid value: [\"/healthz\"]: rules cannot apply to both regular resources and non-resource URLs",
            ]
        );
    }

    #[test]
    fn bindings_are_defaulted_and_checked() {
        let mut binding = json!({
            "roleRef": {"kind": "ClusterRole", "name": "view"},
            "subjects": [{"kind": "User", "name": "jane"}, {"kind": "ServiceAccount", "name": "a"}, {"kind": "Robot", "name": "b"}],
        });
        default_binding(&mut binding);
        assert_eq!(binding["roleRef"]["apiGroup"], GROUP);
        assert_eq!(binding["subjects"][0]["apiGroup"], GROUP);
        assert_eq!(binding["subjects"][1].get("apiGroup"), None);
        assert_eq!(
            texts(validate_binding(&binding, None, false)),
            [
                "subjects[1].namespace: Required value",
                "subjects[2].kind: Unsupported value: \"Robot\": supported values: \"ServiceAccount\", \"User\", \"Group\"",
            ]
        );
        let mut old = binding.clone();
        old["roleRef"]["name"] = json!("edit");
        let errors = texts(validate_binding(&binding, Some(&old), true));
        assert!(
            errors
                .iter()
                .any(|e| e.starts_with("roleRef: Invalid value: ") && e.ends_with(": cannot change roleRef")),
            "{errors:?}"
        );
    }

    #[test]
    fn subjects_print() {
        let binding = json!({"subjects": [
            {"kind": "User", "name": "jane"}, {"kind": "User", "name": "joe"}, {"kind": "ServiceAccount", "name": "a", "namespace": "n"},
        ]});
        assert_eq!(subjects(&binding, "User"), "jane, joe");
        assert_eq!(subjects(&binding, "ServiceAccount"), "n/a");
        assert_eq!(subjects(&binding, "Group"), "");
    }
}
