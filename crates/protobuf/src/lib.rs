//! Kubernetes' protobuf for built-in kinds, translated to JSON and back at the edge.
//!
//! The server knows only JSON objects. Clients such as kubectl send `application/vnd.kubernetes.protobuf` for built-in kinds, so bodies
//! are translated once, on the way in ([`decode`]) or out ([`encode`]). A table says how, not code for each type:
//! `schemas/kubernetes.json`, made by `cargo xtask protobuf` and checked in. A hand-written reader of the wire format (`wire`) does what a
//! reflection library would, in fewer lines, since the JSON that Kubernetes writes is not the JSON mapping of protobuf.
//!
//! # Guarantees
//! - No input panics. Depth ([`MAX_DEPTH`]) and the number of decoded values ([`MAX_VALUES`]) are bounded.
//! - What [`encode`] writes, [`decode`] reads back as the same JSON, except for nulls, empty optional lists and maps, and zeros that
//!   Kubernetes' JSON leaves out as well.
//! - Fields that the table does not have are skipped, as Go does, in both directions.
//!
//! # Zeros
//! Go writes a scalar that is a value to protobuf always, and a pointer only when it is set; to JSON it writes neither a value's zero
//! (`omitempty`) nor an unset pointer. So [`decode`] drops:
//! - empty strings and bytes that OpenAPI does not require (also a pointer to an empty string, which nothing in these kinds means);
//! - zero numbers and booleans that are neither required nor pointers. The table marks pointers: `gracePeriodSeconds: 0`,
//!   `automountServiceAccountToken: false` and `controller: false` stay;
//! - a null `Time`, which is an empty message. `creationTimestamp` of a new object is one.
//!
//! Other empty messages stay `{}`: an empty label selector selects everything. A required list or map that is empty is not on the wire;
//! it becomes `[]` or `{}`, never null.
//!
//! # How to get it wrong
//! Decoding a body before its size is limited: the caller limits bytes, this limits what becomes of them. Sending a custom resource
//! this way: Kubernetes has no protobuf for them; ask [`knows`] first.

mod decode;
mod encode;
mod table;
mod wire;

#[cfg(test)]
mod tests;

pub use decode::{DecodeError, decode};
pub use encode::{EncodeError, encode};

/// The content type of what [`decode`] reads and [`encode`] writes.
pub const CONTENT_TYPE: &str = "application/vnd.kubernetes.protobuf";

/// How deep messages may nest. The deepest kind is a CustomResourceDefinition: three messages for each level of its schema, so some
/// thirty levels. A frame is well under 2 KiB, 100 of them well under the 2 MiB of a thread's stack.
pub const MAX_DEPTH: usize = 100;

/// How many values one body may become: the shortest takes two bytes on the wire and some hundred in memory, so that 100 MB bound what
/// a body of any allowed size (3 MiB) costs. The largest honest object (1.5 MiB in etcd's limit) has some ten bytes a value.
pub const MAX_VALUES: usize = 1 << 20;

/// What an encoded object begins with, before the message `runtime.Unknown`.
const MAGIC: &[u8; 4] = b"k8s\0";

/// Whether objects of a kind can be translated. `api_version` is as in the object, such as `v1` or `rbac.authorization.k8s.io/v1`.
pub fn knows(api_version: &str, kind: &str) -> bool {
    table::table().kind(api_version, kind).is_some()
}
