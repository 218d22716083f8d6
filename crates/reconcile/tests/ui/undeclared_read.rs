use k8s_openapi::api::core::v1::{ConfigMap, Namespace, NamespaceStatus, Secret};
use setpoint_reconcile::{Blocked, Now, Plan, Reconciler, View, declare};

struct Labeller;
declare! { Labeller: reads [ConfigMap] }

impl Reconciler for Labeller {
    const NAME: &'static str = "labeller";
    type Kind = Namespace;
    type Part = NamespaceStatus;

    fn plan(&self, _: &Namespace, view: &View<'_, Self>, _: Now) -> Result<Plan<Self>, Blocked> {
        view.get::<ConfigMap>("a", "b");
        view.get::<Secret>("a", "b");
        Ok(Plan::new())
    }
}

fn main() {}
