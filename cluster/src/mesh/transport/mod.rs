//! From a socket to lanes: TCP, then Noise and admission, then Yamux, then one
//! stream per lane and direction.

mod behaviour;
mod swarm;
mod watchdog;

use std::time::Duration;

use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{Boxed, Transport};
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::{PeerId, Swarm, noise, tcp, yamux};

pub(super) use behaviour::{Direction, Lanes, Opened};
pub(super) use swarm::{Command, Dialled, Driver};
use watchdog::Watched;

use super::admission::Admission;
use super::metrics::Metrics;
use super::secrets::ClusterSecrets;

/// From the first byte to admission and Yamux.
pub(super) const ADMISSION_TIMEOUT: Duration = Duration::from_secs(5);
/// Streams a peer may open: its four lanes, and some that are being refused.
const STREAMS_MAX: usize = 16;
/// Lanes keep a connection; one that has none for so long is of no use.
const IDLE: Duration = Duration::from_secs(60);

/// The swarm, not yet listening.
pub(super) fn build(
    pair: &Keypair,
    secrets: &ClusterSecrets,
    metrics: &Metrics,
) -> Result<Swarm<Lanes>, noise::Error> {
    let own = pair.public().to_peer_id();
    let config = libp2p::swarm::Config::with_tokio_executor()
        .with_idle_connection_timeout(IDLE)
        .with_max_negotiating_inbound_streams(STREAMS_MAX);
    Ok(Swarm::new(
        boxed(pair, secrets, metrics)?,
        Lanes::new(),
        own,
        config,
    ))
}

fn boxed(
    pair: &Keypair,
    secrets: &ClusterSecrets,
    metrics: &Metrics,
) -> Result<Boxed<(PeerId, StreamMuxerBox)>, noise::Error> {
    let own = pair.public().to_peer_id();
    let admission = Admission::new(noise::Config::new(pair)?, own, secrets, metrics.clone());
    let mut muxer = yamux::Config::default();
    muxer.set_max_num_streams(STREAMS_MAX);
    Ok(
        tcp::tokio::Transport::new(tcp::Config::default().nodelay(true))
            .map(|socket, _| Watched::new(socket))
            .upgrade(Version::V1)
            .authenticate(admission)
            .multiplex(muxer)
            .timeout(ADMISSION_TIMEOUT)
            .boxed(),
    )
}

/// The innermost text of an error that libraries have wrapped.
pub(super) fn cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut at = error;
    loop {
        // An `io::Error` around another error skips it in `source`.
        let inner = at
            .downcast_ref::<std::io::Error>()
            .and_then(|io| io.get_ref())
            .map(|inner| inner as &(dyn std::error::Error + 'static));
        match inner.or_else(|| at.source()) {
            Some(next) => at = next,
            None => return at.to_string(),
        }
    }
}
