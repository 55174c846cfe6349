//! A node without HTTP: the platform over the real stores and the real engine.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod cluster;
mod functions;
mod routing;
mod secrets;
mod support;
