//! A database file as SQL text, for export and import of files that are not ours to serve.

/// A file that cannot be dumped.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// SQLite says why.
    #[error("{0}")]
    File(String),
}

/// Statements that make a database again.
pub struct Dump {}
