//! The rolling hash of what entries did: equal on replicas that did the same.
