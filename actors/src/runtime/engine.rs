//! The wasmtime engine and its pool, configured as measured.
//!
//! Every number here was chosen by measurement on the invoke path: the pool
//! makes an instance a matter of microseconds, resident memory together with
//! `PAGEMAP_SCAN` removes the page faults of every call after the first, and
//! copy-on-write images let thousands of instances share one module's data.

use orama_proto::limits::{MEMORY_MAX_MB, MIB};
use wasmtime::{Config, Enabled, Engine, OptLevel, PoolingAllocationConfig};

/// Largest linear memory an instance of this engine can have.
pub(crate) const MAX_MEMORY_BYTES: usize = MEMORY_MAX_MB as usize * MIB;
/// Largest table, in elements. Stock Go needs about 6,500.
pub(crate) const MAX_TABLE_ELEMENTS: usize = 65_536;
/// Stack a guest may use before it traps.
pub(crate) const WASM_STACK_BYTES: usize = 512 * 1024;
/// Stack of the fiber a guest runs on: the guest's and what host functions need on top of it.
const FIBER_STACK_BYTES: usize = 1024 * 1024;
/// Per-instance bookkeeping; grows with the functions in a module's table and with its globals.
const MAX_INSTANCE_BYTES: usize = 4 * MIB;
/// An image up to this size is mapped copy-on-write however sparse it is.
/// More would let a module of two bytes of data, far apart, take as much disk
/// as the distance.
const DENSE_IMAGE_BYTES: u64 = 16 * MIB as u64;
/// Memory of a free slot that stays resident, when the kernel can say which pages were touched.
const RESIDENT_WITH_SCAN: usize = 4 * MIB;
/// The same when it cannot, and all of it must be cleared on every call.
const RESIDENT_WITHOUT_SCAN: usize = 64 * 1024;
/// The same for tables.
const TABLE_RESIDENT: usize = 256 * 1024;

/// Makes the engine. Falls back to small resident slots on kernels before 6.7, which lack `PAGEMAP_SCAN`.
pub(crate) fn engine(max_instances: u32) -> Result<Engine, wasmtime::Error> {
    match Engine::new(&config(max_instances, Enabled::Yes)) {
        Ok(engine) => Ok(engine),
        Err(first) => {
            let engine = Engine::new(&config(max_instances, Enabled::No))?;
            tracing::warn!(
                reason = %format_args!("{first:#}"),
                "PAGEMAP_SCAN is not to be had on this kernel: instances cost more page faults"
            );
            Ok(engine)
        }
    }
}

fn config(max_instances: u32, scan: Enabled) -> Config {
    let mut config = Config::new();
    config
        .cranelift_opt_level(OptLevel::Speed)
        .memory_init_cow(true)
        .memory_guaranteed_dense_image_size(DENSE_IMAGE_BYTES)
        .epoch_interruption(true)
        .consume_fuel(false)
        .wasm_backtrace_max_frames(None)
        .max_wasm_stack(WASM_STACK_BYTES)
        .async_stack_size(FIBER_STACK_BYTES)
        // Only component-model tasks need it, and it costs at every store.
        .concurrency_support(false)
        // What guests for WASI preview 1 are compiled to. The rest would be
        // code that no test of ours ever runs.
        .wasm_threads(false)
        .wasm_memory64(false)
        .wasm_multi_memory(false)
        .wasm_function_references(false)
        .wasm_gc(false)
        .wasm_exceptions(false)
        .gc_support(false)
        .allocation_strategy(pool(max_instances, scan));
    config
}

fn pool(max_instances: u32, scan: Enabled) -> PoolingAllocationConfig {
    let resident = match scan {
        Enabled::No => RESIDENT_WITHOUT_SCAN,
        _ => RESIDENT_WITH_SCAN,
    };
    let mut pool = PoolingAllocationConfig::new();
    pool.total_core_instances(max_instances)
        .total_memories(max_instances)
        .total_tables(max_instances)
        // A host function that hands bytes to a guest calls its allocator on a second fiber.
        .total_stacks(max_instances.saturating_mul(2))
        .total_gc_heaps(0)
        .max_unused_warm_slots(max_instances)
        .max_memory_size(MAX_MEMORY_BYTES)
        .table_elements(MAX_TABLE_ELEMENTS)
        .max_core_instance_size(MAX_INSTANCE_BYTES)
        .linear_memory_keep_resident(resident)
        .table_keep_resident(TABLE_RESIDENT.min(resident))
        .pagemap_scan(scan);
    pool
}
