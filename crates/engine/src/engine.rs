//! Building an engine out of reconcilers, and running it.

use std::{any::TypeId, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use jiff::Timestamp;
use kube::Client;
use setpoint_reconcile::{Declaration, Declared, KindVisitor, Object, Pass, Reconciler};
use tokio::{sync::watch, task::JoinSet};

use crate::{
    cache::Caches,
    commit::Committer,
    events::Events,
    leader::{self, Election, Leadership},
    metrics::Metrics,
    objects::Objects,
    pass::Whole,
    shared::{Clock, Limits, Shared},
};

/// User name of the shared watches and of the election; reconcilers act as `system:setpoint:reconciler:NAME`.
pub const ENGINE_IDENTITY: &str = "system:setpoint:engine";

/// The user name that a reconciler acts as.
pub fn reconciler_identity(name: &str) -> String {
    format!("system:setpoint:reconciler:{name}")
}

/// After a stop, runs that have begun have so long beyond their deadline before they are dropped.
const GRACE: Duration = Duration::from_secs(5);
/// A loop that ended by a mistake of the engine's own begins again after so long.
const RESTART: Duration = Duration::from_secs(1);

/// A reconciler or pass in the engine, whatever its types.
pub(crate) trait Loop: Send + Sync + 'static {
    fn name(&self) -> &'static str;
    /// The types whose views must be complete before it begins.
    fn watches(&self) -> Vec<TypeId>;
    /// Runs until stopped or until leadership is lost, and returns when nothing is under way any more.
    fn term(self: Arc<Self>, leadership: Leadership, stop: watch::Receiver<bool>) -> BoxFuture<'static, ()>;
}

/// The types that a reconciler of kind `K` watches, each once.
pub(crate) fn watched_types<D: Declared, K: Object>() -> Vec<TypeId> {
    struct Types(Vec<TypeId>);
    impl KindVisitor for Types {
        fn reads<K: Object>(&mut self) {
            self.0.push(TypeId::of::<K>());
        }
        fn owns<K: Object>(&mut self) {
            self.0.push(TypeId::of::<K>());
        }
    }
    let mut types = Types(vec![TypeId::of::<K>()]);
    D::kinds(&mut types);
    types.0.sort();
    types.0.dedup();
    types.0
}

impl KindVisitor for Caches {
    fn reads<K: Object>(&mut self) {
        self.add::<K>();
    }
    fn owns<K: Object>(&mut self) {
        self.add::<K>();
    }
}

type Make = Box<dyn FnOnce(&Making) -> Arc<dyn Loop> + Send>;

/// What loops are made of, once all kinds are known.
struct Making {
    shared: Arc<Shared>,
    clients: Clients,
    writers: parking_lot::Mutex<Vec<BoxFuture<'static, ()>>>,
}

impl Making {
    fn tools(&self, name: &'static str) -> (Committer, Events) {
        let client = (self.clients)(&reconciler_identity(name));
        let metrics = self.shared.metrics.clone();
        let (events, writer) = Events::new(client.clone(), name, metrics.clone());
        self.writers.lock().push(Box::pin(writer));
        (
            Committer::new(name, client, self.shared.caches.clone(), metrics),
            events,
        )
    }
}

type Clients = Arc<dyn Fn(&str) -> Client + Send + Sync>;

/// Collects reconcilers; [`Builder::run`] drives them.
pub struct Builder {
    clients: Clients,
    caches: Caches,
    loops: Vec<Make>,
    declarations: Vec<Declaration>,
    election: Option<Election>,
    metrics: Metrics,
    clock: Clock,
}

/// The engine. See the crate's documentation.
pub struct Engine;

impl Engine {
    /// An engine with no reconcilers, on clients that act as the named user. It is asked for [`ENGINE_IDENTITY`] and for the
    /// [`reconciler_identity`] of each reconciler.
    pub fn builder(clients: impl Fn(&str) -> Client + Send + Sync + 'static) -> Builder {
        Builder {
            clients: Arc::new(clients),
            caches: Caches::default(),
            loops: Vec::new(),
            declarations: Vec::new(),
            election: None,
            metrics: Metrics::default(),
            clock: Arc::new(Timestamp::now),
        }
    }
}

impl Builder {
    /// Drives this reconciler, within the default limits.
    #[must_use]
    pub fn register<R: Reconciler>(self, reconciler: R) -> Self {
        self.register_within(reconciler, Limits::default())
    }

    /// Drives this reconciler within these limits.
    ///
    /// # Panics
    /// When one of this name is registered already.
    #[must_use]
    pub fn register_within<R: Reconciler>(mut self, reconciler: R, limits: Limits) -> Self {
        self.declare(R::declaration());
        let cache = self.caches.add::<R::Kind>();
        R::kinds(&mut self.caches);
        self.loops.push(Box::new(move |making| {
            let (committer, events) = making.tools(R::NAME);
            Objects::new(reconciler, cache, making.shared.clone(), committer, events, limits)
        }));
        self
    }

    /// Drives this pass, within the default limits.
    #[must_use]
    pub fn register_pass<P: Pass>(self, pass: P) -> Self {
        self.register_pass_within(pass, Limits::default())
    }

    /// Drives this pass within these limits.
    ///
    /// # Panics
    /// When one of this name is registered already.
    #[must_use]
    pub fn register_pass_within<P: Pass>(mut self, pass: P, limits: Limits) -> Self {
        self.declare(P::declaration());
        let cache = self.caches.add::<P::Subject>();
        P::kinds(&mut self.caches);
        self.loops.push(Box::new(move |making| {
            let (committer, events) = making.tools(P::NAME);
            Whole::new(pass, cache, making.shared.clone(), committer, events, limits)
        }));
        self
    }

    fn declare(&mut self, declaration: Declaration) {
        let taken = self.declarations.iter().any(|other| other.name == declaration.name);
        assert!(!taken, "two reconcilers are named {}", declaration.name);
        self.declarations.push(declaration);
    }

    /// Runs the reconcilers only while this process holds the Lease. Without it, the process takes itself to be alone.
    #[must_use]
    pub fn elect(mut self, election: Election) -> Self {
        self.election = Some(election);
        self
    }

    /// Measures into these metrics.
    #[must_use]
    pub fn metrics(mut self, metrics: Metrics) -> Self {
        self.metrics = metrics;
        self
    }

    /// Plans by this clock instead of the system's.
    #[must_use]
    pub fn clock(mut self, clock: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// What has been registered, for RBAC and for the capability table.
    pub fn declarations(&self) -> &[Declaration] {
        &self.declarations
    }

    /// Runs until `shutdown`, then ends what has begun, and returns.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let shared = Arc::new(Shared {
            caches: Arc::new(self.caches),
            metrics: self.metrics,
            clock: self.clock,
        });
        let making = Making {
            shared: shared.clone(),
            clients: self.clients.clone(),
            writers: parking_lot::Mutex::default(),
        };
        let loops: Vec<_> = self.loops.into_iter().map(|make| make(&making)).collect();
        let client = (self.clients)(ENGINE_IDENTITY);
        let mut background = JoinSet::new();
        for writer in making.writers.into_inner() {
            background.spawn(writer);
        }
        for cache in shared.caches.all() {
            background.spawn(cache.clone().watch(client.clone(), shared.metrics.clone()));
        }
        let (leading, leadership) = match &self.election {
            None => Leadership::unopposed(),
            Some(_) => Leadership::contested(),
        };
        background.spawn(leader::show(leadership.clone(), shared.metrics.clone()));
        // Kept in either case: leadership ends when its sender is dropped.
        let campaign = match self.election.clone() {
            Some(election) => tokio::spawn(leader::campaign(client.clone(), election, leading)),
            None => tokio::spawn(async move { leading.closed().await }),
        };

        let (stopping, stop) = watch::channel(false);
        let mut driving = JoinSet::new();
        for each in loops {
            driving.spawn(drive(each, shared.clone(), leadership.clone(), stop.clone()));
        }
        tracing::info!(
            reconcilers = driving.len(),
            kinds = shared.caches.all().count(),
            "engine started"
        );
        shutdown.await;
        stopping.send_replace(true);
        while driving.join_next().await.is_some() {}
        campaign.abort();
        if let Some(election) = self.election {
            leader::release(client, election).await;
        }
        tracing::info!("engine stopped");
    }
}

/// Drives one loop through its terms of leadership, until stopped.
async fn drive(each: Arc<dyn Loop>, shared: Arc<Shared>, mut leadership: Leadership, mut stop: watch::Receiver<bool>) {
    let name = each.name();
    loop {
        let begin = async {
            for kind in each.watches() {
                if let Some(cache) = shared.caches.of(kind) {
                    cache.ready().await;
                }
            }
            leadership.gained().await;
        };
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return,
            () = begin => {}
        }
        tracing::debug!(reconciler = name, "term begins");
        // A task of its own: a mistake in the engine ends a term, not the engine.
        let mut term = tokio::spawn(each.clone().term(leadership.clone(), stop.clone()));
        let ended = tokio::select! {
            ended = &mut term => ended,
            () = overdue(stop.clone()) => {
                term.abort();
                tracing::warn!(reconciler = name, "runs dropped: they did not end in time");
                return;
            }
        };
        if let Err(error) = ended {
            tracing::error!(
                reconciler = name,
                error = &error as &dyn std::error::Error,
                "term ended by a panic; it begins again"
            );
            tokio::time::sleep(RESTART).await;
        }
        tracing::debug!(reconciler = name, "term ended");
    }
}

/// Returns when a stop was asked for and more time has passed than runs may take.
async fn overdue(mut stop: watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
    tokio::time::sleep(GRACE).await;
}
