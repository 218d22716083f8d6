//! When a key that failed may run again: exponential back-off with full jitter, and quarantine for a key that keeps failing.
//!
//! # Guarantees
//! - A failing key runs no sooner than its back-off says, whatever wakes it, unless its specification changed (a new generation or uid is
//!   somebody's attempt to mend it).
//! - A success forgets the failures. Memory: one entry for each key that is failing now, none for others.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use rand::Rng;
use setpoint_reconcile::Key;

/// Exponential back-off with full jitter ("Exponential Backoff And Jitter", AWS Architecture Blog, 2015): uniform between a tenth of
/// `base` (so that no loop spins) and `base * 2^(failures - 1)`, at most `cap`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Upper bound of the delay after the first failure.
    pub base: Duration,
    /// Upper bound of every delay.
    pub cap: Duration,
    /// So many failures in a row quarantine the key: from then on it is tried about once every `cap`.
    pub quarantine_after: u32,
}

impl Default for Backoff {
    /// 100 ms to 5 min; with quarantine after 10 failures, a poisoned key has by then been tried for 51 s on average (half of 100 ms * (2^10 - 1)).
    fn default() -> Self {
        Self {
            base: Duration::from_millis(100),
            cap: Duration::from_secs(300),
            quarantine_after: 10,
        }
    }
}

impl Backoff {
    /// The longest delay after so many failures in a row.
    pub fn ceiling(&self, failures: u32) -> Duration {
        let doubled = self
            .base
            .saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1)));
        doubled.min(self.cap)
    }

    /// A delay after so many failures in a row.
    pub fn delay(&self, failures: u32, rng: &mut impl Rng) -> Duration {
        if failures >= self.quarantine_after {
            return jittered(self.cap, rng);
        }
        let floor = self.base / 10;
        let ceiling = self.ceiling(failures).max(floor);
        rng.random_range(floor..=ceiling)
    }
}

/// The duration, moved by up to a fifth in either direction, so that many of them do not come at once.
pub fn jittered(duration: Duration, rng: &mut impl Rng) -> Duration {
    duration.mul_f64(rng.random_range(0.8..=1.2))
}

/// Which incarnation and specification of an object failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) uid: String,
    pub(crate) generation: Option<i64>,
}

struct Failing {
    failures: u32,
    not_before: Instant,
    version: Version,
}

/// What follows from a failure.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) retry_in: Duration,
    pub(crate) failures: u32,
    /// True for the one failure that put the key into quarantine.
    pub(crate) quarantined_now: bool,
}

/// The failing keys of one reconciler.
pub(crate) struct Health {
    backoff: Backoff,
    failing: HashMap<Key, Failing>,
}

impl Health {
    pub(crate) fn new(backoff: Backoff) -> Self {
        Self {
            backoff,
            failing: HashMap::new(),
        }
    }

    /// How long the key has to wait, if it has to.
    pub(crate) fn wait(&self, key: &Key, version: &Version, now: Instant) -> Option<Duration> {
        let failing = self.failing.get(key).filter(|failing| failing.version == *version)?;
        failing
            .not_before
            .checked_duration_since(now)
            .filter(|wait| !wait.is_zero())
    }

    pub(crate) fn failed(&mut self, key: &Key, version: Version, now: Instant, rng: &mut impl Rng) -> Verdict {
        let failures = self
            .failing
            .get(key)
            .map_or(0, |failing| failing.failures)
            .saturating_add(1);
        let retry_in = self.backoff.delay(failures, rng);
        self.failing.insert(
            key.clone(),
            Failing {
                failures,
                not_before: now + retry_in,
                version,
            },
        );
        Verdict {
            retry_in,
            failures,
            quarantined_now: failures == self.backoff.quarantine_after,
        }
    }

    /// Forgets the key's failures; true when that ends a quarantine.
    pub(crate) fn recovered(&mut self, key: &Key) -> bool {
        self.failing
            .remove(key)
            .is_some_and(|failing| failing.failures >= self.backoff.quarantine_after)
    }

    /// Forgets the keys that this does not hold for.
    pub(crate) fn retain(&mut self, keep: impl Fn(&Key) -> bool) {
        self.failing.retain(|key, _| keep(key));
    }

    /// Keys that back off, and those of them in quarantine.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let quarantined = self
            .failing
            .values()
            .filter(|failing| failing.failures >= self.backoff.quarantine_after);
        (self.failing.len(), quarantined.count())
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    fn key() -> Key {
        Key::namespaced("ns", "a")
    }

    fn generation(generation: i64) -> Version {
        Version {
            uid: "u".to_owned(),
            generation: Some(generation),
        }
    }

    #[test]
    fn delays_double_up_to_the_cap_and_spread_over_the_whole_range() {
        let backoff = Backoff {
            quarantine_after: u32::MAX,
            ..Backoff::default()
        };
        let ceilings: Vec<_> = [1, 2, 3, 10, 12, 13, 100]
            .map(|n| backoff.ceiling(n).as_millis())
            .into();
        assert_eq!(ceilings, [100, 200, 400, 51_200, 204_800, 300_000, 300_000]);
        let mut rng = StdRng::seed_from_u64(1);
        let delays: Vec<_> = (0..1000).map(|_| backoff.delay(5, &mut rng)).collect();
        let ceiling = backoff.ceiling(5);
        assert!(delays.iter().all(|delay| (backoff.base / 10..=ceiling).contains(delay)));
        let low = delays.iter().filter(|delay| **delay < ceiling / 2).count();
        assert!(
            (400..600).contains(&low),
            "full jitter fills the range evenly, but {low} of 1000 are in the lower half"
        );
    }

    #[test]
    fn a_failing_key_waits_unless_its_specification_changed() {
        let mut health = Health::new(Backoff::default());
        let mut rng = StdRng::seed_from_u64(2);
        let now = Instant::now();
        let verdict = health.failed(&key(), generation(1), now, &mut rng);
        assert_eq!(health.wait(&key(), &generation(1), now), Some(verdict.retry_in));
        assert_eq!(health.wait(&key(), &generation(2), now), None);
        assert_eq!(health.wait(&key(), &generation(1), now + verdict.retry_in), None);
        assert_eq!(health.wait(&Key::cluster("other"), &generation(1), now), None);
    }

    #[test]
    fn quarantine_begins_once_and_ends_with_a_success() {
        let mut health = Health::new(Backoff {
            quarantine_after: 3,
            ..Backoff::default()
        });
        let mut rng = StdRng::seed_from_u64(3);
        let now = Instant::now();
        let begins: Vec<bool> = (0..5)
            .map(|_| health.failed(&key(), generation(1), now, &mut rng).quarantined_now)
            .collect();
        assert_eq!(begins, [false, false, true, false, false]);
        assert_eq!(health.counts(), (1, 1));
        let slow = health.wait(&key(), &generation(1), now).expect("waits");
        assert!(
            slow >= Duration::from_secs(240),
            "a quarantined key is tried about every five minutes, not in {slow:?}"
        );
        assert!(health.recovered(&key()));
        assert!(!health.recovered(&key()));
        assert_eq!(health.counts(), (0, 0));
    }
}
