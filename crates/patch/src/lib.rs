//! Changes to objects, as pure functions of JSON values and a schema: JSON patch, merge patch, strategic merge patch, and server-side
//! apply with the fields that each manager owns.
//!
//! | to | call | rule |
//! |---|---|---|
//! | apply a JSON patch | [`json_patch`] | RFC 6902, bounded |
//! | apply a merge patch | [`merge_patch`] | RFC 7386 |
//! | apply a strategic merge patch | [`strategic_merge_patch`] | Kubernetes' `patchStrategy` and directives |
//! | record who changed what, after any of these, a create or an update | [`track_update`] | KEP-555 |
//! | apply a configuration, as a manager that owns it | [`apply`] | KEP-555 |
//!
//! *Guarantees*: no I/O, no clock, no panic on any input; work linear in the sizes of the documents, times a logarithm for lists with
//! keys. *Assumes*: documents nest no deeper than the decoder allows, and `managedFields` speak of the request's schema. *How to get it
//! wrong*: calling [`track_update`] after [`apply`], which has done all of it.

mod apply;
mod conflict;
mod error;
mod fields_v1;
mod fieldset;
mod json_patch;
mod last_applied;
mod managed;
mod merge_patch;
mod path;
mod strategic;
mod typed;

#[cfg(test)]
mod testing;

pub use apply::{apply, extract};
pub use conflict::{ApplyError, Conflict};
pub use error::PatchError;
pub use fields_v1::{DecodeError, decode as decode_fields_v1, encode as encode_fields_v1};
pub use fieldset::FieldSet;
pub use json_patch::{MAX_COPY_BYTES, MAX_DEPTH, MAX_MOVED_NODES, MAX_OPERATIONS, json_patch, json_patch_value};
pub use managed::{ANCIENT_CHANGES, BEFORE_FIRST_APPLY, MAX_UPDATE_MANAGERS, Manager, Operation, track_update};
pub use merge_patch::merge_patch;
pub use path::{ParseElementError, PathElement};
pub use strategic::strategic_merge_patch;
