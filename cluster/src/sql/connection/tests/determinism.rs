//! The same entries do the same, on a connection that is warm and on one that is fresh.
