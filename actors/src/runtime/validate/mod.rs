//! What a module must be before it is compiled, with reasons its author can act on.

mod exports;
mod imports;
#[cfg(test)]
mod tests;

use orama_proto::limits::{MIB, WASM_MAX_BYTES};
use wasmparser::types::{EntityType, TypesRef};
use wasmparser::{FuncType, Parser, Payload, ValidPayload, Validator, WasmFeatures};

use super::engine::{MAX_MEMORY_BYTES, MAX_TABLE_ELEMENTS};
use super::import::WasmType;

const PAGE: u64 = 64 * 1024;
const MAGIC: &[u8] = b"\0asm";
const MODULE: &[u8] = &[1, 0, 0, 0];
const COMPONENT: &[u8] = &[0x0d, 0, 1, 0];

/// What the engine is configured for.
const FEATURES: WasmFeatures = WasmFeatures::WASM2
    .union(WasmFeatures::TAIL_CALL)
    .union(WasmFeatures::EXTENDED_CONST)
    .union(WasmFeatures::RELAXED_SIMD);

/// Checks the shape of a module: everything but its functions' bodies, which the compiler checks.
pub(crate) fn check(wasm: &[u8]) -> Result<(), String> {
    header(wasm)?;
    // Memories are checked by hand, with words of their own, before the validator's terse ones.
    let features = FEATURES
        .union(WasmFeatures::MULTI_MEMORY)
        .union(WasmFeatures::MEMORY64)
        .union(WasmFeatures::THREADS);
    let mut validator = Validator::new_with_features(features);
    let mut shape = Shape::default();
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload.map_err(|e| invalid(&e))?;
        match &payload {
            Payload::MemorySection(section) => {
                for memory in section.clone() {
                    shape.memories.push(memory.map_err(|e| invalid(&e))?);
                }
            }
            Payload::TableSection(section) => {
                for table in section.clone() {
                    shape.tables.push(table.map_err(|e| invalid(&e))?.ty);
                }
            }
            _ => {}
        }
        if let ValidPayload::End(types) = validator.payload(&payload).map_err(|e| invalid(&e))? {
            let types = types.as_ref();
            let needs_allocator = imports::check(types)?;
            shape.check()?;
            exports::check(types, needs_allocator.as_deref())?;
        }
    }
    Ok(())
}

fn header(wasm: &[u8]) -> Result<(), String> {
    if wasm.len() > WASM_MAX_BYTES {
        return Err(format!(
            "the module has {} bytes, the limit is {WASM_MAX_BYTES} bytes ({} MiB)",
            wasm.len(),
            WASM_MAX_BYTES / MIB
        ));
    }
    let Some(version) = wasm.strip_prefix(MAGIC) else {
        return Err("not a WebAssembly module: it does not begin with \\0asm".into());
    };
    match version.get(..4) {
        None => Err("not a WebAssembly module: it ends within its header".into()),
        Some(MODULE) => Ok(()),
        Some(COMPONENT) => Err(
            "this is a component; deploy a core module (target wasm32-wasip1 or -target wasi)"
                .into(),
        ),
        Some(other) => Err(format!(
            "not a WebAssembly module of version 1: its header says {other:02x?}"
        )),
    }
}

fn invalid(e: &wasmparser::BinaryReaderError) -> String {
    format!(
        "the module is not valid: {} (at offset {:#x})",
        e.message(),
        e.offset()
    )
}

/// The memories and tables a module declares.
#[derive(Default)]
struct Shape {
    memories: Vec<wasmparser::MemoryType>,
    tables: Vec<wasmparser::TableType>,
}

impl Shape {
    fn check(&self) -> Result<(), String> {
        if self.memories.len() > 1 {
            return Err(format!(
                "the module has {} memories, it may have one",
                self.memories.len()
            ));
        }
        for memory in &self.memories {
            if memory.memory64 {
                return Err("the module has a 64-bit memory; compile it for wasm32".into());
            }
            if memory.shared {
                return Err("the module has a shared memory; compile it without threads".into());
            }
            let bytes = memory.initial.saturating_mul(PAGE);
            if bytes > MAX_MEMORY_BYTES as u64 {
                return Err(format!(
                    "the module declares at least {} MB of memory ({} pages), the most a function can have is {} MB",
                    bytes.div_ceil(MIB as u64),
                    memory.initial,
                    MAX_MEMORY_BYTES / MIB
                ));
            }
        }
        if self.tables.len() > 1 {
            return Err(format!(
                "the module has {} tables, it may have one",
                self.tables.len()
            ));
        }
        for table in &self.tables {
            if table.table64 {
                return Err("the module has a 64-bit table; compile it for wasm32".into());
            }
            if table.initial > MAX_TABLE_ELEMENTS as u64 {
                return Err(format!(
                    "the module declares a table of {} elements, the limit is {MAX_TABLE_ELEMENTS}",
                    table.initial
                ));
            }
        }
        Ok(())
    }
}

fn signature<'a>(types: TypesRef<'a>, entity: &EntityType) -> Option<&'a FuncType> {
    match entity {
        EntityType::Func(id) | EntityType::FuncExact(id) => types.get(*id).and_then(|ty| match &ty
            .composite_type
            .inner
        {
            wasmparser::CompositeInnerType::Func(ty) => Some(ty),
            _ => None,
        }),
        _ => None,
    }
}

fn kind(entity: &EntityType) -> &'static str {
    match entity {
        EntityType::Func(_) | EntityType::FuncExact(_) => "function",
        EntityType::Table(_) => "table",
        EntityType::Memory(_) => "memory",
        EntityType::Global(_) => "global",
        EntityType::Tag(_) => "tag",
    }
}

fn fits(ty: &FuncType, params: &[WasmType], results: &[WasmType]) -> bool {
    let same = |found: &[wasmparser::ValType], wanted: &[WasmType]| {
        found.len() == wanted.len()
            && found.iter().zip(wanted).all(|(found, wanted)| {
                matches!(
                    (found, wanted),
                    (wasmparser::ValType::I32, WasmType::I32)
                        | (wasmparser::ValType::I64, WasmType::I64)
                )
            })
    };
    same(ty.params(), params) && same(ty.results(), results)
}

/// `(i32, i32) -> (i64)`.
fn shown_type(ty: &FuncType) -> String {
    let list = |types: &[wasmparser::ValType]| {
        let names: Vec<_> = types.iter().map(ToString::to_string).collect();
        names.join(", ")
    };
    format!("({}) -> ({})", list(ty.params()), list(ty.results()))
}

fn shown_signature(params: &[WasmType], results: &[WasmType]) -> String {
    let list = |types: &[WasmType]| {
        let names: Vec<_> = types.iter().map(|ty| ty.as_str()).collect();
        names.join(", ")
    };
    format!("({}) -> ({})", list(params), list(results))
}

/// A name out of a module, fit for a message.
fn shown(name: &str) -> String {
    const MOST: usize = 100;
    let mut text: String = name
        .chars()
        .take(MOST)
        .flat_map(char::escape_debug)
        .collect();
    if name.chars().nth(MOST).is_some() {
        text.push('…');
    }
    text
}
