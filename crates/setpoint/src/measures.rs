//! The inference domain's measures, in the shape that quota takes them.

use std::sync::Arc;

use serde_json::Value;
use setpoint_govern::quota::{Measure, Usage};
use setpoint_inference::measures::{GPUS_KEY, HOURLY_COST_KEY, REPLICAS_KEY, WorstCase};
use setpoint_meta::{GroupResource, Quantity};

/// Every measure.
pub(crate) fn all() -> Vec<Arc<dyn Measure>> {
    vec![Arc::new(Deployments)]
}

/// A ModelDeployment is charged for what it may come to be.
struct Deployments;

impl Measure for Deployments {
    fn resource(&self) -> GroupResource {
        GroupResource::new(setpoint_inference::kinds::GROUP, "modeldeployments")
    }

    fn keys(&self) -> Vec<String> {
        [REPLICAS_KEY, GPUS_KEY, HOURLY_COST_KEY].map(str::to_owned).to_vec()
    }

    fn measure(&self, object: &Value) -> Usage {
        WorstCase::of(object)
            .charges()
            .into_iter()
            .fold(Usage::new(), |mut usage, (key, amount)| {
                if let Ok(amount) = amount.parse::<Quantity>() {
                    usage.set(key, amount);
                }
                usage
            })
    }
}
