//! A guest's linear memory, as host functions may touch it: always checked.

use wasmtime::{Caller, Extern};

use super::guest::Guest;

/// A range that is not within the guest's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault;

/// The memory of the instance that is calling.
pub(crate) struct GuestMemory<'a>(&'a mut [u8]);

impl GuestMemory<'_> {
    /// The bytes at `ptr`.
    pub(crate) fn read(&self, ptr: u32, len: u32) -> Result<&[u8], Fault> {
        let (start, end) = range(ptr, len);
        self.0.get(start..end).ok_or(Fault)
    }
    /// The bytes at `ptr`, to be written.
    pub(crate) fn slice_mut(&mut self, ptr: u32, len: u32) -> Result<&mut [u8], Fault> {
        let (start, end) = range(ptr, len);
        self.0.get_mut(start..end).ok_or(Fault)
    }
    /// Copies `bytes` to `ptr`.
    pub(crate) fn write(&mut self, ptr: u32, bytes: &[u8]) -> Result<(), Fault> {
        let len = u32::try_from(bytes.len()).map_err(|_| Fault)?;
        self.slice_mut(ptr, len)?.copy_from_slice(bytes);
        Ok(())
    }
    /// Whether a range is within the memory.
    pub(crate) fn check(&self, ptr: u32, len: u32) -> Result<(), Fault> {
        self.read(ptr, len).map(drop)
    }
    pub(crate) fn u8(&self, ptr: u32) -> Result<u8, Fault> {
        self.array::<1>(ptr).map(|[byte]| byte)
    }
    pub(crate) fn u16(&self, ptr: u32) -> Result<u16, Fault> {
        self.array(ptr).map(u16::from_le_bytes)
    }
    pub(crate) fn u32(&self, ptr: u32) -> Result<u32, Fault> {
        self.array(ptr).map(u32::from_le_bytes)
    }
    pub(crate) fn u64(&self, ptr: u32) -> Result<u64, Fault> {
        self.array(ptr).map(u64::from_le_bytes)
    }
    pub(crate) fn put_u32(&mut self, ptr: u32, value: u32) -> Result<(), Fault> {
        self.write(ptr, &value.to_le_bytes())
    }
    pub(crate) fn put_u64(&mut self, ptr: u32, value: u64) -> Result<(), Fault> {
        self.write(ptr, &value.to_le_bytes())
    }

    fn array<const N: usize>(&self, ptr: u32) -> Result<[u8; N], Fault> {
        let start = ptr as usize;
        let bytes = self.0.get(start..start + N).ok_or(Fault)?;
        <[u8; N]>::try_from(bytes).map_err(|_| Fault)
    }
}

/// Two u32 cannot overflow a 64-bit usize; the crate is for 64-bit machines only.
fn range(ptr: u32, len: u32) -> (usize, usize) {
    (ptr as usize, ptr as usize + len as usize)
}

/// `ptr + offset` within a guest's address space.
pub(crate) fn offset(ptr: u32, offset: u32) -> Result<u32, Fault> {
    ptr.checked_add(offset).ok_or(Fault)
}

/// The calling guest's memory and its data, side by side.
pub(crate) fn split<'a>(caller: &'a mut Caller<'_, Guest>) -> (GuestMemory<'a>, &'a mut Guest) {
    let memory = match caller.data().memory {
        Some(memory) => memory,
        // Reached from a start function, which runs before the instance is handed over.
        None => match caller.get_export("memory") {
            Some(Extern::Memory(memory)) => memory,
            // Validation demands the export; without memory every range faults.
            _ => return (GuestMemory(&mut []), caller.data_mut()),
        },
    };
    let (bytes, guest) = memory.data_and_store_mut(caller);
    guest.memory = Some(memory);
    (GuestMemory(bytes), guest)
}
