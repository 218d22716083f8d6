//! What an apply that was refused says.

use setpoint_meta::status::{Cause, Status};

use crate::FieldSet;
use crate::managed::{Operation, Owner};

/// Fields that an apply would change and another manager owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// Who owns them.
    pub manager: String,
    /// How it came to.
    pub operation: Operation,
    /// Through which subresource; empty for the object itself.
    pub subresource: String,
    /// In which API version.
    pub api_version: String,
    /// When it last wrote, if known.
    pub time: Option<String>,
    /// The fields, as `.spec.containers[name="a"].image`, in order; at least one.
    pub paths: Vec<String>,
}

impl Conflict {
    pub(crate) fn new(owner: &Owner, fields: &FieldSet) -> Self {
        Self {
            manager: owner.manager.clone(),
            operation: owner.operation,
            subresource: owner.subresource.clone(),
            api_version: owner.api_version.clone(),
            time: owner.time.clone(),
            paths: fields.paths(),
        }
    }

    /// The manager as Kubernetes writes it in conflicts: `"kubectl-client-side-apply" using v1`.
    #[must_use]
    pub fn who(&self) -> String {
        let mut who = format!("{:?}", self.manager);
        if !self.subresource.is_empty() {
            who.push_str(&format!(" with subresource {:?}", self.subresource));
        }
        if self.operation == Operation::Update {
            who.push_str(&format!(" using {}", self.api_version));
        }
        who
    }
}

/// Why an apply did nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// Others own fields that it would change: 409. Sorted by manager.
    #[error("{}", message(.0))]
    Conflicts(Vec<Conflict>),
    /// The configuration, or the object, is not what its schema says: 400.
    #[error("{0}")]
    Invalid(String),
}

impl ApplyError {
    /// One cause for each field in conflict: where it is, and with whom. In Kubernetes' words, for `details.causes` with the reason
    /// `FieldManagerConflict`.
    #[must_use]
    pub fn causes(&self) -> Vec<Cause> {
        let Self::Conflicts(conflicts) = self else {
            return Vec::new();
        };
        let cause = |who: &str, path: &String| Cause {
            reason: "FieldManagerConflict".to_owned(),
            message: format!("conflict with {who}"),
            field: path.clone(),
        };
        let of = |conflict: &Conflict| {
            let who = conflict.who();
            conflict.paths.iter().map(|path| cause(&who, path)).collect::<Vec<_>>()
        };
        conflicts.iter().flat_map(of).collect()
    }

    /// The answer to the client: 409 Conflict with its causes, or 400 BadRequest.
    #[must_use]
    pub fn status(&self) -> Status {
        match self {
            Self::Conflicts(_) => Status::apply_conflict(self.causes(), self.to_string()),
            Self::Invalid(why) => Status::bad_request(why.as_str()),
        }
    }
}

fn message(conflicts: &[Conflict]) -> String {
    if let [Conflict { paths, .. }] = conflicts
        && let [path] = paths.as_slice()
    {
        return format!(
            "Apply failed with 1 conflict: conflict with {}: {path}",
            conflicts[0].who()
        );
    }
    let count: usize = conflicts.iter().map(|conflict| conflict.paths.len()).sum();
    let mut lines = Vec::new();
    for conflict in conflicts {
        lines.push(format!("conflicts with {}:", conflict.who()));
        lines.extend(conflict.paths.iter().map(|path| format!("- {path}")));
    }
    format!("Apply failed with {count} conflicts: {}", lines.join("\n"))
}
