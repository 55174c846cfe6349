//! What a tenant's statement may touch (SQLite asks while it prepares one).
