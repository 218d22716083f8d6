//! The one place that writes the store: create, update and delete as read → change → check → commit, again on conflict.
//!
//! # Guarantees
//! - Nothing is written before authorization, validation, admission and quota have passed on exactly what is written.
//! - A write carries the precondition that the object is as it was when those checks looked at it.
//! - A write that changes nothing writes nothing and keeps the resourceVersion.
//! - After an unknown outcome (the backend's answer was lost) the client is told so (503), never that it worked.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;
use setpoint_cache::Object;
use setpoint_meta::{Revision, object, status::Status};
use setpoint_patch::Manager;
use setpoint_store::{Key, Op, Precondition, StoreError, Txn, Versioned};

use crate::{
    Answer,
    admission::{self, Attributes, Operation},
    context::Context,
    encode,
    handlers::list::store_status,
    respond,
    strategy::{self, Target},
};

/// How often a write without a resourceVersion is tried again when others got in between. A hundred writers on one key would need
/// more; they are told 409, as in Kubernetes.
const ATTEMPTS: usize = 16;
/// `generateName` attempts (KEP-4420).
const NAME_ATTEMPTS: usize = 8;

/// What became of a write.
pub(crate) enum Written {
    /// Stored, or found to be stored already.
    Object(Arc<Object>),
    /// Not stored: a dry run, or the object is gone with this write. As a tree, in the request's version.
    Tree(Value),
}

/// How managedFields come about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ownership {
    /// From the difference that the write makes.
    Track,
    /// The change has set them (server-side apply).
    Applied,
}

/// Creates an object that was decoded in the request's version.
pub(crate) async fn create(cx: &Context, mut value: Value, ownership: Ownership) -> Answer<Written> {
    may_create(cx)?;
    let dry_run = cx.dry_run()?;
    let now = cx.server.clock.now();
    let uid = uuid::Uuid::new_v4().to_string();
    strategy::prepare_create(&cx.served, &mut value, &uid, now)?;
    let generated = object::name(&value).is_empty() && object::generate_name(&value).is_some();
    let template = generated.then(|| value.clone());
    let mut attempt = 0;
    loop {
        attempt += 1;
        if let Some(template) = &template {
            value = template.clone();
            strategy::generate_name(&mut value);
        }
        let result = create_named(cx, value.clone(), ownership, dry_run).await;
        match result {
            Err(status) if generated && status.reason == setpoint_meta::status::Reason::AlreadyExists => {
                if attempt == NAME_ATTEMPTS {
                    return Err(Status::generate_name_conflict(&cx.group_resource(), object::name(&value), 1).into());
                }
            }
            other => return other,
        }
    }
}

/// A PUT or an apply that turns out to create needs the right to create, as in Kubernetes: the request was authorized for less.
fn may_create(cx: &Context) -> Answer<()> {
    if cx.info.verb == "create" {
        return Ok(());
    }
    let info = crate::request::RequestInfo {
        verb: "create",
        ..(*cx.info).clone()
    };
    cx.server.authorization.check(&cx.user, &info).map(drop)
}

async fn create_named(cx: &Context, mut value: Value, ownership: Ownership, dry_run: bool) -> Answer<Written> {
    if ownership == Ownership::Track {
        track(cx, None, &mut value, &Target::Main)?;
    }
    strategy::validate(&cx.served, &Target::Main, &value, None)?;
    let attributes = Attributes {
        cx,
        operation: Operation::Create,
        old: None,
        new: Some(&value),
        dry_run,
        gone: false,
    };
    let reservation = admission::admit(&attributes).await?;
    if dry_run {
        let key = cx
            .definition()
            .key(object::namespace(&value).unwrap_or_default(), object::name(&value));
        if cx.cache().get(&key).is_some() {
            return Err(Status::already_exists(&cx.group_resource(), object::name(&value)).into());
        }
        return Ok(Written::Tree(value));
    }
    let key = Key::new(
        cx.definition()
            .key(object::namespace(&value).unwrap_or_default(), object::name(&value)),
    );
    let bytes = encode::stored(&to_storage(cx, value.clone()));
    let txn = Txn {
        preconditions: vec![Precondition::Absent(key.clone())],
        ops: vec![Op::Put(key.clone(), bytes.clone())],
    };
    match cx.server.cache.store().commit(txn).await {
        Ok(revision) => {
            reservation.commit();
            stored(key, bytes, revision)
        }
        Err(StoreError::Conflict { current, .. }) => {
            let terminating = current.is_some_and(|c| {
                serde_json::from_slice::<Value>(&c.value).is_ok_and(|v| object::deletion_timestamp(&v).is_some())
            });
            let name = object::name(&value);
            let status = Status::already_exists(&cx.group_resource(), name);
            if terminating {
                let message = format!("object is being deleted: {}", status.message);
                return Err(Status { message, ..status }.into());
            }
            Err(status.into())
        }
        Err(error) => {
            if matches!(error, StoreError::Unavailable(_)) {
                // it may be stored: err on the side of refusing until the recount
                reservation.commit();
            }
            Err(store_status(&error))
        }
    }
}

/// Replaces the object that the path names by what `change` makes of it. `change` gets the object in the request's version, with its
/// resourceVersion, and is called again when someone else was faster.
pub(crate) async fn update(
    cx: &Context,
    target: &Target,
    ownership: Ownership,
    change: impl Fn(&Value) -> Answer<Value> + Send + Sync,
) -> Answer<Written> {
    let dry_run = cx.dry_run()?;
    let key = Key::new(cx.key());
    let mut current = current(cx, key.as_str()).await?;
    let mut fresh = false;
    for _ in 0..ATTEMPTS {
        let old = respond::parse(cx, &current);
        let mut new = change(&old)?;
        let named = object::resource_version(&new).map(str::to_owned);
        if named.as_deref().is_some_and(|v| v != current.revision.to_string()) {
            // the cache may be a moment behind the write whose answer the client holds
            if std::mem::replace(&mut fresh, true) {
                return Err(Status::modified(&cx.group_resource(), &cx.path.name).into());
            }
            cx.server
                .cache
                .fresh()
                .await
                .map_err(|e| crate::handlers::list::cache_status(&e))?;
            current = cx.cache().get(key.as_str()).ok_or_else(|| cx.not_found())?;
            continue;
        }
        strategy::prepare_update(&cx.served, target, &old, &mut new)?;
        object::metadata_mut(&mut new).insert("resourceVersion".into(), current.revision.to_string().into());
        if ownership == Ownership::Track {
            track(cx, Some(&old), &mut new, target)?;
        }
        if new == old {
            return Ok(Written::Object(current));
        }
        match replace(cx, target, &current, &old, new, dry_run).await? {
            Ok(written) => return Ok(written),
            Err(None) => return Err(cx.not_found()),
            // a version that the client named is now refused above; one that it only passed on is the new one's
            Err(Some(versioned)) => current = Arc::new(Object::new(key.clone(), &versioned).map_err(Status::internal)?),
        }
    }
    Err(Status::modified(&cx.group_resource(), &cx.path.name).into())
}

/// Checks and commits one successor of `current`. The inner error: someone was faster, and this is what is there now.
async fn replace(
    cx: &Context,
    target: &Target,
    current: &Arc<Object>,
    old: &Value,
    new: Value,
    dry_run: bool,
) -> Answer<Result<Written, Option<Versioned>>> {
    strategy::validate(&cx.served, target, &new, Some(old))?;
    let gone = finished(cx, &new);
    let attributes = Attributes {
        cx,
        operation: Operation::Update,
        old: Some(old),
        new: Some(&new),
        dry_run,
        gone,
    };
    let reservation = admission::admit(&attributes).await?;
    if dry_run {
        return Ok(Ok(Written::Tree(new)));
    }
    let key = current.key.clone();
    let precondition = Precondition::At(key.clone(), current.revision);
    let bytes = encode::stored(&to_storage(cx, new.clone()));
    let op = if gone {
        Op::Delete(key.clone())
    } else {
        Op::Put(key.clone(), bytes.clone())
    };
    match cx
        .server
        .cache
        .store()
        .commit(Txn {
            preconditions: vec![precondition],
            ops: vec![op],
        })
        .await
    {
        Ok(revision) => {
            reservation.commit();
            if gone {
                let mut last = new;
                object::metadata_mut(&mut last).insert("resourceVersion".into(), revision.to_string().into());
                return Ok(Ok(Written::Tree(last)));
            }
            stored(key, bytes, revision).map(Ok)
        }
        Err(StoreError::Conflict { current, .. }) => Ok(Err(current)),
        Err(error) => Err(store_status(&error)),
    }
}

/// Whether nothing keeps a terminating object any more: this write deletes it.
fn finished(cx: &Context, value: &Value) -> bool {
    object::deletion_timestamp(value).is_some()
        && object::finalizers(value).next().is_none()
        && !crate::kinds::of(cx.definition()).begin_delete(&mut value.clone())
}

/// Removes an object, or marks it as terminating while finalizers keep it. `policy` changes the finalizers first.
pub(crate) async fn delete(
    cx: &Context,
    key: &Key,
    check: impl Fn(&Value, Revision) -> Answer<()>,
    finalizers: impl Fn(&mut Value),
) -> Answer<Written> {
    let dry_run = cx.dry_run()?;
    let mut current = current(cx, key.as_str()).await?;
    for _ in 0..ATTEMPTS {
        let old = respond::parse(cx, &current);
        check(&old, current.revision)?;
        let attributes = Attributes {
            cx,
            operation: Operation::Delete,
            old: Some(&old),
            new: None,
            dry_run,
            gone: true,
        };
        let reservation = admission::admit(&attributes).await?;
        let mut new = old.clone();
        finalizers(&mut new);
        let kept =
            crate::kinds::of(cx.definition()).begin_delete(&mut new) || object::finalizers(&new).next().is_some();
        if kept && object::deletion_timestamp(&old).is_some() && new == old {
            return Ok(Written::Object(current));
        }
        if kept {
            mark_deleted(cx, &mut new);
        }
        if dry_run {
            return Ok(Written::Tree(new));
        }
        let bytes = encode::stored(&to_storage(cx, new.clone()));
        let op = if kept {
            Op::Put(key.clone(), bytes.clone())
        } else {
            Op::Delete(key.clone())
        };
        let txn = Txn {
            preconditions: vec![Precondition::At(key.clone(), current.revision)],
            ops: vec![op],
        };
        match cx.server.cache.store().commit(txn).await {
            Ok(revision) if kept => return stored(key.clone(), bytes, revision),
            Ok(revision) => {
                reservation.commit();
                object::metadata_mut(&mut new).insert("resourceVersion".into(), revision.to_string().into());
                return Ok(Written::Tree(new));
            }
            Err(StoreError::Conflict { current: None, .. }) => {
                return Err(Status::not_found(&cx.group_resource(), current.name()).into());
            }
            Err(StoreError::Conflict {
                current: Some(versioned),
                ..
            }) => current = Arc::new(Object::new(key.clone(), &versioned).map_err(Status::internal)?),
            Err(error) => return Err(store_status(&error)),
        }
    }
    Err(Status::modified(&cx.group_resource(), current.name()).into())
}

/// deletionTimestamp, once; it grows the generation, since the intent has changed.
fn mark_deleted(cx: &Context, value: &mut Value) {
    if object::deletion_timestamp(value).is_some() {
        return;
    }
    let generation = object::generation(value);
    let metadata = object::metadata_mut(value);
    metadata.insert(
        "deletionTimestamp".into(),
        setpoint_meta::time::rfc3339(cx.server.clock.now()).into(),
    );
    metadata.insert("deletionGracePeriodSeconds".into(), 0.into());
    if generation > 0 {
        metadata.insert("generation".into(), (generation + 1).into());
    }
}

/// The object under `key`; a cache that is behind is waited for before "not found" is believed.
async fn current(cx: &Context, key: &str) -> Answer<Arc<Object>> {
    if let Some(found) = cx.cache().get(key) {
        return Ok(found);
    }
    cx.server
        .cache
        .fresh()
        .await
        .map_err(|e| crate::handlers::list::cache_status(&e))?;
    let name = key.rsplit('/').next().unwrap_or_default();
    cx.cache()
        .get(key)
        .ok_or_else(|| Status::not_found(&cx.group_resource(), name).into())
}

fn track(cx: &Context, old: Option<&Value>, new: &mut Value, target: &Target) -> Answer<()> {
    let manager = cx.field_manager()?;
    let now = setpoint_meta::time::rfc3339(cx.server.clock.now());
    let api_version = cx.served.api_version();
    let manager = Manager {
        name: &manager,
        api_version: &api_version,
        subresource: &cx.path.subresource,
        now: &now,
    };
    setpoint_patch::track_update(&cx.version().schema, old, new, &manager, &reset_fields(cx, target))
        .map_err(|e| crate::handlers::patch::patch_status(cx, &e))
}

/// The paths that a request on `target` may not own: parts for the main resource; everything but the part for a part.
pub(crate) fn reset_fields(cx: &Context, target: &Target) -> setpoint_patch::FieldSet {
    let root: Vec<&str> = match target {
        Target::Main => cx.version().parts.iter().map(|p| &*p.name).collect(),
        Target::Part(part) => cx
            .version()
            .schema
            .properties
            .keys()
            .map(String::as_str)
            .filter(|k| k != part && !matches!(*k, "apiVersion" | "kind"))
            .collect(),
    };
    setpoint_patch::FieldSet::of_root_fields(root)
}

/// The object in its stored form.
fn to_storage(cx: &Context, mut value: Value) -> Value {
    if cx.served.converts() {
        cx.served.hide(&mut value);
    }
    value
}

fn stored(key: Key, bytes: Bytes, revision: Revision) -> Answer<Written> {
    let versioned = Versioned {
        value: bytes,
        created: revision,
        modified: revision,
    };
    let object = Object::new(key, &versioned).map_err(Status::internal)?;
    Ok(Written::Object(Arc::new(object)))
}
