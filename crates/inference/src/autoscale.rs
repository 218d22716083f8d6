//! How many replicas a load asks for: a pure law, whose only memory is the [`AutoscalerStatus`] that it wrote before.
//!
//! The law is Knative's (a stable and a panic window over concurrency) with HorizontalPodAutoscaler v2's stabilization, corrected for model
//! servers, which take long to start:
//! - What is decided is a number of replicas, never an increment: replicas that are starting are capacity on its way, and are not
//!   asked for twice. Panic compares the load with ready *and* starting replicas.
//! - N goes to N − 1 only if the load, with the tolerance on top, fits N − 1.
//! - Silence is not zero. A gateway that reports zero is data. A gateway that went silent makes its load unknown: then nothing scales down,
//!   and what the others report can only scale up. A source silent for ten times as long is taken for gone, if others are heard.
//!
//! # Guarantees
//! The result lies within the bounds. Equal inputs, the previous status included, give equal results. The status is bounded: at most
//! [`MAX_RECOMMENDATIONS`] recommendations. A load that does not change leads to a status that does not change, so that it is not
//! written again.
//!
//! # How to get it wrong
//! Taking the short window for scaling down: it is zero between any two requests.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::kinds::{AutoscalerSpec, AutoscalerStatus, Decision, Recommendation, Signal};

/// Recommendations kept: the window is cut into this many intervals (and one that is not over).
pub const MAX_RECOMMENDATIONS: usize = 32;
/// A source that was silent for this many times the stale time is gone.
const GONE_AFTER: i64 = 10;

/// What a decision is made from.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// Bounds and law.
    pub spec: &'a AutoscalerSpec,
    /// What gateways measured.
    pub signals: &'a [Signal],
    /// What was decided before.
    pub previous: Option<&'a AutoscalerStatus>,
    /// Replicas that take requests.
    pub ready: u32,
    /// Replicas on their way.
    pub starting: u32,
    /// Now.
    pub now: Timestamp,
}

/// A decision, and what the next one has to remember.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The decision with its inputs. Its time is that of `previous` when nothing about it changed.
    pub decision: Decision,
    /// Nothing scales down before this.
    pub panic_until: Option<Time>,
    /// For the stabilization windows.
    pub recommendations: Vec<Recommendation>,
    /// Whether the load asks for less than the minimum, or more than the maximum.
    pub limited: Option<Limit>,
}

/// A bound that the load runs into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// The load asks for fewer.
    Minimum,
    /// The load asks for more.
    Maximum,
}

/// The load over all gateways.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Load {
    stable: f64,
    panic: f64,
    heard: u32,
    stale: u32,
}

impl Load {
    fn of(signals: &[Signal], stale_after: i64, now: Timestamp) -> Self {
        let mut load = Self::default();
        let age = |signal: &Signal| now.duration_since(signal.observed_at.0).as_secs();
        let fresh = signals.iter().filter(|signal| age(signal) <= stale_after);
        for signal in fresh {
            load.heard += 1;
            load.panic += signal.concurrency.max(0.0);
            load.stable += signal.stable_concurrency.unwrap_or(signal.concurrency).max(0.0);
        }
        let silent = signals.iter().map(age).filter(|&age| age > stale_after);
        let gone = |age: i64| load.heard > 0 && age > stale_after.saturating_mul(GONE_AFTER);
        load.stale = silent.filter(|&age| !gone(age)).count() as u32;
        load
    }

    /// How many replicas of this target the load asks for, if there are `current` now: `current` within the tolerance.
    fn recommend(&self, current: u32, target: f64, tolerance: f64) -> u32 {
        let carried = f64::from(current) * target;
        if self.stable > carried * (1.0 + tolerance) {
            return replicas_for(self.stable, target);
        }
        // What comes in right now has to fit, too.
        let fits = replicas_for(self.stable.max(self.panic) * (1.0 + tolerance), target);
        fits.min(current)
    }
}

/// At least this many replicas carry the load.
fn replicas_for(load: f64, target: f64) -> u32 {
    // A hair below a whole number is that number: 12.000000000000002 / 4 asks for 3. `as` saturates.
    (load / target - 1e-9).ceil().max(0.0) as u32
}

/// Decides.
pub fn decide(inputs: Inputs<'_>) -> Outcome {
    let Inputs {
        spec, previous, now, ..
    } = inputs;
    let behavior = &spec.behavior;
    let load = Load::of(inputs.signals, i64::from(behavior.stale_after_seconds), now);
    let bounded = |replicas: u32| {
        replicas
            .min(spec.max_replicas)
            .max(spec.min_replicas.min(spec.max_replicas))
    };

    let Some(previous) = previous.filter(|previous| previous.baseline == Some(spec.baseline_replicas)) else {
        let desired = bounded(spec.baseline_replicas);
        let message = format!(
            "started from {} replicas, as spec.replicas says",
            spec.baseline_replicas
        );
        return inputs.outcome(load, None, desired, "Baseline", message, None);
    };
    let current = bounded(previous.desired_replicas);
    if load.heard == 0 {
        let message = match load.stale {
            0 => "no gateway has reported the load; kept".to_owned(),
            stale => format!(
                "{stale} gateways are silent for over {} s; kept",
                behavior.stale_after_seconds
            ),
        };
        let panic_until = previous.panic_until.clone().filter(|until| until.0 > now);
        return inputs.outcome(load, None, current, "SignalsMissing", message, panic_until);
    }

    let tolerance = f64::from(behavior.tolerance_percent) / 100.0;
    let targets = spec.metrics.iter().map(|metric| f64::from(metric.target.max(1)));
    // Every metric is a concurrency: the one with the smallest target asks for most.
    let target = targets.fold(f64::INFINITY, f64::min).min(1e9);
    let in_panic_window = replicas_for(load.panic, target);
    let capacity = (inputs.ready + inputs.starting).max(1);
    // What is wanted already is no reason to panic, however long it takes to come.
    let bursts = in_panic_window.min(spec.max_replicas) > current
        && u64::from(in_panic_window) * 100 >= u64::from(capacity) * u64::from(behavior.panic_threshold_percent);
    let panic_until = if bursts {
        now.checked_add(jiff::SignedDuration::from_secs(behavior.panic_hold_seconds.into()))
            .ok()
            .map(Time)
    } else {
        previous.panic_until.clone().filter(|until| until.0 > now)
    };

    let mut asked = load.recommend(current, target, tolerance);
    if panic_until.is_some() {
        asked = asked.max(in_panic_window).max(current);
    }
    if load.stale > 0 {
        asked = asked.max(current);
    }
    let (lowest, highest) = window_bounds(spec, &previous.recommendations, asked, now);
    let stabilized = if asked < current {
        highest.min(current)
    } else {
        lowest.max(current)
    };
    let desired = bounded(stabilized);
    let numbers = format!(
        "{:.2} in flight over {} gateways ({:.2} just now), {target} a replica",
        load.stable, load.heard, load.panic
    );
    let (reason, why) = if desired > current && panic_until.is_some() {
        ("Panic", format!("a burst: {current} → {desired}"))
    } else if desired > current {
        ("ScaleUp", format!("{current} → {desired}"))
    } else if desired < current {
        ("ScaleDown", format!("{current} → {desired}"))
    } else if asked > spec.max_replicas {
        ("AtMaximum", format!("{asked} asked for, {desired} is the maximum"))
    } else if load.stale > 0 {
        (
            "SignalsMissing",
            format!("{} gateways are silent; not scaled down", load.stale),
        )
    } else if panic_until.is_some() {
        ("Panic", "not scaled down so soon after a burst".to_owned())
    } else if asked < desired && desired == bounded(0) {
        ("AtMinimum", format!("{asked} asked for, {desired} is the minimum"))
    } else if asked < desired {
        (
            "Stabilizing",
            format!(
                "{asked} asked for; waiting out {} s",
                behavior.scale_down_stabilization_seconds
            ),
        )
    } else if asked > desired {
        (
            "Stabilizing",
            format!(
                "{asked} asked for; waiting out {} s",
                behavior.scale_up_stabilization_seconds
            ),
        )
    } else {
        ("Steady", format!("{desired} fits"))
    };
    inputs.outcome(
        load,
        Some((asked, target)),
        desired,
        reason,
        format!("{why}; {numbers}"),
        panic_until,
    )
}

impl Inputs<'_> {
    /// Puts a decision together. `asked` is what the law asked for and the target, where it could say.
    fn outcome(
        &self,
        load: Load,
        asked: Option<(u32, f64)>,
        desired: u32,
        reason: &str,
        message: String,
        panic_until: Option<Time>,
    ) -> Outcome {
        let heard = load.heard > 0;
        let mut decision = Decision {
            time: Time(whole_second(self.now)),
            reason: reason.to_owned(),
            message,
            stable_concurrency: heard.then(|| rounded(load.stable)),
            panic_concurrency: heard.then(|| rounded(load.panic)),
            target: self
                .spec
                .metrics
                .iter()
                .map(|metric| metric.target)
                .min()
                .unwrap_or_default(),
            ready_replicas: self.ready,
            starting_replicas: self.starting,
            recommended: asked.map(|(asked, _)| asked),
            desired,
            sources: load.heard,
            stale_sources: load.stale,
        };
        if let Some(before) = self.previous.and_then(|previous| previous.decision.as_ref()) {
            let again = Decision {
                time: before.time.clone(),
                ..decision.clone()
            };
            if again == *before {
                decision = again;
            }
        }
        let started = self
            .previous
            .is_none_or(|previous| previous.baseline != Some(self.spec.baseline_replicas));
        let before = match self.previous {
            Some(previous) if !started => &previous.recommendations[..],
            _ => &[],
        };
        let remembered = match asked {
            Some((asked, _)) => Some(asked),
            // A start counts as a recommendation: a load that has not come yet does not undo it at once.
            None if started => Some(desired),
            None => None,
        };
        Outcome {
            recommendations: remember(self.spec, before, remembered, self.now),
            limited: match asked {
                Some((asked, _)) if asked > self.spec.max_replicas => Some(Limit::Maximum),
                Some((asked, _)) if asked < self.spec.min_replicas => Some(Limit::Minimum),
                _ => None,
            },
            decision,
            panic_until: panic_until.map(|until| Time(whole_second(until.0))),
        }
    }
}

/// The bound of scaling up (lowest recommendation of its window) and of scaling down (highest of its window), `asked` included.
fn window_bounds(spec: &AutoscalerSpec, before: &[Recommendation], asked: u32, now: Timestamp) -> (u32, u32) {
    let within = |seconds: u32| {
        let ended = ends(before, now);
        let recent = move |end: &Timestamp| now.duration_since(*end).as_secs() < i64::from(seconds);
        before
            .iter()
            .zip(ended)
            .filter(move |(_, end)| recent(end))
            .map(|(past, _)| past)
    };
    let behavior = &spec.behavior;
    let up = within(behavior.scale_up_stabilization_seconds);
    let lowest = up.map(|past| past.lowest).chain([asked]).min();
    let down = within(behavior.scale_down_stabilization_seconds);
    let highest = down.map(|past| past.replicas).chain([asked]).max();
    (lowest.unwrap_or(asked), highest.unwrap_or(asked))
}

/// When each recommendation ceased to hold: when the next one began, or now.
fn ends(recommendations: &[Recommendation], now: Timestamp) -> impl Iterator<Item = Timestamp> {
    let begins = recommendations.iter().skip(1).map(|next| next.time.0);
    begins.chain([now])
}

/// The recommendations with `asked` among them, thinned to one an interval and cut to the longer window. One that repeats the
/// last adds nothing, so that a load at rest changes nothing.
fn remember(
    spec: &AutoscalerSpec,
    before: &[Recommendation],
    asked: Option<u32>,
    now: Timestamp,
) -> Vec<Recommendation> {
    let behavior = &spec.behavior;
    let window = behavior
        .scale_down_stabilization_seconds
        .max(behavior.scale_up_stabilization_seconds);
    // At most 30 intervals begin within the window; one that began before reaches into it, and one is not over.
    let interval = i64::from(window.div_ceil(MAX_RECOMMENDATIONS as u32 - 2).max(1));
    let recent = |end: Timestamp| now.duration_since(end).as_secs() < i64::from(window);
    let mut kept: Vec<Recommendation> = (before.iter().zip(ends(before, now)))
        .filter(|(_, end)| recent(*end))
        .map(|(past, _)| past.clone())
        .collect();
    let same_interval =
        |past: &Recommendation| past.time.0.as_second().div_euclid(interval) == now.as_second().div_euclid(interval);
    if let Some(asked) = asked.filter(|_| window > 0) {
        match kept.last_mut() {
            Some(last) if last.replicas == asked && last.lowest == asked => {}
            Some(last) if same_interval(last) => {
                last.replicas = last.replicas.max(asked);
                last.lowest = last.lowest.min(asked);
            }
            _ => kept.push(Recommendation {
                time: Time(whole_second(now)),
                replicas: asked,
                lowest: asked,
            }),
        }
    }
    let surplus = kept.len().saturating_sub(MAX_RECOMMENDATIONS);
    kept.drain(..surplus);
    kept
}

/// What the API keeps of a time. A finer one would differ from itself once it is read back.
fn whole_second(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

/// Hundredths: finer differences are noise, and noise must not be written.
fn rounded(load: f64) -> f64 {
    (load * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests;
