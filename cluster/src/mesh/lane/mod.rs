//! One lane of one link: calls out on the stream we opened, calls in on the
//! peer's. Both write through an [`Outbox`].

mod client;
mod outbox;
mod server;

pub(super) use client::{Client, Failure};
pub(super) use outbox::{Full, Outbox};
pub(super) use server::Server;
