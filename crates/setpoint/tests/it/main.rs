//! The binary from outside: real processes, real TLS, real kubectl.

mod bad_requests;
mod crash;
mod fixture;
mod inference;
mod kubectl;
mod wire;
