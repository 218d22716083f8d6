use k8s_openapi::api::core::v1::{Namespace, ResourceQuotaStatus};
use setpoint_reconcile::{Blocked, Now, Plan, Reconciler, View, declare};

struct Labeller;
declare! { Labeller: reads [] }

impl Reconciler for Labeller {
    const NAME: &'static str = "labeller";
    type Kind = Namespace;
    type Part = ResourceQuotaStatus;

    fn plan(&self, _: &Namespace, _: &View<'_, Self>, _: Now) -> Result<Plan<Self>, Blocked> {
        Ok(Plan::new())
    }
}

fn main() {}
