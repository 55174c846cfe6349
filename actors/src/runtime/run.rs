//! One attempt to run a guest, in a fresh instance, in the calling thread.

use std::time::Duration;

use bytes::Bytes;
use orama_proto::invocation::LogLevel;
use orama_proto::limits::OUTPUT_MAX_BYTES;
use tokio::time::timeout;
use wasmtime::{
    Extern, Instance, ModuleExport, PoolConcurrencyLimitError, Store, TypedFunc, WasmParams,
    WasmResults,
};

use super::call::{Call, GuestError, Outcome};
use super::failure::{Failure, Stop, judge};
use super::guest::{Deadline, Guest, Stdout};
use super::output::{LineStream, Output};
use super::prepared::{Mode, PreparedModule};
use super::slices;

/// What a reactor may take for `_initialize` (CONTRACT 1.2).
pub(crate) const INITIALIZE_LIMIT: Duration = Duration::from_secs(5);

/// Runs a guest to its end.
pub(crate) async fn run(module: &PreparedModule, call: Call) -> Outcome {
    let stdout = match module.mode {
        Mode::Command { .. } => Stdout::Result(Output::default()),
        Mode::Reactor { .. } => Stdout::Log(LineStream::new(LogLevel::Info)),
    };
    let guest = Guest::new(call, module.allocator(), stdout);
    let limit = guest.deadline.after;
    let mut store = Store::new(module.pre.module().engine(), guest);
    store.limiter(|guest| &mut guest.account);
    store.epoch_deadline_callback(slices::at_tick);
    store.set_epoch_deadline(1);

    // A guest that runs is stopped at a tick, one that waits by this timer.
    let ended = timeout(limit, drive(module, &mut store))
        .await
        .unwrap_or(Err(Failure::Timeout));
    let duration = store.data().started.elapsed();
    finish(store.into_data(), ended, duration)
}

/// The result of a reactor; a command's is what it wrote.
async fn drive(
    module: &PreparedModule,
    store: &mut Store<Guest>,
) -> Result<Option<Vec<u8>>, Failure> {
    let instance = module
        .pre
        .instantiate_async(&mut *store)
        .await
        .map_err(Failure::Instance)?;
    if let Some(Extern::Memory(memory)) = instance.get_module_export(&mut *store, &module.memory) {
        store.data_mut().memory = Some(memory);
    }
    match &module.mode {
        Mode::Command { start } => {
            let start = function::<(), ()>(&instance, store, start)?;
            call(&start, store, ()).await?;
            Ok(None)
        }
        Mode::Reactor {
            initialize,
            handle,
            input,
            free,
        } => {
            self::initialize(&instance, store, initialize).await?;
            let ptr = hand_over_input(&instance, store, input.as_ref()).await?;
            let len = match ptr {
                0 => 0,
                _ => len32(store.data().stdin.len()),
            };
            let handle = function::<(u32, u32), u64>(&instance, store, handle)?;
            let packed = call(&handle, store, (ptr, len)).await?;
            let output = take_result(store, packed)?;
            if let (Some(free), true) = (free, ptr != 0) {
                let free = function::<u32, ()>(&instance, store, free)?;
                // The result is safe by now, so whatever happens here is of no account.
                let _ = call(&free, store, ptr).await;
            }
            Ok(Some(output))
        }
    }
}

/// Runs `_initialize`, which has less time and no caller.
async fn initialize(
    instance: &Instance,
    store: &mut Store<Guest>,
    export: &ModuleExport,
) -> Result<(), Failure> {
    let whole = store.data().deadline;
    let short = Deadline {
        at: whole.at.min(store.data().started + INITIALIZE_LIMIT),
        after: whole.after.min(INITIALIZE_LIMIT),
    };
    store.data_mut().in_call = false;
    store.data_mut().deadline = short;
    let initialize = function::<(), ()>(instance, store, export)?;
    timeout(short.after, call(&initialize, store, ()))
        .await
        .unwrap_or(Err(Failure::Timeout))?;
    store.data_mut().in_call = true;
    store.data_mut().deadline = whole;
    Ok(())
}

/// Puts the input into memory that the guest gives; 0 when there is no input or no such memory.
async fn hand_over_input(
    instance: &Instance,
    store: &mut Store<Guest>,
    malloc: Option<&ModuleExport>,
) -> Result<u32, Failure> {
    let input = store.data().stdin.clone();
    let (false, Some(malloc)) = (input.is_empty(), malloc) else {
        return Ok(0);
    };
    let malloc = function::<u32, u32>(instance, store, malloc)?;
    let ptr = call(&malloc, store, len32(input.len())).await?;
    let Some(memory) = store.data().memory.filter(|_| ptr != 0) else {
        return Ok(0);
    };
    memory
        .write(&mut *store, ptr as usize, &input)
        .map_err(|_| Failure::Run(Stop::BadPointer.into()))?;
    Ok(ptr)
}

/// Copies a reactor's output: length in the high half, pointer in the low one.
fn take_result(store: &mut Store<Guest>, packed: u64) -> Result<Vec<u8>, Failure> {
    let len = (packed >> 32) as usize;
    let ptr = (packed & u64::from(u32::MAX)) as usize;
    store.data_mut().returned = len as u64;
    if len > OUTPUT_MAX_BYTES {
        return Err(Failure::Run(Stop::OutputTooLarge.into()));
    }
    let bytes = match store.data().memory {
        Some(memory) => memory.data(&*store).get(ptr..ptr + len).map(<[u8]>::to_vec),
        None => None,
    };
    bytes.ok_or_else(|| Failure::Run(Stop::BadResult.into()))
}

fn function<P: WasmParams, R: WasmResults>(
    instance: &Instance,
    store: &mut Store<Guest>,
    export: &ModuleExport,
) -> Result<TypedFunc<P, R>, Failure> {
    let function = instance
        .get_module_export(&mut *store, export)
        .and_then(Extern::into_func)
        .ok_or_else(|| Failure::Run(wasmtime::Error::msg("an export has vanished")))?;
    function.typed(&*store).map_err(Failure::Run)
}

async fn call<P: WasmParams + Sync, R: WasmResults + Sync>(
    function: &TypedFunc<P, R>,
    store: &mut Store<Guest>,
    params: P,
) -> Result<R, Failure> {
    function.call_async(&mut *store, params).await.map_err(|e| {
        match e.is::<PoolConcurrencyLimitError>() {
            true => Failure::Instance(e),
            false => Failure::Run(e),
        }
    })
}

fn len32(len: usize) -> u32 {
    // Inputs are bounded far below by the gateway; a longer one would fail in malloc.
    u32::try_from(len).unwrap_or(u32::MAX)
}

fn finish(
    mut guest: Guest,
    ended: Result<Option<Vec<u8>>, Failure>,
    duration: Duration,
) -> Outcome {
    let (returned, judged) = match ended {
        Ok(returned) => (returned, Ok(())),
        Err(failure) => (None, judge(failure, &guest)),
    };
    guest.stderr.flush(&mut guest.log);
    let (output, output_size) = match guest.stdout {
        Stdout::Result(output) => (output.bytes, output.written),
        Stdout::Log(mut stream) => {
            stream.flush(&mut guest.log);
            (returned.unwrap_or_default(), guest.returned)
        }
    };
    Outcome {
        result: judged.map(|()| Bytes::from(output)),
        started_at: guest.started_at,
        duration,
        output_size,
        memory_peak: guest.account.peak,
        logs: guest.log.lines,
        dropped_log_lines: guest.log.dropped,
    }
}

/// An outcome for a guest that was never started.
pub(crate) fn is_refusal(outcome: &Outcome) -> bool {
    matches!(outcome.result, Err(GuestError::Instance(_)))
}
