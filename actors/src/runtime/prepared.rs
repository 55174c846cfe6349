//! A module that is compiled, linked and looked through, ready to be instantiated.

use orama_proto::function::FunctionSpec;
use wasmtime::{ExternType, InstancePre, Linker, Module, ModuleExport, ValType};

use super::error::ModuleError;
use super::guest::{Allocator, Guest};

const PAGE: u64 = 64 * 1024;

/// How a guest is run (CONTRACT 1.1).
pub(crate) enum Mode {
    /// `_start`, with stdin and stdout.
    Command { start: ModuleExport },
    /// `_initialize`, then `handle` (CONTRACT 1.2).
    Reactor {
        initialize: ModuleExport,
        handle: ModuleExport,
        input: Option<ModuleExport>,
        free: Option<ModuleExport>,
    },
}

/// A module that is compiled and linked, ready to be instantiated.
pub struct PreparedModule {
    pub(crate) pre: InstancePre<Guest>,
    pub(crate) mode: Mode,
    pub(crate) memory: ModuleExport,
    pub(crate) allocator: Option<ModuleExport>,
    min_memory_bytes: u64,
}

impl std::fmt::Debug for PreparedModule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PreparedModule")
            .field("min_memory_bytes", &self.min_memory_bytes)
            .finish_non_exhaustive()
    }
}

impl PreparedModule {
    /// Links a module that passed validation. `Err` when it does not fit this
    /// node, as one that another version of it has accepted may not.
    pub(crate) fn link(linker: &Linker<Guest>, module: &Module) -> Result<Self, String> {
        // Made now and not by the first call.
        module
            .initialize_copy_on_write_image()
            .map_err(|e| format!("{e:#}"))?;
        let function =
            |name: &str, params: &[ValType], results: &[ValType]| match module.get_export(name) {
                Some(ExternType::Func(ty))
                    if same(ty.params(), params) && same(ty.results(), results) =>
                {
                    module.get_export_index(name)
                }
                _ => None,
            };
        let missing = |name: &str| format!("the compiled module has no fitting export {name}");
        let i32 = &[ValType::I32][..];
        let malloc = function("malloc", i32, i32);
        let allocator = function("orama_alloc", i32, i32).or(malloc);
        let mode = match function("_start", &[], &[]) {
            Some(start) => Mode::Command { start },
            None => Mode::Reactor {
                initialize: function("_initialize", &[], &[])
                    .ok_or_else(|| missing("_initialize"))?,
                handle: function("handle", &[ValType::I32, ValType::I32], &[ValType::I64])
                    .ok_or_else(|| missing("handle"))?,
                // free belongs to malloc.
                free: malloc.as_ref().and_then(|_| function("free", i32, &[])),
                input: malloc.or(allocator),
            },
        };
        Ok(Self {
            pre: linker
                .instantiate_pre(module)
                .map_err(|e| format!("{e:#}"))?,
            mode,
            memory: match module.get_export("memory") {
                Some(ExternType::Memory(_)) => module.get_export_index("memory"),
                _ => None,
            }
            .ok_or_else(|| missing("memory"))?,
            allocator,
            min_memory_bytes: module
                .resources_required()
                .max_initial_memory_size
                .unwrap_or(0)
                .saturating_mul(PAGE),
        })
    }

    /// Checks what depends on a version's settings: the declared memory fits its limit.
    ///
    /// # Errors
    /// [`ModuleError::Invalid`].
    pub fn check(&self, spec: &FunctionSpec) -> Result<(), ModuleError> {
        if self.min_memory_bytes <= spec.memory_limit_bytes() as u64 {
            return Ok(());
        }
        Err(ModuleError::Invalid(format!(
            "the module declares at least {} MB of memory ({} pages), its memory limit is {} MB",
            self.min_memory_bytes.div_ceil(1024 * 1024),
            self.min_memory_bytes / PAGE,
            spec.memory_limit_mb
        )))
    }

    pub(crate) fn allocator(&self) -> Allocator {
        self.allocator.map_or(Allocator::None, Allocator::Export)
    }
}

fn same(found: impl ExactSizeIterator<Item = ValType>, wanted: &[ValType]) -> bool {
    found.len() == wanted.len() && found.zip(wanted).all(|(a, b)| ValType::eq(&a, b))
}
