//! The loop of a [`Pass`]: all objects in one plan, one run at a time.
//!
//! # Guarantees
//! - A run begins after the view has shown all of the pass's own commits, and [`Limits::debounce`] after the first wake.
//! - A subject whose write is refused backs off alone; the others' writes go on.

use std::{
    any::TypeId,
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{FutureExt, future::BoxFuture};
use kube::Resource as _;
use parking_lot::Mutex;
use setpoint_reconcile::{EventDraft, EventType, Key, PartOf, Pass, PassPlan, PassWrite, Target, View};
use tokio::sync::{Notify, watch};
use tracing::Instrument;

use crate::{
    backoff::{Health, Version, jittered},
    cache::KindCache,
    commit::{CommitError, Committer, Ledger, some_at_once},
    events::Events,
    expect::{self, Expectations},
    leader::Leadership,
    metrics::{Name, Outcome},
    shared::{FAILED, Failure, Limits, QUARANTINED, Shared, Threads, isolated},
    wake::Recording,
};

/// How soon a pass runs again after a conflict, at most: the watch event usually wakes it sooner.
const CONFLICT_RETRY: Duration = Duration::from_millis(100);

struct State {
    subjects: Health,
    whole: Health,
    expectations: Expectations,
}

/// A pass and what the engine knows of it.
pub(crate) struct Whole<P: Pass> {
    pass: Arc<P>,
    cache: Arc<KindCache<P::Subject>>,
    shared: Arc<Shared>,
    committer: Committer,
    events: Events,
    limits: Limits,
    woken: Notify,
    state: Mutex<State>,
    threads: Threads,
}

impl<P: Pass> Whole<P> {
    pub(crate) fn new(
        pass: P,
        cache: Arc<KindCache<P::Subject>>,
        shared: Arc<Shared>,
        committer: Committer,
        events: Events,
        limits: Limits,
    ) -> Arc<Self> {
        let state = State {
            subjects: Health::new(limits.backoff),
            whole: Health::new(limits.backoff),
            expectations: Expectations::default(),
        };
        let this = Arc::new(Self {
            pass: Arc::new(pass),
            cache,
            shared,
            committer,
            events,
            limits,
            woken: Notify::new(),
            state: Mutex::new(state),
            threads: Threads::default(),
        });
        for kind in crate::engine::watched_types::<P, P::Subject>() {
            let whole = Arc::downgrade(&this);
            if let Some(cache) = this.shared.caches.of(kind) {
                cache.listen(Box::new(move |_| {
                    if let Some(whole) = whole.upgrade() {
                        whole.woken.notify_one();
                    }
                }));
            }
        }
        this
    }

    /// All of the pass's writes share one key: a run waits for every one of them.
    fn key() -> Key {
        Key::cluster(P::NAME)
    }

    async fn drive(self: Arc<Self>, mut leadership: Leadership, mut stop: watch::Receiver<bool>) {
        let leads = leadership.clone();
        let mut after = Duration::ZERO;
        loop {
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                () = leadership.lost() => return,
                () = self.woken.notified() => {}
                () = tokio::time::sleep(after) => {}
            }
            // A failing pass is not hurried by what goes on around it.
            let wait = self
                .state
                .lock()
                .whole
                .wait(&Self::key(), &Version::default(), Instant::now());
            tokio::time::sleep(wait.unwrap_or(self.limits.debounce)).await;
            self.until_current().await;
            // A stop is honoured between runs: what has begun is finished, within its deadline.
            after = self.run(&leads).await;
        }
    }

    async fn until_current(&self) {
        let mut progress: Vec<_> = self.shared.caches.all().map(|cache| cache.progress()).collect();
        loop {
            match self
                .state
                .lock()
                .expectations
                .check(&Self::key(), &self.shared.caches, Instant::now())
            {
                expect::View::Current => return,
                expect::View::Stale => {
                    self.shared
                        .metrics
                        .stale_views
                        .get_or_create(&Name { reconciler: P::NAME })
                        .inc();
                    tracing::warn!(
                        pass = P::NAME,
                        "the view has not reached the last commit; planning on it all the same"
                    );
                    return;
                }
                expect::View::Behind => {}
            }
            let moved = futures::future::select_all(progress.iter_mut().map(|progress| progress.changed().boxed()));
            // Patience ends by the clock, not by a watch event.
            let _ = tokio::time::timeout(Duration::from_secs(1), moved).await;
        }
    }

    /// One run; returns when the next is due even if nothing wakes it.
    async fn run(&self, leadership: &Leadership) -> Duration {
        let span = tracing::info_span!("reconcile", reconciler = P::NAME, key = "all");
        let started = Instant::now();
        let ledger = Ledger::default();
        let run = self.plan_and_commit(leadership, &ledger).instrument(span.clone());
        let ended = tokio::time::timeout(self.limits.deadline, run).await;
        let ended = ended.unwrap_or_else(|_| Err(Failure::timed_out(self.limits.deadline)));
        let (writes, expectations) = ledger.close();
        self.state
            .lock()
            .expectations
            .expect(&Self::key(), expectations, Instant::now());
        let metrics = &self.shared.metrics;
        metrics
            .duration
            .get_or_create(&Name { reconciler: P::NAME })
            .observe(started.elapsed().as_secs_f64());
        let drift = jittered(self.limits.drift_scan, &mut rand::rng());
        let (result, next) = match ended {
            Ok(requeue) => {
                self.state.lock().whole.recovered(&Self::key());
                let result = if writes == 0 { "unchanged" } else { "written" };
                (result, requeue.map_or(drift, |requeue| requeue.min(drift)))
            }
            Err(failure) => {
                let failed =
                    self.state
                        .lock()
                        .whole
                        .failed(&Self::key(), Version::default(), Instant::now(), &mut rand::rng());
                let (message, retry_in) = (failure.message, failed.retry_in);
                span.in_scope(|| tracing::warn!(reason = %failure.reason, message, ?retry_in, "pass failed"));
                (failure.result, retry_in)
            }
        };
        metrics
            .runs
            .get_or_create(&Outcome {
                reconciler: P::NAME,
                result,
            })
            .inc();
        self.show_health();
        next
    }

    async fn plan_and_commit(&self, leadership: &Leadership, ledger: &Ledger) -> Result<Option<Duration>, Failure> {
        let (pass, now) = (self.pass.clone(), self.shared.now());
        let plan = move |recording: &Recording| pass.plan(&View::new(recording), now);
        let (plan, _) = isolated(&self.shared, &self.threads, &Self::key(), &self.limits, plan).await?;
        let plan = match plan {
            Ok(plan) => plan,
            Err(blocked) => {
                tracing::info!(reason = %blocked.reason, message = blocked.message, "pass blocked");
                return Ok(blocked.retry);
            }
        };
        for event in plan.events() {
            self.events.record(event.target.clone(), event.event.clone());
        }
        let retry = self.write(&plan, leadership, ledger).await;
        Ok([plan.requeue(), retry].into_iter().flatten().min())
    }

    /// Writes every subject; returns when a subject that was not written is due again.
    async fn write(&self, plan: &PassPlan<P>, leadership: &Leadership, ledger: &Ledger) -> Option<Duration> {
        let mut finalizers: HashMap<&Key, (&Target, HashSet<&str>)> = HashMap::new();
        for (target, finalizer) in plan.finalizers() {
            finalizers
                .entry(&target.key)
                .or_insert_with(|| (target, HashSet::new()))
                .1
                .insert(finalizer);
        }
        let mut subjects: Vec<_> = plan
            .writes()
            .iter()
            .map(|write| {
                let removed = finalizers.remove(&write.target.key).map(|(_, removed)| removed);
                (&write.target, Some(write), removed.unwrap_or_default())
            })
            .collect();
        subjects.extend(
            finalizers
                .into_values()
                .map(|(target, removed)| (target, None, removed)),
        );
        let writes: Vec<_> = subjects
            .into_iter()
            .map(|(target, write, removed)| {
                self.write_subject(target.clone(), write, removed, leadership, ledger)
                    .boxed()
            })
            .collect();
        some_at_once(writes).await.into_iter().flatten().min()
    }

    async fn write_subject(
        &self,
        mut target: Target,
        write: Option<&PassWrite<P::Part>>,
        removed: HashSet<&str>,
        leadership: &Leadership,
        ledger: &Ledger,
    ) -> Option<Duration> {
        let key = target.key.clone();
        let version = Version {
            uid: target.uid.clone(),
            generation: self.generation(&key),
        };
        if let Some(wait) = self.state.lock().subjects.wait(&key, &version, Instant::now()) {
            return Some(wait);
        }
        let written = async {
            if let Some(write) = write {
                let value = serde_json::to_value(&write.part).map_err(|error| CommitError::Unlawful {
                    what: format!("{} of {key}", P::Part::NAME),
                    why: format!("does not serialise: {error}"),
                })?;
                self.committer
                    .part(&mut target, P::Part::NAME, value, leadership, ledger)
                    .await?;
            }
            if !removed.is_empty() {
                let subject = self
                    .cache
                    .typed(key.namespace.as_deref().unwrap_or_default(), &key.name);
                let mut finalizers = subject
                    .and_then(|subject| subject.meta().finalizers.clone())
                    .unwrap_or_default();
                finalizers.retain(|finalizer| !removed.contains(finalizer.as_str()));
                self.committer
                    .finalizers(&mut target, &finalizers, leadership, ledger)
                    .await?;
            }
            Ok(())
        };
        match written.await {
            Ok(()) => {
                self.state.lock().subjects.recovered(&key);
                None
            }
            Err(CommitError::NotLeading) => None,
            Err(error) if error.is_conflict() => Some(jittered(CONFLICT_RETRY, &mut rand::rng())),
            Err(error) => Some(self.subject_failed(target, version, &error)),
        }
    }

    fn subject_failed(&self, target: Target, version: Version, error: &CommitError) -> Duration {
        let verdict = self
            .state
            .lock()
            .subjects
            .failed(&target.key, version, Instant::now(), &mut rand::rng());
        let retry_in = verdict.retry_in;
        tracing::warn!(subject = %target.key, error = error as &dyn std::error::Error, ?retry_in, "subject not written");
        let reason = if verdict.quarantined_now { QUARANTINED } else { FAILED };
        let draft = EventDraft {
            event_type: EventType::Warning,
            reason,
            message: error.to_string(),
        };
        self.events.record(target, draft);
        retry_in
    }

    fn generation(&self, key: &Key) -> Option<i64> {
        self.cache
            .typed(key.namespace.as_deref().unwrap_or_default(), &key.name)?
            .meta()
            .generation
    }

    fn show_health(&self) {
        let mut state = self.state.lock();
        state.subjects.retain(|key| {
            self.cache
                .typed(key.namespace.as_deref().unwrap_or_default(), &key.name)
                .is_some()
        });
        let (failing, quarantined) = state.subjects.counts();
        let (whole_failing, whole_quarantined) = state.whole.counts();
        drop(state);
        let bounded = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let name = Name { reconciler: P::NAME };
        self.shared
            .metrics
            .backing_off
            .get_or_create(&name)
            .set(bounded(failing + whole_failing));
        self.shared
            .metrics
            .quarantined
            .get_or_create(&name)
            .set(bounded(quarantined + whole_quarantined));
    }
}

impl<P: Pass> crate::engine::Loop for Whole<P> {
    fn name(&self) -> &'static str {
        P::NAME
    }

    fn watches(&self) -> Vec<TypeId> {
        crate::engine::watched_types::<P, P::Subject>()
    }

    fn term(self: Arc<Self>, leadership: Leadership, stop: watch::Receiver<bool>) -> BoxFuture<'static, ()> {
        self.drive(leadership, stop).boxed()
    }
}
