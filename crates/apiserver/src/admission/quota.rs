//! ResourceQuota: charged on the worst case, last, so that nothing is reserved for a write that another step refuses.
//!
//! The ledger counts a namespace once, from the watch cache, and is moved by the deltas of writes from then on. Exact within one server;
//! several over one store are an issue of their own (the status in the same commit).

use std::sync::Arc;

use serde_json::Value;
use setpoint_cache::Cache;
use setpoint_definition::Scope;
use setpoint_govern::{
    audit::QUOTA_EXCEEDED,
    quota::{Measure, Measures, QuotaLedger, Reservation, Usage},
};
use setpoint_meta::object;

use super::{Attributes, Operation};
use crate::{Answer, catalog::Kinds};

/// Where ResourceQuotas live.
const PREFIX: &str = "/registry/core/resourcequotas/";

/// What is used in each namespace, and by which measures.
pub(crate) struct Quotas {
    measures: Measures,
    ledger: QuotaLedger,
    cache: Cache,
    kinds: Arc<Kinds>,
}

impl Quotas {
    pub(crate) fn new(measures: Vec<Arc<dyn Measure>>, cache: Cache, kinds: Arc<Kinds>) -> Self {
        let measures = measures.into_iter().fold(Measures::new(), Measures::with);
        Self {
            measures,
            ledger: QuotaLedger::new(),
            cache,
            kinds,
        }
    }

    /// What the objects of a namespace use, by the watch cache.
    fn count(&self, namespace: &str) -> Usage {
        let mut usage = Usage::new();
        let stored = |d: &&Arc<setpoint_definition::ResourceDefinition>| {
            d.scope == Scope::Namespaced && d.is_stored() && d.view.is_none()
        };
        for definition in self.kinds.current().definitions().iter().filter(stored) {
            let prefix = format!("{}{namespace}/", definition.prefix());
            let resource = definition.group_resource();
            let objects =
                self.cache
                    .resource(&definition.prefix())
                    .snapshot(&prefix, None, 0, self.cache.revision(), |_| true);
            for found in objects.objects {
                usage.add(&self.measures.usage(&resource, &found.parse()));
            }
        }
        usage
    }

    /// What a namespace uses now. Counts it anew if nothing is being written, so that a delta that was ever missed heals.
    pub(crate) async fn used(&self, namespace: &str) -> std::collections::BTreeMap<String, String> {
        let resync = self.ledger.resync(namespace);
        // every write that was answered before the recount began must be in it
        if self.cache.fresh().await.is_ok() {
            resync.finish(self.count(namespace));
        }
        let used = self.ledger.used(namespace, || self.count(namespace));
        used.iter()
            .map(|(key, amount)| (key.to_owned(), amount.to_string()))
            .collect()
    }

    fn of_namespace(&self, namespace: &str) -> Vec<Value> {
        let prefix = format!("{PREFIX}{namespace}/");
        let snapshot = self
            .cache
            .resource(PREFIX)
            .snapshot(&prefix, None, 0, self.cache.revision(), |_| true);
        snapshot.objects.iter().map(|o| o.parse()).collect()
    }
}

/// Reserves what the write adds, or refuses it with the numbers.
pub(super) async fn admit(attributes: &Attributes<'_>) -> Answer<Option<Reservation>> {
    let (cx, quotas) = (attributes.cx, &attributes.cx.server.quotas);
    if cx.definition().scope != Scope::Namespaced {
        return Ok(None);
    }
    let new = attributes
        .new
        .filter(|_| !attributes.gone && attributes.operation != Operation::Delete);
    let delta = quotas.measures.delta(&cx.group_resource(), attributes.old, new);
    if delta.is_empty() {
        return Ok(None);
    }
    let limits = quotas.of_namespace(cx.namespace());
    let limits: Vec<&Value> = limits.iter().collect();
    if limits.is_empty() && !quotas.ledger.knows(cx.namespace()) {
        // nothing limits the namespace and nothing counts it: the first count will see this write
        return Ok(None);
    }
    // the first count must see every write that was answered before
    cx.server
        .cache
        .fresh()
        .await
        .map_err(|e| crate::handlers::list::cache_status(&e))?;
    let count = || quotas.count(cx.namespace());
    let outcome = if attributes.dry_run {
        quotas
            .ledger
            .would_fit(cx.namespace(), &limits, &delta, count)
            .map(|()| None)
    } else {
        quotas.ledger.reserve(cx.namespace(), &limits, &delta, count).map(Some)
    };
    outcome.map_err(|exceeded| {
        cx.notes.annotate(QUOTA_EXCEEDED, exceeded.to_json().to_string());
        let name = attributes.new.or(attributes.old).map(object::name).unwrap_or_default();
        exceeded.status(&cx.group_resource(), name).into()
    })
}
