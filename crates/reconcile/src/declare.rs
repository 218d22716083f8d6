//! Declared access: what a reconciler may read and own, as marker traits for the compiler and as data for watches, RBAC and reviewers.

use k8s_openapi::api::rbac::v1::PolicyRule;

use crate::{KindId, Object};

/// The reconciler may read objects of kind `K`, and is woken when they change. Implemented by [`declare!`](crate::declare!).
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not declare that it reads `{K}`",
    label = "this kind is not watched for `{Self}`",
    note = "add `{K}` to the list `reads [..]` in the `declare!` of `{Self}`"
)]
pub trait Reads<K: Object> {}

/// The reconciler makes and removes objects of kind `K` as its children. Owning a kind includes reading it. Implemented by
/// [`declare!`](crate::declare!).
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not declare that it owns `{K}`",
    label = "`{Self}` may not make or remove objects of this kind",
    note = "add `{K}` to the list `owns [..]` in the `declare!` of `{Self}`"
)]
pub trait Owns<K: Object>: Reads<K> {}

/// Is shown each declared kind, with its type.
pub trait KindVisitor {
    /// A kind that is read and not owned.
    fn reads<K: Object>(&mut self);
    /// A kind that is owned (and so read).
    fn owns<K: Object>(&mut self);
}

/// The declaration, walkable with types. Implemented by [`declare!`](crate::declare!).
#[diagnostic::on_unimplemented(
    message = "`{Self}` declares nothing",
    note = "write `setpoint_reconcile::declare!` with `{Self}: reads [..], owns [..]` beside it"
)]
pub trait Declared {
    /// Shows each kind once, in the order of the declaration.
    fn kinds(visitor: &mut impl KindVisitor);
}

/// Declares what a reconciler or pass reads and owns. Name each kind once: owning includes reading.
///
/// ```ignore
/// declare! { DeploymentReconciler: reads [Model, Worker], owns [Replica, Autoscaler] }
/// declare! { Scheduler: reads [Replica, Worker] }
/// ```
#[macro_export]
macro_rules! declare {
    ($reconciler:ty : reads [$($read:ty),* $(,)?] $(, owns [$($own:ty),* $(,)?])? $(,)?) => {
        $(impl $crate::Reads<$read> for $reconciler {})*
        $($(
            impl $crate::Reads<$own> for $reconciler {}
            impl $crate::Owns<$own> for $reconciler {}
        )*)?
        impl $crate::Declared for $reconciler {
            fn kinds(visitor: &mut impl $crate::KindVisitor) {
                $($crate::KindVisitor::reads::<$read>(visitor);)*
                $($($crate::KindVisitor::owns::<$own>(visitor);)*)?
                let _ = visitor;
            }
        }
    };
    ($reconciler:ty : owns [$($own:ty),* $(,)?] $(,)?) => {
        $crate::declare! { $reconciler: reads [], owns [$($own),*] }
    };
}

/// What a reconciler or pass may touch, as data. The engine derives its watches from it, the server its RBAC, a reviewer the capability
/// table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declaration {
    /// The reconciler's name: field manager, end of its identity, metric label.
    pub name: &'static str,
    /// The kind whose objects it plans for.
    pub subject: KindId,
    /// The part of the subject that it writes.
    pub part: Option<&'static str>,
    /// Kinds that it reads and does not own, sorted.
    pub reads: Vec<KindId>,
    /// Kinds that it owns, sorted.
    pub owns: Vec<KindId>,
    /// Finalizers that it may add to or remove from its subject.
    pub finalizers: &'static [&'static str],
    /// Whether its unit of work is the whole set of objects ([`Pass`](crate::Pass)) and not one object.
    pub whole_set: bool,
}

impl Declaration {
    pub(crate) fn of<D: Declared, S: Object>(
        name: &'static str,
        part: &'static str,
        finalizers: &'static [&'static str],
        whole_set: bool,
    ) -> Self {
        #[derive(Default)]
        struct Collect {
            reads: Vec<KindId>,
            owns: Vec<KindId>,
        }
        impl KindVisitor for Collect {
            fn reads<K: Object>(&mut self) {
                self.reads.push(K::kind_id());
            }
            fn owns<K: Object>(&mut self) {
                self.owns.push(K::kind_id());
            }
        }
        let mut kinds = Collect::default();
        D::kinds(&mut kinds);
        kinds.reads.sort();
        kinds.owns.sort();
        Self {
            name,
            subject: S::kind_id(),
            part: (!part.is_empty()).then_some(part),
            reads: kinds.reads,
            owns: kinds.owns,
            finalizers,
            whole_set,
        }
    }

    /// Every kind that must be watched, once, sorted: the subject, what is read, what is owned.
    pub fn watches(&self) -> Vec<KindId> {
        let mut kinds: Vec<_> = std::iter::once(&self.subject)
            .chain(&self.reads)
            .chain(&self.owns)
            .cloned()
            .collect();
        kinds.sort();
        kinds.dedup();
        kinds
    }

    /// The rules of a ClusterRole that allows exactly what is declared, plus recording events.
    ///
    /// Reading is there although the engine's shared watches use their own identity: an author who runs his reconciler elsewhere needs it.
    pub fn policy_rules(&self) -> Vec<PolicyRule> {
        let rule = |kind: &KindId, resource: String, verbs: &[&str]| PolicyRule {
            api_groups: Some(vec![kind.group.to_string()]),
            resources: Some(vec![resource]),
            verbs: verbs.iter().map(|verb| (*verb).to_owned()).collect(),
            ..PolicyRule::default()
        };
        let mut rules = Vec::new();
        for kind in self.watches() {
            rules.push(rule(&kind, kind.plural.to_string(), &["get", "list", "watch"]));
        }
        for kind in &self.owns {
            rules.push(rule(kind, kind.plural.to_string(), &["create", "patch", "delete"]));
        }
        if let Some(part) = self.part {
            rules.push(rule(
                &self.subject,
                format!("{}/{part}", self.subject.plural),
                &["patch"],
            ));
        }
        if !self.finalizers.is_empty() {
            rules.push(rule(&self.subject, self.subject.plural.to_string(), &["patch"]));
        }
        if !self.owns.is_empty() {
            // blockOwnerDeletion in a child's owner reference needs this (OwnerReferencesPermissionEnforcement).
            rules.push(rule(
                &self.subject,
                format!("{}/finalizers", self.subject.plural),
                &["update"],
            ));
        }
        rules.push(PolicyRule {
            api_groups: Some(vec!["events.k8s.io".to_owned()]),
            resources: Some(vec!["events".to_owned()]),
            verbs: vec!["create".to_owned(), "patch".to_owned()],
            ..PolicyRule::default()
        });
        rules
    }

    /// One row of the capability table, in Markdown: name, subject, part, reads, owns, finalizers.
    pub fn table_row(&self) -> String {
        let names = |kinds: &[KindId]| {
            kinds
                .iter()
                .map(|kind| kind.kind.as_ref())
                .collect::<Vec<_>>()
                .join(", ")
        };
        let mode = if self.whole_set { "all at once" } else { "each" };
        format!(
            "| {} | {} ({mode}) | {} | {} | {} | {} |",
            self.name,
            self.subject,
            self.part.unwrap_or("none"),
            names(&self.reads),
            names(&self.owns),
            self.finalizers.join(", "),
        )
    }
}
