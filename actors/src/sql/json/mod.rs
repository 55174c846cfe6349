//! Arguments and envelopes in JSON, the same for host functions and HTTP (CONTRACT 1.4, 1.7).
//!
//! Messages name what is wrong by its path (`ops[2].args[0]`) and never show an
//! argument's value.

mod duration;
mod envelope;
mod request;
#[cfg(test)]
mod tests;
mod value;

pub use envelope::{batch_envelope, execute_envelope, query_envelope, transaction_envelope};
pub(crate) use envelope::{cut, only};
pub use request::{BatchRequest, TransactionRequest};
pub use value::parse_args;
