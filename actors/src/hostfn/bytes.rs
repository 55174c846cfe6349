//! Handing bytes to a guest, and taking text from it (CONTRACT 1.3, 1.4).

use wasmtime::Caller;

use crate::runtime::Stop;
use crate::runtime::guest::{Allocator, Guest};
use crate::runtime::memory::split;

/// Longest name or key a guest may pass; nothing that has a name has a longer one.
const NAME_MAX_BYTES: u32 = 64 * 1024;

/// Puts `bytes` into memory that the guest's allocator gives. Answers pointer
/// and length packed, the pointer in the high half; 0 when there is nothing
/// to give or no way to give it.
pub(super) async fn give(
    caller: &mut Caller<'_, Guest>,
    bytes: &[u8],
) -> Result<u64, wasmtime::Error> {
    if bytes.is_empty() {
        return Ok(0);
    }
    let Ok(len) = u32::try_from(bytes.len()) else {
        return Ok(0);
    };
    // Taken out while it runs: an allocator that calls a function which needs
    // the allocator would otherwise nest fibers without end.
    let allocator = match std::mem::replace(&mut caller.data_mut().allocator, Allocator::Busy) {
        Allocator::Ready(function) => function,
        Allocator::Export(export) => {
            let found = caller
                .get_module_export(&export)
                .and_then(wasmtime::Extern::into_func)
                .and_then(|function| function.typed::<u32, u32>(&mut *caller).ok());
            match found {
                Some(function) => function,
                // Linking has looked at its type.
                None => return Ok(0),
            }
        }
        state @ Allocator::None => {
            caller.data_mut().allocator = state;
            warn(
                caller,
                "the module exports no allocator (orama_alloc or malloc), so a host function answered nothing",
            );
            return Ok(0);
        }
        Allocator::Busy => {
            warn(
                caller,
                "the allocator called a host function that needs the allocator; it answered nothing",
            );
            return Ok(0);
        }
    };
    let allocated = allocator.call_async(&mut *caller, len).await;
    caller.data_mut().allocator = Allocator::Ready(allocator);
    match allocated {
        // Out of time, or exited: that ends the guest wherever it happens.
        Err(e) if e.is::<Stop>() => Err(e),
        Err(e) => {
            let text = format!(
                "the allocator trapped, so a host function answered nothing: {}",
                e.root_cause()
            );
            warn(caller, &text);
            Ok(0)
        }
        Ok(ptr) => {
            let (mut memory, guest) = split(caller);
            if ptr == 0 || memory.write(ptr, bytes).is_err() {
                guest.log.warn(&format!(
                    "the allocator gave no memory for {len} bytes, so a host function answered nothing"
                ));
                return Ok(0);
            }
            Ok(u64::from(ptr) << 32 | u64::from(len))
        }
    }
}

/// Reads a name that the guest passes. `None`, and a line in its log, when it
/// is not within its memory, not UTF-8 or longer than any name.
pub(super) fn name(
    caller: &mut Caller<'_, Guest>,
    function: &str,
    ptr: u32,
    len: u32,
) -> Option<String> {
    let (memory, guest) = split(caller);
    let wrong = if len > NAME_MAX_BYTES {
        "is too long"
    } else {
        match memory.read(ptr, len).map(std::str::from_utf8) {
            Ok(Ok(text)) => return Some(text.to_owned()),
            Ok(Err(_)) => "is not UTF-8",
            Err(_) => "is not within the guest's memory",
        }
    };
    guest
        .log
        .warn(&format!("{function}: the name it was given {wrong}"));
    None
}

pub(super) fn warn(caller: &mut Caller<'_, Guest>, text: &str) {
    caller.data_mut().log.warn(text);
}
