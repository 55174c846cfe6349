//! Placeholder head comment, replaced with the crate.
