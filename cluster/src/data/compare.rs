//! Replicas compare the hashes of their databases: statements are replicated, not pages,
//! so that a replica that computes something else must be found out.
//!
//! Each replica asks the others about what changed since it last asked: at its own index, and of
//! databases that are written all the time also at a boundary of the log, where all have been.
//! What a majority has is right; where there is none, what the leader has. One that seems wrong
//! is asked about once more at the same entry before it is fenced.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use orama_proto::sql::DatabaseId;
use orama_proto::{GroupId, NodeId};

use super::wire::{self, Ask, COMPARED_MAX, Told};
use super::{DataGroups, Inner, Replica};
use crate::sql::{DatabaseInfo, Mark};

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

/// Marks that were found right, the present one and the one at a boundary, so that only what
/// changes is asked about.
#[derive(Debug, Default, Clone, Copy)]
struct Right {
    mark: Mark,
    passed: Mark,
}

type RightOnes = BTreeMap<DatabaseId, Right>;
type Found = BTreeMap<GroupId, RightOnes>;

/// One question: a database and what this replica has of it at one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Point {
    id: DatabaseId,
    mark: Mark,
    /// Whether it is a boundary, and not where the database is.
    passed: bool,
}

/// What of these is to be asked about; databases that are gone are forgotten.
fn to_ask(listed: Vec<DatabaseInfo>, found: &mut RightOnes) -> Vec<Point> {
    let sound: Vec<DatabaseInfo> = listed.into_iter().filter(|d| d.fenced.is_none()).collect();
    let there: BTreeSet<&DatabaseId> = sound.iter().map(|d| &d.id).collect();
    found.retain(|id, _| there.contains(id));
    let mut points = Vec::new();
    for database in sound {
        let right = found.get(&database.id).copied().unwrap_or_default();
        if right.mark == database.mark {
            continue;
        }
        if let Some(passed) = database.passed.filter(|p| *p != right.passed) {
            points.push(Point {
                id: database.id.clone(),
                mark: passed,
                passed: true,
            });
        }
        points.push(Point {
            id: database.id,
            mark: database.mark,
            passed: false,
        });
    }
    points
}

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
    async fn compare(&self, group: GroupId, found: &mut RightOnes) {
        let Some(replica) = self.replica(group) else {
            return;
        };
        let Some(databases) = replica.keeper.databases() else {
            return;
        };
        let Ok(listed) = tokio::task::spawn_blocking(move || databases.list()).await else {
            return;
        };
        let mut points = to_ask(listed, found);
        if points.len() > COMPARED_MAX {
            // Another part each time, so that some that stay open do not keep the rest waiting.
            let turn = self
                .0
                .turn
                .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let at = turn.wrapping_mul(COMPARED_MAX / 2) % points.len();
            points.rotate_left(at);
            points.truncate(COMPARED_MAX);
        }
        let mut wrong = Vec::new();
        for (point, verdict) in self.judge_all(group, &replica, points).await {
            match verdict {
                Verdict::Right => {
                    let right = found.entry(point.id).or_default();
                    match point.passed {
                        true => right.passed = point.mark,
                        false => right.mark = point.mark,
                    }
                }
                Verdict::Open => {}
                Verdict::Wrong => wrong.push(point),
            }
        }
        // Of the same entry: what one of them says while it is being replaced is not the truth.
        for (point, verdict) in self.judge_all(group, &replica, wrong).await {
            if verdict == Verdict::Wrong {
                self.fence_differing(group, &replica, point).await;
            }
        }
    }

    /// Judges what this replica has by what the others have at the same entries.
    async fn judge_all(
        &self,
        group: GroupId,
        replica: &Replica,
        points: Vec<Point>,
    ) -> Vec<(Point, Verdict)> {
        if points.is_empty() {
            return Vec::new();
        }
        let of = points.iter().map(|p| (p.id.clone(), p.mark.applied));
        let answers = self.hashes_of_others(group, of.collect()).await;
        let leader = replica.group.view().leader;
        let judged = points.into_iter().enumerate().map(|(n, point)| {
            let hash = |hashes: &Vec<Option<u128>>| hashes.get(n).copied().flatten();
            let others: Vec<Option<u128>> = answers.iter().map(|(_, h)| hash(h)).collect();
            let leaders = answers.iter().find(|(node, _)| Some(*node) == leader);
            let leaders = leaders.and_then(|(_, h)| hash(h));
            let verdict = judge(point.mark.hash, &others, leaders);
            (point, verdict)
        });
        judged.collect()
    }

    async fn fence_differing(&self, group: GroupId, replica: &Replica, point: Point) {
        let Point { id, mark, .. } = point;
        let (keeper, applied) = (Arc::clone(&replica.keeper), mark.applied);
        let database = id.clone();
        let fenced = tokio::task::spawn_blocking(move || {
            // It may have been replaced meanwhile.
            let here = keeper.databases().and_then(|d| d.hash_at(&id, applied));
            if here != Some(mark.hash) {
                return Ok(false);
            }
            let why = format!("it differs from the other replicas' after entry {applied}");
            keeper.fence(&id, &why).map(|()| true)
        });
        match fenced.await {
            Ok(Ok(true)) => {
                self.0.metrics.divergences.inc();
                tracing::error!(%group, %database, applied, "this replica's database differs from the others'; it is rebuilt");
            }
            Ok(Err(error)) => {
                self.0.metrics.divergences.inc();
                tracing::error!(%group, %database, applied, %error, "this replica's database differs from the others', and cannot be fenced");
            }
            Ok(Ok(false)) | Err(_) => {}
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
    use orama_proto::{Namespace, Timestamp};

    #[test]
    fn what_never_rests_is_asked_about_at_its_boundaries() {
        let mark = |applied| Mark {
            applied,
            hash: u128::from(applied),
        };
        let info = |applied, passed: u64| DatabaseInfo {
            id: DatabaseId {
                namespace: Namespace::parse("acme").unwrap(),
                born: Timestamp(1),
            },
            mark: mark(applied),
            passed: (passed > 0).then(|| mark(passed)),
            bytes: 0,
            fenced: None,
        };
        let at = |points: &[Point]| points.iter().map(|p| p.mark.applied).collect::<Vec<_>>();
        let mut found = RightOnes::new();
        assert_eq!(at(&to_ask(vec![info(7, 0)], &mut found)), [7]);
        assert_eq!(
            at(&to_ask(vec![info(5000, 2048)], &mut found)),
            [2048, 5000]
        );
        let right = Right {
            mark: mark(5000),
            passed: mark(2048),
        };
        found.insert(info(1, 0).id, right);
        assert!(to_ask(vec![info(5000, 2048)], &mut found).is_empty());
        assert_eq!(at(&to_ask(vec![info(5001, 2048)], &mut found)), [5001]);
        assert_eq!(
            at(&to_ask(vec![info(9000, 7168)], &mut found)),
            [7168, 9000]
        );
        let fenced = DatabaseInfo {
            fenced: Some("why".into()),
            ..info(9000, 7168)
        };
        assert!(to_ask(vec![fenced], &mut found).is_empty() && found.is_empty());
    }

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
