//! Every import is known by module, name and type.

use orama_proto::manifest::nearest;
use wasmparser::types::{EntityType, TypesRef};

use super::super::import::{self, Import};
use super::{fits, kind, shown, shown_signature, shown_type, signature};

/// Faults named in one message; the author fixes them in one go.
const MOST_FAULTS: usize = 5;

/// Answers an imported function that needs the guest's allocator, as `module.name`.
pub(super) fn check(types: TypesRef<'_>) -> Result<Option<String>, String> {
    let mut needs_allocator = None;
    let mut faults = Vec::new();
    for (module, name, entity) in types.core_imports().into_iter().flatten() {
        match known(types, module, name, &entity) {
            Ok(import) if import.returns_bytes => {
                needs_allocator.get_or_insert_with(|| format!("{module}.{name}"));
            }
            Ok(_) => {}
            Err(fault) if faults.len() < MOST_FAULTS => faults.push(fault),
            Err(_) => {}
        }
    }
    if faults.is_empty() {
        Ok(needs_allocator)
    } else {
        Err(format!(
            "failed to instantiate module: {}",
            faults.join("; ")
        ))
    }
}

fn known(
    types: TypesRef<'_>,
    module: &str,
    name: &str,
    entity: &EntityType,
) -> Result<&'static Import, String> {
    let (module_text, name_text) = (shown(module), shown(name));
    let what = kind(entity);
    let Some(functions) = import::functions(module) else {
        let hint = match module {
            "wasi_unstable" => " (compile for wasi_snapshot_preview1)",
            _ => "",
        };
        return Err(format!(
            "module[{module_text}] not instantiated: {what} {module_text}.{name_text} is imported, \
             but only env, host, orama and wasi_snapshot_preview1 exist{hint}"
        ));
    };
    let Some(ty) = signature(types, entity) else {
        return Err(format!(
            "{module_text}.{name_text} is imported as a {what}, only functions can be imported"
        ));
    };
    let Some(import) = functions.clone().find(|import| import.name == name) else {
        let names: Vec<&str> = functions.map(|import| import.name).collect();
        let hint = match nearest(name, &names) {
            Some(near) => format!("; did you mean {near}?"),
            None => String::new(),
        };
        return Err(format!(
            "{module_text}.{name_text} is not a host function of this node{hint}"
        ));
    };
    if !fits(ty, import.params, import.results) {
        return Err(format!(
            "{module_text}.{name_text} is imported with type {}, its type is {}",
            shown_type(ty),
            shown_signature(import.params, import.results)
        ));
    }
    Ok(import)
}
