//! Databases on several nodes in one process.
