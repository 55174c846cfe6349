//! Applying: which writer an entry meets, what a file must be like before it is used, and
//! what is done when it is not.

use std::io;
use std::sync::Arc;

use orama_proto::sql::DatabaseId;

use super::super::{Applied, EngineFault, Item, Writer};
use super::directory::{Change, Durable};
use super::slot::{Info, Slot, Work};
use super::{Databases, Fenced, files, layout, points};

/// After an unclean stop files up to this size are read whole before they are used.
const CHECKED_MAX_BYTES: u64 = 64 << 20;

/// Why there is no writer.
pub(super) enum NoWriter {
    Fenced(String),
    Fault(EngineFault),
}

impl From<EngineFault> for NoWriter {
    fn from(fault: EngineFault) -> Self {
        Self::Fault(fault)
    }
}

impl Databases {
    /// Applies entries to one database, in order; makes it when it is missing. A fenced
    /// database skips them (`Err` in the inner result); a file that proves damaged when it is
    /// opened or used is fenced. `Err`: the group must stop.
    pub(crate) fn apply(
        &self,
        id: &DatabaseId,
        items: &[Item<'_>],
    ) -> Result<Result<Vec<Applied>, Fenced>, EngineFault> {
        let Some(last) = items.last().map(|item| item.index) else {
            return Ok(Ok(Vec::new()));
        };
        loop {
            let slot = self.table.get_or(id, || {
                self.slot(id.clone(), self.next_generation(), Info::default())
            });
            let mut work = slot.work.lock();
            self.check_open()?;
            if slot.gone() {
                continue;
            }
            let applied = self.apply_to(&slot, &mut work, items);
            return match applied {
                Ok(applied) => Ok(Ok(applied)),
                Err(NoWriter::Fault(fault)) => Err(fault),
                Err(NoWriter::Fenced(why)) => {
                    self.table.change(&slot, |info| {
                        if last > info.mark.applied {
                            info.missed = info.missed.max(last);
                        }
                    });
                    self.table.soil(&slot);
                    let id = id.clone();
                    Ok(Err(Fenced { id, why }))
                }
            };
        }
    }

    fn apply_to(
        &self,
        slot: &Arc<Slot>,
        work: &mut Work,
        items: &[Item<'_>],
    ) -> Result<Vec<Applied>, NoWriter> {
        let required = {
            let info = slot.info.lock();
            info.incomplete().then_some(info.required)
        };
        // Who rebuilds it brings what it lacks, in order. Anything later would hide the gap.
        if let Some(required) = required
            && items.first().is_some_and(|item| item.index > required)
        {
            return Err(self.fence_slot(slot, work, "its rebuild did not end")?);
        }
        let writer = self.writer(slot, work)?;
        let applied = writer.apply(items);
        let mark = writer.mark();
        let (bytes, log_bytes) = files::sizes(&slot.path);
        self.table.change(slot, |info| {
            info.mark = mark;
            (info.bytes, info.log_bytes) = (bytes + log_bytes, log_bytes);
            if let Ok(applied) = &applied {
                info.remember_all(applied);
            }
        });
        self.table.soil(slot);
        match applied {
            Ok(applied) => Ok(applied),
            Err(EngineFault::Damaged(why)) => Err(self.fence_slot(slot, work, &why)?),
            Err(fault) => {
                // The file says how far it is when it is opened again.
                self.handles.close(work);
                Err(fault.into())
            }
        }
    }

    /// The writer of a slot that is not gone. The first one since the start looks at the file.
    pub(super) fn writer<'a>(
        &self,
        slot: &Arc<Slot>,
        work: &'a mut Work,
    ) -> Result<&'a mut Writer, NoWriter> {
        if let Some(why) = slot.fence() {
            return Err(NoWriter::Fenced(why));
        }
        if work.writer.is_none() {
            let named = slot.info.lock().named;
            let opened = match named {
                true => self.open_writer(slot, work)?,
                false => self.create(slot)?,
            };
            let mark = opened.mark();
            let (bytes, log_bytes) = files::sizes(&slot.path);
            let ahead = self.table.change(slot, |info| {
                info.mark = mark;
                info.verified = true;
                (info.bytes, info.log_bytes) = (bytes + log_bytes, log_bytes);
                info.remember(mark);
                mark != info.safe || !info.hardened
            });
            if ahead {
                self.table.soil(slot);
            }
            work.writer = Some(Box::new(opened));
        }
        self.handles.used(slot, work);
        match work.writer.as_deref_mut() {
            Some(writer) => Ok(writer),
            None => Err(EngineFault::Io("the writer is gone".into()).into()),
        }
    }

    /// Makes a database: first the file, then its row, so that a kill in between leaves a file that
    /// nothing names. After a power cut either may be missing: see [`Self::open_writer`].
    fn create(&self, slot: &Arc<Slot>) -> Result<Writer, EngineFault> {
        let writer = self.make_file(slot)?;
        points::reached("file made");
        self.table.change(slot, |info| info.named = true);
        let named = self
            .table
            .write_rows(Durable::Later, std::slice::from_ref(slot), |state| {
                state.generation = state.generation.max(slot.generation);
            });
        if let Err(fault) = named {
            self.table.change(slot, |info| info.named = false);
            return Err(fault);
        }
        points::reached("file named");
        Ok(writer)
    }

    fn make_file(&self, slot: &Slot) -> Result<Writer, EngineFault> {
        self.handles
            .opening(|| self.template.make(&self.dir, &slot.path))
    }

    fn open_writer(&self, slot: &Arc<Slot>, work: &mut Work) -> Result<Writer, NoWriter> {
        let (first, new, at_least) = {
            let info = slot.info.lock();
            // Made after the floor, so replay has all of it. It may be an earlier stop than the
            // last one that it did not survive: nobody looked at it in between.
            let new = !info.hardened && info.required == 0;
            // While it is rebuilt, it may be behind where it is to be.
            let at_least = match info.verified {
                true => info.mark.applied,
                false => info.at_least(),
            };
            (!info.verified, new, at_least)
        };
        let bytes = match std::fs::metadata(&slot.path) {
            Ok(meta) => meta.len(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => 0,
            Err(e) => return Err(files::io_fault(&slot.path, &e).into()),
        };
        let check = first && (self.unclean || new) && bytes <= CHECKED_MAX_BYTES;
        let opened = match bytes {
            // One that nothing was ever applied to comes as it went.
            0 if at_least > 0 => Err("its file is missing or empty".to_owned()),
            0 => return Ok(self.make_file(slot)?),
            _ => match self.handles.opening(|| Writer::open(&slot.path, check)) {
                Ok(writer) if writer.mark().applied < at_least => Err(format!(
                    "its file is at entry {}, and was at {at_least}",
                    writer.mark().applied
                )),
                Ok(writer) => Ok(writer),
                Err(EngineFault::Damaged(why)) => Err(why),
                Err(fault) => return Err(fault.into()),
            },
        };
        match opened {
            Ok(writer) => Ok(writer),
            Err(why) if first && new => {
                tracing::warn!(database = %slot.id, why, "a new database did not survive the stop; the log makes it again");
                Ok(self.make_file(slot)?)
            }
            Err(why) => Err(self.fence_slot(slot, work, &why)?),
        }
    }

    /// Fences a slot that is not gone, durably.
    pub(super) fn fence_slot(
        &self,
        slot: &Arc<Slot>,
        work: &mut Work,
        why: &str,
    ) -> Result<NoWriter, EngineFault> {
        self.handles.close(work);
        let fresh = self.table.change(slot, |info| {
            info.verified = true;
            let fresh = info.fenced.is_none();
            // Whatever becomes of it must be at least where it was.
            info.required = info.required.max(info.mark.applied);
            info.fenced = Some(why.into());
            fresh
        });
        if fresh {
            self.metrics.fences.inc();
            tracing::error!(database = %slot.id, why, "a database is fenced");
        }
        self.readers.forget(slot);
        self.table
            .write_rows(Durable::Now, std::slice::from_ref(slot), |_| {})?;
        Ok(NoWriter::Fenced(why.to_owned()))
    }

    /// Deletes a database. Idempotent.
    pub(crate) fn remove(&self, id: &DatabaseId, index: u64) -> Result<(), EngineFault> {
        loop {
            let Some(slot) = self.table.get(id) else {
                return Ok(());
            };
            let mut work = slot.work.lock();
            self.check_open()?;
            if slot.gone() {
                continue;
            }
            let (named, verified) = {
                let info = slot.info.lock();
                (info.named, info.verified)
            };
            if named && !verified {
                // Only the file knows whether it is a later one than the one that is meant.
                match self.writer(&slot, &mut work) {
                    Ok(_) | Err(NoWriter::Fenced(_)) => {}
                    Err(NoWriter::Fault(fault)) => return Err(fault),
                }
            }
            // Replayed: it was made again after this entry.
            if slot.info.lock().reached() > index {
                return Ok(());
            }
            self.table.change(&slot, |info| info.gone = true);
            if named {
                self.table.directory(|directory| {
                    let state = directory.state().clone();
                    directory.commit(Durable::Later, state, &[Change::Delete(id)])
                })?;
            }
            points::reached("row deleted");
            self.discard(&slot, &mut work, false)?;
            return Ok(());
        }
    }

    /// Closes what is open of a slot that is gone and deletes its files, or puts them aside.
    pub(super) fn discard(
        &self,
        slot: &Arc<Slot>,
        work: &mut Work,
        aside: bool,
    ) -> Result<(), EngineFault> {
        self.handles.close(work);
        self.readers.forget(slot);
        self.table.take_out(slot);
        let done = match aside {
            true => layout::set_aside(&self.dir, &slot.path).map(|n| self.quarantined.set(n)),
            false => files::remove(&slot.path),
        };
        done.map_err(|e| files::io_fault(&slot.path, &e))
    }

    /// A register (small values by which tests check a cluster), as of the entry `index`.
    pub(crate) fn register(&self, key: &str) -> Option<String> {
        self.table.registers.lock().values.get(key).cloned()
    }
    /// How many registers there are.
    pub(crate) fn registers(&self) -> usize {
        self.table.registers.lock().values.len()
    }
    /// Sets registers: entries at or before the registers' own mark are skipped by the caller,
    /// who asks [`Self::registers_applied`].
    pub(crate) fn set_registers(
        &self,
        index: u64,
        changes: &[(String, String)],
    ) -> Result<(), EngineFault> {
        self.table.set_registers(index, changes)
    }
    pub(crate) fn registers_applied(&self) -> u64 {
        self.table.registers.lock().applied
    }
}
