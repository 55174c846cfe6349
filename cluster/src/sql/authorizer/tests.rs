//! The table of what is allowed.
