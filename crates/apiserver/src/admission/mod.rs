//! Admission: the rules that look beyond the object, after it has been validated and before it is stored.
//!
//! Each step is one type in [`steps`], tried in order; quota comes last, so that nothing is reserved for a write that another step
//! refuses. A step does no I/O: it reads the watch cache.

mod lifecycle;
mod names;
mod quota;
mod rbac;

use serde_json::Value;

use crate::{Answer, context::Context};

pub(crate) use quota::Quotas;

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Create,
    Update,
    Delete,
}

/// A write that asks to be admitted.
pub(crate) struct Attributes<'a> {
    pub(crate) cx: &'a Context,
    pub(crate) operation: Operation,
    pub(crate) old: Option<&'a Value>,
    pub(crate) new: Option<&'a Value>,
    pub(crate) dry_run: bool,
    /// Whether the object is gone with this write: an update that removes the last finalizer.
    pub(crate) gone: bool,
}

/// Holds what a write has reserved. Dropping it gives that back; [`Reservation::commit`] keeps it.
#[derive(Default)]
#[must_use = "a reservation that is dropped is given back"]
pub(crate) struct Reservation {
    pub(crate) quota: Option<setpoint_govern::quota::Reservation>,
}

impl Reservation {
    /// The write is stored.
    pub(crate) fn commit(self) {
        if let Some(quota) = self.quota {
            quota.commit();
        }
    }
}

/// Asks every step.
pub(crate) async fn admit(attributes: &Attributes<'_>) -> Answer<Reservation> {
    let cx = attributes.cx;
    let asked = crate::authorize::attributes(&cx.user, &cx.info);
    setpoint_govern::restriction::check(&asked, attributes.old, attributes.new)?;
    lifecycle::admit(attributes).await?;
    names::admit(attributes)?;
    rbac::admit(attributes)?;
    let quota = quota::admit(attributes).await?;
    Ok(Reservation { quota })
}
