//! Conditions: what is so about an object now (API conventions, "Typical status properties").
//!
//! How to get it wrong: moving `lastTransitionTime` with each write. It moves only when `status` does, so that "Ready for 3 hours"
//! is true; [`set_condition`] sees to it.

use crate::time::{self, Timestamp};
use serde::{Deserialize, Serialize};

/// True, false, or not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ConditionStatus {
    /// It is so.
    True,
    /// It is not so.
    False,
    /// Nobody can tell now.
    Unknown,
}

impl From<bool> for ConditionStatus {
    fn from(yes: bool) -> Self {
        if yes { Self::True } else { Self::False }
    }
}

/// `meta/v1` Condition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What it is about, CamelCase or `domain/CamelCase`; the key of the list.
    #[serde(rename = "type")]
    pub type_: String,
    /// Whether it is so.
    pub status: ConditionStatus,
    /// The `metadata.generation` that the writer had seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// When `status` last changed, RFC 3339 with whole seconds; empty until [`set_condition`] fills it.
    #[serde(default)]
    pub last_transition_time: String,
    /// CamelCase, machine-readable, stable.
    #[serde(default)]
    pub reason: String,
    /// For people.
    #[serde(default)]
    pub message: String,
}

impl Condition {
    /// Without generation and time.
    pub fn new(
        type_: impl Into<String>,
        status: impl Into<ConditionStatus>,
        reason: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            type_: type_.into(),
            status: status.into(),
            observed_generation: None,
            last_transition_time: String::new(),
            reason: reason.into(),
            message: message.into(),
        }
    }

    /// The same, seen at this generation.
    #[must_use]
    pub fn observed(mut self, generation: i64) -> Self {
        self.observed_generation = Some(generation);
        self
    }
}

/// The condition of this type.
pub fn find_condition<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|c| c.type_ == type_)
}

/// Puts a condition in place of the one of its type, or at the end. `lastTransitionTime` becomes `now` only if `status` differs from
/// before; otherwise the old time stays. Returns whether anything changed.
pub fn set_condition(conditions: &mut Vec<Condition>, mut new: Condition, now: Timestamp) -> bool {
    let slot = conditions.iter_mut().find(|c| c.type_ == new.type_);
    new.last_transition_time = match &slot {
        Some(old) if old.status == new.status && !old.last_transition_time.is_empty() => {
            old.last_transition_time.clone()
        }
        _ => time::rfc3339(now),
    };
    match slot {
        Some(old) if *old == new => false,
        Some(old) => {
            *old = new;
            true
        }
        None => {
            conditions.push(new);
            true
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_time_moves_only_with_the_status() {
        let at = |s| Timestamp::from_second(s).unwrap();
        let mut list = Vec::new();
        assert!(set_condition(
            &mut list,
            Condition::new("Ready", false, "Starting", "a").observed(1),
            at(10)
        ));
        assert!(!set_condition(
            &mut list,
            Condition::new("Ready", false, "Starting", "a").observed(1),
            at(20)
        ));
        assert!(set_condition(
            &mut list,
            Condition::new("Ready", false, "Starting", "b").observed(2),
            at(30)
        ));
        assert_eq!(list[0].last_transition_time, "1970-01-01T00:00:10Z");
        assert!(set_condition(
            &mut list,
            Condition::new("Ready", true, "Up", ""),
            at(40)
        ));
        assert!(set_condition(
            &mut list,
            Condition::new("Other", ConditionStatus::Unknown, "X", ""),
            at(50)
        ));
        assert_eq!(
            find_condition(&list, "Ready").unwrap().last_transition_time,
            "1970-01-01T00:00:40Z"
        );
        assert_eq!(
            serde_json::to_value(&list[1]).unwrap(),
            json!({"type": "Other", "status": "Unknown", "lastTransitionTime": "1970-01-01T00:00:50Z", "reason": "X", "message": ""})
        );
    }
}
