//! What a kind is: its names, versions, schema, parts and columns, and the documents derived from these: discovery, OpenAPI and
//! Tables. Pure.
//!
//! A built-in kind and a CustomResourceDefinition become the same [`ResourceDefinition`]; whoever serves requests cannot tell them
//! apart but by [`ResourceDefinition::origin`], which decides the few things that Kubernetes itself decides by it (strategic merge
//! patch, protobuf, field validation defaults).

pub mod builtin;
pub mod crd;
pub mod discovery;
pub mod openapi;
pub mod resource;
pub mod table;

pub use resource::*;
