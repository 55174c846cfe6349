//! The exports fit one of the modes (CONTRACT 1.1).

use std::collections::HashMap;

use wasmparser::types::{EntityType, TypesRef};

use super::super::import::WasmType::{self, I32, I64};
use super::{fits, kind, shown_signature, shown_type, signature};

struct Exports<'a> {
    types: TypesRef<'a>,
    by_name: HashMap<&'a str, EntityType>,
}

/// `needs_allocator` names an import that hands bytes to the guest.
pub(super) fn check(types: TypesRef<'_>, needs_allocator: Option<&str>) -> Result<(), String> {
    let exports = Exports {
        types,
        by_name: types.core_exports().into_iter().flatten().collect(),
    };
    if !exports.has("memory") {
        return Err("the module does not export its memory as `memory`".into());
    }
    if !matches!(exports.by_name["memory"], EntityType::Memory(_)) {
        return Err(format!(
            "the module's export `memory` is a {}, it must be a memory",
            kind(&exports.by_name["memory"])
        ));
    }
    exports.mode()?;
    if let Some(import) = needs_allocator {
        exports.allocator(import)?;
    }
    Ok(())
}

impl Exports<'_> {
    fn has(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    fn mode(&self) -> Result<(), String> {
        if self.has("_start") {
            return self.function("_start", &[], &[]);
        }
        match (self.has("handle"), self.has("_initialize")) {
            (true, true) => {
                self.function("_initialize", &[], &[])?;
                self.function("handle", &[I32, I32], &[I64])
            }
            (true, false) => Err(
                "the module exports `handle` but neither `_start` nor `_initialize`: a reactor needs `_initialize` (TinyGo: -buildmode=c-shared)"
                    .into(),
            ),
            (false, true) => Err(
                "the module exports `_initialize` but neither `handle` nor `_start`: a reactor needs `handle`"
                    .into(),
            ),
            (false, false) => Err(
                "the module exports neither `_start` (a command) nor `_initialize` and `handle` (a reactor); is it built as a program for WASI?"
                    .into(),
            ),
        }
    }

    /// One of the two must be usable; a wrong type of the first does not spoil the second.
    fn allocator(&self, import: &str) -> Result<(), String> {
        let names = ["orama_alloc", "malloc"];
        let tried = names.map(|name| self.function(name, &[I32], &[I32]));
        if tried.iter().any(Result::is_ok) {
            return Ok(());
        }
        let wrong = names
            .iter()
            .zip(tried)
            .find_map(|(name, tried)| tried.err().filter(|_| self.has(name)));
        Err(match wrong {
            Some(wrong) => {
                format!("{import} returns bytes and needs the guest's allocator: {wrong}")
            }
            None => format!(
                "{import} returns bytes, so the module must export `orama_alloc` or `malloc` with type (i32) -> (i32)"
            ),
        })
    }

    fn function(
        &self,
        name: &str,
        params: &[WasmType],
        results: &[WasmType],
    ) -> Result<(), String> {
        let Some(entity) = self.by_name.get(name) else {
            return Err(format!("the module does not export `{name}`"));
        };
        let wanted = shown_signature(params, results);
        match signature(self.types, entity) {
            Some(ty) if fits(ty, params, results) => Ok(()),
            Some(ty) => Err(format!(
                "the module's export `{name}` has type {}, it must have {wanted}",
                shown_type(ty)
            )),
            None => Err(format!(
                "the module's export `{name}` is a {}, it must be a function {wanted}",
                kind(entity)
            )),
        }
    }
}
