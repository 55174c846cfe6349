//! Readers: connections that are kept for the next query, a bounded number of them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use orama_proto::sql::{DatabaseId, Rows, SqlError};
use parking_lot::Mutex;
use prometheus::IntGauge;

use super::slot::path_of;
use super::{Databases, EngineFault, Fenced, Query};
use crate::sql::Reader;

/// An open reader and what it reads.
struct Idle {
    id: DatabaseId,
    generation: u64,
    reader: Reader,
}

/// Readers that nobody uses at the moment, the one used last at the end.
pub(super) struct Readers {
    idle: Mutex<VecDeque<Idle>>,
    empty: Mutex<Vec<Reader>>,
    max: usize,
    gauge: IntGauge,
}

/// Idle readers of nothing.
const EMPTY_MAX: usize = 4;

impl Readers {
    pub(super) fn new(max: usize, gauge: IntGauge) -> Self {
        Self {
            idle: Mutex::default(),
            empty: Mutex::default(),
            max,
            gauge,
        }
    }

    fn take(&self, id: &DatabaseId, generation: u64) -> Option<Reader> {
        let mut idle = self.idle.lock();
        let fits = |i: &Idle| i.generation == generation && i.id == *id;
        let at = idle.iter().rposition(fits)?;
        idle.remove(at).map(|idle| idle.reader)
    }

    /// Keeps a reader; the one that was idle for longest goes when there are too many.
    fn put(&self, id: &DatabaseId, generation: u64, reader: Reader) {
        let mut idle = self.idle.lock();
        idle.push_back(Idle {
            id: id.clone(),
            generation,
            reader,
        });
        let over = (idle.len() > self.max).then(|| idle.pop_front()).flatten();
        drop(idle);
        if over.is_some() {
            self.gauge.dec();
        }
    }

    /// Closes the readers of one database.
    pub(super) fn forget(&self, id: &DatabaseId) {
        let mut idle = self.idle.lock();
        let before = idle.len();
        idle.retain(|i| i.id != *id);
        let closed = before - idle.len();
        self.gauge.sub(i64::try_from(closed).unwrap_or(0));
    }

    pub(super) fn close(&self) {
        let closed = self.idle.lock().drain(..).count();
        self.gauge.sub(i64::try_from(closed).unwrap_or(0));
        self.empty.lock().clear();
    }
}

type Answers = Vec<Result<Rows, SqlError>>;

impl Databases {
    /// Runs queries on one moment of the database. One that was never written to is empty.
    pub(crate) fn read(
        &self,
        id: &DatabaseId,
        queries: &[Query],
        rows: usize,
        bytes: usize,
        deadline: Instant,
        cancelled: &Arc<AtomicBool>,
    ) -> Result<Result<Answers, Fenced>, EngineFault> {
        let Some(slot) = self.slot(id) else {
            return self
                .read_nothing(queries, rows, bytes, deadline, cancelled)
                .map(Ok);
        };
        let (generation, checked, fenced) = {
            let state = slot.state.lock();
            (state.generation, state.checked, state.fenced.clone())
        };
        if let Some(why) = fenced {
            let id = id.clone();
            return Ok(Err(Fenced { id, why }));
        }
        if !checked {
            // The first to look at a file makes sure that it is whole.
            let mut writer = slot.writer.lock();
            if let Err(fenced) = self.open_writer(&slot, &mut writer)? {
                return Ok(Err(fenced));
            }
        }
        let reader = match self.readers.take(id, generation) {
            Some(reader) => Ok(reader),
            None => {
                let path = path_of(&self.live, generation);
                if slot.state.lock().mark.applied == 0 && !path.exists() {
                    return self
                        .read_nothing(queries, rows, bytes, deadline, cancelled)
                        .map(Ok);
                }
                let opened = Reader::open(&path);
                if opened.is_ok() {
                    self.readers.gauge.inc();
                }
                opened
            }
        };
        let result = reader.and_then(|mut reader| {
            let answers = reader.run(queries, rows, bytes, deadline, cancelled);
            let same = slot.state.lock().generation == generation;
            if answers.is_ok() && same {
                self.readers.put(id, generation, reader);
            } else {
                self.readers.gauge.dec();
            }
            answers
        });
        match result {
            Ok(answers) => Ok(Ok(answers)),
            Err(EngineFault::Damaged(what)) => {
                // It may have been replaced or removed meanwhile: then this says nothing.
                let same = slot.state.lock().generation == generation;
                if same && self.slot(id).is_some() {
                    self.fence_slot(&slot, &what).map(Err)
                } else {
                    Err(EngineFault::Io(
                        "the database was replaced meanwhile".into(),
                    ))
                }
            }
            Err(fault) => Err(fault),
        }
    }

    fn read_nothing(
        &self,
        queries: &[Query],
        rows: usize,
        bytes: usize,
        deadline: Instant,
        cancelled: &Arc<AtomicBool>,
    ) -> Result<Answers, EngineFault> {
        let idle = self.readers.empty.lock().pop();
        let mut reader = idle.map_or_else(Reader::empty, Ok)?;
        let answers = reader.run(queries, rows, bytes, deadline, cancelled);
        let mut empty = self.readers.empty.lock();
        if answers.is_ok() && empty.len() < EMPTY_MAX {
            empty.push(reader);
        }
        answers
    }
}
