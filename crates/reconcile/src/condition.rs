//! Conditions: `lastTransitionTime` moves only when the status does (Kubernetes API conventions, "Typical status properties").

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde::{Serialize, de::DeserializeOwned};

use crate::{Blocked, Now, Reason};

/// The condition that the engine writes for a [`Blocked`] plan.
pub const RECONCILED: &str = "Reconciled";

/// Sets a condition, keeping the order of the list, and the transition time unless `status` changed. Unchanged conditions stay equal, so
/// that a plan which repeats itself converges.
pub fn set(
    conditions: &mut Vec<Condition>,
    type_: &str,
    status: bool,
    reason: Reason,
    message: impl Into<String>,
    observed_generation: Option<i64>,
    now: Now,
) {
    let status = if status { "True" } else { "False" };
    let mut next = Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: reason.into(),
        message: message.into(),
        observed_generation,
        last_transition_time: now.time(),
    };
    match conditions.iter_mut().find(|condition| condition.type_ == type_) {
        Some(current) => {
            if current.status == next.status {
                next.last_transition_time = current.last_transition_time.clone();
            }
            *current = next;
        }
        None => conditions.push(next),
    }
}

/// Whether the condition is there and True.
pub fn is_true(conditions: &[Condition], type_: &str) -> bool {
    conditions
        .iter()
        .any(|condition| condition.type_ == type_ && condition.status == "True")
}

/// The part with `Reconciled=False` for what blocks it, if the part's type has a list `conditions`; `None` when it has not.
///
/// `part` is what the part shall be apart from that, `current` what it is now: the condition's transition time comes from there.
pub fn with_blocked<P: Serialize + DeserializeOwned>(
    part: Option<&P>,
    current: Option<&P>,
    blocked: &Blocked,
    observed_generation: Option<i64>,
    now: Now,
) -> Option<P> {
    let (mut value, mut conditions) = match part {
        Some(part) => split(part)?,
        None => (serde_json::json!({}), Vec::new()),
    };
    conditions.retain(|condition| condition.type_ != RECONCILED);
    let before = current
        .and_then(split)
        .map(|(_, conditions)| conditions)
        .unwrap_or_default();
    conditions.extend(before.into_iter().filter(|condition| condition.type_ == RECONCILED));
    set(
        &mut conditions,
        RECONCILED,
        false,
        blocked.reason,
        blocked.message.clone(),
        observed_generation,
        now,
    );
    value
        .as_object_mut()?
        .insert("conditions".to_owned(), serde_json::to_value(conditions).ok()?);
    let part: P = serde_json::from_value(value).ok()?;
    // A type without conditions has dropped them; then there is nowhere to say it.
    let (_, kept) = split(&part)?;
    kept.iter()
        .any(|condition| condition.type_ == RECONCILED)
        .then_some(part)
}

/// The part without the condition `Reconciled`, if it has it; `None` when there is nothing to take away.
pub fn without_blocked<P: Serialize + DeserializeOwned>(part: &P) -> Option<P> {
    let (mut value, mut conditions) = split(part)?;
    let before = conditions.len();
    conditions.retain(|condition| condition.type_ != RECONCILED);
    if conditions.len() == before {
        return None;
    }
    value
        .as_object_mut()?
        .insert("conditions".to_owned(), serde_json::to_value(conditions).ok()?);
    serde_json::from_value(value).ok()
}

/// The part as JSON without its conditions, and these.
fn split<P: Serialize>(part: &P) -> Option<(serde_json::Value, Vec<Condition>)> {
    let mut value = serde_json::to_value(part).ok()?;
    let conditions = match value.as_object_mut()?.remove("conditions") {
        Some(conditions) => serde_json::from_value(conditions).ok()?,
        None => Vec::new(),
    };
    Some((value, conditions))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
    struct Part {
        ready: usize,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        conditions: Vec<Condition>,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Plain {}

    const WHY: Reason = Reason::new("QuotaExceeded");

    fn at(second: i64) -> Now {
        Now::at(jiff::Timestamp::from_second(second).expect("in range"))
    }

    #[test]
    fn being_blocked_again_changes_nothing() {
        let blocked = Blocked::new(WHY, "short of 2");
        let first = with_blocked(Some(&Part::default()), None, &blocked, Some(1), at(10)).expect("has conditions");
        assert_eq!(first.conditions[0].last_transition_time, at(10).time());
        let planned = Part {
            ready: 0,
            conditions: Vec::new(),
        };
        let again = with_blocked(Some(&planned), Some(&first), &blocked, Some(1), at(20)).expect("has conditions");
        assert_eq!(again, first);
        let next = with_blocked(
            Some(&planned),
            Some(&first),
            &Blocked::new(WHY, "short of 3"),
            Some(1),
            at(20),
        );
        let next = next.expect("has conditions");
        assert_eq!(next.conditions[0].message, "short of 3");
        assert_eq!(next.conditions[0].last_transition_time, at(10).time());
        assert_eq!(without_blocked(&next), Some(Part::default()));
        assert_eq!(without_blocked(&Part::default()), None);
    }

    #[test]
    fn a_part_without_conditions_is_left_alone() {
        assert_eq!(
            with_blocked(Some(&Plain {}), None, &Blocked::new(WHY, ""), None, at(0)),
            None
        );
        assert_eq!(without_blocked(&Plain {}), None);
    }
}
