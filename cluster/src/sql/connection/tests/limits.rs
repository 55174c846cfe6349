//! How much one statement may take.
