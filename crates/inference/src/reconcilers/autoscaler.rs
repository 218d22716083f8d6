//! Turns gateways' signals into `Autoscaler.status.desiredReplicas`, by the law of [`crate::autoscale`]. Writes no deployment: the
//! deployment reconciler reads the decision.

use std::time::Duration;

use setpoint_reconcile::{Blocked, EventType, Now, Object, Plan, Query, Reason, Reconciler, View, condition, declare};

use crate::autoscale::{Inputs, Limit, decide};
use crate::kinds::{Autoscaler, AutoscalerStatus, DEPLOYMENT_LABEL, LIMITED, Phase, Replica, SIGNALS_FRESH};

/// See the module.
pub struct AutoscalerReconciler;

declare! { AutoscalerReconciler: reads [Replica] }

/// Signals wake the reconciler; this is for what happens by time alone: signals grow stale, windows end.
const TICK: Duration = Duration::from_secs(2);

const HEARD: Reason = Reason::new("Heard");
const SILENT: Reason = Reason::new("SignalsMissing");
const WITHIN: Reason = Reason::new("WithinBounds");
const AT_MINIMUM: Reason = Reason::new("AtMinimum");
const AT_MAXIMUM: Reason = Reason::new("AtMaximum");
const SCALED: Reason = Reason::new("Scaled");

impl Reconciler for AutoscalerReconciler {
    const NAME: &'static str = "autoscaler";
    type Kind = Autoscaler;
    type Part = AutoscalerStatus;

    fn plan(&self, autoscaler: &Autoscaler, view: &View<'_, Self>, now: Now) -> Result<Plan<Self>, Blocked> {
        let mut plan = Plan::new();
        if autoscaler.is_terminating() {
            return Ok(plan);
        }
        let spec = &autoscaler.spec;
        let previous = autoscaler.status.as_ref();
        let query = Query::namespace(autoscaler.namespace()).label(DEPLOYMENT_LABEL, spec.target.name.as_str());
        let replicas = view.list::<Replica>(query);
        let ready = replicas.iter().filter(|replica| replica.is_ready()).count() as u32;
        let coming = |replica: &Replica| {
            !replica.is_terminating()
                && replica.worker().is_some()
                && !replica.is_ready()
                && replica.phase() != Phase::Failed
        };
        let outcome = decide(Inputs {
            spec,
            signals: autoscaler.signals.as_ref().map_or(&[], |signals| &signals.0),
            previous,
            ready,
            starting: replicas.iter().filter(|replica| coming(replica)).count() as u32,
            now: now.timestamp(),
        });

        let decision = outcome.decision;
        let before = previous
            .filter(|previous| previous.baseline.is_some())
            .map(|previous| previous.desired_replicas);
        let scaled = before.is_some_and(|before| before != decision.desired);
        let mut conditions = previous.map_or_else(Vec::new, |previous| previous.conditions.clone());
        let generation = autoscaler.metadata.generation;
        let fresh = decision.sources > 0 && decision.stale_sources == 0;
        let heard = format!(
            "{} gateways are heard, {} are silent",
            decision.sources, decision.stale_sources
        );
        condition::set(
            &mut conditions,
            SIGNALS_FRESH,
            fresh,
            if fresh { HEARD } else { SILENT },
            heard,
            generation,
            now,
        );
        let (reason, message) = match outcome.limited {
            Some(Limit::Minimum) => (AT_MINIMUM, format!("the load asks for less than {}", spec.min_replicas)),
            Some(Limit::Maximum) => (AT_MAXIMUM, format!("the load asks for more than {}", spec.max_replicas)),
            None => (WITHIN, "the bounds do not bind".to_owned()),
        };
        condition::set(
            &mut conditions,
            LIMITED,
            outcome.limited.is_some(),
            reason,
            message,
            generation,
            now,
        );
        if scaled {
            plan.event(EventType::Normal, SCALED, decision.message.clone());
        }
        plan.part(AutoscalerStatus {
            observed_generation: generation,
            desired_replicas: decision.desired,
            baseline: Some(spec.baseline_replicas),
            current_concurrency: decision.stable_concurrency,
            panic_until: outcome.panic_until,
            last_scale_time: if scaled || before.is_none() {
                Some(now.time())
            } else {
                previous.and_then(|previous| previous.last_scale_time.clone())
            },
            decision: Some(decision),
            recommendations: outcome.recommendations,
            conditions,
        });
        plan.requeue_after(TICK);
        Ok(plan)
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use setpoint_reconcile::{World, check};

    use super::*;
    use crate::kinds::Signals;
    use crate::reconcilers::fixtures::{at, autoscaler, bound, ready, replica, signal};

    fn world() -> World {
        World::new()
            .with(ready(bound(replica("chat-0"), "w1", &["0"])))
            .with(bound(replica("chat-1"), "w1", &["1"]))
            .with(replica("chat-2"))
    }

    #[test]
    fn a_new_autoscaler_starts_from_the_baseline() {
        expect![[r#"
            part status
              baseline: 5
              conditions:
                -
                  lastTransitionTime: 2026-01-01T12:00:00Z
                  message: 0 gateways are heard, 0 are silent
                  reason: SignalsMissing
                  status: False
                  type: SignalsFresh
                -
                  lastTransitionTime: 2026-01-01T12:00:00Z
                  message: the bounds do not bind
                  reason: WithinBounds
                  status: False
                  type: Limited
              decision:
                desired: 5
                message: started from 5 replicas, as spec.replicas says
                readyReplicas: 1
                reason: Baseline
                sources: 0
                staleSources: 0
                startingReplicas: 1
                target: 4
                time: 2026-01-01T12:00:00Z
              desiredReplicas: 5
              lastScaleTime: 2026-01-01T12:00:00Z
              recommendations:
                -
                  lowest: 5
                  replicas: 5
                  time: 2026-01-01T12:00:00Z
            requeue after 2s
        "#]]
        .assert_eq(&check(&AutoscalerReconciler, &autoscaler(5, 2, 20, 4), &world(), at(0)));
    }

    #[test]
    fn a_load_that_asks_for_more() {
        let mut autoscaler = autoscaler(5, 2, 20, 4);
        autoscaler.status = Some(AutoscalerStatus {
            desired_replicas: 5,
            baseline: Some(5),
            ..AutoscalerStatus::default()
        });
        autoscaler.signals = Some(Signals(vec![
            signal("gw-1", 0, 20.0, 20.0),
            signal("gw-2", -1, 12.0, 10.0),
        ]));
        expect![[r#"
            part status
              baseline: 5
              conditions:
                -
                  lastTransitionTime: 2026-01-01T12:00:01Z
                  message: 2 gateways are heard, 0 are silent
                  reason: Heard
                  status: True
                  type: SignalsFresh
                -
                  lastTransitionTime: 2026-01-01T12:00:01Z
                  message: the bounds do not bind
                  reason: WithinBounds
                  status: False
                  type: Limited
              currentConcurrency: 30.0
              decision:
                desired: 8
                message: a burst: 5 → 8; 30.00 in flight over 2 gateways (32.00 just now), 4 a replica
                panicConcurrency: 32.0
                readyReplicas: 1
                reason: Panic
                recommended: 8
                sources: 2
                stableConcurrency: 30.0
                staleSources: 0
                startingReplicas: 1
                target: 4
                time: 2026-01-01T12:00:01Z
              desiredReplicas: 8
              lastScaleTime: 2026-01-01T12:00:01Z
              panicUntil: 2026-01-01T12:01:01Z
              recommendations:
                -
                  lowest: 8
                  replicas: 8
                  time: 2026-01-01T12:00:01Z
            event Normal Scaled: a burst: 5 → 8; 30.00 in flight over 2 gateways (32.00 just now), 4 a replica
            requeue after 2s
        "#]]
        .assert_eq(&check(&AutoscalerReconciler, &autoscaler, &world(), at(1)));
    }

    #[test]
    fn what_does_not_change_is_not_written_again() {
        let mut scaler = autoscaler(5, 2, 20, 4);
        scaler.signals = Some(Signals(vec![signal("gw-1", 0, 18.0, 18.0)]));
        // The first look starts from the baseline; the second knows the load.
        let first = plan(&scaler, 1);
        scaler.status = first.clone();
        let second = plan(&scaler, 3);
        scaler.status = second.clone();
        for now in [8, 100] {
            scaler.signals = Some(Signals(vec![signal("gw-1", now, 18.0, 18.0)]));
            assert_eq!(plan(&scaler, now), second);
        }
    }

    fn plan(autoscaler: &Autoscaler, now: i64) -> Option<AutoscalerStatus> {
        let world = world();
        let plan = AutoscalerReconciler
            .plan(autoscaler, &View::new(&world), at(now))
            .unwrap();
        plan.planned_part().cloned()
    }
}
