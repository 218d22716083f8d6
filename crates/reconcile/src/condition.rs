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
pub fn with_blocked<P: Serialize + DeserializeOwned>(
    part: Option<&P>,
    blocked: &Blocked,
    observed_generation: Option<i64>,
    now: Now,
) -> Option<P> {
    let mut value = match part {
        Some(part) => serde_json::to_value(part).ok()?,
        None => serde_json::json!({}),
    };
    let fields = value.as_object_mut()?;
    let mut conditions: Vec<Condition> = match fields.remove("conditions") {
        Some(conditions) => serde_json::from_value(conditions).ok()?,
        None => Vec::new(),
    };
    set(
        &mut conditions,
        RECONCILED,
        false,
        blocked.reason,
        blocked.message.clone(),
        observed_generation,
        now,
    );
    fields.insert("conditions".to_owned(), serde_json::to_value(conditions).ok()?);
    let part: P = serde_json::from_value(value).ok()?;
    // A type without conditions has dropped them; then there is nowhere to say it.
    let kept = serde_json::to_value(&part).ok()?;
    kept.get("conditions")?
        .as_array()?
        .iter()
        .any(|condition| condition["type"] == RECONCILED)
        .then_some(part)
}
