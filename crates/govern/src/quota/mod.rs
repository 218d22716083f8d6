//! Quota: ResourceQuota with Kubernetes' meaning, charged on the *worst case* of an object.
//!
//! - [`Usage`]: amounts by key. [`Measures`] says what an object is charged: one object count, and what each registered
//!   [`Measure`] of its kind adds (a deployment that may grow to 20 replicas is charged 20 from the start).
//! - [`charge`]: may this much more be used? Pure.
//! - [`QuotaLedger`]: the same under concurrency. A write reserves before it commits; what is reserved counts as used.
//!
//! # Guarantees
//! - However many writes race, in one process the sum of what was granted never passes a limit, and a limit that has room for
//!   exactly n of them grants exactly n.
//! - A change that asks for no more of a key than before is never refused for that key, even when the limit has since been
//!   lowered below the use. People must be able to shrink.
//!
//! # How to get it wrong
//! - Counting an object twice. A key that a measure claims is no longer counted by objects: where a deployment is charged
//!   `count/replicas…` for its worst case, the replicas that it makes are not charged again.
//! - Committing to the store without a reservation, or dropping a reservation after the store said yes: see [`Reservation`].

mod ledger;
mod measure;
mod usage;

use std::fmt;

use serde_json::{Map, Value, json};
use setpoint_meta::{
    GroupResource, Quantity, Status, object,
    status::{Cause, Details},
};

pub use ledger::{QuotaLedger, Reservation, Resync};
pub use measure::{Measure, Measures, count_keys};
pub use usage::Usage;

/// The `reason` of each cause in a quota's refusal.
pub const CAUSE_EXCEEDED: &str = "QuotaExceeded";

/// One key that does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortfall {
    /// The key of `spec.hard`.
    pub key: String,
    /// How much more was asked.
    pub requested: Quantity,
    /// How much is used, and reserved by writes under way.
    pub used: Quantity,
    /// The limit.
    pub limited: Quantity,
}

impl Shortfall {
    /// How much more would fit; never negative.
    pub fn left(&self) -> Quantity {
        (self.limited - self.used).max(Quantity::default())
    }
}

/// A quota has no room for what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Exceeded {
    /// The ResourceQuota's name.
    pub quota: String,
    /// What does not fit, in the order of the keys; never empty.
    pub shortfalls: Vec<Shortfall>,
}

/// In Kubernetes' words: `exceeded quota: NAME, requested: a=1, used: a=3, limited: a=3`.
impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |amount: fn(&Shortfall) -> Quantity| {
            let items = self.shortfalls.iter();
            let texts: Vec<_> = items.map(|s| format!("{}={}", s.key, amount(s))).collect();
            texts.join(",")
        };
        write!(
            f,
            "exceeded quota: {}, requested: {}, used: {}, limited: {}",
            self.quota,
            list(|s| s.requested),
            list(|s| s.used),
            list(|s| s.limited)
        )
    }
}

impl Exceeded {
    /// The breakdown for machines; also the value of the audit annotation [`crate::audit::QUOTA_EXCEEDED`].
    pub fn to_json(&self) -> Value {
        let shortfalls: Vec<_> = self
            .shortfalls
            .iter()
            .map(|s| {
                json!({"resource": s.key, "requested": s.requested.to_string(), "used": s.used.to_string(),
                    "limited": s.limited.to_string(), "left": s.left().to_string()})
            })
            .collect();
        json!({"quota": self.quota, "exceeded": shortfalls})
    }

    /// The 403 for a write of this object, with a cause for each key: what was asked, what is used, what is left.
    pub fn status(&self, resource: &GroupResource, name: &str) -> Status {
        let mut status = Status::forbidden(resource, name, self);
        let causes = self.shortfalls.iter().map(|s| Cause {
            reason: CAUSE_EXCEEDED.to_owned(),
            field: s.key.clone(),
            message: format!(
                "requested {}, used {}, limited to {} by ResourceQuota {}: {} would fit",
                s.requested,
                s.used,
                s.limited,
                self.quota,
                s.left()
            ),
        });
        let mut details = status.details.take().map_or_else(Details::default, |d| *d);
        details.causes.extend(causes);
        status.with_details(details)
    }
}

/// May `delta` more be used under this ResourceQuota, when `used` is used already? On yes: what is then used of the quota's keys.
///
/// Only keys that `delta` increases are checked. A quota with scopes is about pods, as in Kubernetes, so it allows everything here.
///
/// # Errors
/// [`Exceeded`] with every key that does not fit.
pub fn charge(quota: &Value, used: &Usage, delta: &Usage) -> Result<Usage, Exceeded> {
    let mut after = Usage::default();
    let mut shortfalls = Vec::new();
    for (key, limited) in limits(quota) {
        let (used, requested) = (used.get(&key), delta.get(&key));
        after.set(&key, used + requested);
        if requested > Quantity::default() && used + requested > limited {
            shortfalls.push(Shortfall {
                key,
                requested,
                used,
                limited,
            });
        }
    }
    if shortfalls.is_empty() {
        return Ok(after);
    }
    shortfalls.sort_by(|a, b| a.key.cmp(&b.key));
    Err(Exceeded {
        quota: object::name(quota).to_owned(),
        shortfalls,
    })
}

/// The limits of a ResourceQuota. A limit that cannot be read is left out: the API server refuses it when it is written.
fn limits(quota: &Value) -> impl Iterator<Item = (String, Quantity)> + '_ {
    let scopes = quota.pointer("/spec/scopes").and_then(Value::as_array);
    let is_scoped = scopes.is_some_and(|scopes| !scopes.is_empty())
        || quota
            .pointer("/spec/scopeSelector")
            .is_some_and(|selector| !selector.is_null());
    let hard = quota.pointer("/spec/hard").and_then(Value::as_object);
    let hard = hard.filter(|_| !is_scoped).into_iter().flatten();
    hard.filter_map(|(key, limit)| Some((key.clone(), usage::quantity(limit)?)))
}

/// The `status` of a ResourceQuota when its namespace uses this much: each key of `spec.hard` with its limit and its use.
pub fn status(quota: &Value, used: &Usage) -> Value {
    let hard = quota.pointer("/spec/hard").and_then(Value::as_object);
    let mut in_use = Map::new();
    for key in hard.into_iter().flat_map(Map::keys) {
        in_use.insert(key.clone(), used.get(key).to_string().into());
    }
    json!({"hard": hard.cloned().unwrap_or_default(), "used": in_use})
}

#[cfg(test)]
mod tests;
