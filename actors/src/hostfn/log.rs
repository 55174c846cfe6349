//! `log_info` and `log_error` (CONTRACT 1.6).

use orama_proto::invocation::LogLevel;
use wasmtime::Caller;

use crate::runtime::guest::Guest;
use crate::runtime::import::{Import, import};
use crate::runtime::memory::split;

pub(super) const TABLE: &[Import] = &[
    import!(log_info(ptr: u32, len: u32) = info),
    import!(log_error(ptr: u32, len: u32) = error),
];

fn info(caller: &mut Caller<'_, Guest>, ptr: u32, len: u32) {
    write(caller, LogLevel::Info, ptr, len);
}

fn error(caller: &mut Caller<'_, Guest>, ptr: u32, len: u32) {
    write(caller, LogLevel::Error, ptr, len);
}

fn write(caller: &mut Caller<'_, Guest>, level: LogLevel, ptr: u32, len: u32) {
    let (memory, guest) = split(caller);
    match memory.read(ptr, len) {
        Ok(message) => guest.log.push_bytes(level, message),
        Err(_) => guest
            .log
            .warn("a log message is not within the guest's memory"),
    }
}
