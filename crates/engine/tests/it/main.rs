//! The engine against an in-memory Kubernetes API: what it writes, what it leaves alone, and what one bad object does to the others.

mod fake_api;
mod fleet;
mod isolation;
mod leadership;
mod objects;
mod passes;
