//! The paths and operations of a kind, in neither version's notation.

use std::sync::Arc;

use serde_json::{Value, json};

use super::schemas::{self, gvk, meta};
use crate::discovery::{GroupVersion, subresources};
use crate::resource::{Origin, ResourceDefinition, Scope, Verb, Version};

/// A path and what may be done there.
pub(super) struct Path {
    pub(super) path: String,
    pub(super) parameters: Vec<Parameter>,
    pub(super) operations: Vec<Operation>,
}

/// One operation.
pub(super) struct Operation {
    pub(super) method: &'static str,
    pub(super) id: String,
    pub(super) description: String,
    pub(super) tag: String,
    /// `x-kubernetes-action`
    pub(super) action: &'static str,
    pub(super) gvk: Value,
    pub(super) parameters: Vec<Parameter>,
    /// The schema of the body, and its media types.
    pub(super) body: Option<(String, Vec<&'static str>)>,
    pub(super) body_required: bool,
    /// Status code, description, schema.
    pub(super) responses: Vec<(u16, &'static str, String)>,
}

/// A parameter in the path or query.
#[derive(Clone)]
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) place: &'static str,
    pub(super) ty: &'static str,
    pub(super) description: &'static str,
}

const fn query(name: &'static str, ty: &'static str, description: &'static str) -> Parameter {
    Parameter {
        name,
        place: "query",
        ty,
        description,
    }
}

const DRY_RUN: Parameter = query(
    "dryRun",
    "string",
    "`All` runs every stage of the request but the write.",
);
const FIELD_MANAGER: Parameter = query(
    "fieldManager",
    "string",
    "Who writes, for `metadata.managedFields`. At most 128 printable characters.",
);
const FIELD_VALIDATION: Parameter = query(
    "fieldValidation",
    "string",
    "What to do about unknown and duplicate fields: `Ignore`, `Warn` (the default) or `Strict`.",
);
const FORCE: Parameter = query(
    "force",
    "boolean",
    "Apply patches only: take fields from their other managers.",
);
const PRETTY: Parameter = query("pretty", "string", "If `true`, the answer is indented.");

/// What selects and pages lists.
const LIST: [Parameter; 10] = [
    query(
        "allowWatchBookmarks",
        "boolean",
        "Ask for events of type BOOKMARK on a watch.",
    ),
    query(
        "continue",
        "string",
        "The token of an earlier page, to go on from there.",
    ),
    query("fieldSelector", "string", "Only objects with these field values."),
    query("labelSelector", "string", "Only objects with these labels."),
    query("limit", "integer", "Most objects in one page."),
    query(
        "resourceVersion",
        "string",
        "How fresh the answer must be; see the API concepts page of Kubernetes.",
    ),
    query(
        "resourceVersionMatch",
        "string",
        "How resourceVersion applies to a list.",
    ),
    query(
        "sendInitialEvents",
        "boolean",
        "Start a watch with the present objects and a bookmark.",
    ),
    query("timeoutSeconds", "integer", "Longest duration of the call."),
    query("watch", "boolean", "Answer with a stream of changes instead of a list."),
];

/// What tells how to delete.
const DELETE: [Parameter; 4] = [
    DRY_RUN,
    query(
        "gracePeriodSeconds",
        "integer",
        "How long to wait before deletion; 0 is at once.",
    ),
    query("orphanDependents", "boolean", "Deprecated: use propagationPolicy."),
    query(
        "propagationPolicy",
        "string",
        "What becomes of dependents: `Orphan`, `Background` or `Foreground`.",
    ),
];

const ANY: [&str; 1] = ["*/*"];
const PATCH: [&str; 4] = [
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];

/// Media types of answers.
pub(super) const PRODUCES: [&str; 2] = ["application/json", "application/yaml"];

/// What all the paths of a kind have in common.
struct Kind<'d> {
    def: &'d ResourceDefinition,
    version: &'d Version,
    /// `CoreV1`
    prefix: String,
    tag: String,
    schema: String,
    list: String,
    gvk: Value,
}

/// Every path of a group version.
pub(super) fn paths(group: &str, version: &GroupVersion<'_>) -> Vec<Path> {
    let root = root(group, version.name);
    let mut paths = vec![discovery_path(group, version.name, &root)];
    for (def, version) in &version.resources {
        let kind = Kind {
            def,
            version,
            prefix: format!("{}{}", camel(group), capital(&version.name)),
            tag: tag(group, &version.name),
            schema: schemas::name(def, version),
            list: schemas::list_name(def, version),
            gvk: gvk(group, &version.name, &def.kind),
        };
        paths.extend(kind.paths(&root));
    }
    paths
}

/// `/api/v1` or `/apis/GROUP/VERSION`
pub(super) fn root(group: &str, version: &str) -> String {
    if group.is_empty() {
        format!("/api/{version}")
    } else {
        format!("/apis/{group}/{version}")
    }
}

/// `rbac.authorization.k8s.io` is `RbacAuthorization`, the core group `Core`.
fn camel(group: &str) -> String {
    match group {
        "" => "Core".to_owned(),
        group => group
            .strip_suffix(".k8s.io")
            .unwrap_or(group)
            .split(['.', '-'])
            .map(capital)
            .collect(),
    }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

fn tag(group: &str, version: &str) -> String {
    let camel = camel(group);
    let mut chars = camel.chars();
    let head: String = chars
        .next()
        .map_or_else(String::new, |first| first.to_lowercase().collect());
    format!("{head}{}_{version}", chars.as_str())
}

fn discovery_path(group: &str, version: &str, root: &str) -> Path {
    let operation = Operation {
        method: "get",
        id: format!("get{}{}APIResources", camel(group), capital(version)),
        description: "get available resources".to_owned(),
        tag: tag(group, version),
        action: "",
        gvk: Value::Null,
        parameters: Vec::new(),
        body: None,
        body_required: false,
        responses: vec![(200, "OK", meta("APIResourceList"))],
    };
    Path {
        path: format!("{root}/"),
        parameters: Vec::new(),
        operations: vec![operation],
    }
}

impl Kind<'_> {
    fn namespaced(&self) -> bool {
        self.def.scope == Scope::Namespaced
    }

    fn paths(&self, root: &str) -> Vec<Path> {
        let plural = &self.def.plural;
        let collection = if self.namespaced() {
            format!("{root}/namespaces/{{namespace}}/{plural}")
        } else {
            format!("{root}/{plural}")
        };
        let item = format!("{collection}/{{name}}");
        let mut paths = Vec::new();
        if self.namespaced() && self.def.verbs.contains(&Verb::List) {
            let mut everywhere = self.list_operation();
            everywhere.id = format!("list{}{}ForAllNamespaces", self.prefix, self.def.kind);
            paths.push(Path {
                path: format!("{root}/{plural}"),
                parameters: Vec::new(),
                operations: vec![everywhere],
            });
        }
        paths.push(self.path(collection, false, self.collection_operations()));
        if self.def.is_stored() {
            paths.push(self.path(item.clone(), true, self.item_operations()));
        }
        for sub in subresources(self.def, self.version) {
            let schema = if sub.kind == &*self.def.kind {
                Some(self.schema.clone())
            } else {
                schemas::foreign_name((sub.group, sub.version, sub.kind))
            };
            let Some(schema) = schema else { continue };
            let mut operations = self.verbs(sub.verbs, &schema, &capital(sub.name));
            for operation in &mut operations {
                operation.gvk = gvk(sub.group, sub.version, sub.kind);
            }
            paths.push(self.path(format!("{item}/{}", sub.name), true, operations));
        }
        paths
    }

    fn path(&self, path: String, named: bool, operations: Vec<Operation>) -> Path {
        let in_path = |name, description| Parameter {
            name,
            place: "path",
            ty: "string",
            description,
        };
        let mut parameters = Vec::new();
        if named {
            parameters.push(in_path("name", "The name of the object."));
        }
        if self.namespaced() {
            parameters.push(in_path("namespace", "The namespace of the object."));
        }
        parameters.push(PRETTY);
        Path {
            path,
            parameters,
            operations,
        }
    }

    fn operation(&self, method: &'static str, action: &'static str, does: &str, subject: &str) -> Operation {
        let namespaced = if self.namespaced() { "Namespaced" } else { "" };
        let word = match does {
            "delete collection of" => "deleteCollection".to_owned(),
            other => other.split(' ').next().unwrap_or_default().to_owned(),
        };
        Operation {
            method,
            id: format!("{word}{}{namespaced}{}{subject}", self.prefix, self.def.kind),
            description: format!(
                "{does} {}{}",
                self.def.kind,
                if subject.is_empty() {
                    String::new()
                } else {
                    format!(" ({})", subject.to_lowercase())
                }
            ),
            tag: self.tag.clone(),
            action,
            gvk: self.gvk.clone(),
            parameters: Vec::new(),
            body: None,
            body_required: true,
            responses: vec![(200, "OK", self.schema.clone())],
        }
    }

    fn list_operation(&self) -> Operation {
        Operation {
            parameters: LIST.to_vec(),
            responses: vec![(200, "OK", self.list.clone())],
            ..self.operation("get", "list", "list or watch", "")
        }
    }

    fn collection_operations(&self) -> Vec<Operation> {
        let mut operations = Vec::new();
        if self.def.verbs.contains(&Verb::List) {
            operations.push(self.list_operation());
        }
        if self.def.verbs.contains(&Verb::Create) {
            operations.push(self.create(&self.schema, ""));
        }
        if self.def.verbs.contains(&Verb::DeleteCollection) {
            operations.push(Operation {
                parameters: LIST
                    .iter()
                    .filter(|p| p.name != "watch" && p.name != "allowWatchBookmarks")
                    .cloned()
                    .chain(DELETE)
                    .collect(),
                body: Some((meta("DeleteOptions"), ANY.to_vec())),
                body_required: false,
                responses: vec![(200, "OK", meta("Status"))],
                ..self.operation("delete", "deletecollection", "delete collection of", "")
            });
        }
        operations
    }

    fn create(&self, schema: &str, subject: &str) -> Operation {
        Operation {
            parameters: vec![DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION],
            body: Some((schema.to_owned(), ANY.to_vec())),
            responses: vec![
                (200, "OK", schema.to_owned()),
                (201, "Created", schema.to_owned()),
                (202, "Accepted", schema.to_owned()),
            ],
            ..self.operation("post", "post", "create a", subject)
        }
    }

    fn item_operations(&self) -> Vec<Operation> {
        let mut operations = self.verbs(self.def.verbs, &self.schema, "");
        operations.retain(|operation| operation.method != "post");
        if self.def.verbs.contains(&Verb::Delete) {
            operations.push(Operation {
                parameters: DELETE.to_vec(),
                body: Some((meta("DeleteOptions"), ANY.to_vec())),
                body_required: false,
                responses: vec![(200, "OK", meta("Status")), (202, "Accepted", meta("Status"))],
                ..self.operation("delete", "delete", "delete a", "")
            });
        }
        operations
    }

    /// What is done to one object, or to a subresource of it.
    fn verbs(&self, verbs: &[Verb], schema: &str, subject: &str) -> Vec<Operation> {
        let answer = |code, text| (code, text, schema.to_owned());
        let mut operations = Vec::new();
        if verbs.contains(&Verb::Create) {
            operations.push(self.create(schema, subject));
        }
        if verbs.contains(&Verb::Get) {
            operations.push(Operation {
                responses: vec![answer(200, "OK")],
                ..self.operation("get", "get", "read the", subject)
            });
        }
        if verbs.contains(&Verb::Update) {
            operations.push(Operation {
                parameters: vec![DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION],
                body: Some((schema.to_owned(), ANY.to_vec())),
                responses: vec![answer(200, "OK"), answer(201, "Created")],
                ..self.operation("put", "put", "replace the", subject)
            });
        }
        if verbs.contains(&Verb::Patch) {
            operations.push(Operation {
                parameters: vec![DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION, FORCE],
                body: Some((meta("Patch"), self.patch_types())),
                responses: vec![answer(200, "OK"), answer(201, "Created")],
                ..self.operation("patch", "patch", "partially update the", subject)
            });
        }
        operations
    }

    /// Strategic merge patch is for Kubernetes' own kinds: clients look here for it.
    fn patch_types(&self) -> Vec<&'static str> {
        let served = |media: &&str| self.def.origin == Origin::Kubernetes || !media.contains("strategic");
        PATCH.into_iter().filter(served).collect()
    }
}

/// The groups of some definitions, for either kind of document.
pub(super) fn groups(defs: &[Arc<ResourceDefinition>]) -> Vec<crate::discovery::Group<'_>> {
    crate::discovery::groups(defs)
}

/// The keys that Kubernetes adds to an operation, to be merged into it.
pub(super) fn extensions(operation: &Operation) -> Value {
    if operation.action.is_empty() {
        return json!({});
    }
    json!({"x-kubernetes-action": operation.action, "x-kubernetes-group-version-kind": operation.gvk})
}
