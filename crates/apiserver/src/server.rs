//! [`ApiServer`]: what every request shares, and how it is put together.

use std::{collections::HashSet, sync::Arc};

use serde_json::Value;
use setpoint_cache::{Cache, CacheError, Hook};
use setpoint_definition::{Origin, ResourceDefinition, builtin};
use setpoint_govern::{audit::AuditLog, quota::Measure};
use setpoint_meta::{
    field::FieldError,
    object,
    time::{Clock, SystemClock},
};
use setpoint_pki::Pki;
use setpoint_store::{Key, Op, Precondition, Store, StoreError, Txn};
use tokio::sync::Semaphore;

use crate::{
    Metrics, Shutdown,
    admission::Quotas,
    authenticate::Authentication,
    authorize::{self, Authorization},
    catalog::{Kinds, Served},
    encode, strategy,
};

/// Requests handled at a time, watches not counted: Kubernetes' defaults for reads (400) and writes (200) together.
const IN_FLIGHT: usize = 600;
/// The key prefix of CustomResourceDefinitions.
const CRDS: &str = "/registry/apiextensions.k8s.io/customresourcedefinitions/";

/// The API server. Cheap to clone.
#[derive(Clone)]
pub struct ApiServer {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) cache: Cache,
    pub(crate) kinds: Arc<Kinds>,
    pub(crate) authentication: Authentication,
    pub(crate) authorization: Arc<Authorization>,
    pub(crate) quotas: Quotas,
    pub(crate) audit: Option<AuditLog>,
    pub(crate) metrics: Metrics,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) in_flight: Semaphore,
    pub(crate) shutdown: Shutdown,
    /// `host:port` under which clients reach the server.
    pub(crate) advertise: String,
}

/// The server could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store failed.
    #[error("the store failed while the server started")]
    Store(#[from] StoreError),
    /// The watch cache could not be filled.
    #[error("the watch cache could not be filled")]
    Cache(#[from] CacheError),
    /// The key of service-account tokens is unusable.
    #[error("the token key cannot be used")]
    Tokens(#[from] setpoint_govern::authn::TokenError),
    /// A kind that the binary ships is not valid.
    #[error("the shipped definition of {name} is not valid: {errors:?}")]
    Definition {
        /// Its name.
        name: String,
        /// What is wrong.
        errors: Vec<FieldError>,
    },
    /// An object that the server makes at start is not valid.
    #[error("the object {0} that is made at start is not valid")]
    Bootstrap(String),
}

/// Puts an API server together.
pub struct Builder {
    store: Arc<dyn Store>,
    pki: Arc<Pki>,
    manifests: Vec<Value>,
    bootstrap: Vec<Value>,
    measures: Vec<Arc<dyn Measure>>,
    audit: Option<AuditLog>,
    metrics: Metrics,
    clock: Arc<dyn Clock>,
    advertise: String,
    shutdown: Shutdown,
}

impl ApiServer {
    /// A server over this store, with the identities of this authority.
    pub fn builder(store: Arc<dyn Store>, pki: Arc<Pki>) -> Builder {
        Builder {
            store,
            pki,
            manifests: Vec::new(),
            bootstrap: Vec::new(),
            measures: Vec::new(),
            audit: None,
            metrics: Metrics::default(),
            clock: Arc::new(SystemClock),
            advertise: String::new(),
            shutdown: Shutdown::new(),
        }
    }

    /// The watch cache, for loops of the same process that observe it.
    pub fn cache(&self) -> &Cache {
        &self.inner.cache
    }

    /// What a namespace uses of what quotas can limit, by key, as admission counts it.
    pub async fn quota_used(&self, namespace: &str) -> std::collections::BTreeMap<String, String> {
        self.inner.quotas.used(namespace).await
    }

    /// The metrics of the process.
    pub fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }
}

impl Builder {
    /// Kinds that the binary ships, as CustomResourceDefinition manifests.
    #[must_use]
    pub fn manifests(mut self, manifests: Vec<Value>) -> Self {
        self.manifests.extend(manifests);
        self
    }

    /// Objects that must exist: created at start if they do not. Complete with apiVersion, kind and name.
    #[must_use]
    pub fn bootstrap(mut self, objects: Vec<Value>) -> Self {
        self.bootstrap.extend(objects);
        self
    }

    /// Quota measures of the kinds that the binary ships.
    #[must_use]
    pub fn measures(mut self, measures: Vec<Arc<dyn Measure>>) -> Self {
        self.measures.extend(measures);
        self
    }

    /// Where audit records go.
    #[must_use]
    pub fn audit(mut self, audit: AuditLog) -> Self {
        self.audit = Some(audit);
        self
    }

    /// `host:port` under which clients reach the server.
    #[must_use]
    pub fn advertise(mut self, address: impl Into<String>) -> Self {
        self.advertise = address.into();
        self
    }

    /// Cancelled when the server is to stop.
    #[must_use]
    pub fn shutdown(mut self, shutdown: Shutdown) -> Self {
        self.shutdown = shutdown;
        self
    }

    /// Another clock, for tests.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Fills the cache and makes what must exist.
    pub async fn start(self) -> Result<ApiServer, StartError> {
        let mut definitions: Vec<Arc<ResourceDefinition>> = builtin::all().into_iter().map(Arc::new).collect();
        for manifest in &self.manifests {
            let definition =
                ResourceDefinition::from_crd(manifest, Origin::Setpoint).map_err(|errors| StartError::Definition {
                    name: object::name(manifest).to_owned(),
                    errors,
                })?;
            definitions.push(Arc::new(definition));
        }
        let kinds = Arc::new(Kinds::new(definitions));
        let authorization = Arc::new(Authorization::default());
        self.make_bootstrap(&kinds).await?;
        let mut hooks: Vec<(String, Hook)> = Vec::new();
        let follower = kinds.clone();
        hooks.push((CRDS.to_owned(), Box::new(move |events| follower.follow(events))));
        for prefix in authorize::FOLLOWED {
            let follower = authorization.clone();
            hooks.push((prefix.to_owned(), Box::new(move |events| follower.follow(events))));
        }
        let cache = Cache::start(self.store.clone(), hooks).await?;
        let inner = Inner {
            authentication: Authentication::new(&self.pki, cache.clone())?,
            quotas: Quotas::new(self.measures, cache.clone(), kinds.clone()),
            cache,
            kinds,
            authorization,
            audit: self.audit,
            metrics: self.metrics,
            clock: self.clock,
            in_flight: Semaphore::new(IN_FLIGHT),
            shutdown: self.shutdown,
            advertise: self.advertise,
        };
        Ok(ApiServer { inner: Arc::new(inner) })
    }

    /// One commit makes every object that is missing.
    async fn make_bootstrap(&self, kinds: &Kinds) -> Result<(), StartError> {
        let catalog = kinds.current();
        let mut txn = Txn::default();
        let mut keys = HashSet::new();
        for object in &self.bootstrap {
            let name = object::name(object).to_owned();
            let invalid = || StartError::Bootstrap(format!("{} {name}", object::kind(object)));
            let gvk =
                setpoint_meta::Gvk::parse(object::api_version(object), object::kind(object)).map_err(|_| invalid())?;
            let definition = catalog
                .definitions()
                .iter()
                .find(|d| *d.group == *gvk.group && *d.kind == *gvk.kind)
                .ok_or_else(invalid)?;
            let served: &Served = catalog
                .served(&gvk.group, &gvk.version, &definition.plural)
                .ok_or_else(invalid)?;
            let key = Key::new(definition.key(object::namespace(object).unwrap_or_default(), &name));
            if self.store.get(&key, None).await?.is_some() || !keys.insert(key.clone()) {
                continue;
            }
            let mut value = object.clone();
            let uid = uuid::Uuid::new_v4().to_string();
            strategy::prepare_create(served, &mut value, &uid, self.clock.now()).map_err(|_| invalid())?;
            strategy::validate(served, &strategy::Target::Main, &value, None)
                .map_err(|status| StartError::Bootstrap(status.message))?;
            txn.preconditions.push(Precondition::Absent(key.clone()));
            txn.ops.push(Op::Put(key, encode::stored(&value)));
        }
        if txn.ops.is_empty() {
            return Ok(());
        }
        match self.store.commit(txn).await {
            // another server was faster with the same objects
            Ok(_) | Err(StoreError::Conflict { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
