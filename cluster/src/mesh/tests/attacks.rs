//! Strangers and members that break the rules.
