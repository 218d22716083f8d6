//! The loop of a [`Reconciler`]: one object at a time, many at once, on kube-runtime's applier.
//!
//! # Guarantees
//! - A key runs at most once at a time, and never on a view that lacks its own last commit.
//! - What ends badly (panic, deadline, refused write) concerns its key only: it backs off, says so in a condition and an event, and is
//!   quarantined when it goes on.
//! - Being stopped ends the runs that have begun, and begins no more.

use std::{
    any::TypeId,
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use futures::{FutureExt, StreamExt, future::BoxFuture};
use kube::Resource as _;
use kube::runtime::{
    applier,
    controller::{Action, Config, ReconcileRequest},
    reflector::ObjectRef,
};
use parking_lot::Mutex;
use setpoint_reconcile::{
    Blocked, EventDraft, EventType, FinalizerChange, Key, Object, PartOf, Plan, Reason, Reconciler, Target, View,
    check::pruned, condition,
};
use tokio::sync::watch;
use tracing::Instrument;

use crate::{
    backoff::{Health, Version, jittered},
    cache::{Caches, Change, KindCache},
    commit::{CommitError, Committer, Ledger, Owner},
    events::Events,
    expect::{self, Expectations},
    leader::Leadership,
    metrics::{Name, Outcome},
    queue::Queue,
    shared::{FAILED, Failure, Limits, QUARANTINED, RECOVERED, Shared, Threads, isolated},
    wake::{Footprints, Recording},
};

/// How long a run waits for its view before it gives its place to another.
const VIEW_WAIT: Duration = Duration::from_millis(500);
/// When a run looks again whose view was behind.
const VIEW_RETRY: Duration = Duration::from_millis(100);
/// Base of the delay after a conflict; the watch event usually wakes the key sooner.
const CONFLICT_RETRY: Duration = Duration::from_millis(100);
/// Conflicts in a row that count as a failure.
const CONFLICTS: u32 = 8;

struct Keys {
    health: Health,
    expectations: Expectations,
    footprints: Footprints,
    conflicts: HashMap<Key, u32>,
}

/// A reconciler and what the engine knows of its keys.
pub(crate) struct Objects<R: Reconciler> {
    reconciler: Arc<R>,
    cache: Arc<KindCache<R::Kind>>,
    shared: Arc<Shared>,
    committer: Committer,
    events: Events,
    limits: Limits,
    queue: Queue,
    keys: Mutex<Keys>,
    threads: Threads,
    running: watch::Sender<usize>,
}

/// How a run ended.
enum Ended {
    Written(Option<Duration>),
    Unchanged(Option<Duration>),
    Blocked(Option<Duration>),
    Conflict,
    NotLeading,
    Failed(Failure),
}

impl<R: Reconciler> Objects<R> {
    pub(crate) fn new(
        reconciler: R,
        cache: Arc<KindCache<R::Kind>>,
        shared: Arc<Shared>,
        committer: Committer,
        events: Events,
        limits: Limits,
    ) -> Arc<Self> {
        let keys = Keys {
            health: Health::new(limits.backoff),
            expectations: Expectations::default(),
            footprints: Footprints::default(),
            conflicts: HashMap::new(),
        };
        let this = Arc::new(Self {
            reconciler: Arc::new(reconciler),
            cache,
            shared,
            committer,
            events,
            limits,
            queue: Queue::default(),
            keys: Mutex::new(keys),
            threads: Threads::default(),
            running: watch::Sender::new(0),
        });
        Listen::<R> {
            caches: &this.shared.caches,
            objects: Arc::downgrade(&this),
        }
        .everywhere();
        this
    }

    /// Drives the reconciler until `stop` or until leadership is lost; then returns once the runs that have begun are over.
    pub(crate) async fn term(self: Arc<Self>, leadership: Leadership, stop: watch::Receiver<bool>) {
        let mut drain = self.queue.open();
        for key in self.cache.keys() {
            self.queue.wake(&key);
        }
        let queue = futures::stream::poll_fn(move |cx| drain.poll_recv(cx))
            .map(|key| Ok::<_, Infallible>(ReconcileRequest::from(reference::<R::Kind>(&key))));
        let (this, leads) = (self.clone(), leadership.clone());
        let run = move |object: Arc<R::Kind>, _: Arc<()>| {
            let (this, leadership) = (this.clone(), leads.clone());
            async move { Ok::<_, Infallible>(this.run(object.key(), &leadership).await) }.boxed()
        };
        let config = Config::default().concurrency(self.limits.concurrency);
        let results = applier(
            run,
            |_, error: &Infallible, _| match *error {},
            Arc::new(()),
            self.cache.store(),
            queue,
            config,
        );
        let applied = results.for_each(|result| {
            if let Err(kube::runtime::controller::Error::ObjectNotFound(gone)) = result {
                self.gone(&Key {
                    namespace: gone.namespace.clone(),
                    name: gone.name.clone(),
                });
            }
            std::future::ready(())
        });
        tokio::select! {
            () = applied => {}
            () = self.stopped(leadership, stop) => {}
        }
    }

    /// Returns once the term is over and no run is under way. Runs bound themselves by their deadline.
    async fn stopped(&self, mut leadership: Leadership, mut stop: watch::Receiver<bool>) {
        tokio::select! {
            () = leadership.lost() => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
        self.queue.close();
        // Runs that the applier still begins find the queue closed and end at once.
        let _ = self.running.subscribe().wait_for(|running| *running == 0).await;
    }

    /// The key was queued, but its object is not there.
    fn gone(&self, key: &Key) {
        self.queue.take(key);
        self.show_depth();
        if self.current(key).is_some() {
            // It came back between the look and now; its wake was swallowed.
            self.queue.wake(key);
        } else {
            self.forget(key);
            self.count("gone");
        }
    }

    fn forget(&self, key: &Key) {
        let mut keys = self.keys.lock();
        keys.health.recovered(key);
        keys.expectations.forget(key);
        keys.footprints.forget(key);
        keys.conflicts.remove(key);
    }

    fn current(&self, key: &Key) -> Option<Arc<R::Kind>> {
        self.cache
            .typed(key.namespace.as_deref().unwrap_or_default(), &key.name)
    }

    /// Something changed in the view: wake whom it concerns.
    fn changed(&self, change: &Change) {
        let mut woken = self.keys.lock().footprints.touched(change);
        let namespace = |namespaced: bool| namespaced.then(|| change.namespace.clone());
        let kind = R::Kind::kind_id();
        if change.kind == TypeId::of::<R::Kind>() {
            woken.insert(Key {
                namespace: namespace(kind.namespaced),
                name: change.name.clone(),
            });
        }
        for owner in &change.owners {
            let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
            if owner.kind == kind.kind && group == kind.group {
                woken.insert(Key {
                    namespace: namespace(kind.namespaced),
                    name: owner.name.clone(),
                });
            }
        }
        for key in &woken {
            self.queue.wake(key);
        }
        self.show_depth();
    }

    async fn run(&self, key: Key, leadership: &Leadership) -> Action {
        self.running.send_modify(|running| *running += 1);
        let _running = scopeguard(|| self.running.send_modify(|running| *running -= 1));
        self.queue.take(&key);
        self.show_depth();
        if self.queue.is_closed() {
            return Action::await_change();
        }
        let Some(object) = self.current(&key) else {
            self.forget(&key);
            return Action::await_change();
        };
        if let Some(wait) = self
            .keys
            .lock()
            .health
            .wait(&key, &version(object.as_ref()), Instant::now())
        {
            return Action::requeue(wait);
        }
        if !self.view_is_current(&key).await {
            return Action::requeue(VIEW_RETRY);
        }
        let Some(object) = self.current(&key) else {
            self.forget(&key);
            return Action::await_change();
        };
        let span = tracing::info_span!("reconcile", reconciler = R::NAME, key = %key);
        let started = Instant::now();
        let ledger = Ledger::default();
        let run = self
            .plan_and_commit(object.clone(), leadership, &ledger)
            .instrument(span.clone());
        let ended = match tokio::time::timeout(self.limits.deadline, run).await {
            Ok(ended) => ended,
            Err(_) => Ended::Failed(Failure::timed_out(self.limits.deadline)),
        };
        let (_, expectations) = ledger.close();
        self.keys.lock().expectations.expect(&key, expectations, Instant::now());
        let metrics = &self.shared.metrics;
        metrics
            .duration
            .get_or_create(&Name { reconciler: R::NAME })
            .observe(started.elapsed().as_secs_f64());
        self.conclude(&key, object, ended, leadership).instrument(span).await
    }

    /// Whether the view shows the key's last commit, within [`VIEW_WAIT`].
    async fn view_is_current(&self, key: &Key) -> bool {
        if self.may_plan(key) {
            return true;
        }
        let caught_up = async {
            let mut progress: Vec<_> = self.shared.caches.all().map(|cache| cache.progress()).collect();
            while !self.may_plan(key) {
                let moved = progress.iter_mut().map(|progress| progress.changed().boxed());
                let _ = futures::future::select_all(moved).await;
            }
        };
        tokio::time::timeout(VIEW_WAIT, caught_up).await.is_ok()
    }

    fn may_plan(&self, key: &Key) -> bool {
        let view = self
            .keys
            .lock()
            .expectations
            .check(key, &self.shared.caches, Instant::now());
        if view == expect::View::Stale {
            self.shared
                .metrics
                .stale_views
                .get_or_create(&Name { reconciler: R::NAME })
                .inc();
            tracing::warn!(reconciler = R::NAME, %key, "planning on a view that has not reached the last commit");
        }
        view != expect::View::Behind
    }

    async fn plan_and_commit(&self, object: Arc<R::Kind>, leadership: &Leadership, ledger: &Ledger) -> Ended {
        let (reconciler, planned, now) = (self.reconciler.clone(), object.clone(), self.shared.now());
        let plan = move |recording: &Recording| {
            let plan = reconciler.plan(&planned, &View::new(recording), now)?;
            // Which children it does not name is decided on the same view.
            let pruned = if planned.is_terminating() {
                Vec::new()
            } else {
                pruned(&plan, &planned, recording)
            };
            Ok((plan, pruned))
        };
        let planned = isolated(&self.shared, &self.threads, &object.key(), &self.limits, plan).await;
        let (plan, footprints) = match planned {
            Ok(planned) => planned,
            Err(failure) => return Ended::Failed(failure),
        };
        self.keys.lock().footprints.record(&object.key(), footprints);
        let result = match plan {
            Ok((plan, pruned)) => {
                let requeue = plan.requeue();
                self.commit(&object, plan, pruned, leadership, ledger)
                    .await
                    .map(|()| Ok(requeue))
            }
            Err(blocked) => {
                let told = self.tell_blocked(&object, None, &blocked, leadership, ledger).await;
                self.tell(&object, EventType::Warning, blocked.reason, &blocked.message);
                told.map(|()| Err(blocked.retry))
            }
        };
        match result {
            Ok(Err(retry)) => Ended::Blocked(retry),
            Ok(Ok(requeue)) if ledger.is_empty() => Ended::Unchanged(requeue),
            Ok(Ok(requeue)) => Ended::Written(requeue),
            Err(error) => ended_by(&error),
        }
    }

    /// Finalizers to add, children, part, finalizers to remove, events: in this order, so that what is told has been done.
    async fn commit(
        &self,
        object: &Arc<R::Kind>,
        plan: Plan<R>,
        pruned: Vec<(setpoint_reconcile::KindId, Key)>,
        leadership: &Leadership,
        ledger: &Ledger,
    ) -> Result<(), CommitError> {
        let mut owner = Owner {
            target: Target::of(object.as_ref()),
            finalizers: finalizers(object.as_ref()),
        };
        if !object.is_terminating() {
            self.change_finalizers(&mut owner, &plan, true, leadership, ledger)
                .await?;
        }
        let children = if object.is_terminating() {
            Vec::new()
        } else {
            plan.children().to_vec()
        };
        let pruned = pruned
            .into_iter()
            .filter_map(|(kind, key)| Some((self.target(kind, key)?, "prune")));
        let deleted = plan
            .deletions()
            .iter()
            .map(|deletion| (deletion.target.clone(), "delete"));
        let gone = deleted.chain(pruned).collect();
        let children = self
            .committer
            .children(&owner, children, gone, leadership, ledger)
            .await;
        let current = R::Part::of(object);
        match children {
            Ok(()) => {
                let planned = plan.planned_part().or(current);
                let part = planned
                    .and_then(condition::without_blocked)
                    .or_else(|| plan.planned_part().cloned());
                self.write_part(object, &mut owner.target, part, leadership, ledger)
                    .await?;
            }
            // The part still tells what was observed, and that something is wrong.
            Err(error) if !error.is_conflict() => {
                let blocked = Blocked::new(FAILED, error.to_string());
                self.tell_blocked(object, plan.planned_part(), &blocked, leadership, ledger)
                    .await?;
                return Err(error);
            }
            Err(conflict) => return Err(conflict),
        }
        self.change_finalizers(&mut owner, &plan, false, leadership, ledger)
            .await?;
        for EventDraft {
            event_type,
            reason,
            message,
        } in plan.events()
        {
            self.tell(object, *event_type, *reason, message);
        }
        Ok(())
    }

    /// Adds what the plan adds, or removes what it removes.
    async fn change_finalizers(
        &self,
        owner: &mut Owner,
        plan: &Plan<R>,
        add: bool,
        leadership: &Leadership,
        ledger: &Ledger,
    ) -> Result<(), CommitError> {
        let mut wanted = owner.finalizers.clone();
        for change in plan.finalizers() {
            match change {
                FinalizerChange::Add(name) if add && !wanted.iter().any(|have| have == name) => {
                    wanted.push((*name).to_owned());
                }
                FinalizerChange::Remove(name) if !add => wanted.retain(|have| have != name),
                _ => {}
            }
        }
        if wanted != owner.finalizers {
            self.committer
                .finalizers(&mut owner.target, &wanted, leadership, ledger)
                .await?;
            owner.finalizers = wanted;
        }
        Ok(())
    }

    async fn write_part(
        &self,
        object: &R::Kind,
        target: &mut Target,
        part: Option<R::Part>,
        leadership: &Leadership,
        ledger: &Ledger,
    ) -> Result<(), CommitError> {
        let Some(part) = part.filter(|part| R::Part::of(object) != Some(part)) else {
            return Ok(());
        };
        let value = serde_json::to_value(&part).map_err(|error| CommitError::Unlawful {
            what: format!("{} of {}", R::Part::NAME, target.key),
            why: format!("does not serialise: {error}"),
        })?;
        self.committer
            .part(target, R::Part::NAME, value, leadership, ledger)
            .await
    }

    /// Writes `Reconciled=False` into the part, where it has conditions.
    async fn tell_blocked(
        &self,
        object: &Arc<R::Kind>,
        planned: Option<&R::Part>,
        blocked: &Blocked,
        leadership: &Leadership,
        ledger: &Ledger,
    ) -> Result<(), CommitError> {
        let current = R::Part::of(object);
        let part = planned.or(current);
        let generation = object.meta().generation;
        let told = condition::with_blocked(part, current, blocked, generation, self.shared.now());
        let mut target = Target::of(object.as_ref());
        self.write_part(
            object,
            &mut target,
            told.or_else(|| planned.cloned()),
            leadership,
            ledger,
        )
        .await
    }

    fn tell(&self, object: &Arc<R::Kind>, event_type: EventType, reason: Reason, message: &str) {
        let draft = EventDraft {
            event_type,
            reason,
            message: message.to_owned(),
        };
        self.events.record(Target::of(object.as_ref()), draft);
    }

    fn target(&self, kind: setpoint_reconcile::KindId, key: Key) -> Option<Target> {
        let (_, cache) = self.shared.caches.of_kind(&kind)?;
        let identity = cache.identity(key.namespace.as_deref().unwrap_or_default(), &key.name)?;
        Some(Target {
            kind,
            key,
            uid: identity.uid,
            resource_version: identity.resource_version,
        })
    }

    /// Counts, remembers, and says when the key is next.
    async fn conclude(&self, key: &Key, object: Arc<R::Kind>, ended: Ended, leadership: &Leadership) -> Action {
        let drift = jittered(self.limits.drift_scan, &mut rand::rng());
        let next = |requeue: Option<Duration>| requeue.map_or(drift, |requeue| requeue.min(drift));
        let (result, action) = match ended {
            Ended::Written(requeue) => ("written", next(requeue)),
            Ended::Unchanged(requeue) => ("unchanged", next(requeue)),
            Ended::Blocked(retry) => ("blocked", next(retry)),
            Ended::NotLeading => {
                self.count("not_leading");
                return Action::await_change();
            }
            Ended::Conflict => {
                let conflicts = {
                    let mut keys = self.keys.lock();
                    let conflicts = keys.conflicts.entry(key.clone()).or_default();
                    *conflicts += 1;
                    *conflicts
                };
                if conflicts < CONFLICTS {
                    self.count("conflict");
                    return Action::requeue(jittered(CONFLICT_RETRY, &mut rand::rng()));
                }
                let message = format!("{conflicts} writes in a row met an object that had changed meanwhile");
                let failure = Failure {
                    reason: FAILED,
                    message,
                    result: "conflict",
                };
                return self.failed(key, object, failure, leadership).await;
            }
            Ended::Failed(failure) => return self.failed(key, object, failure, leadership).await,
        };
        self.count(result);
        let recovered = {
            let mut keys = self.keys.lock();
            keys.conflicts.remove(key);
            keys.health.recovered(key)
        };
        if recovered {
            self.tell(
                &object,
                EventType::Normal,
                RECOVERED,
                "reconciled again after quarantine",
            );
        }
        self.show_health();
        Action::requeue(action)
    }

    async fn failed(&self, key: &Key, object: Arc<R::Kind>, failure: Failure, leadership: &Leadership) -> Action {
        self.count(failure.result);
        let verdict = {
            let mut keys = self.keys.lock();
            keys.conflicts.remove(key);
            keys.health
                .failed(key, version(object.as_ref()), Instant::now(), &mut rand::rng())
        };
        self.show_health();
        let retry_in = verdict.retry_in;
        tracing::warn!(reason = %failure.reason, message = failure.message, failures = verdict.failures, ?retry_in, "reconcile failed");
        self.tell(&object, EventType::Warning, failure.reason, &failure.message);
        if verdict.quarantined_now {
            let failures = verdict.failures;
            let every = self.limits.backoff.cap.as_secs();
            let message = format!(
                "failed {failures} times in a row; tried about every {every} s from now on, and at once when its spec changes: {}",
                failure.message
            );
            self.tell(&object, EventType::Warning, QUARANTINED, &message);
        }
        // A refused commit has told already; what failed before has written nothing.
        if failure.reason != FAILED {
            let ledger = Ledger::default();
            let blocked = Blocked::new(failure.reason, failure.message);
            let telling = self.tell_blocked(&object, None, &blocked, leadership, &ledger);
            if let Ok(Err(error)) = tokio::time::timeout(self.limits.deadline, telling).await {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "the failure is not in the part"
                );
            }
            let (_, expectations) = ledger.close();
            self.keys.lock().expectations.expect(key, expectations, Instant::now());
        }
        Action::requeue(retry_in)
    }

    fn count(&self, result: &'static str) {
        self.shared
            .metrics
            .runs
            .get_or_create(&Outcome {
                reconciler: R::NAME,
                result,
            })
            .inc();
    }

    fn show_depth(&self) {
        let depth = bounded(self.queue.depth());
        self.shared
            .metrics
            .depth
            .get_or_create(&Name { reconciler: R::NAME })
            .set(depth);
    }

    fn show_health(&self) {
        let (failing, quarantined) = self.keys.lock().health.counts();
        let name = Name { reconciler: R::NAME };
        self.shared
            .metrics
            .backing_off
            .get_or_create(&name)
            .set(bounded(failing));
        self.shared
            .metrics
            .quarantined
            .get_or_create(&name)
            .set(bounded(quarantined));
    }
}

impl<R: Reconciler> crate::engine::Loop for Objects<R> {
    fn name(&self) -> &'static str {
        R::NAME
    }

    fn watches(&self) -> Vec<TypeId> {
        crate::engine::watched_types::<R, R::Kind>()
    }

    fn term(self: Arc<Self>, leadership: Leadership, stop: watch::Receiver<bool>) -> BoxFuture<'static, ()> {
        Objects::term(self, leadership, stop).boxed()
    }
}

/// Subscribes a reconciler to the kinds that it declares.
struct Listen<'a, R: Reconciler> {
    caches: &'a Caches,
    objects: Weak<Objects<R>>,
}

impl<R: Reconciler> Listen<'_, R> {
    fn everywhere(self) {
        for kind in crate::engine::watched_types::<R, R::Kind>() {
            let objects = self.objects.clone();
            if let Some(cache) = self.caches.of(kind) {
                cache.listen(Box::new(move |change| {
                    if let Some(objects) = objects.upgrade() {
                        objects.changed(change);
                    }
                }));
            }
        }
    }
}

fn ended_by(error: &CommitError) -> Ended {
    match error {
        CommitError::Conflict { .. } => Ended::Conflict,
        CommitError::NotLeading => Ended::NotLeading,
        error => {
            if let Some(source) = std::error::Error::source(error) {
                tracing::debug!(error = source, "commit failed");
            }
            Ended::Failed(Failure {
                reason: FAILED,
                message: error.to_string(),
                result: "failed",
            })
        }
    }
}

fn version<K: Object>(object: &K) -> Version {
    Version {
        uid: object.uid().to_owned(),
        generation: object.meta().generation,
    }
}

fn finalizers<K: Object>(object: &K) -> Vec<String> {
    object.meta().finalizers.clone().unwrap_or_default()
}

fn reference<K: Object>(key: &Key) -> ObjectRef<K> {
    let reference = ObjectRef::new(&key.name);
    match &key.namespace {
        Some(namespace) => reference.within(namespace),
        None => reference,
    }
}

fn bounded(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Runs this when it goes out of scope.
fn scopeguard<F: Fn()>(run: F) -> impl Drop {
    struct Guard<F: Fn()>(F);
    impl<F: Fn()> Drop for Guard<F> {
        fn drop(&mut self) {
            (self.0)();
        }
    }
    Guard(run)
}
