//! Every reconciler of the domain: one line each.

use jiff::Timestamp;
use setpoint_reconcile::{Declaration, Pass, Reconciler};

use crate::reconcilers::{
    autoscaler::AutoscalerReconciler, deployment::DeploymentReconciler, model::ModelReconciler, pool::PoolReconciler,
    scheduler::Scheduler, worker_lifecycle::WorkerLifecycle,
};

/// Takes reconcilers: the engine, or what lists them.
pub trait Registrar {
    /// Takes one that plans for each object.
    fn reconciler<R: Reconciler>(&mut self, reconciler: R);
    /// Takes one that plans for all objects at once.
    fn pass<P: Pass>(&mut self, pass: P);
}

/// Gives every reconciler to `to`. `observing_since` is when this control plane began to hear heartbeats: it judges no silence before.
pub fn register(to: &mut impl Registrar, observing_since: Timestamp) {
    to.reconciler(ModelReconciler);
    to.reconciler(DeploymentReconciler);
    to.reconciler(AutoscalerReconciler);
    to.reconciler(PoolReconciler);
    to.reconciler(WorkerLifecycle::new(observing_since));
    to.pass(Scheduler);
}

/// What every reconciler declares, as data: for RBAC and for the capability table.
pub fn declarations() -> Vec<Declaration> {
    struct Collect(Vec<Declaration>);
    impl Registrar for Collect {
        fn reconciler<R: Reconciler>(&mut self, _: R) {
            self.0.push(R::declaration());
        }
        fn pass<P: Pass>(&mut self, _: P) {
            self.0.push(P::declaration());
        }
    }
    let mut collect = Collect(Vec::new());
    register(&mut collect, Timestamp::UNIX_EPOCH);
    collect.0
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    #[test]
    fn capabilities() {
        let rows: Vec<String> = super::declarations()
            .iter()
            .map(|declaration| declaration.table_row())
            .collect();
        expect![[r#"
            | model | Model (each) | status | Worker |  |  |
            | deployment | ModelDeployment (each) | status | Model, Worker | Autoscaler, Replica |  |
            | autoscaler | Autoscaler (each) | status | Replica |  |  |
            | pool | GpuPool (each) | status | Replica, Worker |  |  |
            | worker-lifecycle | Worker (each) | lifecycle | Lease |  |  |
            | scheduler | Replica (all at once) | binding | GpuFlavor, Replica, Worker |  | inference.setpoint.dev/agent |"#]].assert_eq(&rows.join("\n"));
    }

    /// Each file in `reconcilers/` is registered, and nothing else is.
    #[test]
    fn every_file_is_registered() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/reconcilers");
        let files = std::fs::read_dir(folder)
            .unwrap()
            .filter_map(|entry| entry.unwrap().file_name().into_string().ok());
        let files = files.filter(|name| name.ends_with(".rs") && name != "mod.rs" && name != "fixtures.rs");
        assert_eq!(files.count(), super::declarations().len());
    }
}
