//! The log against power cuts.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use openraft::RaftLogReader;
use openraft::storage::RaftLogStorage;

use super::disk::{Backend, Camera, Random};
use super::*;

/// What has been acknowledged, as a plain model.
#[derive(Debug, Clone, Default, PartialEq)]
struct Model {
    entries: BTreeMap<u64, RaftEntry>,
    purged: Option<Position>,
    vote: Option<RaftVote>,
}

impl Model {
    fn next(&self) -> u64 {
        let last = self.entries.keys().next_back().copied();
        last.or(self.purged.map(|p| p.index)).map_or(0, |i| i + 1)
    }
}

/// A random operation that the model allows; the model is moved on.
fn plan(model: &mut Model, step: u64, random: &mut Random) -> Planned {
    match random.below(8) {
        0 => {
            let vote = RaftVote::new(step + 1, random.below(3));
            model.vote = Some(vote);
            Planned::Vote(vote)
        }
        1 if !model.entries.is_empty() => {
            let nth = random.below(model.entries.len() as u64) as usize;
            let at = Position::from(model.entries.values().nth(nth).unwrap().log_id);
            model.entries.retain(|i, _| *i > at.index);
            model.purged = Some(at);
            Planned::Purge(at)
        }
        2 if model.entries.len() > 1 => {
            let nth = random.below(model.entries.len() as u64 - 1) as usize;
            let at = Position::from(model.entries.values().nth(nth).unwrap().log_id);
            model.entries.retain(|i, _| *i <= at.index);
            Planned::Truncate(at)
        }
        _ => {
            let first = model.next();
            let new: Vec<_> = (first..=first + random.below(4))
                .map(|i| entry(step, i, 1 + random.below(3000) as usize))
                .collect();
            let pairs = new.iter().map(|e| (e.log_id.index, e.clone()));
            model.entries.extend(pairs);
            Planned::Append(new)
        }
    }
}

enum Planned {
    Vote(RaftVote),
    Purge(Position),
    Truncate(Position),
    Append(Vec<RaftEntry>),
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_power_cuts_at_any_point() {
    let mut cuts = 0;
    for seed in 0..25 {
        let camera = Camera::new(seed * 7919 + 1);
        let mut random = Random(seed + 1000);
        let engine = Engine::open_backend(camera.clone()).unwrap();
        let log = RaftLog::start(engine, &metrics()).unwrap();
        let mut group = log.group(GROUP).unwrap();
        // states[n] is what holds after n acknowledged operations.
        let mut states = vec![Model::default()];
        for step in 0..16 {
            let mut model = states.last().unwrap().clone();
            let planned = plan(&mut model, step, &mut random);
            states.push(model);
            match planned {
                Planned::Vote(vote) => group.save_vote(&vote).await.unwrap(),
                Planned::Purge(at) => group.purge(at.into()).await.unwrap(),
                Planned::Truncate(at) => group.truncate_after(Some(at.into())).await.unwrap(),
                Planned::Append(new) => append(&mut group, new).await.unwrap(),
            }
            camera.acknowledged.store(step + 1, Ordering::SeqCst);
        }
        let taken = std::mem::take(&mut *camera.taken.lock());
        for (count, image) in taken {
            cuts += 1;
            let what = format!("seed {seed}, cut after {count} acknowledged");
            let log = match open(&Backend::over(image)) {
                Ok(log) => log,
                // Before the first acknowledgement the file may not exist yet.
                Err(_) if count == 0 => continue,
                Err(e) => panic!("{what}: {e}"),
            };
            let mut group = log.group(GROUP).unwrap_or_else(|e| panic!("{what}: {e}"));
            let found = Model {
                entries: read_all(&mut group).await,
                purged: group.ends().0,
                vote: group.read_vote().await.unwrap(),
            };
            // The operation under way may be there or not; nothing between.
            let count = count as usize;
            let allowed = &states[count..(count + 2).min(states.len())];
            assert!(allowed.contains(&found), "{what}: {found:?}");
        }
    }
    assert!(cuts > 300, "only {cuts} cuts");
}
