//! Reading: queries run on a pooled connection to the file that is live now.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use orama_proto::sql::{DatabaseId, Rows, SqlCode, SqlError};

use super::super::{EngineFault, Query};
use super::apply::NoWriter;
use super::readers::NoReader;
use super::slot::Slot;
use super::{Databases, Fenced, files};

/// A file may be replaced while it is being opened; more often than this somebody else is wrong.
const TRIES: usize = 16;

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
    ) -> Result<Result<Vec<Result<Rows, SqlError>>, Fenced>, EngineFault> {
        for _ in 0..TRIES {
            self.check_open()?;
            let slot = self.table.get(id).filter(|slot| slot.info.lock().named);
            if let Some(slot) = &slot
                && let Err(why) = self.ready(slot)?
            {
                return Ok(Err(Fenced {
                    id: id.clone(),
                    why,
                }));
            }
            let lent = self.readers.lend(slot.as_ref(), deadline, cancelled);
            let fault = match lent {
                Ok(mut lent) => {
                    // One that was replaced meanwhile would answer from the past.
                    if let Some(slot) = slot.as_ref().filter(|slot| slot.gone()) {
                        drop(lent);
                        Self::wait_until_gone(slot);
                        continue;
                    }
                    let Some(reader) = lent.reader() else {
                        continue;
                    };
                    match reader.run(queries, rows, bytes, deadline, cancelled) {
                        Ok(answers) => {
                            lent.give_back();
                            // Its log may have been deleted before the first query opened it.
                            if let Some(slot) = slot.as_ref().filter(|slot| slot.gone()) {
                                Self::wait_until_gone(slot);
                                continue;
                            }
                            return Ok(Ok(answers));
                        }
                        Err(fault) => fault,
                    }
                }
                Err(NoReader::Late) => {
                    let why = "all connections for reading were in use for too long";
                    let late = SqlError::new(SqlCode::DeadlineExceeded, why);
                    return Ok(Ok(queries.iter().map(|_| Err(late.clone())).collect()));
                }
                Err(NoReader::Fault(fault)) => fault,
            };
            let Some(slot) = slot else { return Err(fault) };
            if slot.gone() {
                Self::wait_until_gone(&slot);
                continue;
            }
            let EngineFault::Damaged(why) = fault else {
                return Err(fault);
            };
            let mut work = slot.work.lock();
            if !slot.gone() {
                self.fence_slot(&slot, &mut work, &why)?;
                return Ok(Err(Fenced {
                    id: id.clone(),
                    why,
                }));
            }
        }
        Err(EngineFault::Io(
            "its file is replaced again and again".into(),
        ))
    }

    /// Who deletes a database holds its `work` until nothing names it. A connection that was opened
    /// before and used after that has made a log anew, for a file that is no more: it goes too.
    pub(super) fn wait_until_gone(slot: &Slot) {
        let _work = slot.work.lock();
        if !slot.path.exists() {
            // What stays behind is swept at the next start.
            let _ = files::remove(&slot.path);
        }
    }

    /// Has the file looked at when nobody used it since the start. The inner error: it is fenced.
    pub(super) fn ready(&self, slot: &Arc<Slot>) -> Result<Result<(), String>, EngineFault> {
        {
            let info = slot.info.lock();
            if let Some(why) = &info.fenced {
                return Ok(Err(why.to_string()));
            }
            // Its copy is there, and what came after the copy is not yet.
            if !info.gone && info.verified && info.incomplete() {
                return Ok(Err("it is being rebuilt".to_owned()));
            }
            if info.gone || info.verified {
                return Ok(Ok(()));
            }
        }
        let mut work = slot.work.lock();
        self.check_open()?;
        if slot.gone() {
            return Ok(Ok(()));
        }
        match self.writer(slot, &mut work) {
            Ok(_) => Ok(Ok(())),
            Err(NoWriter::Fenced(why)) => Ok(Err(why)),
            Err(NoWriter::Fault(fault)) => Err(fault),
        }
    }
}
