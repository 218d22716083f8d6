//! Plans: what a reconciler wants done, as data. Nothing here does anything.

use std::{fmt, marker::PhantomData, time::Duration};

use kube_core::Resource as _;
use serde_json::Value;

use crate::{Key, KindId, Object, Owns, PartOf, Pass, Reason, Reconciler};

/// Which object, at which state of knowledge.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// Its kind.
    pub kind: KindId,
    /// Its namespace and name.
    pub key: Key,
    /// Its uid, as seen: another object of the same name is not meant.
    pub uid: String,
    /// Its resourceVersion, as seen.
    pub resource_version: String,
}

impl Target {
    /// The object as seen.
    pub fn of<K: Object>(object: &K) -> Self {
        Self {
            kind: K::kind_id(),
            key: object.key(),
            uid: object.uid().to_owned(),
            resource_version: object.meta().resource_version.clone().unwrap_or_default(),
        }
    }
}

/// A child as it should be: exactly the fields that its owner sets, to be applied by server-side apply.
#[derive(Clone, Debug, PartialEq)]
pub struct Child {
    /// Its kind.
    pub kind: KindId,
    /// Its namespace and name.
    pub key: Key,
    /// The whole desired object with `apiVersion` and `kind`, without parts.
    pub object: Value,
}

/// A child to be deleted, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deletion {
    /// The child as seen. Deleting has its uid as precondition.
    pub target: Target,
    /// Why; goes into history and the event.
    pub reason: Reason,
}

/// `type` of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventType {
    /// Something went as it should.
    Normal,
    /// Somebody should look.
    Warning,
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        })
    }
}

/// An event about the planned object. Equal drafts of repeated plans become one event with a count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventDraft {
    /// Normal or Warning.
    pub event_type: EventType,
    /// Machine-readable.
    pub reason: Reason,
    /// For people, at most 1,024 bytes (the engine cuts).
    pub message: String,
}

/// A finalizer of the planned object, to be added or removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FinalizerChange {
    /// Add it unless it is there.
    Add(&'static str),
    /// Remove it if it is there.
    Remove(&'static str),
}

/// What a reconciler wants done for one object. The default is nothing at all, which prunes every child.
pub struct Plan<R: Reconciler> {
    children: Vec<Child>,
    kept: Vec<(KindId, Key)>,
    deletions: Vec<Deletion>,
    part: Option<R::Part>,
    events: Vec<EventDraft>,
    finalizers: Vec<FinalizerChange>,
    requeue: Option<Duration>,
    reconciler: PhantomData<fn() -> R>,
}

impl<R: Reconciler> Default for Plan<R> {
    fn default() -> Self {
        Self::new()
    }
}

impl<R: Reconciler> Plan<R> {
    /// A plan with no children, no part and no events.
    pub const fn new() -> Self {
        Self {
            children: Vec::new(),
            kept: Vec::new(),
            deletions: Vec::new(),
            part: None,
            events: Vec::new(),
            finalizers: Vec::new(),
            requeue: None,
            reconciler: PhantomData,
        }
    }

    /// This child shall exist with these fields. A child without a namespace gets its owner's; the engine adds the owner reference.
    /// Leave its parts empty: they have their own writer (a `status` is dropped).
    ///
    /// # Panics
    /// When the child does not serialise to a JSON object: a mistake in its `Serialize`. The engine isolates panics.
    pub fn child<K: Object>(&mut self, child: K) -> &mut Self
    where
        R: Owns<K>,
    {
        let kind = K::kind_id();
        let key = child.key();
        let mut object = serde_json::to_value(&child).expect("a kind serialises");
        let fields = object.as_object_mut().expect("a kind serialises to an object");
        fields.insert("apiVersion".to_owned(), kind.api_version().into());
        fields.insert("kind".to_owned(), kind.kind.as_ref().into());
        fields.remove("status");
        self.children.push(Child { kind, key, object });
        self
    }

    /// This child stays as it is: neither applied nor pruned.
    pub fn keep<K: Object>(&mut self, child: &K) -> &mut Self
    where
        R: Owns<K>,
    {
        self.kept.push((K::kind_id(), child.key()));
        self
    }

    /// This child shall go, for this reason. (A child that the plan does not name goes too, for the reason `Pruned`.)
    pub fn delete<K: Object>(&mut self, child: &K, reason: Reason) -> &mut Self
    where
        R: Owns<K>,
    {
        self.deletions.push(Deletion {
            target: Target::of(child),
            reason,
        });
        self
    }

    /// The part shall be this. Without a call it stays as it is.
    pub fn part(&mut self, part: R::Part) -> &mut Self {
        self.part = Some(part);
        self
    }

    /// Tells the object's story.
    pub fn event(&mut self, event_type: EventType, reason: Reason, message: impl Into<String>) -> &mut Self {
        self.events.push(EventDraft {
            event_type,
            reason,
            message: message.into(),
        });
        self
    }

    /// Look again after this time even if nothing changes. Of several calls the soonest counts.
    pub fn requeue_after(&mut self, after: Duration) -> &mut Self {
        self.requeue = Some(self.requeue.map_or(after, |soonest| soonest.min(after)));
        self
    }

    /// The object shall carry this finalizer, one of [`Reconciler::FINALIZERS`].
    ///
    /// # Panics
    /// When the reconciler does not declare it.
    pub fn add_finalizer(&mut self, finalizer: &'static str) -> &mut Self {
        assert!(
            R::FINALIZERS.contains(&finalizer),
            "{} does not declare the finalizer {finalizer}",
            R::NAME
        );
        self.finalizers.push(FinalizerChange::Add(finalizer));
        self
    }

    /// The object shall not carry this finalizer, one of [`Reconciler::FINALIZERS`].
    ///
    /// # Panics
    /// When the reconciler does not declare it.
    pub fn remove_finalizer(&mut self, finalizer: &'static str) -> &mut Self {
        assert!(
            R::FINALIZERS.contains(&finalizer),
            "{} does not declare the finalizer {finalizer}",
            R::NAME
        );
        self.finalizers.push(FinalizerChange::Remove(finalizer));
        self
    }

    /// The children that shall exist.
    pub fn children(&self) -> &[Child] {
        &self.children
    }

    /// The explicit deletions.
    pub fn deletions(&self) -> &[Deletion] {
        &self.deletions
    }

    /// The part, if the plan sets it.
    pub fn planned_part(&self) -> Option<&R::Part> {
        self.part.as_ref()
    }

    /// The events.
    pub fn events(&self) -> &[EventDraft] {
        &self.events
    }

    /// The finalizer changes, in order.
    pub fn finalizers(&self) -> &[FinalizerChange] {
        &self.finalizers
    }

    /// When to look again even if nothing changes.
    pub fn requeue(&self) -> Option<Duration> {
        self.requeue
    }

    /// Whether the plan says anything about this child (applies, keeps or deletes it); if not, it is pruned.
    pub fn names(&self, kind: &KindId, key: &Key) -> bool {
        // A child that was planned without namespace is in its owner's.
        let same =
            |other: &Key| other.name == key.name && (other.namespace.is_none() || other.namespace == key.namespace);
        self.children
            .iter()
            .any(|child| child.kind == *kind && same(&child.key))
            || self
                .kept
                .iter()
                .any(|(kept_kind, kept)| kept_kind == kind && same(kept))
            || self
                .deletions
                .iter()
                .any(|deletion| deletion.target.kind == *kind && same(&deletion.target.key))
    }
}

/// One subject's part, as a [`Pass`] wants it.
#[derive(Clone, Debug, PartialEq)]
pub struct PassWrite<P> {
    /// The subject as seen; the write has its uid and resourceVersion as precondition.
    pub target: Target,
    /// The part.
    pub part: P,
}

/// An event about one subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassEvent {
    /// The subject.
    pub target: Target,
    /// What to tell.
    pub event: EventDraft,
}

/// What a pass wants done. The default is nothing.
pub struct PassPlan<P: Pass> {
    writes: Vec<PassWrite<P::Part>>,
    finalizers: Vec<(Target, &'static str)>,
    events: Vec<PassEvent>,
    requeue: Option<Duration>,
}

impl<P: Pass> Default for PassPlan<P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P: Pass> PassPlan<P> {
    /// A plan that changes nothing. Write `PassPlan::<Self>::new()`: the subject type has to be known before the first `write`.
    pub const fn new() -> Self {
        Self {
            writes: Vec::new(),
            finalizers: Vec::new(),
            events: Vec::new(),
            requeue: None,
        }
    }

    /// The subject's part shall be this. Nothing is planned when it is so already.
    pub fn write(&mut self, subject: &P::Subject, part: P::Part) -> &mut Self {
        if P::Part::of(subject) != Some(&part) {
            self.writes.push(PassWrite {
                target: Target::of(subject),
                part,
            });
        }
        self
    }

    /// The subject shall not carry this finalizer, one of [`Pass::FINALIZERS`].
    ///
    /// # Panics
    /// When the pass does not declare it.
    pub fn remove_finalizer(&mut self, subject: &P::Subject, finalizer: &'static str) -> &mut Self {
        assert!(
            P::FINALIZERS.contains(&finalizer),
            "{} does not declare the finalizer {finalizer}",
            P::NAME
        );
        if subject
            .meta()
            .finalizers
            .iter()
            .flatten()
            .any(|carried| carried == finalizer)
        {
            self.finalizers.push((Target::of(subject), finalizer));
        }
        self
    }

    /// Tells the subject's story.
    pub fn event(
        &mut self,
        subject: &P::Subject,
        event_type: EventType,
        reason: Reason,
        message: impl Into<String>,
    ) -> &mut Self {
        let event = EventDraft {
            event_type,
            reason,
            message: message.into(),
        };
        self.events.push(PassEvent {
            target: Target::of(subject),
            event,
        });
        self
    }

    /// Run again after this time even if nothing changes. Of several calls the soonest counts.
    pub fn requeue_after(&mut self, after: Duration) -> &mut Self {
        self.requeue = Some(self.requeue.map_or(after, |soonest| soonest.min(after)));
        self
    }

    /// The parts to be written.
    pub fn writes(&self) -> &[PassWrite<P::Part>] {
        &self.writes
    }

    /// The finalizers to be removed.
    pub fn finalizers(&self) -> &[(Target, &'static str)] {
        &self.finalizers
    }

    /// The events.
    pub fn events(&self) -> &[PassEvent] {
        &self.events
    }

    /// When to run again even if nothing changes.
    pub fn requeue(&self) -> Option<Duration> {
        self.requeue
    }
}
