//! What a node does for its databases by itself: short write-ahead logs, floors,
//! leadership away from fenced databases, databases of deleted namespaces.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use orama_proto::sql::DatabaseId;
use orama_proto::{GroupId, NodeId};

use super::command::Command;
use super::keeper::DataKeeper;
use super::wire::{self, Ask, Told};
use super::{DataGroups, Inner, compare, repair};

/// A group is not given away more often.
const HAND_OVER_EVERY: Duration = Duration::from_secs(5);
/// Who takes a group over is at most so many entries behind when it is asked.
const HAND_OVER_BEHIND: u64 = 1000;
const HAND_OVER_WITHIN: Duration = Duration::from_secs(3);
/// Whether another replica is sound is asked for so long.
const SOUND_WITHIN: Duration = Duration::from_secs(1);
/// Databases of a group that are dropped in one round.
const DROPS_AT_ONCE: usize = 64;
/// Confirming that a namespace is gone.
const CONFIRM_WITHIN: Duration = Duration::from_secs(2);
/// One drop may take so long.
const DROP_WITHIN: Duration = Duration::from_secs(10);
/// A failure that stays is logged so often.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// Begins the tasks. They end with the last handle of the groups.
pub(super) fn spawn(inner: &Arc<Inner>) {
    let options = &inner.options;
    if let Err(error) = inner.copies.sweep() {
        tracing::warn!(%error, "old copies of databases were not deleted");
    }
    tokio::spawn(tending(Arc::downgrade(inner), options.tend_every));
    tokio::spawn(dropping(Arc::downgrade(inner), options.drop_every));
    tokio::spawn(compare::run(Arc::downgrade(inner), options.compare_every));
    tokio::spawn(repair::run(Arc::downgrade(inner)));
}

/// When something was done last, by group.
type Last = BTreeMap<GroupId, Instant>;

/// Whether it is time again; if so, notes that it is done now.
fn due(last: &mut Last, group: GroupId, every: Duration) -> bool {
    let now = Instant::now();
    let due = last
        .get(&group)
        .is_none_or(|at| now.duration_since(*at) >= every);
    if due {
        last.insert(group, now);
    }
    due
}

async fn tending(inner: Weak<Inner>, every: Duration) {
    let (mut complained, mut handed) = (Last::new(), Last::new());
    loop {
        tokio::time::sleep(every).await;
        let Some(inner) = inner.upgrade() else { return };
        let groups = DataGroups(inner);
        groups.0.parcels.sweep();
        let mut put_off = 0;
        let keepers: Vec<Arc<DataKeeper>> = groups.0.keepers.read().values().cloned().collect();
        for keeper in keepers {
            let group = keeper.group;
            // Between a start's beginning and a stop's end they are not open.
            if keeper.databases().is_none() {
                continue;
            }
            let tended = Arc::clone(&keeper);
            let done = tokio::task::spawn_blocking(move || tended.tend()).await;
            if let Ok(Err(error)) = done
                && keeper.databases().is_some()
                && due(&mut complained, group, COMPLAIN_EVERY)
            {
                tracing::warn!(%group, %error, "databases cannot be written back; the log grows meanwhile");
            }
            let seconds = keeper.put_off_for().as_secs();
            put_off = put_off.max(i64::try_from(seconds).unwrap_or(i64::MAX));
            if keeper.fenced_count() > 0 && due(&mut handed, group, HAND_OVER_EVERY) {
                groups.give_away(group).await;
            }
        }
        groups.0.metrics.put_off_seconds.set(put_off);
    }
}

async fn dropping(inner: Weak<Inner>, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        let Some(inner) = inner.upgrade() else { return };
        let groups = DataGroups(inner);
        let here: Vec<GroupId> = groups.0.keepers.read().keys().copied().collect();
        for group in here {
            groups.drop_orphans(group).await;
        }
    }
}

impl DataGroups {
    /// The leader answers what became of a transaction. While its copy of a database is
    /// fenced it cannot, so another one leads if it can.
    pub(super) async fn give_away(&self, group: GroupId) {
        let Some(replica) = self.replica(group) else {
            return;
        };
        let view = replica.group.view();
        if view.leader != Some(self.0.node) {
            return;
        }
        let Ok(body) = wire::encode(&Ask::Sound { group }) else {
            return;
        };
        let able =
            |node: &NodeId| view.voters.contains(node) && view.caught_up(*node, HAND_OVER_BEHIND);
        for node in self.others_with(group).into_iter().filter(able) {
            let deadline = Instant::now() + SOUND_WITHIN;
            let told = self.ask_node(node, body.clone(), deadline).await;
            if !matches!(told, Ok(Told::Sound(true))) {
                continue;
            }
            let deadline = Instant::now() + HAND_OVER_WITHIN;
            match replica.group.transfer(node, deadline).await {
                Ok(()) => {
                    tracing::warn!(%group, to = %node, "another replica leads: a database here is fenced");
                    return;
                }
                Err(error) => {
                    tracing::info!(%group, to = %node, %error, "the group was not handed over");
                }
            }
        }
    }

    fn is_orphan(&self, id: &DatabaseId) -> bool {
        let entry = self.0.meta.namespace(&id.namespace);
        entry.is_none_or(|entry| entry.created_at != id.born)
    }

    /// Has the databases of namespaces that are gone deleted everywhere. The leader's task,
    /// for ever: an entry that was under way when the namespace went makes one anew.
    async fn drop_orphans(&self, group: GroupId) {
        let Some(replica) = self.replica(group) else {
            return;
        };
        if replica.group.view().leader != Some(self.0.node) {
            return;
        }
        let Some(databases) = replica.keeper.databases() else {
            return;
        };
        let Ok(listed) = tokio::task::spawn_blocking(move || databases.list()).await else {
            return;
        };
        let ids = listed.into_iter().map(|d| d.id);
        let orphans: Vec<DatabaseId> = ids
            .filter(|id| self.is_orphan(id))
            .take(DROPS_AT_ONCE)
            .collect();
        if orphans.is_empty() {
            return;
        }
        // What is known here may be old: a namespace that was made meanwhile, and written to
        // through another node, must not be taken for one that is gone.
        let deadline = Instant::now() + CONFIRM_WITHIN;
        if self.0.meta.confirm(deadline).await.is_err() {
            return;
        }
        for id in orphans.into_iter().filter(|id| self.is_orphan(id)) {
            let command = match Command::Drop(id.clone()).encode() {
                Ok(command) => command,
                Err(error) => {
                    tracing::warn!(%group, database = %id, %error, "a database is not dropped");
                    continue;
                }
            };
            let deadline = Instant::now() + DROP_WITHIN;
            match self.propose(group, &replica, command, deadline).await {
                Ok(_) => {
                    self.0.metrics.dropped.inc();
                    tracing::info!(%group, database = %id, "the database of a deleted namespace was dropped");
                }
                Err(error) => {
                    tracing::info!(%group, database = %id, %error, "a database is dropped later");
                    return;
                }
            }
        }
    }
}
