//! What a guest may import: one table, from which linking and validation both follow.

use wasmtime::Linker;

use super::guest::Guest;
use crate::hostfn;

/// The only WASI there is.
pub(crate) const WASI: &str = "wasi_snapshot_preview1";

/// A number type of WebAssembly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WasmType {
    I32,
    I64,
}

impl WasmType {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::I32 => "i32",
            Self::I64 => "i64",
        }
    }
}

/// How a Rust parameter looks to a guest.
pub(crate) trait WasmValue {
    const TYPE: WasmType;
}

impl WasmValue for u32 {
    const TYPE: WasmType = WasmType::I32;
}
impl WasmValue for i32 {
    const TYPE: WasmType = WasmType::I32;
}
impl WasmValue for u64 {
    const TYPE: WasmType = WasmType::I64;
}
impl WasmValue for i64 {
    const TYPE: WasmType = WasmType::I64;
}

/// A function of the node that guests may import.
pub(crate) struct Import {
    pub(crate) name: &'static str,
    pub(crate) params: &'static [WasmType],
    pub(crate) results: &'static [WasmType],
    /// It hands bytes to the guest, through the guest's allocator.
    pub(crate) returns_bytes: bool,
    pub(crate) link: fn(&mut Linker<Guest>, &str) -> Result<(), wasmtime::Error>,
}

/// Makes an [`Import`]; types and linking come from the same tokens, so they cannot disagree.
///
/// `import!(name(arg: type, …) -> type = function)` answers at once,
/// `import!(async name(…) …)` may wait, and `import!(bytes name(…))` returns bytes (CONTRACT 1.3).
macro_rules! import {
    ($name:ident($($arg:ident: $ty:ident),*) $(-> $result:ident)? = $function:expr) => {
        $crate::runtime::import::Import {
            name: stringify!($name),
            params: &[$(<$ty as $crate::runtime::import::WasmValue>::TYPE),*],
            results: &[$(<$result as $crate::runtime::import::WasmValue>::TYPE)?],
            returns_bytes: false,
            link: |linker, module| {
                linker
                    .func_wrap(
                        module,
                        stringify!($name),
                        |mut caller: wasmtime::Caller<'_, $crate::runtime::guest::Guest>, $($arg: $ty),*| {
                            $function(&mut caller, $($arg),*)
                        },
                    )
                    .map(drop)
            },
        }
    };
    (async $name:ident($($arg:ident: $ty:ident),*) $(-> $result:ident)? = $function:expr) => {
        $crate::runtime::import::import!(@waits false, $name($($arg: $ty),*) $(-> $result)? = $function)
    };
    (bytes $name:ident($($arg:ident: $ty:ident),*) = $function:expr) => {
        $crate::runtime::import::import!(@waits true, $name($($arg: $ty),*) -> u64 = $function)
    };
    (@waits $bytes:literal, $name:ident($($arg:ident: $ty:ident),*) $(-> $result:ident)? = $function:expr) => {
        $crate::runtime::import::Import {
            name: stringify!($name),
            params: &[$(<$ty as $crate::runtime::import::WasmValue>::TYPE),*],
            results: &[$(<$result as $crate::runtime::import::WasmValue>::TYPE)?],
            returns_bytes: $bytes,
            link: |linker, module| {
                linker
                    .func_wrap_async(
                        module,
                        stringify!($name),
                        |caller: wasmtime::Caller<'_, $crate::runtime::guest::Guest>, ($($arg,)*): ($($ty,)*)| {
                            Box::new($function(caller, $($arg),*))
                        },
                    )
                    .map(drop)
            },
        }
    };
}
pub(crate) use import;

/// The module names there are, each with its functions, sorted.
pub(crate) fn modules() -> [(&'static str, &'static [&'static [Import]]); 4] {
    let ours = hostfn::TABLE;
    [
        ("env", ours),
        ("host", ours),
        ("orama", ours),
        (WASI, super::wasi::TABLE),
    ]
}

/// The functions of a module name.
pub(crate) fn functions(module: &str) -> Option<impl Iterator<Item = &'static Import> + Clone> {
    modules()
        .into_iter()
        .find(|(name, _)| *name == module)
        .map(|(_, families)| families.iter().copied().flatten())
}

/// Defines everything there is.
pub(crate) fn link(linker: &mut Linker<Guest>) -> Result<(), wasmtime::Error> {
    for (module, families) in modules() {
        for import in families.iter().copied().flatten() {
            (import.link)(linker, module)?;
        }
    }
    Ok(())
}
