//! The two shapes of deciding: for one object ([`Reconciler`]), and for a whole set with one ledger ([`Pass`]).

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::{Blocked, Declaration, Declared, Object, PartOf, PassPlan, Plan, View};

/// The wall-clock instant of a plan. The engine passes it in; a plan reads no clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Now(Timestamp);

impl Now {
    /// This instant.
    pub const fn at(instant: Timestamp) -> Self {
        Self(instant)
    }

    /// The instant.
    pub const fn timestamp(self) -> Timestamp {
        self.0
    }

    /// The instant as objects carry it (whole seconds when written).
    pub fn time(self) -> Time {
        Time(self.0)
    }

    /// How long ago `earlier` was; zero when it lies in the future (clocks of two machines differ).
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::try_from(self.0.duration_since(earlier)).unwrap_or_default()
    }

    /// How long until `later`; zero when it has passed.
    pub fn until(self, later: Timestamp) -> Duration {
        Duration::try_from(later.duration_since(self.0)).unwrap_or_default()
    }
}

/// Decides for one object at a time. See the crate's documentation for the rules.
pub trait Reconciler: Declared + Send + Sync + Sized + 'static {
    /// Lower-case DNS label: field manager, identity `system:setpoint:reconciler:NAME`, metric label.
    const NAME: &'static str;

    /// Finalizers that it may add to or remove from its own kind.
    const FINALIZERS: &'static [&'static str] = &[];

    /// The kind whose objects it plans for.
    type Kind: Object;

    /// The part of that kind that it alone writes, or [`NoPart`](crate::NoPart).
    type Part: PartOf<Self::Kind>;

    /// What should be, given what is. Called for terminating objects too; their children are then neither applied nor pruned, only
    /// the part, events, finalizers and explicit deletions count.
    ///
    /// # Errors
    /// [`Blocked`] when the inputs do not allow a decision; children then stay as they are.
    fn plan(&self, object: &Self::Kind, view: &View<'_, Self>, now: Now) -> Result<Plan<Self>, Blocked>;

    /// What the types declare, as data.
    fn declaration() -> Declaration {
        Declaration::of::<Self, Self::Kind>(Self::NAME, Self::Part::NAME, Self::FINALIZERS, false)
    }
}

/// Decides for all objects of a kind at once, because they compete for the same thing: a scheduler binds many replicas against one ledger.
///
/// One run at a time; a run never starts before the view has reached the engine's own last commits. Reading the subject has to be declared
/// like any other read.
pub trait Pass: Declared + Send + Sync + Sized + 'static {
    /// As for [`Reconciler::NAME`].
    const NAME: &'static str;

    /// Finalizers that it may remove from its subjects.
    const FINALIZERS: &'static [&'static str] = &[];

    /// The kind whose part it writes.
    type Subject: Object;

    /// The part of the subject that it alone writes.
    type Part: PartOf<Self::Subject>;

    /// Which parts of which subjects should change.
    ///
    /// # Errors
    /// [`Blocked`] when nothing can be decided at all. What is wrong with one subject belongs in that subject's part.
    fn plan(&self, view: &View<'_, Self>, now: Now) -> Result<PassPlan<Self>, Blocked>;

    /// What the types declare, as data.
    fn declaration() -> Declaration {
        Declaration::of::<Self, Self::Subject>(Self::NAME, Self::Part::NAME, Self::FINALIZERS, true)
    }
}
