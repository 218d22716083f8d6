//! One file for each command.

pub(crate) mod agent;
pub(crate) mod gateway;
pub(crate) mod kubeconfig;
pub(crate) mod server;
pub(crate) mod why;
