//! Arguments, environment, exit, random numbers.

use wasmtime::Caller;

use super::{Errno, answer};
use crate::runtime::Stop;
use crate::runtime::guest::Guest;
use crate::runtime::import::{Import, import};
use crate::runtime::memory::split;
use crate::runtime::slices;

pub(super) const TABLE: &[Import] = &[
    import!(args_get(argv: u32, buffer: u32) -> u32 = |c, argv, buffer| answer(args_get(c, argv, buffer))),
    import!(args_sizes_get(count: u32, size: u32) -> u32 = |c, count, size| answer(args_sizes_get(c, count, size))),
    // There is no environment, so nothing is written; get_env is the way.
    import!(environ_get(environ: u32, buffer: u32) -> u32 = |_, _, _| answer(Ok::<_, Errno>(()))),
    import!(environ_sizes_get(count: u32, size: u32) -> u32 = |c, count, size| answer(put_sizes(c, count, size, 0, 0))),
    import!(proc_exit(code: u32) = exit),
    import!(proc_raise(signal: u32) -> u32 = |_, _| answer(Err(Errno::NOTSUP))),
    import!(async random_get(buffer: u32, len: u32) -> u32 = random_get),
    // The thread is shared at every tick, whether a guest asks for it or not.
    import!(sched_yield() -> u32 = |_| answer(Ok::<_, Errno>(()))),
];

/// Random bytes drawn without letting others run.
const RANDOM_CHUNK: u32 = 64 * 1024;

/// argv is the function's name.
fn args_get(caller: &mut Caller<'_, Guest>, argv: u32, buffer: u32) -> Result<(), Errno> {
    let (mut memory, guest) = split(caller);
    let name = guest.function.name.as_str().as_bytes();
    let end = u32::try_from(name.len()).map_err(|_| Errno::INVAL)?;
    // Both or nothing.
    memory.check(argv, 4)?;
    memory.check(buffer, end + 1)?;
    memory.put_u32(argv, buffer)?;
    memory.write(buffer, name)?;
    Ok(memory.write(buffer + end, &[0])?)
}

fn args_sizes_get(caller: &mut Caller<'_, Guest>, count: u32, size: u32) -> Result<(), Errno> {
    let len = caller.data().function.name.as_str().len();
    let len = u32::try_from(len).map_err(|_| Errno::INVAL)?;
    put_sizes(caller, count, size, 1, len + 1)
}

fn put_sizes(
    caller: &mut Caller<'_, Guest>,
    count_to: u32,
    size_to: u32,
    count: u32,
    size: u32,
) -> Result<(), Errno> {
    let (mut memory, _) = split(caller);
    memory.put_u32(count_to, count)?;
    Ok(memory.put_u32(size_to, size)?)
}

fn exit(_: &mut Caller<'_, Guest>, code: u32) -> Result<(), wasmtime::Error> {
    Err(Stop::Exit(code.cast_signed()).into())
}

async fn random_get(
    mut caller: Caller<'_, Guest>,
    buffer: u32,
    len: u32,
) -> Result<u32, wasmtime::Error> {
    let (memory, _) = split(&mut caller);
    if memory.check(buffer, len).is_err() {
        return answer(Err(Errno::FAULT));
    }
    let mut done = 0;
    while done < len {
        let chunk = RANDOM_CHUNK.min(len - done);
        let (mut memory, _) = split(&mut caller);
        // The range was checked as a whole, and memory does not shrink.
        let Ok(bytes) = memory.slice_mut(buffer.wrapping_add(done), chunk) else {
            return answer(Err(Errno::FAULT));
        };
        if getrandom::fill(bytes).is_err() {
            return answer(Err(Errno::IO));
        }
        done += chunk;
        if done < len {
            slices::wait(&mut caller, tokio::task::yield_now()).await;
        }
    }
    answer(Ok::<_, Errno>(()))
}
