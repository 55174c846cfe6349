//! The deploy form: a multipart body read as a stream, each part checked as it
//! comes, and no more memory used than the form may have.

mod fields;
mod form;

pub(crate) use form::{UploadBudget, read};
