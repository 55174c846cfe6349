//! Whose fault an error is.
