//! Errors of the engine and of modules.

/// The engine cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("the WebAssembly engine cannot start: {0}")]
pub struct RuntimeError(pub String);

/// A module is not acceptable, or cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// The author's fault; the text names module, field and limit. Answers 400.
    #[error("{0}")]
    Invalid(String),
    /// This node's fault; try again. Answers 503 at invoke, 500 at deploy.
    #[error("{0}")]
    Unavailable(String),
    /// The disk is full.
    #[error("no space left to store the compiled module")]
    Full,
}
