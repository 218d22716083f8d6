//! What tests stand on: real but small parts that behave, or misbehave, as asked.

pub mod engine;
