//! A guest's memory: what it may have, what it had at most, whether it was refused more.

use wasmtime::ResourceLimiter;

/// Accounts for one instance's linear memory.
pub(crate) struct MemoryAccount {
    limit: usize,
    /// Most bytes it had.
    pub(crate) peak: usize,
    /// It asked for more than its limit. `memory.grow` then answers -1, as it
    /// would on a machine that is out of memory; how the guest takes it is up to it.
    pub(crate) refused: bool,
}

impl MemoryAccount {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            peak: 0,
            refused: false,
        }
    }
}

impl ResourceLimiter for MemoryAccount {
    fn memory_growing(
        &mut self,
        _current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> Result<bool, wasmtime::Error> {
        if desired > self.limit {
            self.refused = true;
            return Ok(false);
        }
        // A maximum that the module declares itself is no refusal of ours.
        let within = maximum.is_none_or(|maximum| desired <= maximum);
        if within {
            self.peak = self.peak.max(desired);
        }
        Ok(within)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> Result<bool, wasmtime::Error> {
        Ok(desired <= super::engine::MAX_TABLE_ELEMENTS
            && maximum.is_none_or(|maximum| desired <= maximum))
    }
}
