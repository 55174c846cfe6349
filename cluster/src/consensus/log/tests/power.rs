//! The log against power cuts.

use std::sync::atomic::{AtomicU64, Ordering};

use super::disk::Picture;
use super::*;

const GROUPS: [GroupId; 3] = [GroupId(1), GroupId(2), GroupId(9)];

/// What has been acknowledged for a group, as a plain model.
#[derive(Debug, Clone, Default, PartialEq)]
struct Model {
    entries: BTreeMap<u64, RaftEntry>,
    purged: Option<Position>,
    vote: Option<RaftVote>,
}

type Models = Vec<Model>;

impl Model {
    fn next(&self) -> u64 {
        let last = self.entries.keys().next_back().copied();
        last.or(self.purged.map(|p| p.index)).map_or(0, |i| i + 1)
    }
    fn any(&self, random: &mut Random, spare: u64) -> Position {
        let nth = random.below(self.entries.len() as u64 - spare) as usize;
        self.entries.values().nth(nth).unwrap().log_id.into()
    }
}

enum Planned {
    Vote(RaftVote),
    Purge(Position),
    Truncate(Position),
    Append(Vec<RaftEntry>),
    Erase,
}

/// A random operation that the model allows; the model is moved on.
fn plan(model: &mut Model, step: u64, random: &mut Random) -> Planned {
    match random.below(16) {
        0 | 1 => {
            let vote = RaftVote::new(step + 1, random.below(3));
            model.vote = Some(vote);
            Planned::Vote(vote)
        }
        2..=4 if !model.entries.is_empty() => {
            let at = model.any(random, 0);
            model.entries.retain(|i, _| *i > at.index);
            model.purged = Some(at);
            Planned::Purge(at)
        }
        5 | 6 if model.entries.len() > 1 => {
            let at = model.any(random, 1);
            model.entries.retain(|i, _| *i <= at.index);
            Planned::Truncate(at)
        }
        7 => {
            *model = Model::default();
            Planned::Erase
        }
        _ => {
            let first = model.next();
            let new: Vec<_> = (first..=first + random.below(4))
                .map(|i| {
                    let size = 1 + random.below(1500) as usize;
                    let mut entry = entry(step, i, size);
                    if random.below(4) == 0 {
                        // Zeros must not pass for what was never written.
                        entry.payload = EntryPayload::Normal(Command(vec![0; size]));
                    }
                    entry
                })
                .collect();
            let pairs = new.iter().map(|e| (e.log_id.index, e.clone()));
            model.entries.extend(pairs);
            Planned::Append(new)
        }
    }
}

async fn found(log: &RaftLog) -> Models {
    let mut models = Vec::new();
    for group in GROUPS {
        let mut group = log.group(group).unwrap();
        models.push(Model {
            entries: read_all(&mut group).await,
            purged: group.ends().0,
            vote: group.read_vote().await.unwrap(),
        });
    }
    models
}

/// Random operations from `start` on. Answers what holds after each.
async fn work(
    log: &RaftLog,
    start: Models,
    steps: u64,
    random: &mut Random,
    acknowledged: &AtomicU64,
) -> Vec<Models> {
    let mut states = vec![start];
    for step in 0..steps {
        let mut models = states.last().unwrap().clone();
        let nth = random.below(8).min(2) as usize;
        let planned = plan(&mut models[nth], step, random);
        states.push(models);
        let mut group = log.group(GROUPS[nth]).unwrap();
        match planned {
            Planned::Vote(vote) => group.save_vote(&vote).await.unwrap(),
            Planned::Purge(at) => group.purge(at.into()).await.unwrap(),
            Planned::Truncate(at) => group.truncate_after(Some(at.into())).await.unwrap(),
            Planned::Append(new) => append(&mut group, new).await.unwrap(),
            Planned::Erase => log.erase(GROUPS[nth]).await.unwrap(),
        }
        acknowledged.store(step + 1, Ordering::SeqCst);
    }
    states
}

/// The state after a cut: the operation under way may be there or not, nothing between.
async fn check(
    states: &[Models],
    (count, image): Picture,
    what: &str,
) -> Option<(Backend, Models)> {
    if image.is_empty() {
        assert_eq!(count, 0, "{what}");
        return None;
    }
    let backend = Backend::over(image);
    let log = open_with(&backend, SMALL).unwrap_or_else(|e| panic!("{what}: {e}"));
    let found = found(&log).await;
    let count = count as usize;
    let allowed = &states[count..(count + 2).min(states.len())];
    assert!(allowed.contains(&found), "{what}: {found:?}");
    // Killed, not closed: the next opening finds what this one left.
    let left = backend.synced();
    Some((Backend::over(left), found))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_power_cuts_at_any_point() {
    let (mut cuts, mut moved) = (0, 0);
    for seed in 0..20 {
        let acknowledged = Arc::new(AtomicU64::new(0));
        let backend = Backend::watched(seed * 7919 + 1, &acknowledged);
        let mut random = Random(seed + 1000);
        let log = open_with(&backend, SMALL).unwrap();
        let states = work(
            &log,
            vec![Model::default(); GROUPS.len()],
            60,
            &mut random,
            &acknowledged,
        )
        .await;
        moved += usize::from(!backend.0.lock().now.contains_key(&1));
        let pictures = backend.0.lock().pictures();
        for (nth, picture) in pictures.into_iter().enumerate() {
            cuts += 1;
            let what = format!("seed {seed}, picture {nth}, cut after {}", picture.0);
            let Some((backend, models)) = check(&states, picture, &what).await else {
                continue;
            };
            if nth % 8 > 0 {
                continue;
            }
            // Life goes on, and is cut again.
            let acknowledged = Arc::new(AtomicU64::new(0));
            let again = Backend::watched(random.next(), &acknowledged);
            again.0.lock().now = backend.synced();
            again.0.lock().synced = backend.synced();
            let log = open_with(&again, SMALL).unwrap();
            let states = work(&log, models, 6, &mut random, &acknowledged).await;
            let pictures = again.0.lock().pictures();
            for picture in pictures {
                cuts += 1;
                let what = format!("{what}, then after {}", picture.0);
                check(&states, picture, &what).await;
            }
        }
    }
    assert!(cuts > 1000, "only {cuts} cuts");
    assert!(moved > 5, "only {moved} runs removed a segment");
}
