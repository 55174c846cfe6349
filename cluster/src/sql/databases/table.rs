//! What there is: slots by id, totals over them, registers, and writing rows of the directory.

use std::collections::BTreeMap;
use std::sync::Arc;

use orama_proto::sql::DatabaseId;
use parking_lot::{Mutex, RwLock};

use super::super::EngineFault;
use super::directory::{Change, Directory, Durable, State};
use super::metrics::{Metrics, Share};
use super::slot::{Info, Part, Slot, register_hash};

/// Registers and their mark.
#[derive(Debug, Default, Clone)]
pub(super) struct Registers {
    pub(super) values: BTreeMap<String, String>,
    pub(super) applied: u64,
}

impl Registers {
    pub(super) fn hash(&self) -> u128 {
        let hashes = self.values.iter().map(|(k, v)| register_hash(k, v));
        hashes.fold(0, u128::wrapping_add)
    }
}

#[derive(Default)]
struct Totals {
    sum: Part,
    registers: u128,
}

/// Lock order: a slot's `work`, then the directory, then the table, a slot's `info`, the totals.
pub(super) struct Table {
    slots: RwLock<BTreeMap<DatabaseId, Arc<Slot>>>,
    pub(super) registers: Mutex<Registers>,
    totals: Mutex<Totals>,
    /// Slots with anything that is not on disk for certain.
    dirty: Mutex<Vec<Arc<Slot>>>,
    /// `None` when closed.
    directory: Mutex<Option<Directory>>,
    shares: Shares,
}

struct Shares {
    databases: Share,
    bytes: Share,
    log_bytes: Share,
    fenced: Share,
}

pub(super) fn closed() -> EngineFault {
    EngineFault::Io("the databases are closed".into())
}

impl Table {
    pub(super) fn new(directory: Directory, registers: Registers, metrics: &Metrics) -> Self {
        let totals = Totals {
            sum: Part::default(),
            registers: registers.hash(),
        };
        Self {
            slots: RwLock::default(),
            registers: Mutex::new(registers),
            totals: Mutex::new(totals),
            dirty: Mutex::default(),
            directory: Mutex::new(Some(directory)),
            shares: Shares {
                databases: Share::new(&metrics.databases),
                bytes: Share::new(&metrics.bytes),
                log_bytes: Share::new(&metrics.log_bytes),
                fenced: Share::new(&metrics.fenced),
            },
        }
    }

    pub(super) fn get(&self, id: &DatabaseId) -> Option<Arc<Slot>> {
        self.slots.read().get(id).cloned()
    }
    pub(super) fn all(&self) -> Vec<Arc<Slot>> {
        self.slots.read().values().cloned().collect()
    }
    /// The slot of a database; `make` is asked for one when there is none.
    pub(super) fn get_or(&self, id: &DatabaseId, make: impl FnOnce() -> Arc<Slot>) -> Arc<Slot> {
        let mut slots = self.slots.write();
        Arc::clone(slots.entry(id.clone()).or_insert_with(make))
    }
    /// Puts a slot in the place of what is there, which is gone from here on.
    pub(super) fn put(&self, slot: &Arc<Slot>) -> Option<Arc<Slot>> {
        // Before anybody can change it.
        self.add(slot);
        let mut slots = self.slots.write();
        // Before anybody can find the new one.
        if let Some(old) = slots.get(&slot.id) {
            self.change(old, |info| info.gone = true);
        }
        slots.insert(slot.id.clone(), Arc::clone(slot))
    }
    /// Counts a slot's present state, which was not counted yet.
    fn add(&self, slot: &Slot) {
        let info = slot.info.lock();
        self.count(Part::default(), info.part(&slot.id));
    }
    /// Takes a slot out; it is gone already.
    pub(super) fn take_out(&self, slot: &Arc<Slot>) {
        let mut slots = self.slots.write();
        if slots.get(&slot.id).is_some_and(|s| Arc::ptr_eq(s, slot)) {
            slots.remove(&slot.id);
        }
    }

    /// Changes what is known of a slot; the totals follow.
    pub(super) fn change<T>(&self, slot: &Slot, change: impl FnOnce(&mut Info) -> T) -> T {
        let mut info = slot.info.lock();
        let before = info.part(&slot.id);
        let answer = change(&mut info);
        self.count(before, info.part(&slot.id));
        answer
    }

    fn count(&self, before: Part, after: Part) {
        if before == after {
            return;
        }
        let mut totals = self.totals.lock();
        let sum = &mut totals.sum;
        sum.hash = sum.hash.wrapping_sub(before.hash).wrapping_add(after.hash);
        sum.databases = sum.databases + after.databases - before.databases;
        sum.bytes = sum.bytes + after.bytes - before.bytes;
        sum.log_bytes = sum.log_bytes + after.log_bytes - before.log_bytes;
        sum.unsaved = sum.unsaved + after.unsaved - before.unsaved;
        sum.fenced = sum.fenced + after.fenced - before.fenced;
        self.shares.databases.set(sum.databases);
        self.shares
            .bytes
            .set(usize::try_from(sum.bytes).unwrap_or(usize::MAX));
        self.shares
            .log_bytes
            .set(usize::try_from(sum.log_bytes).unwrap_or(usize::MAX));
        self.shares.fenced.set(sum.fenced);
    }

    pub(super) fn hash(&self) -> u128 {
        let totals = self.totals.lock();
        totals.sum.hash.wrapping_add(totals.registers)
    }
    pub(super) fn unsaved(&self) -> u64 {
        self.totals.lock().sum.unsaved
    }

    /// Notes that a slot has something that is not on disk for certain.
    pub(super) fn soil(&self, slot: &Arc<Slot>) {
        if !std::mem::replace(&mut slot.info.lock().dirty, true) {
            self.dirty.lock().push(Arc::clone(slot));
        }
    }
    /// Takes all of those; whoever changes from here on is noted again.
    pub(super) fn take_dirty(&self) -> Vec<Arc<Slot>> {
        let taken = std::mem::take(&mut *self.dirty.lock());
        for slot in &taken {
            slot.info.lock().dirty = false;
        }
        taken
    }
    pub(super) fn dirty(&self) -> Vec<Arc<Slot>> {
        self.dirty.lock().clone()
    }

    /// Looks at the open directory.
    pub(super) fn directory<T>(
        &self,
        look: impl FnOnce(&mut Directory) -> Result<T, EngineFault>,
    ) -> Result<T, EngineFault> {
        look(self.directory.lock().as_mut().ok_or_else(closed)?)
    }
    pub(super) fn state(&self) -> Result<State, EngineFault> {
        self.directory(|directory| Ok(directory.state().clone()))
    }
    pub(super) fn close_directory(&self) -> Result<(), EngineFault> {
        let directory = self.directory.lock().take();
        directory.map_or(Ok(()), Directory::close)
    }

    /// Writes the rows of these slots as they are now, but for those that are gone.
    pub(super) fn write_rows(
        &self,
        durable: Durable,
        slots: &[Arc<Slot>],
        change: impl FnOnce(&mut State),
    ) -> Result<(), EngineFault> {
        self.directory(|directory| {
            let mut changes = Vec::with_capacity(slots.len());
            for slot in slots {
                let info = slot.info.lock();
                if !info.gone && info.named {
                    changes.push(Change::Put(&slot.id, info.row(slot.generation)));
                }
            }
            let mut state = directory.state().clone();
            change(&mut state);
            directory.commit(durable, state, &changes)
        })
    }

    /// Sets registers, all or none.
    pub(super) fn set_registers(
        &self,
        index: u64,
        changes: &[(String, String)],
    ) -> Result<(), EngineFault> {
        self.directory(|directory| {
            let mut state = directory.state().clone();
            state.registers_applied = index;
            let rows: Vec<_> = changes
                .iter()
                .map(|(k, v)| Change::Register(k, v))
                .collect();
            directory.commit(Durable::Later, state, &rows)?;
            let mut registers = self.registers.lock();
            let mut totals = self.totals.lock();
            for (key, value) in changes {
                let new = register_hash(key, value);
                let old = registers.values.insert(key.clone(), value.clone());
                let old = old.map_or(0, |old| register_hash(key, &old));
                totals.registers = totals.registers.wrapping_sub(old).wrapping_add(new);
            }
            registers.applied = index;
            Ok(())
        })
    }

    /// Another state altogether. Answers the slots that are gone: they are before anybody can
    /// find one of the new ones, so nobody reads an old file after somebody read a new one.
    pub(super) fn replace_all(&self, slots: &[Arc<Slot>], registers: Registers) -> Vec<Arc<Slot>> {
        for slot in slots {
            self.add(slot);
        }
        let new = slots.iter().map(|s| (s.id.clone(), Arc::clone(s)));
        let old: Vec<_> = {
            let mut there = self.slots.write();
            for slot in there.values() {
                self.change(slot, |info| info.gone = true);
            }
            std::mem::replace(&mut *there, new.collect())
                .into_values()
                .collect()
        };
        self.dirty.lock().clear();
        self.totals.lock().registers = registers.hash();
        *self.registers.lock() = registers;
        old
    }
}
