//! Safety: short write-ahead logs, the floor, the orderly end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::super::EngineFault;
use super::directory::Durable;
use super::metrics::Timed;
use super::slot::Slot;
use super::{Databases, Floor, SaveFault, files, layout, points};
use crate::data_dir::sync_dir;

/// A write-ahead log that is longer is checkpointed at the next look.
pub(super) const LOG_BYTES: u64 = 8 << 20;
/// One that is longer is emptied even if applying has to wait a moment for readers to end.
const LOG_LONG_BYTES: u64 = 64 << 20;
/// That moment.
const WAIT_FOR_READERS: Duration = Duration::from_millis(250);
/// One that is longer is worth a warning, and another one when it has doubled.
const LOG_WARN_BYTES: u64 = 256 << 20;
/// Databases that are checkpointed at the same time when the floor is raised.
const SYNCED_AT_ONCE: usize = 4;

impl Databases {
    /// Checkpoints everything written since the last floor, then makes this the floor. Applying
    /// goes on meanwhile; everything up to `floor.index` was applied before the call.
    pub(crate) fn harden(&self, floor: &Floor) -> Result<(), SaveFault> {
        let _floor = self.floor.lock();
        self.check_open()?;
        let _timed = Timed::new(&self.metrics.harden_seconds);
        self.make_safe(|state| state.set_floor(Some(floor)))?;
        Ok(())
    }

    /// Makes all that was written safe and then says so, with a change of the state.
    fn make_safe(&self, change: impl FnOnce(&mut super::State)) -> Result<(), EngineFault> {
        let slots = self.table.take_dirty();
        let done = self
            .sync_all(&slots)
            .and_then(|()| {
                // Files that were made since.
                let live = layout::live(&self.dir);
                sync_dir(&live).map_err(|e| files::io_fault(&live, &e))
            })
            .and_then(|()| {
                for slot in &slots {
                    self.table.change(slot, |info| {
                        info.hardened |= info.fenced.is_none() && info.safe.applied > 0;
                        info.required = info.required.max(info.missed);
                    });
                }
                points::reached("files synced");
                self.table.write_rows(Durable::Now, &slots, change)
            });
        if done.is_err() {
            for slot in slots.iter().filter(|slot| !slot.gone()) {
                self.table.soil(slot);
            }
        }
        done
    }

    /// Syncs many files, some at a time: the disk takes several for little more than one.
    fn sync_all(&self, slots: &[Arc<Slot>]) -> Result<(), EngineFault> {
        if slots.len() <= SYNCED_AT_ONCE {
            return slots.iter().try_for_each(|slot| self.sync_slot(slot));
        }
        let next = AtomicUsize::new(0);
        let work = || {
            let at = || slots.get(next.fetch_add(1, Ordering::Relaxed));
            std::iter::from_fn(at).try_for_each(|slot| self.sync_slot(slot))
        };
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..SYNCED_AT_ONCE).map(|_| scope.spawn(work)).collect();
            let ended = workers.into_iter().map(|worker| {
                let panicked = |_| Err(EngineFault::Io("a checkpoint panicked".into()));
                worker.join().unwrap_or_else(panicked)
            });
            ended.fold(Ok(()), Result::and)
        })
    }

    /// Syncs what a database has in its files.
    fn sync_slot(&self, slot: &Arc<Slot>) -> Result<(), EngineFault> {
        let mark = {
            let info = slot.info.lock();
            if info.gone || info.fenced.is_some() {
                return Ok(());
            }
            info.mark
        };
        if mark.applied == 0 {
            return Ok(());
        }
        let _timed = Timed::new(&self.metrics.checkpoint_seconds);
        let synced = self
            .handles
            .opening(|| files::checkpoint(&slot.path).and_then(|_| Self::end_log_of_closed(slot)));
        match synced {
            _ if slot.gone() => {
                Self::wait_until_gone(slot);
                Ok(())
            }
            Ok(()) => {
                self.metrics.checkpoints.inc();
                self.measure(slot);
                self.table.change(slot, |info| info.safe = mark);
                Ok(())
            }
            Err(fault) => self.failed(slot, fault),
        }
    }

    /// A database that nobody has open for writing does not keep its log: whoever opens it next
    /// would have to read all of that. Who reads it meanwhile keeps it there.
    fn end_log_of_closed(slot: &Slot) -> Result<(), EngineFault> {
        match slot.work.try_lock() {
            Some(work) if work.writer.is_none() && !slot.gone() => files::end_log(&slot.path),
            _ => Ok(()),
        }
    }

    /// A file that could not be checkpointed: damaged ones are fenced, and the rest goes on.
    fn failed(&self, slot: &Arc<Slot>, fault: EngineFault) -> Result<(), EngineFault> {
        let mut work = slot.work.lock();
        match fault {
            _ if slot.gone() => Ok(()),
            EngineFault::Damaged(why) => self.fence_slot(slot, &mut work, &why).map(drop),
            _ if !slot.path.exists() => {
                let why = "its file is missing";
                self.fence_slot(slot, &mut work, why).map(drop)
            }
            other => Err(other),
        }
    }

    fn measure(&self, slot: &Slot) -> u64 {
        let (bytes, log_bytes) = files::sizes(&slot.path);
        self.table.change(slot, |info| {
            (info.bytes, info.log_bytes) = (bytes + log_bytes, log_bytes);
        });
        log_bytes
    }

    /// Keeps write-ahead logs short: checkpoints those that are long. Called often.
    pub(crate) fn checkpoint(&self) -> Result<(), SaveFault> {
        self.readers.close_old();
        // Whoever raises the floor does the same.
        let Some(_floor) = self.floor.try_lock() else {
            return Ok(());
        };
        self.check_open()?;
        self.table.directory(|directory| directory.checkpoint())?;
        for slot in self.table.dirty() {
            let long = {
                let info = slot.info.lock();
                !info.gone && info.fenced.is_none() && info.log_bytes >= LOG_BYTES
            };
            if long {
                self.shorten(&slot)?;
            }
        }
        Ok(())
    }

    /// Empties a long log. What is slow, writing and syncing pages, happens beside applying; applying
    /// stands still only while the little that came meanwhile is written.
    fn shorten(&self, slot: &Arc<Slot>) -> Result<(), EngineFault> {
        let _timed = Timed::new(&self.metrics.checkpoint_seconds);
        let synced = self.handles.opening(|| files::checkpoint(&slot.path));
        if let Err(fault) = synced {
            return self.failed(slot, fault);
        }
        self.metrics.checkpoints.inc();
        let long = slot.info.lock().log_bytes >= LOG_LONG_BYTES;
        let wait = if long {
            WAIT_FOR_READERS
        } else {
            Duration::ZERO
        };
        let emptied = {
            let _work = slot.work.lock();
            if slot.gone() {
                return Ok(());
            }
            self.handles
                .opening(|| files::truncate_log(&slot.path, wait))
        };
        let emptied = match emptied {
            Ok(emptied) => emptied,
            Err(fault) => return self.failed(slot, fault),
        };
        let bytes = self.measure(slot);
        if emptied {
            slot.info.lock().blocked = 0;
            return Ok(());
        }
        self.metrics.checkpoints_blocked.inc();
        let before = slot.info.lock().blocked;
        if bytes >= LOG_WARN_BYTES && bytes >= before.saturating_mul(2) {
            slot.info.lock().blocked = bytes;
            tracing::warn!(database = %slot.id, bytes, "readers keep a database's write-ahead log from being emptied");
        }
        Ok(())
    }

    /// Checkpoints and closes everything.
    pub(crate) fn close(&self) {
        let _floor = self.floor.lock();
        if self.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        self.readers.close();
        for slot in self.table.all() {
            // Waits for who is at it; whoever comes later sees that it is closed.
            self.handles.close(&mut slot.work.lock());
            // Then its log is put into the file and deleted below.
            if slot.info.lock().log_bytes > 0 {
                self.table.soil(&slot);
            }
        }
        let generation = *self.generation.lock();
        let safe = self.make_safe(|state| {
            state.clean = true;
            state.generation = generation;
        });
        if let Err(error) = safe {
            tracing::warn!(%error, "databases were not closed in order; the next start looks at them");
        }
        if let Err(error) = self.table.close_directory() {
            tracing::warn!(%error, "the directory of databases keeps its log until the next start");
        }
    }
}
