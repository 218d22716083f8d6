//! What the command line says about a control plane: an ordinary client of its API, with no private endpoint.

pub mod why;
