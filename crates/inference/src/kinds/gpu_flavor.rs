//! `GpuFlavor`: a kind of accelerator, its memory and its price.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use setpoint_reconcile::kind;

use super::definition::{Column, Definition};
use super::{Bytes, Market, Money};

kind! {
    /// A kind of accelerator: its memory and its price.
    pub struct GpuFlavor in "inference.setpoint.dev/v1alpha1", plural "gpuflavors", scope Cluster {
        /// What is wanted.
        spec: GpuFlavorSpec,
    }
}

/// Memory and price of one device.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GpuFlavorSpec {
    /// Memory of one device, as in `80Gi`.
    pub memory: Bytes,
    /// What one device costs an hour on demand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hourly_cost: Option<Money>,
    /// What one device costs an hour on the spot market. The price on demand when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spot_hourly_cost: Option<Money>,
    /// What it is, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub description: Option<String>,
}

impl GpuFlavorSpec {
    /// What one device costs an hour on `market`; `None` when nobody said.
    pub fn price(&self, market: Market) -> Option<Money> {
        match market {
            Market::OnDemand => self.hourly_cost,
            Market::Spot => self.spot_hourly_cost.or(self.hourly_cost),
        }
    }
}

pub(super) fn definition() -> Definition {
    Definition::new::<GpuFlavor, GpuFlavorSpec>("A kind of accelerator: its memory and its price.").columns(&[
        Column::new("Memory", "string", ".spec.memory"),
        Column::new("Hourly-cost", "string", ".spec.hourlyCost"),
        Column::new("Spot", "string", ".spec.spotHourlyCost"),
        Column::AGE,
    ])
}
