//! What crosses a boundary: identifiers, `function.yaml`, API bodies, error
//! codes and replicated commands.
//!
//! This crate knows no runtime and no I/O. Everything in it is a plain value
//! with validation at construction, so that the crates above can pass values
//! on without checking them again.
//!
//! Invariants:
//! - A [`Namespace`], [`FunctionName`] or [`SecretName`] that exists is valid.
//! - Every stored or wire type that is binary goes through [`record`], which
//!   puts a version byte in front.
//! - No type here ever holds a secret in the clear.

pub mod api;
pub mod blob;
pub mod command;
pub mod content;
pub mod error;
pub mod forward;
pub mod frame;
pub mod function;
pub mod gather;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod golden_tests;
pub mod id;
pub mod invocation;
pub mod limits;
pub mod load;
pub mod manifest;
pub mod name;
pub mod record;
pub mod sealed;
pub mod sql;
pub mod time;
pub mod topology;

pub use content::ContentId;
pub use error::{ApiError, ErrorCode};
pub use id::{GroupId, NodeId, RequestId};
pub use name::{FunctionName, NameError, Namespace, SecretName};
pub use time::Timestamp;
pub use topology::ClusterId;
