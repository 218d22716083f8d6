use k8s_openapi::api::core::v1::{ConfigMap, Namespace, NamespaceStatus};
use setpoint_reconcile::{Blocked, Now, Plan, Reconciler, View, declare};

struct Labeller;
declare! { Labeller: reads [ConfigMap] }

impl Reconciler for Labeller {
    const NAME: &'static str = "labeller";
    type Kind = Namespace;
    type Part = NamespaceStatus;

    fn plan(&self, _: &Namespace, _: &View<'_, Self>, _: Now) -> Result<Plan<Self>, Blocked> {
        let mut plan = Plan::new();
        plan.child(ConfigMap::default());
        Ok(plan)
    }
}

fn main() {}
