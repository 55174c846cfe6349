//! Keeps a link to a node: dials it again after every break.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use libp2p::Multiaddr;
use orama_proto::NodeId;
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::{sleep, sleep_until};

use super::addresses;
use super::shared::Shared;
use super::transport::{Command, Dialled};

/// First and longest wait between tries.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(3);
/// A link that lived shorter does not prove that all is well.
const SETTLED: Duration = Duration::from_secs(5);
/// Of two nodes that both lost their link, the one with the greater id waits
/// so long, so that they do not dial each other at the same moment.
const COURTESY: Duration = Duration::from_millis(150);
/// The next address of a node is tried when the previous one is silent for so long.
const STAGGER: Duration = Duration::from_millis(300);
/// Addresses tried at most, in one round.
const ADDRESSES_MAX: usize = 32;
/// How often an unreachable node is mentioned.
const MENTION_EVERY: Duration = Duration::from_secs(60);

/// A node that is kept. Dropping it stops the dialling; the link stays.
pub(super) struct Keeper {
    addresses: watch::Sender<Vec<Multiaddr>>,
    learned: Learned,
    task: AbortHandle,
}

/// What the node said about itself last.
type Learned = Arc<Mutex<Vec<Multiaddr>>>;

impl Keeper {
    pub(super) fn start(shared: Arc<Shared>, node: NodeId, addresses: Vec<Multiaddr>) -> Self {
        let (sender, addresses) = watch::channel(addresses);
        let learned = Learned::default();
        let keeping = Arc::clone(&learned);
        let task = tokio::spawn(async move {
            tokio::select! {
                () = shared.closed() => {}
                () = Keeping::new(&shared, node, addresses, keeping).run() => {}
            }
        });
        Self {
            addresses: sender,
            learned,
            task: task.abort_handle(),
        }
    }

    /// Where the node says it can be reached: tried too.
    pub(super) fn learn(&self, addresses: &[String]) {
        let parsed = addresses.iter();
        let parsed = parsed.filter_map(|text| addresses::parse(text).ok());
        *self.learned.lock() = parsed.collect();
    }

    pub(super) fn update(&self, addresses: Vec<Multiaddr>) {
        self.addresses.send_if_modified(|known| {
            let differ = *known != addresses;
            *known = addresses;
            differ
        });
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Keeping<'a> {
    shared: &'a Shared,
    node: NodeId,
    addresses: watch::Receiver<Vec<Multiaddr>>,
    learned: Learned,
    failures: u32,
    mentioned: Option<Instant>,
}

impl<'a> Keeping<'a> {
    fn new(
        shared: &'a Shared,
        node: NodeId,
        addresses: watch::Receiver<Vec<Multiaddr>>,
        learned: Learned,
    ) -> Self {
        Self {
            shared,
            node,
            addresses,
            learned,
            failures: 0,
            mentioned: None,
        }
    }

    async fn run(mut self) {
        let mut again = false;
        loop {
            if self.shared.links.is_linked(self.node) {
                if std::mem::replace(&mut again, true) {
                    self.shared.metrics.reconnect();
                }
                self.mentioned = None;
                let since = Instant::now();
                self.until_unlinked().await;
                if since.elapsed() >= SETTLED {
                    self.failures = 0;
                }
            }
            if !self.pause().await {
                continue;
            }
            let targets = self.targets().await;
            let shared = self.shared;
            let node = self.node;
            let tried = tokio::select! {
                tried = try_all(shared, node, targets) => tried,
                () = until_linked(shared, node) => Ok(()),
            };
            if let Err(why) = tried {
                self.failures = self.failures.saturating_add(1);
                self.mention(&why);
            }
        }
    }

    async fn until_unlinked(&self) {
        let mut changes = self.shared.links.changes();
        while self.shared.links.is_linked(self.node) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Waits before the next try. False when the node is linked meanwhile.
    async fn pause(&mut self) -> bool {
        let mut wait = match self.failures {
            0 => Duration::ZERO,
            n => (BACKOFF_MIN * 2u32.saturating_pow(n - 1).min(1 << 10)).min(BACKOFF_MAX),
        };
        if self.shared.id > self.node {
            wait += COURTESY;
        }
        let wait = wait.mul_f64(jitter());
        let shared = self.shared;
        tokio::select! {
            () = sleep(wait) => true,
            () = until_linked(shared, self.node) => false,
            changed = self.addresses.changed() => {
                self.failures = 0;
                // Without a sender nobody keeps the node any more; the task is being aborted.
                changed.is_ok()
            }
        }
    }

    /// Where to try.
    async fn targets(&mut self) -> Vec<Multiaddr> {
        let known = self.addresses.borrow_and_update().clone();
        let learned = self.learned.lock().clone();
        let mut seen = HashSet::new();
        let mut targets = Vec::new();
        for address in known.iter().chain(&learned) {
            match addresses::resolve(address).await {
                Ok(found) => targets.extend(found.into_iter().filter(|a| seen.insert(a.clone()))),
                Err(why) => tracing::debug!(node = %self.node, why, "an address leads nowhere"),
            }
        }
        targets.truncate(ADDRESSES_MAX);
        targets
    }

    fn mention(&mut self, why: &str) {
        let node = self.node;
        let due = |at: Instant| at.elapsed() >= MENTION_EVERY;
        if self.mentioned.is_none_or(due) {
            self.mentioned = Some(Instant::now());
            tracing::info!(%node, why, "a node cannot be reached; trying on");
        } else {
            tracing::debug!(%node, why, failures = self.failures, "a node cannot be reached");
        }
    }
}

async fn until_linked(shared: &Shared, node: NodeId) {
    let mut changes = shared.links.changes();
    while !shared.links.is_linked(node) {
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// Between 0.75 and 1.25. Without random numbers nothing is lost but the spread.
fn jitter() -> f64 {
    let drawn = getrandom::u32().unwrap_or(u32::MAX / 2);
    0.75 + 0.5 * f64::from(drawn) / f64::from(u32::MAX)
}

/// Tries the addresses, each a moment after the one before; the first link counts.
async fn try_all(shared: &Shared, node: NodeId, targets: Vec<Multiaddr>) -> Result<(), String> {
    let mut rest = targets.into_iter();
    let mut tries = FuturesUnordered::new();
    let mut last = "no address is known".to_owned();
    loop {
        match rest.next() {
            Some(address) => tries.push(try_one(shared, node, address)),
            None if tries.is_empty() => return Err(last),
            None => {}
        }
        let stagger = tokio::time::Instant::now() + STAGGER;
        tokio::select! {
            Some(tried) = tries.next() => match tried {
                Ok(()) => return Ok(()),
                Err(why) => last = why,
            },
            () = sleep_until(stagger), if rest.len() > 0 => {}
        }
    }
}

async fn try_one(shared: &Shared, node: NodeId, address: Multiaddr) -> Result<(), String> {
    let at = address.to_string();
    let problem = |why: String| format!("{at}: {why}");
    match dial(shared, address, Some(node)).await.map_err(problem)? {
        Dialled::Link(link) if link.node == node => {
            link.introduced().await.map_err(|end| problem(end.text))
        }
        Dialled::Link(link) => Err(problem(format!("node {} is there", link.node))),
        Dialled::Linked(other) if other == node => Ok(()),
        Dialled::Linked(other) => Err(problem(format!("node {other} is there"))),
        Dialled::Itself => Err(problem("it is this node".into())),
    }
}

/// Connects to an address. Bounded by the transport's own timeout.
pub(super) async fn dial(
    shared: &Shared,
    address: Multiaddr,
    expected: Option<NodeId>,
) -> Result<Dialled, String> {
    let (answer, dialled) = oneshot::channel();
    let command = Command::Dial {
        address,
        expected,
        answer,
    };
    let gone = || "the mesh is shut down".to_owned();
    shared.commands.send(command).await.map_err(|_| gone())?;
    dialled.await.map_err(|_| gone())?
}

/// Connects to an address and waits for the introduction of who is there.
pub(super) async fn find(shared: &Shared, address: Multiaddr) -> Result<NodeId, String> {
    match dial(shared, address, None).await? {
        Dialled::Link(link) => {
            link.introduced().await.map_err(|end| end.text)?;
            Ok(link.node)
        }
        Dialled::Linked(node) => Ok(node),
        Dialled::Itself => Err(super::ITSELF.into()),
    }
}
