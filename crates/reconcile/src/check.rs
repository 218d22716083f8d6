//! The test harness: plan over objects that a test names, rendered as text for a snapshot.
//!
//! ```text
//! child ConfigMap team-a/chat-0
//!   data:
//!     model: smollm2
//! prune ConfigMap team-a/chat-1
//! part status
//!   ready: 1
//! event Normal ScaledUp: 1 → 2
//! requeue after 5s
//! ```

use std::{any::TypeId, fmt::Write as _};

use kube_core::Resource as _;
use serde_json::Value;

use crate::{
    Declared, EventDraft, FinalizerChange, Key, KindId, KindVisitor, Now, Object, PartOf, Pass, Plan, Reconciler,
    Snapshot, View, World, world,
};

/// Plans for `object` in the world (where the object need not be) and renders what was decided. An object without uid is given the one
/// that [`World::put`] gives.
pub fn check<R: Reconciler>(reconciler: &R, object: &R::Kind, world: &World, now: Now) -> String {
    let mut object = object.clone();
    let uid = world::uid_of(&object);
    object.meta_mut().uid = Some(uid);
    match reconciler.plan(&object, &View::new(world), now) {
        Ok(plan) => render(&plan, &object, world),
        Err(blocked) => render_blocked(&blocked),
    }
}

/// Plans over the world and renders what was decided.
pub fn check_pass<P: Pass>(pass: &P, world: &World, now: Now) -> String {
    let plan = match pass.plan(&View::new(world), now) {
        Ok(plan) => plan,
        Err(blocked) => return render_blocked(&blocked),
    };
    let mut out = String::new();
    for write in plan.writes() {
        heading(
            &mut out,
            format_args!("part {} of {} {}", P::Part::NAME, write.target.kind, write.target.key),
        );
        yaml(&mut out, &serde_json::to_value(&write.part).unwrap_or_default(), 1);
    }
    for (target, finalizer) in plan.finalizers() {
        heading(
            &mut out,
            format_args!("remove finalizer {finalizer} of {} {}", target.kind, target.key),
        );
    }
    for event in plan.events() {
        render_event(&mut out, &event.event, Some(&event.target.key));
    }
    finish(out, plan.requeue())
}

fn render_blocked(blocked: &crate::Blocked) -> String {
    let mut out = format!("blocked {}: {}\n", blocked.reason, blocked.message);
    if let Some(retry) = blocked.retry {
        heading(&mut out, format_args!("retry after {retry:?}"));
    }
    out
}

fn render<R: Reconciler>(plan: &Plan<R>, object: &R::Kind, world: &World) -> String {
    let mut out = String::new();
    for child in plan.children() {
        let mut key = child.key.clone();
        if child.kind.namespaced && key.namespace.is_none() {
            key.namespace = object.meta().namespace.clone();
        }
        heading(&mut out, format_args!("child {} {key}", child.kind));
        yaml(&mut out, &child_fields(&child.object), 1);
    }
    for deletion in plan.deletions() {
        heading(
            &mut out,
            format_args!(
                "delete {} {}: {}",
                deletion.target.kind, deletion.target.key, deletion.reason
            ),
        );
    }
    if !object.is_terminating() {
        for (kind, key) in pruned(plan, object, world) {
            heading(&mut out, format_args!("prune {kind} {key}"));
        }
    }
    for finalizer in plan.finalizers() {
        match finalizer {
            FinalizerChange::Add(finalizer) => heading(&mut out, format_args!("add finalizer {finalizer}")),
            FinalizerChange::Remove(finalizer) => heading(&mut out, format_args!("remove finalizer {finalizer}")),
        }
    }
    if let Some(part) = plan.planned_part() {
        heading(&mut out, format_args!("part {}", R::Part::NAME));
        yaml(&mut out, &serde_json::to_value(part).unwrap_or_default(), 1);
    }
    for event in plan.events() {
        render_event(&mut out, event, None);
    }
    finish(out, plan.requeue())
}

/// What identifies the child is in its heading already.
fn child_fields(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(fields) = object.as_object_mut() {
        fields.remove("apiVersion");
        fields.remove("kind");
        if let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("name");
            metadata.remove("namespace");
            if metadata.is_empty() {
                fields.remove("metadata");
            }
        }
    }
    object
}

/// The children of `object` in the snapshot that are not terminating and that the plan does not name: the engine deletes them.
pub fn pruned<R: Reconciler>(plan: &Plan<R>, object: &R::Kind, snapshot: &dyn Snapshot) -> Vec<(KindId, Key)> {
    struct Owned<'a> {
        snapshot: &'a dyn Snapshot,
        uid: &'a str,
        found: Vec<(KindId, Key)>,
    }
    impl KindVisitor for Owned<'_> {
        fn reads<K: Object>(&mut self) {}
        fn owns<K: Object>(&mut self) {
            let children = self.snapshot.owned(TypeId::of::<K>(), self.uid);
            let children = children.iter().filter_map(|child| child.downcast_ref::<K>());
            let live = children.filter(|child| !child.is_terminating());
            self.found.extend(live.map(|child| (K::kind_id(), child.key())));
        }
    }
    if object.uid().is_empty() {
        return Vec::new();
    }
    let mut owned = Owned {
        snapshot,
        uid: object.uid(),
        found: Vec::new(),
    };
    <R as Declared>::kinds(&mut owned);
    owned
        .found
        .into_iter()
        .filter(|(kind, key)| !plan.names(kind, key))
        .collect()
}

fn render_event(out: &mut String, event: &EventDraft, about: Option<&Key>) {
    match about {
        Some(key) => heading(
            out,
            format_args!(
                "event {} {} about {key}: {}",
                event.event_type, event.reason, event.message
            ),
        ),
        None => heading(
            out,
            format_args!("event {} {}: {}", event.event_type, event.reason, event.message),
        ),
    }
}

fn finish(mut out: String, requeue: Option<std::time::Duration>) -> String {
    if let Some(requeue) = requeue {
        heading(&mut out, format_args!("requeue after {requeue:?}"));
    }
    if out.is_empty() {
        out.push_str("nothing\n");
    }
    out
}

fn heading(out: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{line}");
}

/// Enough YAML to read a plan by: block style, keys sorted as JSON has them, scalars as JSON unless plain.
fn yaml(out: &mut String, value: &Value, depth: usize) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                if is_scalar(value) {
                    heading(out, format_args!("{indent}{key}: {}", scalar(value)));
                } else {
                    heading(out, format_args!("{indent}{key}:"));
                    yaml(out, value, depth + 1);
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                if is_scalar(item) {
                    heading(out, format_args!("{indent}- {}", scalar(item)));
                } else {
                    heading(out, format_args!("{indent}-"));
                    yaml(out, item, depth + 1);
                }
            }
        }
        scalar_value => heading(out, format_args!("{indent}{}", scalar(scalar_value))),
    }
}

fn is_scalar(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => true,
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) if !text.is_empty() && !text.contains(['\n', '"']) => text.clone(),
        other => other.to_string(),
    }
}
