//! [`QuotaLedger`]: who may have the last place, when many ask at once.
//!
//! It keeps, for each namespace, what is used and what writes under way have reserved. Reserving is one step under the namespace's
//! lock, so two writes cannot both see the last place free. Namespaces do not wait for each other.
//!
//! The use of a namespace is computed from the watch cache once, when the namespace is first asked about, and from then on moved by
//! the deltas of writes. [`QuotaLedger::resync`] repairs it from the cache, should a delta ever be missed.
//!
//! It is exact within one process. Several API servers over one store need the quota's status in the same store transaction as the
//! write, with a precondition; [`Reservation::used_after`] is what to write there.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use serde_json::Value;

use super::{Exceeded, Usage, charge};

/// See the module. A clone is a handle to the same ledger.
#[derive(Clone, Default)]
pub struct QuotaLedger {
    namespaces: Arc<Mutex<HashMap<String, Account>>>,
}

type Account = Arc<Mutex<Option<Balance>>>;

#[derive(Default)]
struct Balance {
    used: Usage,
    /// What writes under way would add. Never negative: what a write would free is not free before it is stored.
    reserved: Usage,
    /// Grows with every change; tells a resync that its snapshot is old.
    version: u64,
}

impl Balance {
    fn total(&self) -> Usage {
        let mut total = self.used.clone();
        total.add(&self.reserved);
        total
    }
}

/// Room that a write holds between the check and the store. [`Reservation::commit`] after the store has said yes; dropping it gives
/// the room back. If the store's answer never came (a timeout), commit and let [`QuotaLedger::resync`] find the truth: that errs on
/// the side of refusing.
#[must_use = "a reservation that is dropped is given back"]
pub struct Reservation {
    account: Account,
    delta: Usage,
    after: Usage,
    open: bool,
}

/// A recount under way: made by [`QuotaLedger::resync`] before the objects are counted.
#[must_use]
pub struct Resync {
    account: Account,
    version: u64,
}

impl QuotaLedger {
    /// Knows no namespace.
    pub fn new() -> Self {
        Self::default()
    }

    fn account(&self, namespace: &str) -> Account {
        let mut namespaces = self.namespaces.lock();
        if let Some(account) = namespaces.get(namespace) {
            return Arc::clone(account);
        }
        Arc::clone(namespaces.entry(namespace.to_owned()).or_default())
    }

    /// Whether the namespace's use has been counted, so that every write must move it.
    pub fn knows(&self, namespace: &str) -> bool {
        let account = self.namespaces.lock().get(namespace).cloned();
        account.is_some_and(|account| account.lock().is_some())
    }

    /// Reserves `delta` (which may be negative in parts) in the namespace under all of its ResourceQuotas, or none of it.
    /// `count` computes the namespace's use from the watch cache; it is called only the first time, and must see every write that
    /// was acknowledged before.
    ///
    /// # Errors
    /// [`Exceeded`] of the first quota, in the order given, that has no room.
    pub fn reserve(
        &self,
        namespace: &str,
        quotas: &[&Value],
        delta: &Usage,
        count: impl FnOnce() -> Usage,
    ) -> Result<Reservation, Exceeded> {
        let account = self.account(namespace);
        let mut guard = account.lock();
        let balance = guard.get_or_insert_with(|| Balance {
            used: count(),
            ..Balance::default()
        });
        let total = balance.total();
        for quota in quotas {
            charge(quota, &total, delta)?;
        }
        balance.reserved.add(&delta.increases());
        balance.version += 1;
        let mut after = balance.used.clone();
        after.add(delta);
        drop(guard);
        Ok(Reservation {
            account,
            delta: delta.clone(),
            after,
            open: true,
        })
    }

    /// [`QuotaLedger::reserve`] for a dry run: the same answer, holding nothing.
    ///
    /// # Errors
    /// As [`QuotaLedger::reserve`].
    pub fn would_fit(
        &self,
        namespace: &str,
        quotas: &[&Value],
        delta: &Usage,
        count: impl FnOnce() -> Usage,
    ) -> Result<(), Exceeded> {
        self.reserve(namespace, quotas, delta, count).map(drop)
    }

    /// Records a change that is stored and needed no reservation: a delete (negative), or a write while no quota existed.
    pub fn adjust(&self, namespace: &str, delta: &Usage) {
        let Some(account) = self.namespaces.lock().get(namespace).cloned() else {
            return;
        };
        // A namespace that was never counted has nothing to adjust: the first count will see the change.
        if let Some(balance) = account.lock().as_mut() {
            balance.used.add(delta);
            balance.version += 1;
        }
    }

    /// What the namespace uses now, without what is reserved: for a quota's `status.used`. `count` as in [`QuotaLedger::reserve`].
    pub fn used(&self, namespace: &str, count: impl FnOnce() -> Usage) -> Usage {
        let account = self.account(namespace);
        let mut guard = account.lock();
        let balance = guard.get_or_insert_with(|| Balance {
            used: count(),
            ..Balance::default()
        });
        balance.used.clone()
    }

    /// Begins a recount: call it, then count the objects in the watch cache, then [`Resync::finish`].
    pub fn resync(&self, namespace: &str) -> Resync {
        let account = self.account(namespace);
        let version = account.lock().as_ref().map_or(0, |balance| balance.version);
        Resync { account, version }
    }

    /// Forgets a namespace that is gone. Reservations that are open on it do no harm.
    pub fn forget(&self, namespace: &str) {
        self.namespaces.lock().remove(namespace);
    }
}

impl Resync {
    /// Puts the counted use in place, unless a write came between or is under way. Returns whether it did; if not, try again later.
    pub fn finish(self, counted: Usage) -> bool {
        let mut guard = self.account.lock();
        let balance = guard.get_or_insert_default();
        let quiet = balance.version == self.version && balance.reserved.is_empty();
        if quiet {
            balance.used = counted;
        }
        quiet
    }
}

impl Reservation {
    /// The write is stored: what was reserved is now used.
    pub fn commit(mut self) {
        self.settle(true);
    }

    /// What the namespace uses if this write is stored and those under way are not.
    pub fn used_after(&self) -> &Usage {
        &self.after
    }

    fn settle(&mut self, stored: bool) {
        if !std::mem::take(&mut self.open) {
            return;
        }
        let mut guard = self.account.lock();
        let balance = guard.get_or_insert_default();
        balance.reserved.subtract(&self.delta.increases());
        if stored {
            balance.used.add(&self.delta);
        }
        balance.version += 1;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.settle(false);
    }
}
