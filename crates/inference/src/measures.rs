//! What a ModelDeployment is charged by quota: its worst case. Pure functions over the stored object; `govern` does the rest.
//!
//! # Guarantees
//! Nothing that autoscaling may do later costs more than was charged when the deployment was admitted. Total: a field that is
//! missing or of the wrong type measures as its default, never as an error (validation refuses it elsewhere).
//!
//! # Not covered
//! The surge of a rollout and replicas that are still draining: they come and go, and are bounded by `rollout.maxSurge`.

use serde_json::Value;

use crate::kinds::Money;

/// Key of a quota: replicas, by the name that Kubernetes gives an object count.
pub const REPLICAS_KEY: &str = "count/replicas.inference.setpoint.dev";
/// Key of a quota: devices.
pub const GPUS_KEY: &str = "requests.inference.setpoint.dev/gpus";
/// Key of a quota: money an hour.
pub const HOURLY_COST_KEY: &str = "requests.inference.setpoint.dev/hourly-cost";

/// What a deployment may come to use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WorstCase {
    /// Replicas at most.
    pub replicas: u64,
    /// Devices at most: as if every replica ran on the accelerator with the highest count.
    pub gpus: u64,
    /// Money an hour at most, if every accelerator names a limit.
    pub hourly_cost: Option<Money>,
}

impl WorstCase {
    /// The worst case of a stored ModelDeployment.
    pub fn of(deployment: &Value) -> Self {
        let spec = &deployment["spec"];
        let number = |value: &Value, default: u64| value.as_u64().unwrap_or(default);
        // The default of the schema, should it not have been filled in yet.
        let replicas = number(&spec["replicas"], 1);
        let replicas = match &spec["autoscaling"] {
            Value::Object(autoscaling) => replicas.max(number(&autoscaling["maxReplicas"], 0)),
            _ => replicas,
        };
        let accelerators = spec["accelerators"].as_array().map_or(&[][..], Vec::as_slice);
        let count = accelerators
            .iter()
            .map(|accelerator| number(&accelerator["count"], 1))
            .max()
            .unwrap_or(0);
        let limit = |accelerator: &Value| accelerator["maxHourlyCost"].as_str()?.parse::<Money>().ok();
        let limits: Option<Vec<Money>> = accelerators.iter().map(limit).collect();
        let dearest = limits.and_then(|limits| limits.into_iter().max());
        Self {
            replicas,
            gpus: replicas.saturating_mul(count),
            hourly_cost: dearest.map(|cost| cost.times(replicas)),
        }
    }

    /// Keys and amounts, as a ResourceQuota's `hard` writes them. An amount of money is a decimal number.
    pub fn charges(&self) -> Vec<(&'static str, String)> {
        let mut charges = vec![
            (REPLICAS_KEY, self.replicas.to_string()),
            (GPUS_KEY, self.gpus.to_string()),
        ];
        charges.extend(self.hourly_cost.map(|cost| (HOURLY_COST_KEY, cost.to_string())));
        charges
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn charges_the_worst_case() {
        let deployment = json!({"spec": {
            "replicas": 5,
            "autoscaling": {"maxReplicas": 20},
            "accelerators": [{"flavor": "a", "count": 1, "maxHourlyCost": "4.50"}, {"flavor": "b", "count": 2, "maxHourlyCost": "8"}],
        }});
        let expected = [
            (REPLICAS_KEY, "20".to_owned()),
            (GPUS_KEY, "40".to_owned()),
            (HOURLY_COST_KEY, "160".to_owned()),
        ];
        assert_eq!(WorstCase::of(&deployment).charges(), expected);
    }

    #[test]
    fn replicas_beyond_the_maximum_count() {
        let deployment = json!({"spec": {"replicas": 10_000, "autoscaling": {"maxReplicas": 20}}});
        assert_eq!(
            WorstCase::of(&deployment),
            WorstCase {
                replicas: 10_000,
                gpus: 0,
                hourly_cost: None
            }
        );
    }

    #[test]
    fn one_accelerator_without_a_limit_leaves_the_cost_open() {
        let deployment = json!({"spec": {"accelerators": [{"flavor": "a", "maxHourlyCost": "1"}, {"flavor": "b"}]}});
        assert_eq!(
            WorstCase::of(&deployment),
            WorstCase {
                replicas: 1,
                gpus: 1,
                hourly_cost: None
            }
        );
        assert_eq!(
            WorstCase::of(&json!({"spec": {"replicas": "x", "accelerators": 3}})).replicas,
            1
        );
    }
}
