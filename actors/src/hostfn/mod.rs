//! Host functions: one registration table, identical under `env`, `host` and `orama`.
//!
//! A family of functions is a module with a `TABLE`; adding it below links it
//! under every module name and makes validation accept it. A guest that
//! imports what is not here is refused at deploy, by name.

mod bytes;
mod context;
mod database;
mod log;

use crate::runtime::import::Import;

/// All families.
pub(crate) const TABLE: &[&[Import]] = &[context::TABLE, database::TABLE, log::TABLE];
