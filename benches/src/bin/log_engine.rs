//! What the engine of the Raft log costs: durable appends of about 1 KiB on our
//! segments, on redb and on sled, against what the disk itself does with a plain file.
//!
//! Every append is acknowledged past fdatasync. Writers queue at one thread,
//! which makes one durable commit of whatever waits, as the log's writer does.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::Result;
use orama_cluster::consensus::LogProbe;
use redb::{Database, Durability, TableDefinition};

const ENTRY: usize = 1024;
const MEASURE: Duration = Duration::from_secs(4);
const ENTRIES: TableDefinition<&[u8], &[u8]> = TableDefinition::new("entries");

/// One durable commit of entries with consecutive indices from `first`.
trait Engine: Send {
    fn commit(&mut self, first: u64, count: u64) -> Result<()>;
}

fn key(index: u64) -> [u8; 12] {
    let mut key = [0; 12];
    key[4..].copy_from_slice(&index.to_be_bytes());
    key
}

fn value(index: u64) -> Vec<u8> {
    let seed = index.to_le_bytes();
    seed.iter().cycle().take(ENTRY).copied().collect()
}

/// The entries side by side, copied as the others copy them.
fn values(first: u64, count: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for index in first..first + count {
        bytes.extend_from_slice(&value(index));
    }
    bytes
}

struct Plain(File);

impl Engine for Plain {
    fn commit(&mut self, first: u64, count: u64) -> Result<()> {
        let bytes = values(first, count);
        self.0.write_all(&bytes)?;
        Ok(self.0.sync_data()?)
    }
}

/// A plain file whose blocks are there already, so that a sync changes no metadata.
struct Filled {
    file: File,
    at: u64,
}

/// It is begun anew when this is full.
const FILLED: usize = 256 << 20;

impl Engine for Filled {
    fn commit(&mut self, first: u64, count: u64) -> Result<()> {
        let bytes = values(first, count);
        if self.at + bytes.len() as u64 > FILLED as u64 {
            self.at = 0;
        }
        self.file.write_all_at(&bytes, self.at)?;
        self.at += bytes.len() as u64;
        Ok(self.file.sync_data()?)
    }
}

struct Segments(LogProbe);

impl Engine for Segments {
    fn commit(&mut self, first: u64, count: u64) -> Result<()> {
        Ok(self
            .0
            .commit(first, (first..first + count).map(value).collect())?)
    }
}

struct Redb {
    db: Database,
    two_phase: bool,
}

impl Engine for Redb {
    fn commit(&mut self, first: u64, count: u64) -> Result<()> {
        let mut txn = self.db.begin_write()?;
        txn.set_durability(Durability::Immediate)?;
        txn.set_two_phase_commit(self.two_phase);
        {
            let mut table = txn.open_table(ENTRIES)?;
            for index in first..first + count {
                table.insert(key(index).as_slice(), value(index).as_slice())?;
            }
        }
        Ok(txn.commit()?)
    }
}

struct Sled {
    db: sled::Db,
    /// sled's own flush ends in sync_file_range, which is no barrier.
    file: File,
}

impl Engine for Sled {
    fn commit(&mut self, first: u64, count: u64) -> Result<()> {
        let mut batch = sled::Batch::default();
        for index in first..first + count {
            batch.insert(key(index).as_slice(), value(index));
        }
        self.db.apply_batch(batch)?;
        self.db.flush()?;
        Ok(self.file.sync_data()?)
    }
}

struct Figures {
    per_second: f64,
    p50: Duration,
    p99: Duration,
    per_commit: f64,
}

/// `writers` threads, each waiting for its append before it makes the next.
fn measure(mut engine: Box<dyn Engine>, writers: usize) -> Result<Figures> {
    let (queue, waiting) = mpsc::sync_channel::<mpsc::SyncSender<()>>(1024);
    let writer = std::thread::spawn(move || -> Result<(u64, u64)> {
        let (mut entries, mut commits) = (0, 0);
        while let Ok(first) = waiting.recv() {
            let mut batch = vec![first];
            batch.extend(waiting.try_iter().take(1023));
            engine.commit(entries, batch.len() as u64)?;
            entries += batch.len() as u64;
            commits += 1;
            for done in batch {
                // A writer that has stopped needs no answer.
                let _ = done.send(());
            }
        }
        Ok((entries, commits))
    });
    let start = Instant::now();
    let threads: Vec<_> = (0..writers)
        .map(|_| {
            let queue = queue.clone();
            std::thread::spawn(move || {
                let mut times = Vec::new();
                while start.elapsed() < MEASURE {
                    let (done, answer) = mpsc::sync_channel(1);
                    let begin = Instant::now();
                    if queue.send(done).is_err() || answer.recv().is_err() {
                        break;
                    }
                    times.push(begin.elapsed());
                }
                times
            })
        })
        .collect();
    drop(queue);
    let mut times = Vec::new();
    for thread in threads {
        let part = thread
            .join()
            .map_err(|_| anyhow::anyhow!("a writer died"))?;
        times.extend(part);
    }
    let took = start.elapsed().as_secs_f64();
    let (entries, commits) = writer
        .join()
        .map_err(|_| anyhow::anyhow!("the committing thread died"))??;
    times.sort_unstable();
    let at = |share: f64| {
        let last = times.len().saturating_sub(1);
        let index = (last as f64 * share) as usize;
        times.get(index).copied().unwrap_or_default()
    };
    Ok(Figures {
        per_second: times.len() as f64 / took,
        p50: at(0.5),
        p99: at(0.99),
        per_commit: entries as f64 / (commits as f64).max(1.0),
    })
}

fn engine(name: &str, dir: &Path) -> Result<Box<dyn Engine>> {
    Ok(match name {
        "plain file" => Box::new(Plain(
            OpenOptions::new()
                .create(true)
                .append(true)
                .open(dir.join("plain"))?,
        )),
        "plain file, filled" => {
            let mut file = File::create(dir.join("filled"))?;
            let zeros = vec![0; 1 << 20];
            for _ in 0..FILLED / zeros.len() {
                file.write_all(&zeros)?;
            }
            file.sync_all()?;
            Box::new(Filled { file, at: 0 })
        }
        "segments (ours)" => Box::new(Segments(LogProbe::open(&dir.join("log"))?)),
        "sled + sync_data" => {
            let path = dir.join("sled");
            let db = sled::Config::new()
                .path(&path)
                .segment_size(16 << 20)
                .flush_every_ms(None)
                .open()?;
            let file = File::open(path.join("db"))?;
            Box::new(Sled { db, file })
        }
        _ => Box::new(Redb {
            db: Database::create(dir.join("redb"))?,
            two_phase: name == "redb two-phase",
        }),
    })
}

fn main() -> Result<()> {
    // The directory may be named, to measure the disk that matters.
    let base = std::env::args().nth(1).unwrap_or_else(|| ".".into());
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "durable appends of {ENTRY} B, {} s each\n\n| engine | writers | appends/s | p50 | p99 | per commit | of plain |\n|---|---|---|---|---|---|---|",
        MEASURE.as_secs()
    )?;
    for writers in [1, 64, 256] {
        let mut plain = None;
        for name in [
            "plain file",
            "plain file, filled",
            "segments (ours)",
            "redb one-phase",
            "redb two-phase",
            "sled + sync_data",
        ] {
            let dir = tempfile::tempdir_in(&base)?;
            let figures = measure(engine(name, dir.path())?, writers)?;
            let plain = *plain.get_or_insert(figures.per_second);
            writeln!(
                out,
                "| {name} | {writers} | {:.0} | {:.2?} | {:.2?} | {:.1} | {:.2} |",
                figures.per_second,
                figures.p50,
                figures.p99,
                figures.per_commit,
                figures.per_second / plain
            )?;
        }
    }
    Ok(())
}
