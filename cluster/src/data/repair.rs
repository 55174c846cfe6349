//! Rebuilds databases that are fenced: from this node's last copy where the others agree
//! with it, else from another replica's; then the log adds what the copy lacks.
//!
//! One at a time on a node, tried again with growing pauses until it works.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use orama_proto::sql::DatabaseId;
use orama_proto::{GroupId, NodeId};
use xxhash_rust::xxh3::Xxh3;

use super::compare::{Verdict, judge};
use super::copies::TempCopy;
use super::keeper::DataKeeper;
use super::wire::{self, Ask, Copied, CopyFor, Told};
use super::{DataGroups, Inner, rebuild};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// A database that could not be rebuilt is tried again after so long, twice as long each time.
const PAUSE_FIRST: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// Another replica has so long to make a copy.
const COPY_WITHIN: Duration = Duration::from_secs(60);
/// Fetching a copy may take so long.
const FETCH_WITHIN: Duration = Duration::from_secs(1800);
/// One piece of it.
const PIECE_WITHIN: Duration = Duration::from_secs(20);

/// When a database is tried again.
struct Again {
    at: Instant,
    pause: Duration,
}

/// One that was rebuilt and is fenced again within so long waits too, as if it had failed.
const CALM_AFTER: Duration = Duration::from_secs(600);

type Tries = BTreeMap<(GroupId, DatabaseId), Again>;

/// Forgets what is neither fenced nor was so lately.
fn tidy(again: &mut Tries, fenced: &[(GroupId, DatabaseId)], now: Instant) {
    again.retain(|key, tried| fenced.contains(key) || now < tried.at + CALM_AFTER);
}

/// When it is tried again, after one more time.
fn once_more(again: &mut Tries, key: (GroupId, DatabaseId), now: Instant) -> Duration {
    let before = again.get(&key);
    let pause = before.map_or(PAUSE_FIRST, |a| (a.pause * 2).min(PAUSE_MAX));
    let at = now + pause;
    again.insert(key, Again { at, pause });
    pause
}

/// Runs as long as the node.
pub(super) async fn run(inner: Weak<Inner>) {
    let mut again = Tries::new();
    let Some(told) = inner.upgrade().map(|inner| Arc::clone(&inner.fenced)) else {
        return;
    };
    loop {
        let now = Instant::now();
        // What is over may belong to one that is sound now.
        let next = again.values().map(|a| a.at).filter(|at| *at > now).min();
        let look = now + LOOK_EVERY;
        let until = next.map_or(look, |at| at.min(look));
        tokio::select! {
            () = told.notified() => {}
            () = tokio::time::sleep_until(until.into()) => {}
        }
        let Some(inner) = inner.upgrade() else { return };
        let groups = DataGroups(inner);
        let fenced = groups.fenced_here().await;
        tidy(&mut again, &fenced, Instant::now());
        for key in fenced {
            if again.get(&key).is_some_and(|a| a.at > Instant::now()) {
                continue;
            }
            let (group, id) = &key;
            groups.give_away(*group).await;
            // Rebuilt lately, and fenced again: what is here may have been wrong before it was noticed.
            let trusted = !again.contains_key(&key);
            match groups.repair(*group, id, trusted).await {
                Ok(from) => {
                    groups.0.metrics.rebuilt(from);
                    tracing::warn!(%group, database = %id, from, "a database was rebuilt");
                    once_more(&mut again, key, Instant::now());
                }
                Err(why) => {
                    groups.0.metrics.rebuilt("failed");
                    let shown = key.clone();
                    let pause = once_more(&mut again, key, Instant::now());
                    let (group, id) = &shown;
                    tracing::warn!(%group, database = %id, why, ?pause, "a database cannot be rebuilt yet");
                }
            }
        }
    }
}

impl DataGroups {
    async fn fenced_here(&self) -> Vec<(GroupId, DatabaseId)> {
        let keepers: Vec<Arc<DataKeeper>> = self.0.keepers.read().values().cloned().collect();
        let fenced = tokio::task::spawn_blocking(move || {
            let all = keepers.iter().flat_map(|keeper| {
                let fenced = keeper.all_fenced().into_iter();
                fenced.map(|(id, _)| (keeper.group, id))
            });
            all.collect::<Vec<_>>()
        });
        fenced.await.unwrap_or_default()
    }

    /// Answers where the copy came from. This node's own is taken first when it is `trusted`, and
    /// when there is no other replica.
    async fn repair(
        &self,
        group: GroupId,
        id: &DatabaseId,
        trusted: bool,
    ) -> Result<&'static str, String> {
        let replica = self.replica(group).ok_or("there is no replica here")?;
        let keeper = replica.keeper;
        let topology = self.0.meta.topology();
        let replicas = topology.groups.get(&group).map_or(0, |p| p.replicas.len());
        if replicas <= 1 || (trusted && self.others_agree_with_saved(&keeper, group, id).await) {
            match locally(Arc::clone(&keeper), id.clone()).await {
                Ok(()) => return Ok("local"),
                Err(why) if replicas <= 1 => return Err(why),
                Err(why) => {
                    tracing::info!(%group, database = %id, why, "not rebuilt from what is here; another replica is asked");
                }
            }
        }
        let applied = replica.group.applied_index();
        let mut nodes = self.others_with(group);
        let leader = replica.group.view().leader;
        nodes.sort_by_key(|n| Some(*n) != leader);
        let mut failed = String::from("no other replica can be reached");
        for node in nodes {
            match self.repair_from(&keeper, node, group, id, applied).await {
                Ok(()) => return Ok("replica"),
                Err(why) => failed = why,
            }
        }
        Err(failed)
    }

    /// Whether this node's last copy is what a majority has, as far as they know.
    async fn others_agree_with_saved(
        &self,
        keeper: &Arc<DataKeeper>,
        group: GroupId,
        id: &DatabaseId,
    ) -> bool {
        let (keeper, wanted) = (Arc::clone(keeper), id.clone());
        let saved = tokio::task::spawn_blocking(move || {
            let newest = keeper.saved().into_iter().next()?;
            let saved = keeper.databases()?.saved(&newest.pairs, &wanted).ok()?;
            saved.map(|backup| backup.mark)
        });
        let Ok(Some(mark)) = saved.await else {
            return false;
        };
        let of = vec![(id.clone(), mark.applied)];
        let answers = self.hashes_of_others(group, of).await;
        let others: Vec<_> = answers
            .iter()
            .map(|(_, hashes)| hashes.first().copied().flatten())
            .collect();
        let known = others.contains(&Some(mark.hash));
        known && judge(mark.hash, &others, None) == Verdict::Right
    }

    async fn repair_from(
        &self,
        keeper: &Arc<DataKeeper>,
        node: NodeId,
        group: GroupId,
        id: &DatabaseId,
        applied: u64,
    ) -> Result<(), String> {
        let body = wire::encode(&Ask::Copy {
            group,
            database: id.clone(),
            copy_for: CopyFor::Replica(applied),
        })?;
        let deadline = Instant::now() + COPY_WITHIN;
        let told = self.ask_node(node, body, deadline).await;
        let (copy, at) = match told.map_err(|e| e.to_string())? {
            Told::NoDatabase { at } => (None, at),
            Told::Copied(copied) => {
                let fetched = self.fetch_copy(node, &copied).await;
                self.release(node, copied.token).await;
                (Some(fetched?), copied.at)
            }
            Told::Fenced(why) => return Err(format!("node {node} has none either: {why}")),
            _ => return Err(format!("node {node} has no copy to give")),
        };
        let (keeper, id) = (Arc::clone(keeper), id.clone());
        let placed = tokio::task::spawn_blocking(move || {
            let databases = keeper.databases().ok_or("the databases are closed")?;
            let path = copy.as_ref().map(TempCopy::path);
            rebuild::beside(&keeper, &databases, &id, path, at).map_err(|e| e.to_string())
        });
        placed.await.unwrap_or_else(|e| Err(e.to_string()))
    }

    /// Fetches a copy into a file and checks it.
    async fn fetch_copy(&self, node: NodeId, copied: &Copied) -> Result<TempCopy, String> {
        if !self.0.copies.has_room(copied.bytes) {
            return Err("the disk has no room for a copy".into());
        }
        let (end, groups) = (Instant::now() + FETCH_WITHIN, self.clone());
        let made = tokio::task::spawn_blocking(move || {
            let copy = groups.0.copies.place(None)?;
            let file = std::fs::File::create(copy.path())?;
            Ok::<_, io::Error>((copy, file))
        });
        let made = made.await.map_err(|e| e.to_string())?;
        let (copy, mut file) = made.map_err(|e| e.to_string())?;
        let (mut offset, mut sum) = (0, Xxh3::new());
        while offset < copied.bytes {
            if Instant::now() > end {
                return Err(format!("{offset} bytes were fetched in {FETCH_WITHIN:?}"));
            }
            let deadline = Instant::now() + PIECE_WITHIN;
            let piece = self.piece(node, copied.token, offset, deadline).await;
            let piece = piece.map_err(|e| e.to_string())?;
            if piece.is_empty() || piece.len() as u64 > copied.bytes - offset {
                return Err(format!("node {node} sent another copy than it announced"));
            }
            offset += piece.len() as u64;
            let written = tokio::task::spawn_blocking(move || {
                sum.update(&piece);
                file.write_all(&piece).map(|()| (file, sum))
            });
            let written = written.await.map_err(|e| e.to_string())?;
            (file, sum) = written.map_err(|e| e.to_string())?;
        }
        match sum.digest128() == copied.sum {
            true => Ok(copy),
            false => Err(format!("the copy of node {node} arrived damaged")),
        }
    }
}

async fn locally(keeper: Arc<DataKeeper>, id: DatabaseId) -> Result<(), String> {
    let placed = tokio::task::spawn_blocking(move || {
        let databases = keeper.databases().ok_or("the databases are closed")?;
        let done = rebuild::locally(&keeper, &databases, &id);
        done.map(drop).map_err(|e| e.to_string())
    });
    placed.await.unwrap_or_else(|e| Err(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use orama_proto::{Namespace, Timestamp};

    #[test]
    fn one_that_is_damaged_again_and_again_is_rebuilt_less_and_less_often() {
        let key = |n| {
            let namespace = Namespace::parse("acme").unwrap();
            let born = Timestamp(n);
            (GroupId(1), DatabaseId { namespace, born })
        };
        let (mut again, mut now) = (Tries::new(), Instant::now());
        let mut before = Duration::ZERO;
        for _ in 0..10 {
            let pause = once_more(&mut again, key(1), now);
            assert!(pause > before || pause == PAUSE_MAX);
            before = pause;
            now += pause;
            tidy(&mut again, &[key(1)], now);
        }
        assert_eq!(before, PAUSE_MAX);
        tidy(&mut again, &[], now + CALM_AFTER / 2);
        assert_eq!(again.len(), 1, "it may be fenced again at any moment");
        tidy(&mut again, &[], now + CALM_AFTER);
        assert!(again.is_empty());
        assert_eq!(once_more(&mut again, key(1), now), PAUSE_FIRST);
    }
}
