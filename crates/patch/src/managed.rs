//! `metadata.managedFields`: who owns which fields of an object, and since when; and how a write other than an apply changes that.
//!
//! Entries are told apart by manager, operation, subresource and, for updates, API version. *Guarantees*: a write that changes no owned
//! field leaves `managedFields` as it is, byte for byte, so that a write that changes nothing is seen to change nothing; times move only
//! for the manager that wrote; entries are in Kubernetes' order. *Assumes*: all entries speak of one schema, that of the request (a kind
//! whose versions differ in shape is converted before it comes here). *How to get it wrong*: to take an update for an apply. Whoever
//! updates owns what it **changed**, not what it sent.

use std::sync::LazyLock;

use serde_json::{Map, Value};
use setpoint_schema::Schema;

use crate::fieldset::FieldSet;
use crate::path::PathElement;
use crate::typed::{self, Node};
use crate::{PatchError, fields_v1};

/// Most managers by update that one object keeps, as in Kubernetes; what the oldest own above that is merged into one entry a version,
/// [`ANCIENT_CHANGES`]. Each entry costs at most about what the object does, so an object is at most ten times its size.
pub const MAX_UPDATE_MANAGERS: usize = 10;

/// The manager of the merged entries.
pub const ANCIENT_CHANGES: &str = "ancient-changes";

/// The manager of what was there before the first apply.
pub const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// Who writes, and when.
#[derive(Clone, Copy, Debug)]
pub struct Manager<'a> {
    /// The field manager; empty is `unknown`.
    pub name: &'a str,
    /// The API version of the request, as `apps/v1`.
    pub api_version: &'a str,
    /// The subresource that is written; empty for the object itself.
    pub subresource: &'a str,
    /// The time, RFC 3339 in UTC with seconds: `2026-01-02T03:04:05Z`.
    pub now: &'a str,
}

/// How a manager came to own its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// Server-side apply: it owns what its configuration says.
    Apply,
    /// Any other write: it owns what it changed.
    Update,
}

impl Operation {
    /// The name in `managedFields`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) manager: String,
    pub(crate) operation: Operation,
    pub(crate) api_version: String,
    pub(crate) subresource: String,
    pub(crate) time: Option<String>,
    pub(crate) fields: FieldSet,
}

impl Owner {
    pub(crate) fn new(manager: &Manager<'_>, operation: Operation, fields: FieldSet) -> Self {
        Self {
            manager: if manager.name.is_empty() {
                "unknown"
            } else {
                manager.name
            }
            .to_owned(),
            operation,
            api_version: manager.api_version.to_owned(),
            subresource: manager.subresource.to_owned(),
            time: Some(manager.now.to_owned()),
            fields,
        }
    }

    /// Whether both are entries of one manager. An applier has one entry over all versions.
    pub(crate) fn same_identity(&self, other: &Self) -> bool {
        self.manager == other.manager
            && self.operation == other.operation
            && self.subresource == other.subresource
            && (self.operation == Operation::Apply || self.api_version == other.api_version)
    }

    fn decode(json: &Value, index: usize) -> Result<Self, String> {
        let text = |name: &str| json.get(name).and_then(Value::as_str).unwrap_or_default();
        let operation = match text("operation") {
            "Apply" => Operation::Apply,
            "Update" => Operation::Update,
            _ => return Err("operation must be `Apply` or `Update`".to_owned()),
        };
        if text("apiVersion").is_empty() {
            return Err("apiVersion must not be empty".to_owned());
        }
        match text("fieldsType") {
            "FieldsV1" => {}
            "" => return Err(format!("missing fieldsType in managed fields entry {index}")),
            other => return Err(format!("invalid fieldsType {other:?} in managed fields entry {index}")),
        }
        let fields = match json.get("fieldsV1") {
            None | Some(Value::Null) => FieldSet::new(),
            Some(fields) => fields_v1::decode(fields)
                .map_err(|error| format!("error decoding versioned set of {:?}: {error}", text("manager")))?,
        };
        Ok(Self {
            manager: text("manager").to_owned(),
            operation,
            api_version: text("apiVersion").to_owned(),
            subresource: text("subresource").to_owned(),
            time: Some(text("time")).filter(|time| !time.is_empty()).map(in_utc),
            fields,
        })
    }

    fn encode(self) -> Value {
        let mut json = Map::new();
        let mut put = |name: &str, value: Value| json.insert(name.to_owned(), value);
        put("manager", self.manager.into());
        put("operation", self.operation.as_str().into());
        put("apiVersion", self.api_version.into());
        if let Some(time) = self.time {
            put("time", time.into());
        }
        put("fieldsType", "FieldsV1".into());
        put("fieldsV1", fields_v1::encode(&self.fields));
        if !self.subresource.is_empty() {
            put("subresource", self.subresource.into());
        }
        Value::Object(json)
    }
}

/// Times are compared as text, which is right for times in UTC with seconds.
fn in_utc(time: &str) -> String {
    if time.len() == "2026-01-02T03:04:05Z".len() && time.ends_with('Z') {
        return time.to_owned();
    }
    setpoint_meta::time::parse_rfc3339(time).map_or_else(|_| time.to_owned(), setpoint_meta::time::rfc3339)
}

/// All entries of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Owners(pub(crate) Vec<Owner>);

impl Owners {
    /// Reads `metadata.managedFields`; absent is empty.
    pub(crate) fn decode(json: Option<&Value>) -> Result<Self, String> {
        let entries = match json {
            None | Some(Value::Null) => return Ok(Self::default()),
            Some(Value::Array(entries)) => entries,
            Some(_) => return Err("managedFields must be a list".to_owned()),
        };
        let mut owners = Self(Vec::with_capacity(entries.len()));
        for (index, entry) in entries.iter().enumerate() {
            let owner = Owner::decode(entry, index)?;
            match owners.position(&owner) {
                Some(at) => owners.0[at] = owner,
                None => owners.0.push(owner),
            }
        }
        Ok(owners)
    }

    /// Writes `metadata.managedFields`, or takes it away if there is no entry.
    pub(crate) fn encode_into(mut self, object: &mut Value) {
        if self.0.is_empty() {
            take_managed_fields(object);
            return;
        }
        self.0.sort_by(|a, b| {
            let key = |owner: &Owner| (owner.operation, owner.time.clone().unwrap_or_default());
            let names = |owner: &Owner| {
                (
                    owner.manager.clone(),
                    owner.api_version.clone(),
                    owner.subresource.clone(),
                )
            };
            key(a).cmp(&key(b)).then_with(|| names(a).cmp(&names(b)))
        });
        set_managed_fields(object, Value::Array(self.0.into_iter().map(Owner::encode).collect()));
    }

    pub(crate) fn position(&self, of: &Owner) -> Option<usize> {
        self.0.iter().position(|owner| owner.same_identity(of))
    }

    /// Brings all in line with the schema as it is now. True if that changed anything.
    pub(crate) fn reconcile(&mut self, node: Node<'_>) -> bool {
        self.0.iter_mut().fold(false, |changed, owner| {
            typed::reconcile(node, &mut owner.fields) | changed
        })
    }

    /// Adds what the manager has just changed by an update to what it owns by updates, if it is anything.
    pub(crate) fn add_update(&mut self, manager: &Manager<'_>, fields: FieldSet) {
        if fields.is_empty() {
            return;
        }
        let update = Owner::new(manager, Operation::Update, fields);
        match self.position(&update) {
            Some(at) => {
                self.0[at].fields.extend(update.fields);
                self.0[at].time = update.time;
            }
            None => self.0.push(update),
        }
    }

    pub(crate) fn drop_empty(&mut self) {
        self.0.retain(|owner| !owner.fields.is_empty());
    }

    /// Merges the oldest updates until at most [`MAX_UPDATE_MANAGERS`] are left, one merged entry for each API version.
    pub(crate) fn cap_updates(&mut self) {
        let is_update = |owner: &Owner| owner.operation == Operation::Update;
        let mut count = self.0.iter().filter(|owner| is_update(owner)).count();
        if count <= MAX_UPDATE_MANAGERS {
            return;
        }
        let (mut updates, mut rest): (Vec<Owner>, Vec<Owner>) =
            std::mem::take(&mut self.0).into_iter().partition(is_update);
        updates.sort_by(|a, b| a.time.cmp(&b.time).then_with(|| a.manager.cmp(&b.manager)));
        // The oldest of a version stays as it is until a second of that version has to go: only then is there something to merge.
        let mut oldest: Vec<Owner> = Vec::new();
        for update in updates {
            let first = oldest.iter_mut().find(|first| first.api_version == update.api_version);
            match first {
                Some(first) if count > MAX_UPDATE_MANAGERS => {
                    ANCIENT_CHANGES.clone_into(&mut first.manager);
                    first.subresource.clear();
                    first.fields.extend(update.fields);
                    first.time = update.time;
                    count -= 1;
                }
                None if count > MAX_UPDATE_MANAGERS => oldest.push(update),
                _ => rest.push(update),
            }
        }
        // An entry that was merged in an earlier write may be among the rest.
        for owner in rest.into_iter().chain(oldest) {
            match self.position(&owner) {
                Some(at) => {
                    self.0[at].fields.extend(owner.fields);
                    self.0[at].time = owner.time.max(self.0[at].time.take());
                }
                None => self.0.push(owner),
            }
        }
    }
}

/// What nobody owns: the server sets it, or it says which object this is.
static NEVER_OWNED: LazyLock<FieldSet> = LazyLock::new(|| {
    let metadata = [
        "name",
        "namespace",
        "creationTimestamp",
        "deletionTimestamp",
        "selfLink",
        "uid",
        "clusterName",
        "generation",
        "managedFields",
        "resourceVersion",
    ];
    let mut set = FieldSet::of_root_fields(["apiVersion", "kind", "metadata"]);
    for name in metadata {
        set.insert(&[PathElement::field("metadata"), PathElement::field(name)]);
    }
    set
});

static MANAGED_FIELDS: LazyLock<FieldSet> =
    LazyLock::new(|| FieldSet::from_fields([&["metadata", "managedFields"][..]]));

/// Takes out of a manager's set what nobody owns.
pub(crate) fn strip(fields: &mut FieldSet) {
    fields.subtract(&NEVER_OWNED);
}

/// What changed between two objects, as far as a request with these `reset` paths can own or take it.
pub(crate) fn changes(
    node: Node<'_>,
    old: &Value,
    new: &Value,
    reset: &FieldSet,
) -> Result<typed::Comparison, typed::TypeError> {
    let mut changes = typed::compare(node, old, new)?;
    changes.exclude(&MANAGED_FIELDS);
    changes.exclude(reset);
    Ok(changes)
}

/// `metadata.managedFields` of an object.
pub(crate) fn managed_fields(object: &Value) -> Option<&Value> {
    object.get("metadata")?.get("managedFields")
}

fn take_managed_fields(object: &mut Value) -> Option<Value> {
    object.get_mut("metadata")?.as_object_mut()?.remove("managedFields")
}

fn set_managed_fields(object: &mut Value, fields: Value) {
    let Some(object) = object.as_object_mut() else { return };
    let metadata = object.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    if let Some(metadata) = metadata.as_object_mut() {
        metadata.insert("managedFields".to_owned(), fields);
    }
}

/// Whether the client asks to forget all owners: an empty list, or a list of one empty entry.
fn is_reset(sent: &Value) -> bool {
    match sent.as_array().map(Vec::as_slice) {
        Some([]) => true,
        Some([Value::Object(only)]) => only.is_empty(),
        _ => false,
    }
}

/// After a create, update, JSON, merge or strategic merge patch: works out `metadata.managedFields` of `new`, in place, from those of
/// `old` (`None` on create) and from what differs. The fields that differ become the manager's, by `Update`, and cease to be others'.
///
/// If the client sent `managedFields`, they are the base that is worked from: `[]` or `[{}]` forgets all owners (and the object is then
/// not tracked until the next apply), what cannot be read is ignored. Writes of a subresource never take the client's.
///
/// `reset`: paths, with all below, that this request cannot own and cannot take from others, such as `status` in a write of the object.
///
/// # Errors
/// None at present: an object that its schema does not fit keeps the owners that it had, as in Kubernetes, and is left to validation to
/// refuse.
pub fn track_update(
    schema: &Schema,
    old: Option<&Value>,
    new: &mut Value,
    manager: &Manager<'_>,
    reset: &FieldSet,
) -> Result<(), PatchError> {
    let node = Node::Root(schema);
    let before = old.and_then(managed_fields);
    let sent = take_managed_fields(new);
    // What the client sent counts only where it says something else than what is stored.
    let sent = sent.filter(|sent| manager.subresource.is_empty() && !sent.is_null() && Some(sent) != before);
    let mut owners = None;
    if let Some(sent) = sent {
        owners = match Owners::decode(Some(&sent)) {
            _ if is_reset(&sent) => Some(Owners::default()),
            Ok(owners) if !owners.0.is_empty() => Some(owners),
            _ => None,
        };
    }
    let nothing = Value::Object(Map::new());
    let changes = changes(node, old.unwrap_or(&nothing), new, reset);
    let unchanged = owners.is_none() && changes.as_ref().is_ok_and(typed::Comparison::is_empty);
    let (Ok(changes), false) = (changes, unchanged) else {
        if let Some(before) = before {
            set_managed_fields(new, before.clone());
        }
        return Ok(());
    };
    let mut owners = owners.unwrap_or_else(|| Owners::decode(before).unwrap_or_default());
    if old.is_some() && owners.0.is_empty() {
        return Ok(());
    }
    owners.reconcile(node);
    let typed::Comparison {
        removed,
        modified,
        added,
    } = changes;
    let mut touched = modified;
    touched.extend(added);
    for owner in &mut owners.0 {
        owner.fields.subtract(&touched);
        owner.fields.subtract(&removed);
    }
    strip(&mut touched);
    owners.drop_empty();
    owners.add_update(manager, touched);
    owners.cap_updates();
    owners.encode_into(new);
    Ok(())
}

#[cfg(test)]
#[path = "managed_tests.rs"]
mod tests;
