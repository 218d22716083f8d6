//! What is wrong with a CustomResourceDefinition outside its versions.

use serde_json::{Value, json};
use setpoint_meta::field::{FieldError, Path};
use setpoint_meta::{names, object};

use super::{flag, items, text, texts};

/// Everything but the versions' own content. `crd_names` is `spec.names`, or what it becomes by defaults.
pub(super) fn object(crd: &Value, crd_names: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = described(crd, crd_names);
    errors.extend(conversion(&crd["spec"]["conversion"]));
    errors.extend(stored_versions(crd));
    errors.extend(approval(crd, old));
    if flag(&crd["spec"], "preserveUnknownFields")
        && !old.is_some_and(|old| flag(&old["spec"], "preserveUnknownFields"))
    {
        errors.push(FieldError::invalid(
            "spec.preserveUnknownFields",
            true,
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead",
        ));
    }
    errors.extend(old.into_iter().flat_map(|old| unchanged(crd, old)));
    errors
}

/// The parts that a definition is made of: names, group, scope, the set of versions.
fn described(crd: &Value, crd_names: &Value) -> Vec<FieldError> {
    let (spec, path) = (&crd["spec"], Path::new("spec"));
    let (group, plural) = (text(spec, "group"), text(crd_names, "plural"));
    let mut errors = Vec::new();
    let name = object::name(crd);
    if !plural.is_empty() && name != format!("{plural}.{group}") {
        errors.push(FieldError::invalid(
            "metadata.name",
            name,
            "must be spec.names.plural+\".\"+spec.group",
        ));
    }
    errors.extend(group_errors(group, &path.child("group")));
    match text(spec, "scope") {
        "" => errors.push(FieldError::required(path.child("scope"), "")),
        "Cluster" | "Namespaced" => {}
        other => errors.push(FieldError::not_supported(
            path.child("scope"),
            other,
            ["Cluster", "Namespaced"],
        )),
    }
    errors.extend(version_set(items(spec, "versions"), &path.child("versions")));
    errors.extend(name_errors(crd_names, &path.child("names")));
    errors
}

fn group_errors(group: &str, path: &Path) -> Option<FieldError> {
    if group.is_empty() {
        return Some(FieldError::required(path, ""));
    }
    let wrong = names::dns1123_subdomain(group);
    if !wrong.is_empty() {
        return Some(FieldError::invalid(path, group, wrong.join(",")));
    }
    (!group.contains('.')).then(|| FieldError::invalid(path, group, "should be a domain with at least one dot"))
}

fn version_set(versions: &[Value], path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let version_names: Vec<&str> = versions.iter().map(|version| text(version, "name")).collect();
    for (at, name) in version_names.iter().enumerate() {
        let wrong = names::dns1035_label(name);
        if !wrong.is_empty() {
            errors.push(FieldError::invalid(
                path.index(at).child("name"),
                *name,
                wrong.join(","),
            ));
        }
    }
    if version_names
        .iter()
        .enumerate()
        .any(|(at, name)| version_names[..at].contains(name))
    {
        errors.push(FieldError::invalid(
            path,
            json!(version_names),
            "must contain unique version names",
        ));
    }
    if versions.iter().filter(|version| flag(version, "storage")).count() != 1 {
        errors.push(FieldError::invalid(
            path,
            json!(version_names),
            "must have exactly one version marked as storage version",
        ));
    }
    errors
}

fn name_errors(crd_names: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for field in ["plural", "singular", "kind", "listKind"] {
        let name = text(crd_names, field);
        if name.is_empty() {
            errors.push(FieldError::required(path.child(field), ""));
            continue;
        }
        let mixed_case = field.to_lowercase().ends_with("kind");
        let wrong = if mixed_case {
            names::dns1035_label(&name.to_lowercase())
        } else {
            names::dns1035_label(name)
        };
        if !wrong.is_empty() {
            let prefix = if mixed_case {
                "may have mixed case, but should otherwise match: "
            } else {
                ""
            };
            errors.push(FieldError::invalid(
                path.child(field),
                name,
                format!("{prefix}{}", wrong.join(",")),
            ));
        }
    }
    for field in ["shortNames", "categories"] {
        for (at, name) in texts(crd_names, field).iter().enumerate() {
            let wrong = names::dns1035_label(name);
            if !wrong.is_empty() {
                errors.push(FieldError::invalid(
                    path.child(field).index(at),
                    name.as_str(),
                    wrong.join(","),
                ));
            }
        }
    }
    let (kind, list_kind) = (text(crd_names, "kind"), text(crd_names, "listKind"));
    if !kind.is_empty() && kind == list_kind {
        errors.push(FieldError::invalid(
            path.child("listKind"),
            list_kind,
            "kind and listKind may not be the same",
        ));
    }
    errors
}

fn conversion(conversion: &Value) -> Vec<FieldError> {
    let path = Path::new("spec").child("conversion");
    if conversion.is_null() {
        return Vec::new();
    }
    let webhook = &conversion["webhook"];
    match text(conversion, "strategy") {
        "" => vec![FieldError::required(path.child("strategy"), "")],
        "None" if webhook.is_null() => Vec::new(),
        "None" => {
            vec![FieldError::forbidden(
                path.child("webhookClientConfig"),
                "should not be set when strategy is not set to Webhook",
            )]
        }
        "Webhook" => webhook_errors(webhook, &path),
        other => vec![FieldError::not_supported(
            path.child("strategy"),
            other,
            ["None", "Webhook"],
        )],
    }
}

/// ConversionReview versions that are spoken here.
const REVIEW_VERSIONS: [&str; 2] = ["v1", "v1beta1"];

fn webhook_errors(webhook: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (client, client_path) = (&webhook["clientConfig"], path.child("webhookClientConfig"));
    if client.is_null() {
        errors.push(FieldError::required(
            &client_path,
            "required when strategy is set to Webhook",
        ));
    } else if client["url"].is_null() == client["service"].is_null() {
        errors.push(FieldError::required(
            &client_path,
            "exactly one of url or service is required",
        ));
    } else if let Some(url) = client["url"].as_str().filter(|url| !url.starts_with("https://")) {
        errors.push(FieldError::invalid(
            client_path.child("url"),
            url,
            "'https' is the only allowed URL scheme",
        ));
    }
    let (versions, path) = (
        texts(webhook, "conversionReviewVersions"),
        path.child("conversionReviewVersions"),
    );
    if versions.is_empty() {
        errors.push(FieldError::required(&path, ""));
        return errors;
    }
    for (at, version) in versions.iter().enumerate() {
        if versions[..at].contains(version) {
            errors.push(FieldError::invalid(
                path.index(at),
                version.as_str(),
                "duplicate version",
            ));
            continue;
        }
        let wrong = names::dns1035_label(version).into_iter();
        errors.extend(wrong.map(|message| FieldError::invalid(path.index(at), version.as_str(), message)));
    }
    if !versions
        .iter()
        .any(|version| REVIEW_VERSIONS.contains(&version.as_str()))
    {
        let detail = format!("must include at least one of {}", REVIEW_VERSIONS.join(", "));
        errors.push(FieldError::invalid(path, json!(versions), detail));
    }
    errors
}

/// A version cannot go while objects may be stored in it.
fn stored_versions(crd: &Value) -> Vec<FieldError> {
    let path = Path::new("status").child("storedVersions");
    let versions: Vec<&str> = items(&crd["spec"], "versions")
        .iter()
        .map(|version| text(version, "name"))
        .collect();
    let gone = |(at, stored): (usize, String)| {
        let known = versions.contains(&stored.as_str());
        (!known).then(|| FieldError::invalid(path.index(at), stored, "must appear in spec.versions"))
    };
    texts(&crd["status"], "storedVersions")
        .into_iter()
        .enumerate()
        .filter_map(gone)
        .collect()
}

const APPROVAL: &str = "api-approved.kubernetes.io";

/// The groups of the Kubernetes project itself need its approval.
fn approval(crd: &Value, old: Option<&Value>) -> Option<FieldError> {
    let group = text(&crd["spec"], "group");
    let protected = ["k8s.io", "kubernetes.io"].iter().any(|domain| {
        group
            .strip_suffix(domain)
            .is_some_and(|prefix| prefix.is_empty() || prefix.ends_with('.'))
    });
    let annotation = object::annotation(crd, APPROVAL);
    if !protected || old.is_some_and(|old| object::annotation(old, APPROVAL) == annotation) {
        return None;
    }
    let path = Path::new("metadata").child("annotations").key(APPROVAL);
    match annotation {
        None | Some("") => Some(FieldError::required(
            path,
            format!(
                "protected groups must have approval annotation \"{APPROVAL}\", see https://github.com/kubernetes/enhancements/pull/1111"
            ),
        )),
        Some(value) if value.starts_with("unapproved") || value.contains("://") => None,
        Some(value) => Some(FieldError::invalid(
            path,
            value,
            format!(
                "protected groups must have approval annotation \"{APPROVAL}\" with either a URL or a reason starting with \"unapproved\", see https://github.com/kubernetes/enhancements/pull/1111"
            ),
        )),
    }
}

/// What names the stored objects cannot change; kind and scope not once they are established.
fn unchanged(crd: &Value, old: &Value) -> Vec<FieldError> {
    let established = items(&old["status"], "conditions")
        .iter()
        .any(|condition| text(condition, "type") == "Established" && text(condition, "status") == "True");
    let fixed: &[&str] = if established {
        &["scope", "names.kind", "group", "names.plural"]
    } else {
        &["group", "names.plural"]
    };
    let value = |crd: &Value, field: &str| {
        field
            .split('.')
            .fold(crd["spec"].clone(), |value, name| value[name].clone())
    };
    let changed = |field: &&str| {
        let new = value(crd, field);
        (new != value(old, field)).then(|| FieldError::invalid(format!("spec.{field}"), new, "field is immutable"))
    };
    fixed.iter().filter_map(changed).collect()
}
