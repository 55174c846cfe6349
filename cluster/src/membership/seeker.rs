//! Looks for members at the addresses that the settings name.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use orama_proto::ClusterId;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::seeds::Seed;
use crate::mesh::{ITSELF, Mesh, Peer};

/// One address is tried for so long.
const TRY_WITHIN: Duration = Duration::from_secs(3);
/// Addresses that are tried at the same time.
const AT_ONCE: usize = 8;
/// Pauses between rounds.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// What the last round brought.
#[derive(Debug, Default, Clone)]
pub(super) struct Seen {
    /// Who answered.
    pub(super) peers: Vec<Peer>,
    /// What went wrong where, for people.
    pub(super) failures: Vec<String>,
    /// Seeds that were not resolved, and addresses that are not known to be this node's.
    elsewhere: usize,
}

/// Handle of the search.
#[derive(Clone)]
pub(super) struct Seeker {
    seen: Arc<Mutex<Seen>>,
    rounds: watch::Receiver<u64>,
    pub(super) seeds: usize,
}

impl Seeker {
    /// Searches until `stop`; while `idle` says so, nothing is tried.
    pub(super) fn start(
        mesh: Mesh,
        seeds: Vec<Seed>,
        idle: watch::Receiver<bool>,
        stop: watch::Receiver<bool>,
    ) -> Self {
        let seen = Arc::<Mutex<Seen>>::default();
        let (announce, rounds) = watch::channel(0);
        let count = seeds.len();
        let state = Arc::clone(&seen);
        tokio::spawn(async move {
            let mut ended = stop.clone();
            tokio::select! {
                () = search(mesh, seeds, idle, state, announce) => {}
                _ = ended.wait_for(|stop| *stop) => {}
            }
        });
        Self {
            seen,
            rounds,
            seeds: count,
        }
    }

    /// What the last round brought.
    pub(super) fn seen(&self) -> Seen {
        self.seen.lock().clone()
    }

    /// Waits until every seed was tried once, or for so long.
    pub(super) async fn first_round(&mut self, within: Duration) {
        let round = self.rounds.wait_for(|n| *n > 0);
        // Whether it came to it is seen in what was found.
        let _ = tokio::time::timeout(within, round).await;
    }

    /// Whether every seed was tried and led to this very node.
    pub(super) fn only_itself(&self) -> bool {
        *self.rounds.borrow() > 0 && self.seen.lock().elsewhere == 0
    }

    /// A cluster that answers there and is not this one, when nobody of this one does.
    pub(super) fn foreign(&self, own: ClusterId) -> Option<(String, ClusterId)> {
        let seen = self.seen.lock();
        if seen.peers.iter().any(|p| p.cluster == Some(own)) {
            return None;
        }
        seen.peers
            .iter()
            .find_map(|p| Some((p.name.clone(), p.cluster?)))
    }
}

async fn search(
    mesh: Mesh,
    seeds: Vec<Seed>,
    mut idle: watch::Receiver<bool>,
    state: Arc<Mutex<Seen>>,
    announce: watch::Sender<u64>,
) {
    let (mut pause, longest) = PAUSE;
    loop {
        if idle.wait_for(|idle| !*idle).await.is_err() {
            return;
        }
        let seen = round(&mesh, &seeds).await;
        for failure in &seen.failures {
            tracing::debug!(failure, "a seed did not answer");
        }
        let found = !seen.peers.is_empty();
        for peer in &seen.peers {
            // Until it is known who is a member: whoever was found stays linked.
            mesh.keep(peer.id, &peer.addresses);
        }
        *state.lock() = seen;
        announce.send_modify(|n| *n += 1);
        tokio::time::sleep(pause).await;
        pause = if found {
            Duration::from_secs(1)
        } else {
            (pause * 2).min(longest)
        };
    }
}

async fn round(mesh: &Mesh, seeds: &[Seed]) -> Seen {
    let mut seen = Seen::default();
    let mut addresses = Vec::new();
    for seed in seeds {
        match seed.resolve().await {
            Ok(found) => addresses.extend(found),
            Err(why) => {
                seen.elsewhere += 1;
                seen.failures.push(why);
            }
        }
    }
    addresses.sort();
    addresses.dedup();
    let tries = futures::stream::iter(addresses.into_iter().map(|address| async move {
        let found = mesh.find(address, Instant::now() + TRY_WITHIN).await;
        (address, found)
    }));
    let mut tries = tries.buffer_unordered(AT_ONCE);
    while let Some((address, found)) = tries.next().await {
        match found {
            Ok(mut peer) => {
                let family = if address.is_ipv4() { "ip4" } else { "ip6" };
                let address = format!("/{family}/{}/tcp/{}", address.ip(), address.port());
                if !peer.addresses.contains(&address) {
                    peer.addresses.push(address);
                }
                seen.elsewhere += 1;
                seen.peers.push(peer);
            }
            Err(why) => {
                seen.elsewhere += usize::from(why != ITSELF);
                seen.failures.push(format!("{address}: {why}"));
            }
        }
    }
    seen
}
