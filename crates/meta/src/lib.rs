//! What every object has in common: names, versions, metadata, selectors, quantities, times, and the `Status` that an error becomes.
//!
//! Guarantees: no I/O and no global state (but for the random parts of [`names::generate_name`] and [`Uid::random`], which ask the
//! operating system). Message texts are those of Kubernetes' apimachinery, because clients show and match them.
//!
//! How to get it wrong: reading metadata by hand with `value["metadata"]["name"]` (use [`object`]: it never panics and never
//! allocates), or comparing quantities and label selectors as text.

pub mod condition;
pub mod field;
pub mod gvk;
pub mod names;
pub mod object;
pub mod quantity;
pub mod quote;
pub mod revision;
pub mod selector;
pub mod status;
pub mod time;
pub mod uid;

pub use condition::{Condition, ConditionStatus, set_condition};
pub use field::{FieldError, Path};
pub use gvk::{GroupKind, GroupResource, Gvk, Gvr};
pub use quantity::Quantity;
pub use revision::Revision;
pub use selector::{FieldSelector, LabelSelector};
pub use status::{Reason, Status};
pub use uid::Uid;
