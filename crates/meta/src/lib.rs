//! What every object has in common: names, versions, metadata, selectors, quantities, times, and the `Status` that an error becomes.
//! No I/O.

pub mod revision;

pub use revision::Revision;
