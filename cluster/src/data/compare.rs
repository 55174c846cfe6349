//! Replicas compare the hashes of their databases: statements are replicated, not pages,
//! so that a replica that computes something else must be found out.
//!
//! Each replica asks the others about what changed since it last asked, at its own index.
//! What a majority has is right; where there is none, what the leader has.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use orama_proto::sql::DatabaseId;
use orama_proto::{GroupId, NodeId};

use super::wire::{self, Ask, COMPARED_MAX, Told};
use super::{DataGroups, Inner};
use crate::sql::Mark;

/// A replica has so long to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// What a comparison says of this replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is as it should be.
    Right,
    /// Not enough answers.
    Open,
    /// It differs from what counts.
    Wrong,
}

/// Judges a hash by the other replicas' (`None`: not known). `leader`: the leader's hash when
/// another one leads and its hash is known.
pub(super) fn judge(mine: u128, others: &[Option<u128>], leader: Option<u128>) -> Verdict {
    let replicas = others.len() + 1;
    let same = 1 + others.iter().filter(|h| **h == Some(mine)).count();
    if same * 2 > replicas {
        return Verdict::Right;
    }
    let most = others.iter().flatten().filter(|h| **h != mine);
    let most = most.map(|hash| others.iter().filter(|h| **h == Some(*hash)).count());
    if most.max().is_some_and(|count| count * 2 > replicas) {
        return Verdict::Wrong;
    }
    if others.contains(&None) {
        return Verdict::Open;
    }
    match leader {
        Some(hash) if hash != mine => Verdict::Wrong,
        // It leads itself, or agrees with who does, or nobody does.
        _ => Verdict::Right,
    }
}

/// Marks that were found right, so that only what changes is asked about.
type Found = BTreeMap<GroupId, BTreeMap<DatabaseId, Mark>>;

/// Runs as long as the node.
pub(super) async fn run(inner: Weak<Inner>, every: Duration) {
    let mut found = Found::new();
    loop {
        tokio::time::sleep(every).await;
        let Some(inner) = inner.upgrade() else { return };
        let groups = DataGroups(inner);
        let here: Vec<GroupId> = groups.0.keepers.read().keys().copied().collect();
        found.retain(|group, _| here.contains(group));
        for group in here {
            groups.compare(group, found.entry(group).or_default()).await;
        }
    }
}

impl DataGroups {
    async fn compare(&self, group: GroupId, found: &mut BTreeMap<DatabaseId, Mark>) {
        let Some(replica) = self.replica(group) else {
            return;
        };
        let Some(databases) = replica.keeper.databases() else {
            return;
        };
        let Ok(listed) = tokio::task::spawn_blocking(move || databases.list()).await else {
            return;
        };
        let sound = listed.into_iter().filter(|d| d.fenced.is_none());
        let marks: BTreeMap<DatabaseId, Mark> = sound.map(|d| (d.id, d.mark)).collect();
        found.retain(|id, _| marks.contains_key(id));
        let changed = marks
            .into_iter()
            .filter(|(id, mark)| found.get(id) != Some(mark));
        let mut changed: Vec<(DatabaseId, Mark)> = changed.collect();
        if changed.len() > COMPARED_MAX {
            // Another part each time, so that some that stay open do not keep the rest waiting.
            let turn = self
                .0
                .turn
                .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let at = turn.wrapping_mul(COMPARED_MAX / 2) % changed.len();
            changed.rotate_left(at);
            changed.truncate(COMPARED_MAX);
        }
        if changed.is_empty() {
            return;
        }
        let of = changed.iter().map(|(id, mark)| (id.clone(), mark.applied));
        let answers = self.hashes_of_others(group, of.collect()).await;
        let leader = replica.group.view().leader;
        for (n, (id, mark)) in changed.into_iter().enumerate() {
            let hash = |hashes: &Vec<Option<u128>>| hashes.get(n).copied().flatten();
            let others: Vec<Option<u128>> = answers.iter().map(|(_, h)| hash(h)).collect();
            let leaders = answers.iter().find(|(node, _)| Some(*node) == leader);
            match judge(mark.hash, &others, leaders.and_then(|(_, h)| hash(h))) {
                Verdict::Right => {
                    found.insert(id, mark);
                }
                Verdict::Open => {}
                Verdict::Wrong => {
                    self.0.metrics.divergences.inc();
                    let applied = mark.applied;
                    tracing::error!(%group, database = %id, applied, "this replica's database differs from the others'; it is rebuilt");
                    let keeper = Arc::clone(&replica.keeper);
                    let why = format!("it differs from the other replicas' after entry {applied}");
                    let fenced = tokio::task::spawn_blocking(move || keeper.fence(&id, &why));
                    if let Ok(Err(error)) = fenced.await {
                        tracing::error!(%group, %error, "a database that differs cannot be fenced");
                    }
                }
            }
        }
    }

    /// What the other replicas have: one answer for each that there is to be, in the order of
    /// the question, empty from those that do not answer.
    pub(super) async fn hashes_of_others(
        &self,
        group: GroupId,
        of: Vec<(DatabaseId, u64)>,
    ) -> Vec<(NodeId, Vec<Option<u128>>)> {
        let topology = self.0.meta.topology();
        let placement = topology.groups.get(&group);
        let replicas = placement.map(|p| p.replicas.clone()).unwrap_or_default();
        let others = replicas.into_iter().filter(|n| *n != self.0.node);
        let Ok(body) = wire::encode(&Ask::Hashes { group, of }) else {
            return Vec::new();
        };
        let deadline = Instant::now() + ANSWER_WITHIN;
        let asked = others.map(|node| {
            let body = body.clone();
            async move {
                match self.ask_node(node, body, deadline).await {
                    Ok(Told::Hashes(hashes)) => (node, hashes),
                    _ => (node, Vec::new()),
                }
            }
        });
        futures::future::join_all(asked).await
    }

    /// This replica's hashes after these entries.
    pub(super) async fn hashes_here(
        &self,
        group: GroupId,
        of: Vec<(DatabaseId, u64)>,
    ) -> Option<Vec<Option<u128>>> {
        let keeper = self.replica(group)?.keeper;
        let databases = keeper.databases()?;
        let hashes = tokio::task::spawn_blocking(move || {
            let hashes = of.into_iter().map(|(id, index)| {
                let sound = !keeper.is_fenced(&id);
                sound.then(|| databases.hash_at(&id, index)).flatten()
            });
            hashes.collect()
        });
        hashes.await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_majority_counts_and_the_leader_where_there_is_none() {
        use Verdict::{Open, Right, Wrong};
        let judge = |others: &[Option<u128>], leader| super::judge(1, others, leader);
        assert_eq!(judge(&[], None), Right, "alone");
        assert_eq!(judge(&[Some(1), None], None), Right, "two of three agree");
        assert_eq!(
            judge(&[Some(1), Some(2)], Some(2)),
            Right,
            "the leader is wrong"
        );
        assert_eq!(judge(&[Some(2), Some(2)], None), Wrong);
        assert_eq!(judge(&[Some(2), None], Some(2)), Open, "the third decides");
        assert_eq!(judge(&[None, None], None), Open);
        assert_eq!(
            judge(&[Some(2)], Some(2)),
            Wrong,
            "of two the leader is right"
        );
        assert_eq!(judge(&[Some(2)], None), Right, "of two this one leads");
        assert_eq!(judge(&[Some(2), Some(3)], Some(3)), Wrong, "three differ");
        assert_eq!(judge(&[Some(2), Some(2), None, None], None), Open);
        let five = [Some(2), Some(2), Some(2), None];
        assert_eq!(judge(&five, None), Wrong);
    }
}
