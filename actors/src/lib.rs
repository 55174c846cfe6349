//! What a node does with an invocation.
//!
//! HTTP is unknown here; database files are opened by `orama-cluster` only.

pub mod errors;
#[cfg(test)]
#[allow(dead_code, reason = "what is sealed here is never written twice alike")]
#[path = "../../proto/src/golden.rs"]
mod golden;
pub mod hostfn;
pub mod identity;
pub mod journal;
pub mod platform;
pub mod router;
pub mod runtime;
pub mod sql;
pub mod vault;
pub mod worker;

pub use platform::{Platform, PlatformOptions};
