//! The three descriptors a guest has.

use super::Errno;

/// A standard stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    In,
    Out,
    Err,
}

/// Which of them are open.
pub(crate) struct Stdio([bool; 3]);

impl Default for Stdio {
    fn default() -> Self {
        Self([true; 3])
    }
}

impl Stdio {
    /// The stream behind a descriptor.
    pub(crate) fn get(&self, fd: u32) -> Result<Stream, Errno> {
        match (fd, self.0) {
            (0, [true, ..]) => Ok(Stream::In),
            (1, [_, true, _]) => Ok(Stream::Out),
            (2, [.., true]) => Ok(Stream::Err),
            _ => Err(Errno::BADF),
        }
    }

    /// Closes a descriptor.
    pub(crate) fn close(&mut self, fd: u32) -> Result<(), Errno> {
        self.get(fd)?;
        if let Some(open) = self.0.get_mut(fd as usize) {
            *open = false;
        }
        Ok(())
    }
}

impl Stream {
    /// The rights of a descriptor (`rights` in preview 1).
    pub(super) fn rights(self) -> u64 {
        const FD_READ: u64 = 1 << 1;
        const FD_FDSTAT_SET_FLAGS: u64 = 1 << 3;
        const FD_WRITE: u64 = 1 << 6;
        const FD_FILESTAT_GET: u64 = 1 << 21;
        const POLL_FD_READWRITE: u64 = 1 << 27;
        let transfer = match self {
            Self::In => FD_READ,
            Self::Out | Self::Err => FD_WRITE,
        };
        transfer | FD_FDSTAT_SET_FLAGS | FD_FILESTAT_GET | POLL_FD_READWRITE
    }
}
