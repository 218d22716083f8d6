//! Ports for engines.
//!
//! # Guarantees
//! A port is leased to one replica of this agent at a time, and was free on the machine when it was leased.
//!
//! # Caveats
//! Another program may take it between the lease and the engine's own `bind`. Then the engine ends and is started again with another port; and
//! a replica does not become ready because *somebody* answers on its port: see [`crate::procfs::listener`].

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::{IpAddr, TcpListener};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};

/// The ports of one agent.
#[derive(Debug)]
pub(crate) struct Ports {
    host: IpAddr,
    range: RangeInclusive<u16>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    leased: BTreeSet<u16>,
    next: u16,
}

/// A port that is its holder's until it is dropped.
#[derive(Debug)]
pub(crate) struct PortLease {
    port: u16,
    ports: Arc<Ports>,
}

impl PortLease {
    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for PortLease {
    fn drop(&mut self) {
        self.ports.lock().leased.remove(&self.port);
    }
}

impl Ports {
    /// Ports of `range`, looked for from a place that differs between agents (by `seed`), so that agents of one machine seldom meet.
    pub(crate) fn new(host: IpAddr, range: RangeInclusive<u16>, seed: &str) -> Arc<Self> {
        let mut hasher = DefaultHasher::new();
        seed.hash(&mut hasher);
        let width = u64::from(range.end().saturating_sub(*range.start())) + 1;
        let offset = u16::try_from(hasher.finish() % width).unwrap_or(0);
        let next = range.start().saturating_add(offset);
        let leased = BTreeSet::new();
        Arc::new(Self {
            host,
            range,
            state: Mutex::new(State { leased, next }),
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A free port; None when the range is used up.
    pub(crate) fn lease(self: &Arc<Self>) -> Option<PortLease> {
        let mut state = self.lock();
        for _ in self.range.clone() {
            let port = state.next;
            state.next = match port.checked_add(1) {
                Some(next) if self.range.contains(&next) => next,
                _ => *self.range.start(),
            };
            if !state.leased.contains(&port) && TcpListener::bind((self.host, port)).is_ok() {
                state.leased.insert(port);
                return Some(PortLease {
                    port,
                    ports: self.clone(),
                });
            }
        }
        None
    }

    /// The port of an adopted process, whoever listens on it.
    pub(crate) fn keep(self: &Arc<Self>, port: u16) -> PortLease {
        self.lock().leased.insert(port);
        PortLease {
            port,
            ports: self.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_are_disjoint_and_return() {
        let host = IpAddr::from([127, 0, 0, 1]);
        // a window of three ports around one that the kernel says is free
        let probe = TcpListener::bind((host, 0)).unwrap();
        let taken = probe.local_addr().unwrap().port();
        let ports = Ports::new(host, taken..=taken, "seed");
        assert!(ports.lease().is_none(), "somebody listens there");
        drop(probe);
        let lease = ports.lease().expect("free now");
        assert_eq!(lease.port(), taken);
        assert!(ports.lease().is_none(), "leased");
        drop(lease);
        let kept = ports.keep(taken);
        assert!(ports.lease().is_none(), "kept");
        drop(kept);
        assert!(ports.lease().is_some());
    }
}
