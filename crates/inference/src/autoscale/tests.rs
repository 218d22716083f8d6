//! The law on recorded loads: a step, a ramp, a burst, silence, and what is missing.

use super::*;
use crate::reconcilers::fixtures::{at, autoscaler, signal};

/// An autoscaler, its memory, and a world in which replicas become ready after a while.
struct Loop {
    spec: AutoscalerSpec,
    status: Option<AutoscalerStatus>,
    ready: u32,
    /// Seconds from being wanted to being ready.
    startup: i64,
    wanted: Vec<(i64, u32)>,
}

impl Loop {
    fn new(baseline: u32, min: u32, max: u32, target: u32) -> Self {
        let spec = autoscaler(baseline, min, max, target).spec;
        Self {
            spec,
            status: None,
            ready: baseline,
            startup: 0,
            wanted: Vec::new(),
        }
    }

    fn decide(&mut self, now: i64, signals: &[Signal]) -> Decision {
        // Ready is what was wanted all through the last `startup` seconds.
        let recent = self
            .wanted
            .iter()
            .rev()
            .take_while(|(at, _)| *at > now - self.startup)
            .map(|(_, wanted)| *wanted);
        let desired = self
            .status
            .as_ref()
            .map_or(self.ready, |status| status.desired_replicas);
        self.ready = recent.min().unwrap_or(desired).min(desired);
        let outcome = decide(Inputs {
            spec: &self.spec,
            signals,
            previous: self.status.as_ref(),
            ready: self.ready,
            starting: desired.saturating_sub(self.ready),
            now: at(now).timestamp(),
        });
        assert!(outcome.recommendations.len() <= MAX_RECOMMENDATIONS);
        assert!((self.spec.min_replicas..=self.spec.max_replicas).contains(&outcome.decision.desired));
        self.status = Some(AutoscalerStatus {
            desired_replicas: outcome.decision.desired,
            baseline: Some(self.spec.baseline_replicas),
            decision: Some(outcome.decision.clone()),
            panic_until: outcome.panic_until,
            recommendations: outcome.recommendations,
            ..AutoscalerStatus::default()
        });
        self.wanted.push((now, outcome.decision.desired));
        outcome.decision
    }

    /// One gateway that reports a load each second, averaged over both windows. Returns what was desired each second.
    fn play(&mut self, from: i64, seconds: i64, load: impl Fn(i64) -> f64) -> Vec<u32> {
        let average = |now: i64, window: i64| (now - window + 1..=now).map(&load).sum::<f64>() / window as f64;
        (from..from + seconds)
            .map(|now| {
                self.decide(now, &[signal("gw", now, average(now, 6), average(now, 60))])
                    .desired
            })
            .collect()
    }
}

fn turns(desired: &[u32]) -> usize {
    let mut directions: Vec<bool> = desired
        .windows(2)
        .filter(|pair| pair[0] != pair[1])
        .map(|pair| pair[1] > pair[0])
        .collect();
    directions.dedup();
    directions.len().saturating_sub(1)
}

#[test]
fn a_single_decision() {
    // (current, load, desired, reason) at 4 a replica, between 2 and 20, tolerance 10 %, no stabilization
    let table = [
        (5, 20.0, 5, "Steady"),
        (5, 21.9, 5, "Steady"),
        (5, 22.1, 6, "ScaleUp"),
        (5, 33.0, 9, "ScaleUp"),
        (5, 40.0, 10, "Panic"),
        (5, 500.0, 20, "Panic"),
        (20, 90.0, 20, "AtMaximum"),
        // 4 replicas carry 16: a load of 15 with its tenth does not fit them.
        (5, 15.0, 5, "Steady"),
        (5, 14.5, 4, "ScaleDown"),
        (5, 0.0, 2, "ScaleDown"),
        (2, 0.0, 2, "AtMinimum"),
    ];
    for (current, load, desired, reason) in table {
        let mut replay = Loop::new(current, 2, 20, 4);
        replay.spec.behavior.scale_down_stabilization_seconds = 0;
        replay.decide(-1000, &[]);
        let decision = replay.decide(0, &[signal("gw", 0, load, load)]);
        assert_eq!(
            (decision.desired, decision.reason.as_str()),
            (desired, reason),
            "{current} replicas, load {load}: {decision:?}"
        );
    }
}

#[test]
fn a_step_up_is_followed_at_once_and_a_step_down_after_the_window() {
    let mut replay = Loop::new(5, 2, 20, 4);
    let quiet = replay.play(0, 60, |_| 18.0);
    assert!(quiet.iter().all(|&desired| desired == 5));
    let step = |now: i64| if now < 60 { 18.0 } else { 60.0 };
    let up = replay.play(60, 120, step);
    assert!(
        up.iter()
            .position(|&desired| desired >= 15)
            .is_some_and(|after| after <= 6),
        "{up:?}"
    );
    assert_eq!((up.last(), turns(&up)), (Some(&15), 0), "{up:?}");
    let down = replay.play(180, 600, |now| if now < 180 { step(now) } else { 8.0 });
    assert!(down[..299].iter().all(|&desired| desired >= 15), "{down:?}");
    assert_eq!((down.last(), turns(&down)), (Some(&3), 0), "{down:?}");
}

#[test]
fn a_ramp_is_climbed_without_a_turn() {
    let mut replay = Loop::new(2, 2, 20, 4);
    replay.startup = 45;
    let ramp = replay.play(0, 600, |now| now.max(0) as f64 / 600.0 * 72.0);
    assert_eq!(turns(&ramp), 0, "{ramp:?}");
    // 72 at the end, 68.4 over the long window: 16 replicas carry it within the tolerance.
    assert_eq!(ramp.last(), Some(&16), "{ramp:?}");
}

#[test]
fn noise_does_not_oscillate() {
    let mut replay = Loop::new(5, 2, 20, 4);
    // Between 4.3 and 5.4 replicas' worth, two periods a minute: what comes and goes within the windows is one level.
    let noisy = replay.play(0, 1800, |now| 19.4 + 2.2 * (now as f64 / 5.0).sin());
    assert_eq!(turns(&noisy), 0, "{noisy:?}");
}

#[test]
fn starting_replicas_are_not_asked_for_twice() {
    let mut replay = Loop::new(2, 2, 20, 4);
    replay.startup = 120;
    let desired = replay.play(0, 120, |now| if now < 10 { 6.0 } else { 30.0 });
    assert_eq!(
        desired.iter().max(),
        Some(&8),
        "30 in flight need 8 of 4, however long they take: {desired:?}"
    );
}

#[test]
fn silence_is_not_zero() {
    let mut replay = Loop::new(5, 2, 20, 4);
    replay.decide(0, &[]);
    let loaded = replay.decide(1, &[signal("gw", 1, 30.0, 30.0)]);
    assert_eq!(loaded.desired, 8);
    for now in [10, 60, 600, 6000] {
        let kept = replay.decide(now, &[signal("gw", 1, 0.0, 0.0)]);
        let reason = if now <= 31 { "Stabilizing" } else { "SignalsMissing" };
        assert_eq!((kept.desired, kept.reason.as_str()), (8, reason), "after {now} s");
        assert_eq!(kept.stable_concurrency.is_some(), now <= 31);
    }
    // And zero is zero: it comes down, once the window is over.
    let mut zero = 8;
    for now in 6001..6400 {
        zero = replay.decide(now, &[signal("gw", now, 0.0, 0.0)]).desired;
    }
    assert_eq!(zero, 2);
}

#[test]
fn a_silent_gateway_among_others() {
    let mut replay = Loop::new(5, 2, 20, 4);
    replay.decide(-1000, &[]);
    // The one that is heard has little: not scaled down, for nobody knows what the other carries.
    let kept = replay.decide(0, &[signal("a", 0, 2.0, 2.0), signal("b", -60, 15.0, 15.0)]);
    assert_eq!(
        (kept.desired, kept.reason.as_str(), kept.stale_sources),
        (5, "SignalsMissing", 1)
    );
    // It may still be scaled up by what is known.
    let up = replay.decide(1, &[signal("a", 1, 30.0, 30.0), signal("b", -60, 15.0, 15.0)]);
    assert_eq!((up.desired, up.stable_concurrency), (8, Some(30.0)));
    // Ten times the stale time later it is taken for gone.
    let mut later = Loop::new(5, 2, 20, 4);
    later.spec.behavior.scale_down_stabilization_seconds = 0;
    later.decide(-1000, &[]);
    let gone = later.decide(0, &[signal("a", 0, 2.0, 2.0), signal("b", -301, 15.0, 15.0)]);
    assert_eq!((gone.desired, gone.stale_sources), (2, 0));
}

#[test]
fn a_new_baseline_starts_again_and_holds_for_the_window() {
    let mut replay = Loop::new(5, 2, 20, 4);
    replay.play(0, 10, |_| 18.0);
    replay.spec.baseline_replicas = 9;
    let scaled = replay.decide(10, &[signal("gw", 10, 0.0, 0.0)]);
    assert_eq!((scaled.desired, scaled.reason.as_str()), (9, "Baseline"));
    // It holds for the window from when the load is known, give or take an interval.
    let idle = replay.play(11, 320, |_| 0.0);
    assert!(idle[..299].iter().all(|&desired| desired == 9), "{idle:?}");
    assert_eq!((idle.last(), turns(&idle)), (Some(&2), 0), "{idle:?}");
}

#[test]
fn bounds_may_contradict_each_other() {
    let mut spec = autoscaler(5, 9, 2, 4).spec;
    spec.metrics.clear();
    let inputs = Inputs {
        spec: &spec,
        signals: &[],
        previous: None,
        ready: 0,
        starting: 0,
        now: at(0).timestamp(),
    };
    assert_eq!(decide(inputs).decision.desired, 2);
}
