//! Audit.

mod event;

pub use event::{
    DECISION, Event, Facts, Level, MAX_TEXT_BYTES, ObjectRef, ObjectVersion, QUOTA_EXCEEDED, REASON, Stage,
};
