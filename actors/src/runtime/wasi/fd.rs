//! The standard streams as descriptors 0, 1 and 2.

use orama_proto::limits::MIB;
use wasmtime::Caller;

use super::stdio::Stream;
use super::{Errno, Refusal, answer};
use crate::runtime::guest::{Guest, Stdout};
use crate::runtime::import::{Import, import};
use crate::runtime::memory::{Fault, GuestMemory, offset, split};

pub(super) const TABLE: &[Import] = &[
    import!(fd_read(fd: u32, iovs: u32, count: u32, read: u32) -> u32 = |c, fd, iovs, n, to| answer(self::read(c, fd, iovs, n, to))),
    import!(fd_write(fd: u32, iovs: u32, count: u32, written: u32) -> u32 = |c, fd, iovs, n, to| answer(write(c, fd, iovs, n, to))),
    import!(fd_close(fd: u32) -> u32 = |c: &mut Caller<'_, Guest>, fd| answer(c.data_mut().stdio.close(fd))),
    import!(fd_fdstat_get(fd: u32, stat: u32) -> u32 = |c, fd, to| answer(fdstat(c, fd, to))),
    import!(fd_fdstat_set_flags(fd: u32, flags: u32) -> u32 = |c, fd, flags| answer(set_flags(c, fd, flags))),
    import!(fd_filestat_get(fd: u32, stat: u32) -> u32 = |c, fd, to| answer(filestat(c, fd, to))),
    import!(fd_prestat_get(fd: u32, prestat: u32) -> u32 = |_, _, _| answer(no_preopen())),
    import!(fd_prestat_dir_name(fd: u32, path: u32, len: u32) -> u32 = |_, _, _, _| answer(no_preopen())),
    import!(fd_seek(fd: u32, offset: u64, whence: u32, position: u32) -> u32 = |c, fd, _, whence, _| answer(seek(c, fd, whence))),
    import!(fd_tell(fd: u32, position: u32) -> u32 = |c, fd, _| answer(seek(c, fd, 1))),
];

/// Pieces of one read or write.
const IOVS_MAX: u32 = 1024;
/// Bytes of stderr taken in one call. A guest writes the rest in the next,
/// and the thread gets a chance to turn to others in between.
const STDERR_CALL_MAX: usize = MIB;

/// The buffer at position `i` of an array of pointers and lengths.
fn iovec(memory: &GuestMemory<'_>, iovs: u32, i: u32) -> Result<(u32, u32), Fault> {
    // i is below IOVS_MAX.
    let at = offset(iovs, i * 8)?;
    Ok((memory.u32(at)?, memory.u32(offset(at, 4)?)?))
}

/// The length of all buffers together; every one is within the memory.
fn total(memory: &GuestMemory<'_>, iovs: u32, count: u32) -> Result<usize, Errno> {
    if count > IOVS_MAX {
        return Err(Errno::INVAL);
    }
    let mut total = 0;
    for i in 0..count {
        let (ptr, len) = iovec(memory, iovs, i)?;
        memory.check(ptr, len)?;
        total += len as usize;
    }
    // The answer is a u32.
    if total > u32::MAX as usize {
        return Err(Errno::INVAL);
    }
    Ok(total)
}

fn read(
    caller: &mut Caller<'_, Guest>,
    fd: u32,
    iovs: u32,
    count: u32,
    read: u32,
) -> Result<(), Errno> {
    let (mut memory, guest) = split(caller);
    if guest.stdio.get(fd)? != Stream::In {
        return Err(Errno::BADF);
    }
    total(&memory, iovs, count)?;
    // Before anything is consumed.
    memory.check(read, 4)?;
    let mut taken = 0;
    for i in 0..count {
        let rest = guest.stdin.get(guest.stdin_read..).unwrap_or_default();
        // Read here and not before: an earlier buffer may lie over this entry.
        let (ptr, len) = iovec(&memory, iovs, i)?;
        let piece = &rest[..rest.len().min(len as usize)];
        memory.write(ptr, piece)?;
        guest.stdin_read += piece.len();
        taken += piece.len();
        if piece.len() == rest.len() {
            break;
        }
    }
    Ok(memory.put_u32(read, u32::try_from(taken).unwrap_or(u32::MAX))?)
}

fn write(
    caller: &mut Caller<'_, Guest>,
    fd: u32,
    iovs: u32,
    count: u32,
    written: u32,
) -> Result<(), Refusal> {
    let (mut memory, guest) = split(caller);
    let stream = guest.stdio.get(fd)?;
    if stream == Stream::In {
        return Err(Errno::BADF.into());
    }
    let total = total(&memory, iovs, count)?;
    memory.check(written, 4)?;
    let taken = match (stream, &mut guest.stdout) {
        (Stream::Out, Stdout::Result(output)) => {
            output.reserve(total)?;
            for i in 0..count {
                let (ptr, len) = iovec(&memory, iovs, i)?;
                output.bytes.extend_from_slice(memory.read(ptr, len)?);
            }
            total
        }
        (Stream::Out, Stdout::Log(lines)) => text(&memory, iovs, count, |piece| {
            lines.write(piece, &mut guest.log)
        })?,
        _ => text(&memory, iovs, count, |piece| {
            guest.stderr.write(piece, &mut guest.log);
        })?,
    };
    Ok(memory.put_u32(written, u32::try_from(taken).unwrap_or(u32::MAX))?)
}

/// Feeds the buffers to `sink`, up to the limit of one call. Answers how much it was.
fn text(
    memory: &GuestMemory<'_>,
    iovs: u32,
    count: u32,
    mut sink: impl FnMut(&[u8]),
) -> Result<usize, Fault> {
    let mut taken = 0;
    for i in 0..count {
        let (ptr, len) = iovec(memory, iovs, i)?;
        let piece = memory.read(ptr, len)?;
        let piece = &piece[..piece.len().min(STDERR_CALL_MAX - taken)];
        sink(piece);
        taken += piece.len();
    }
    Ok(taken)
}

/// `fdstat`: type, flags, rights. The type is "unknown", which preview 1 has
/// in place of a pipe; "character device" would make C libraries take stdout
/// for a terminal and write it line by line.
fn fdstat(caller: &mut Caller<'_, Guest>, fd: u32, to: u32) -> Result<(), Errno> {
    let (mut memory, guest) = split(caller);
    let rights = guest.stdio.get(fd)?.rights();
    let mut stat = [0; 24];
    stat[8..16].copy_from_slice(&rights.to_le_bytes());
    Ok(memory.write(to, &stat)?)
}

/// Accepted without effect: no call on these streams ever waits, so it is the same with every flag.
fn set_flags(caller: &mut Caller<'_, Guest>, fd: u32, flags: u32) -> Result<(), Errno> {
    const ALL: u32 = 0x1f;
    caller.data().stdio.get(fd)?;
    if flags & !ALL == 0 {
        Ok(())
    } else {
        Err(Errno::INVAL)
    }
}

fn filestat(caller: &mut Caller<'_, Guest>, fd: u32, to: u32) -> Result<(), Errno> {
    let (mut memory, guest) = split(caller);
    guest.stdio.get(fd)?;
    // A stream of unknown type, without size, times or links.
    Ok(memory.write(to, &[0; 64])?)
}

/// No directory was opened for the guest. Libraries ask 3, 4, … until they get this.
fn no_preopen() -> Result<(), Errno> {
    Err(Errno::BADF)
}

fn seek(caller: &mut Caller<'_, Guest>, fd: u32, whence: u32) -> Result<(), Errno> {
    caller.data().stdio.get(fd)?;
    Err(if whence > 2 {
        Errno::INVAL
    } else {
        Errno::SPIPE
    })
}
