//! Which replicas to add and which to remove, for a wanted number and a wanted revision. Pure arithmetic over what is known of each replica.
//!
//! # Guarantees
//! - Never more than `desired + maxSurge` replicas by what is added here.
//! - While a new revision replaces an old one, ready replicas are removed only as far as `desired − maxUnavailable` stay ready.
//! - Removal takes first what costs least: what is not placed, then what is not ready, then the youngest.
//!
//! # Assumptions
//! Replicas that are being removed, or that must be replaced because their worker is lost or they failed, are not among those given.

use std::cmp::Reverse;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::kinds::Rollout;

/// What matters of one replica. Orders by how early it is removed: the first goes first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Known<'a> {
    /// Whether it has a worker.
    pub placed: bool,
    /// Whether it takes requests.
    pub ready: bool,
    /// When it was created; the youngest goes first.
    pub created: Reverse<Option<Timestamp>>,
    /// Its name, which breaks ties: the last in order goes first.
    pub name: Reverse<&'a str>,
}

/// What to change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes<'a> {
    /// How many replicas of the current revision to add.
    pub create: u32,
    /// Names of replicas to remove because there are too many.
    pub surplus: Vec<&'a str>,
    /// Names of replicas to remove because they are of an old revision.
    pub outdated: Vec<&'a str>,
}

/// `maxSurge` and `maxUnavailable` as numbers, for this many wanted replicas. Where both come to zero, one may be unavailable: a
/// rollout would never move otherwise (Kubernetes' `ResolveFenceposts`).
pub fn fenceposts(rollout: &Rollout, desired: u32) -> (u32, u32) {
    let surge = resolve(&rollout.max_surge, desired, true);
    let unavailable = resolve(&rollout.max_unavailable, desired, false).min(desired);
    if surge == 0 && unavailable == 0 {
        (0, 1)
    } else {
        (surge, unavailable)
    }
}

fn resolve(value: &IntOrString, of: u32, up: bool) -> u32 {
    match value {
        IntOrString::Int(number) => u32::try_from(*number).unwrap_or(0),
        IntOrString::String(text) => {
            let percent: u64 = text
                .strip_suffix('%')
                .and_then(|digits| digits.parse().ok())
                .unwrap_or(0);
            let hundredfold = u64::from(of) * percent.min(100);
            // At most `of`.
            (if up {
                hundredfold.div_ceil(100)
            } else {
                hundredfold / 100
            }) as u32
        }
    }
}

/// The next step towards `desired` replicas of the current revision.
pub fn next<'a>(desired: u32, rollout: &Rollout, mut current: Vec<Known<'a>>, mut old: Vec<Known<'a>>) -> Changes<'a> {
    current.sort();
    old.sort();
    let mut changes = Changes::default();
    let names = |replicas: &[Known<'a>], count: usize| replicas.iter().take(count).map(|known| known.name.0).collect();
    let count = |replicas: &[Known<'a>]| replicas.len() as u32;
    changes.surplus = names(&current, count(&current).saturating_sub(desired) as usize);
    if old.is_empty() {
        changes.create = desired.saturating_sub(count(&current));
        return changes;
    }
    let (surge, unavailable) = fenceposts(rollout, desired);
    let most = desired.saturating_add(surge);
    let room = most.saturating_sub(count(&current) + count(&old));
    changes.create = desired.saturating_sub(count(&current)).min(room);

    let ready = |replicas: &[Known<'a>]| replicas.iter().filter(|known| known.ready).count() as u32;
    // What is not ready serves nobody: it goes first, and at no cost. Of the rest, as many as may be missing.
    let idle = count(&old) - ready(&old);
    let spare = (ready(&current).min(desired) + ready(&old)).saturating_sub(desired.saturating_sub(unavailable));
    changes.outdated = names(&old, (idle + spare.min(ready(&old))) as usize);
    // `sort` puts what is placed and not ready before what is ready: idle ones are the first `idle` names.
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(name: &str, placed: bool, ready: bool, created: i64) -> Known<'_> {
        Known {
            placed,
            ready,
            created: Reverse(Timestamp::from_second(created).ok()),
            name: Reverse(name),
        }
    }

    fn rollout(surge: IntOrString, unavailable: IntOrString) -> Rollout {
        Rollout {
            max_surge: surge,
            max_unavailable: unavailable,
        }
    }

    fn percent(text: &str) -> IntOrString {
        IntOrString::String(text.to_owned())
    }

    #[test]
    fn removal_takes_what_costs_least() {
        let replicas = vec![
            known("old-ready", true, true, 1),
            known("young-ready", true, true, 9),
            known("starting", true, false, 5),
            known("unplaced", false, false, 1),
        ];
        for (desired, expected) in [
            (4, vec![]),
            (3, vec!["unplaced"]),
            (2, vec!["unplaced", "starting"]),
            (1, vec!["unplaced", "starting", "young-ready"]),
        ] {
            assert_eq!(
                next(desired, &Rollout::default(), replicas.clone(), Vec::new()).surplus,
                expected
            );
        }
    }

    #[test]
    fn percentages_round_as_kubernetes_does() {
        assert_eq!(fenceposts(&rollout(percent("25%"), percent("25%")), 5), (2, 1));
        assert_eq!(fenceposts(&rollout(IntOrString::Int(0), percent("10%")), 5), (0, 1));
        assert_eq!(
            fenceposts(&rollout(IntOrString::Int(3), IntOrString::Int(9)), 5),
            (3, 5)
        );
    }

    /// Plays a rollout: each step what was made becomes ready, and what was removed is gone. Returns (most alive, fewest ready, steps).
    fn play(desired: u32, rollout: &Rollout) -> (usize, usize, usize) {
        let names: Vec<String> = (0..200).map(|number| format!("r{number:03}")).collect();
        let mut old: Vec<Known<'_>> = names[..desired as usize]
            .iter()
            .map(|name| known(name, true, true, 0))
            .collect();
        let mut current: Vec<Known<'_>> = Vec::new();
        let (mut most, mut fewest, mut made) = (0, usize::MAX, desired as usize);
        for step in 0..100 {
            let changes = next(desired, rollout, current.clone(), old.clone());
            if changes == Changes::default() {
                assert_eq!((current.len() as u32, old.len()), (desired, 0));
                return (most, fewest, step);
            }
            old.retain(|known| !changes.outdated.contains(&known.name.0));
            for _ in 0..changes.create {
                current.push(known(&names[made], true, false, 1));
                made += 1;
            }
            most = most.max(current.len() + old.len());
            fewest = fewest.min(current.iter().chain(&old).filter(|known| known.ready).count());
            current.iter_mut().for_each(|known| known.ready = true);
        }
        panic!("the rollout does not end");
    }

    #[test]
    fn rollouts_keep_their_bounds_and_end() {
        for desired in [1, 2, 5, 20] {
            for surge in 0..4 {
                for unavailable in 0..4 {
                    let rollout = rollout(IntOrString::Int(surge), IntOrString::Int(unavailable));
                    let (surge, unavailable) = fenceposts(&rollout, desired);
                    let (most, fewest, _) = play(desired, &rollout);
                    assert!(
                        most <= (desired + surge) as usize,
                        "{desired} {rollout:?}: {most} at most"
                    );
                    assert!(
                        fewest >= (desired - unavailable) as usize,
                        "{desired} {rollout:?}: {fewest} ready"
                    );
                }
            }
        }
    }

    #[test]
    fn an_old_revision_that_never_was_ready_goes_at_once() {
        let old = vec![known("a", true, false, 0), known("b", false, false, 0)];
        let changes = next(2, &Rollout::default(), Vec::new(), old);
        assert_eq!((changes.create, changes.outdated.len()), (1, 2));
    }
}
