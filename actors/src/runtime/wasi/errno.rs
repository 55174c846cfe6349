//! Error numbers of preview 1, those we use.

/// An error number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Errno(pub(crate) u16);

impl Errno {
    /// No error.
    pub(crate) const SUCCESS: Self = Self(0);
    /// Not an open file descriptor.
    pub(crate) const BADF: Self = Self(8);
    /// A pointer out of the guest's memory.
    pub(crate) const FAULT: Self = Self(21);
    /// An argument without meaning.
    pub(crate) const INVAL: Self = Self(28);
    /// The machine's fault.
    pub(crate) const IO: Self = Self(29);
    /// Not a directory.
    pub(crate) const NOTDIR: Self = Self(54);
    /// Not a socket.
    pub(crate) const NOTSOCK: Self = Self(57);
    /// There is no such thing here.
    pub(crate) const NOTSUP: Self = Self(58);
    /// A stream has no position.
    pub(crate) const SPIPE: Self = Self(70);
    /// The descriptor lacks the right.
    pub(crate) const NOTCAPABLE: Self = Self(76);
}
