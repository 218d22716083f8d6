//! Server-side apply (KEP-555): a manager states all that it wants to own, and the object, its owners and the statement are brought
//! together.
//!
//! *Guarantees*, each a property test of this module:
//! - What the configuration says is what the object then says, unless another manager owns it with another value: then nothing happens
//!   and the conflicts are listed, or, forced, the field changes hands.
//! - After it the manager owns exactly what it stated (less what a request on this subresource may not own).
//! - What it stated last time and no longer states is gone, unless somebody else owns it.
//! - Equal values are shared, not fought over.
//! - Applying the same again changes nothing at all: the result equals the live object, managedFields and times included.
//!
//! *Assumes*: the live object fits its schema; defaults and pruning have been applied to it and are applied to the result by the caller.
//! A `null` in the configuration is a value: it is owned, and comes out as `null`, which the caller drops where the schema does not
//! allow it. *How to get it wrong*: to prune by comparing configurations instead of sets, or to leave out that a list item or a named
//! field is there as long as anything in it is.

use serde_json::{Map, Value};
use setpoint_schema::Schema;

use crate::conflict::{ApplyError, Conflict};
use crate::fieldset::FieldSet;
use crate::last_applied;
use crate::managed::{self, Manager, Operation, Owner, Owners};
use crate::typed::{self, Node, TypeError};

/// Applies `patch`, a whole configuration with `apiVersion`, `kind` and `metadata.name`, for `manager`. `live` is the object that is
/// there, `None` creates. The result has its `managedFields` set.
///
/// `force` takes fields from other managers instead of refusing. `reset`: paths, with all below, that this request cannot own, such as
/// `status` in an apply of the object.
///
/// A manager named `kubectl` takes over what `kubectl apply` without `--server-side` applied before: conflicts in fields that the
/// annotation `last-applied-configuration` holds with the live value are no conflicts, and the annotation is kept current.
///
/// # Errors
/// [`ApplyError::Conflicts`] if others own what would change and `force` is off; [`ApplyError::Invalid`] if the configuration names
/// another version, carries managedFields, or does not have the types of the schema.
pub fn apply(
    schema: &Schema,
    live: Option<&Value>,
    patch: &Value,
    manager: &Manager<'_>,
    force: bool,
    reset: &FieldSet,
) -> Result<Value, ApplyError> {
    let node = Node::Root(schema);
    check(node, patch, manager)?;
    let request = Request {
        node,
        live,
        patch,
        manager,
        reset,
    };
    let takes_over = manager.name == last_applied::MANAGER;
    let result = match request.run(force) {
        Err(Failure::Conflicts(clashes)) if takes_over => {
            let Some(allowed) = live.and_then(|live| last_applied::unchanged_fields(node, live, manager.api_version))
            else {
                return Err(conflicts(clashes));
            };
            let left = clashes
                .into_iter()
                .map(|(owner, fields)| (owner, fields.difference(&allowed)));
            let left: Vec<Clash> = left.filter(|(_, fields)| !fields.is_empty()).collect();
            if !left.is_empty() {
                return Err(conflicts(left));
            }
            request.run(true)
        }
        result => result,
    };
    match result {
        Ok(mut object) => {
            if takes_over {
                last_applied::refresh(&mut object, patch);
            }
            Ok(object)
        }
        Err(Failure::Conflicts(clashes)) => Err(conflicts(clashes)),
        Err(Failure::Invalid(why)) => Err(ApplyError::Invalid(why)),
    }
}

/// The part of `object` that `manager` owns by apply, with what it takes to say where that is (`apiVersion`, `kind`, name, namespace,
/// list keys): the configuration that it would apply again. `None` if it owns nothing by apply.
///
/// # Errors
/// [`ApplyError::Invalid`] if the object or its managedFields cannot be read.
pub fn extract(schema: &Schema, object: &Value, manager: &str, subresource: &str) -> Result<Option<Value>, ApplyError> {
    let owners = Owners::decode(managed::managed_fields(object)).map_err(ApplyError::Invalid)?;
    let owns = |owner: &&Owner| {
        owner.operation == Operation::Apply && owner.manager == manager && owner.subresource == subresource
    };
    let Some(owner) = owners.0.iter().find(owns) else {
        return Ok(None);
    };
    let mut wanted = FieldSet::from_fields([
        &["apiVersion"][..],
        &["kind"],
        &["metadata", "name"],
        &["metadata", "namespace"],
    ]);
    wanted.extend(owner.fields.clone());
    typed::extract_items(Node::Root(schema), object, &wanted).map_err(|TypeError(why)| ApplyError::Invalid(why))
}

/// What another manager owns and an apply would change.
type Clash = (Owner, FieldSet);

enum Failure {
    Conflicts(Vec<Clash>),
    Invalid(String),
}

fn conflicts(mut clashes: Vec<Clash>) -> ApplyError {
    let key = |(owner, _): &Clash| {
        (
            owner.manager.clone(),
            owner.operation,
            owner.api_version.clone(),
            owner.subresource.clone(),
        )
    };
    clashes.sort_by_key(key);
    ApplyError::Conflicts(
        clashes
            .iter()
            .map(|(owner, fields)| Conflict::new(owner, fields))
            .collect(),
    )
}

fn check(node: Node<'_>, patch: &Value, manager: &Manager<'_>) -> Result<(), ApplyError> {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    let version = text(patch.get("apiVersion"));
    if version != manager.api_version {
        return Err(ApplyError::Invalid(format!(
            "Incorrect version specified in apply patch. Specified patch version: {version}, expected: {}",
            manager.api_version
        )));
    }
    if managed::managed_fields(patch).is_some_and(|fields| !fields.is_null()) {
        return Err(ApplyError::Invalid("metadata.managedFields must be nil".to_owned()));
    }
    typed::validate(node, patch).map_err(|TypeError(why)| {
        let metadata = |name: &str| text(patch.get("metadata").and_then(|metadata| metadata.get(name)));
        let (namespace, name, kind) = (metadata("namespace"), metadata("name"), text(patch.get("kind")));
        let group_version = if version.contains('/') {
            version
        } else {
            format!("/{version}")
        };
        ApplyError::Invalid(format!(
            "failed to create typed patch object ({namespace}/{name}; {group_version}, Kind={kind}): {why}"
        ))
    })
}

struct Request<'a> {
    node: Node<'a>,
    live: Option<&'a Value>,
    patch: &'a Value,
    manager: &'a Manager<'a>,
    reset: &'a FieldSet,
}

impl Request<'_> {
    fn run(&self, force: bool) -> Result<Value, Failure> {
        let (mut owners, reconciled) = self.owners()?;
        let mut stated = self.typed(typed::field_set(self.node, self.patch))?;
        stated.subtract_recursive(self.reset);

        let mut applier = Owner::new(self.manager, Operation::Apply, FieldSet::new());
        let previous = owners.position(&applier).map(|at| owners.0.remove(at));

        let mut object = self
            .live
            .map_or_else(|| Value::Object(Map::new()), without_managed_fields);
        self.typed(typed::merge(self.node, &mut object, self.patch))?;
        if let Some(previous) = &previous
            && !stated.contains(&previous.fields)
        {
            self.typed(prune(self.node, &mut object, &previous.fields, &stated, &owners))?;
        }

        let changes = match self.live {
            Some(live) => self.typed(managed::changes(self.node, live, &object, self.reset))?,
            None => typed::Comparison::default(),
        };
        let changed = self.live.is_none() || !changes.is_empty();
        let typed::Comparison {
            removed,
            modified,
            added,
        } = changes;
        let mut touched = modified;
        touched.extend(added);
        let clashes = clashes(&owners, &touched);
        if !force && !clashes.is_empty() {
            return Err(Failure::Conflicts(clashes));
        }

        managed::strip(&mut stated);
        let same_version = |previous: &Owner| previous.api_version == self.manager.api_version;
        let same_claim = previous
            .as_ref()
            .is_some_and(|previous| previous.fields == stated && same_version(previous));
        if !changed && !reconciled && (same_claim || (stated.is_empty() && previous.is_none())) {
            // Nothing to write: the live object, with the very managedFields that it has.
            return Ok(self.live.cloned().unwrap_or(object));
        }
        for owner in &mut owners.0 {
            owner.fields.subtract(&touched);
            owner.fields.subtract(&removed);
        }
        if let Some(previous) = previous.filter(|_| same_claim && !changed) {
            applier.time = previous.time;
        }
        applier.fields = stated;
        owners.0.push(applier);
        owners.drop_empty();
        owners.encode_into(&mut object);
        Ok(object)
    }

    /// The owners of the live object, in line with the schema of today. An object that nobody has tracked is owned as it stands by
    /// [`managed::BEFORE_FIRST_APPLY`], so that the first apply cannot overwrite it unseen. True if they are not what is stored.
    fn owners(&self) -> Result<(Owners, bool), Failure> {
        let Some(live) = self.live else {
            return Ok((Owners::default(), false));
        };
        let stored = managed::managed_fields(live);
        let mut owners = Owners::decode(stored)
            .map_err(|why| Failure::Invalid(format!("failed to decode managed fields: {why}")))?;
        if owners.0.is_empty() {
            let nothing = Value::Object(Map::new());
            let mut there = self
                .typed(managed::changes(self.node, &nothing, live, self.reset))?
                .added;
            managed::strip(&mut there);
            owners.add_update(
                &Manager {
                    name: managed::BEFORE_FIRST_APPLY,
                    ..*self.manager
                },
                there,
            );
            return Ok((owners, true));
        }
        let reconciled = owners.reconcile(self.node);
        Ok((owners, reconciled))
    }

    fn typed<T>(&self, result: Result<T, TypeError>) -> Result<T, Failure> {
        result.map_err(|TypeError(why)| Failure::Invalid(format!("failed to create typed live object: {why}")))
    }
}

/// What of `touched` others own.
fn clashes(owners: &Owners, touched: &FieldSet) -> Vec<Clash> {
    let clash = |owner: &Owner| {
        owner
            .fields
            .intersects(touched)
            .then(|| (owner.clone(), owner.fields.intersection(touched)))
    };
    owners.0.iter().filter_map(clash).collect()
}

/// Takes out of `object` what the applier stated last time (`previous`), does not state now (`stated`), and nobody else owns (`others`).
///
/// In three steps, all on sets, because one of them would take out too much: an item goes with all that is in it. First all that
/// was stated goes; then comes back what somebody owns, and what had not gone; and then what had gone only because it was in something
/// that went, without ever having been the applier's.
fn prune(
    node: Node<'_>,
    object: &mut Value,
    previous: &FieldSet,
    stated: &FieldSet,
    others: &Owners,
) -> Result<(), TypeError> {
    let with_parents = |mut set: FieldSet| {
        typed::add_named_parents(node, &mut set);
        set
    };
    let was_stated = with_parents(previous.clone());
    let there = with_parents(typed::field_set(node, object)?);

    let mut kept = with_parents(typed::surviving_fields(node, object, &was_stated)?);
    // What appliers state stays, if need be empty; what updates brought about may go once it is.
    let mut applied = stated.clone();
    let mut owned = FieldSet::new();
    for owner in &others.0 {
        match owner.operation {
            Operation::Apply => applied.extend(owner.fields.clone()),
            Operation::Update => owned.extend(owner.fields.clone()),
        }
    }
    owned.extend(applied.clone());
    kept.extend(with_parents(owned));
    let gone = there.difference(&kept);

    let kept = with_parents(typed::surviving_fields(node, object, &gone)?);
    let mut gone = there;
    gone.subtract(&kept);
    let gone = gone.intersection(&was_stated);
    typed::remove_items(node, object, &gone, &applied).map(|_| ())
}

/// A copy of `object`, save `metadata.managedFields`, which is often most of it.
fn without_managed_fields(object: &Value) -> Value {
    let Value::Object(object) = object else {
        return object.clone();
    };
    let copy = object.iter().map(|(name, value)| match value {
        Value::Object(metadata) if name == "metadata" => {
            let kept = metadata.iter().filter(|(name, _)| *name != "managedFields");
            (
                name.clone(),
                Value::Object(kept.map(|(name, value)| (name.clone(), value.clone())).collect()),
            )
        }
        value => (name.clone(), value.clone()),
    });
    Value::Object(copy.collect())
}

#[cfg(test)]
#[path = "apply_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "apply_laws.rs"]
mod laws;
