//! The embedded store on a real file system: the conformance suite, the lock, checkpoints, and being killed.

mod conformance;
mod crash;
mod directory;
