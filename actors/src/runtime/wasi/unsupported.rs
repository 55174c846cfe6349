//! The rest of preview 1: files, directories and sockets, of which there are none.
//!
//! A descriptor that is not open answers `badf`. On a standard stream each
//! call answers what it would on a pipe.

use wasmtime::Caller;

use super::{Errno, answer};
use crate::runtime::guest::Guest;
use crate::runtime::import::{Import, import};

/// `on!(name(fd: u32, …) => ERRNO)`: `badf`, or the error when the descriptor is a standard stream.
macro_rules! on {
    ($name:ident($fd:ident: u32 $(, $arg:ident: $ty:ident)*) => $errno:ident) => {
        import!($name($fd: u32 $(, $arg: $ty)*) -> u32 = |caller, fd $(, $arg)*| {
            $(let _: $ty = $arg;)*
            refuse(caller, fd, Errno::$errno)
        })
    };
}

pub(super) const TABLE: &[Import] = &[
    on!(fd_advise(fd: u32, offset: u64, len: u64, advice: u32) => SPIPE),
    on!(fd_allocate(fd: u32, offset: u64, len: u64) => SPIPE),
    on!(fd_datasync(fd: u32) => INVAL),
    on!(fd_fdstat_set_rights(fd: u32, base: u64, inheriting: u64) => NOTCAPABLE),
    on!(fd_filestat_set_size(fd: u32, size: u64) => INVAL),
    on!(fd_filestat_set_times(fd: u32, atim: u64, mtim: u64, flags: u32) => NOTCAPABLE),
    on!(fd_pread(fd: u32, iovs: u32, count: u32, offset: u64, read: u32) => SPIPE),
    on!(fd_pwrite(fd: u32, iovs: u32, count: u32, offset: u64, written: u32) => SPIPE),
    on!(fd_readdir(fd: u32, buffer: u32, len: u32, cookie: u64, used: u32) => NOTDIR),
    import!(fd_renumber(fd: u32, to: u32) -> u32 = |caller, fd, to| renumber(caller, fd, to)),
    on!(fd_sync(fd: u32) => INVAL),
    on!(path_create_directory(fd: u32, path: u32, len: u32) => NOTDIR),
    on!(path_filestat_get(fd: u32, flags: u32, path: u32, len: u32, stat: u32) => NOTDIR),
    on!(path_filestat_set_times(fd: u32, lookup: u32, path: u32, len: u32, atim: u64, mtim: u64, flags: u32) => NOTDIR),
    on!(path_link(fd: u32, flags: u32, path: u32, len: u32, new_fd: u32, new_path: u32, new_len: u32) => NOTDIR),
    on!(path_open(fd: u32, lookup: u32, path: u32, len: u32, open: u32, base: u64, inheriting: u64, flags: u32, opened: u32) => NOTDIR),
    on!(path_readlink(fd: u32, path: u32, len: u32, buffer: u32, buffer_len: u32, used: u32) => NOTDIR),
    on!(path_remove_directory(fd: u32, path: u32, len: u32) => NOTDIR),
    on!(path_rename(fd: u32, path: u32, len: u32, new_fd: u32, new_path: u32, new_len: u32) => NOTDIR),
    // Its descriptor is the third argument.
    import!(path_symlink(target: u32, target_len: u32, fd: u32, path: u32, len: u32) -> u32 = |caller, _, _, fd, _, _| refuse(caller, fd, Errno::NOTDIR)),
    on!(path_unlink_file(fd: u32, path: u32, len: u32) => NOTDIR),
    on!(sock_accept(fd: u32, flags: u32, accepted: u32) => NOTSOCK),
    on!(sock_recv(fd: u32, iovs: u32, count: u32, flags: u32, read: u32, out_flags: u32) => NOTSOCK),
    on!(sock_send(fd: u32, iovs: u32, count: u32, flags: u32, written: u32) => NOTSOCK),
    on!(sock_shutdown(fd: u32, how: u32) => NOTSOCK),
];

fn refuse(caller: &mut Caller<'_, Guest>, fd: u32, errno: Errno) -> Result<u32, wasmtime::Error> {
    answer(caller.data().stdio.get(fd).and(Err(errno)))
}

fn renumber(caller: &mut Caller<'_, Guest>, fd: u32, to: u32) -> Result<u32, wasmtime::Error> {
    let stdio = &caller.data().stdio;
    answer(
        stdio
            .get(fd)
            .and_then(|_| stdio.get(to))
            .and(Err(Errno::NOTSUP)),
    )
}
