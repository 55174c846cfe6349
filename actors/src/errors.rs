//! The one place where this crate's errors become what a client sees.
