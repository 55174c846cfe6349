//! Each function, called with what the specification speaks of and with what it does not.

mod poll;
mod process;
mod streams;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use wasmtime::{AsContextMut, Extern, Instance, Linker, Memory, Store, Val};

use super::{Errno, TABLE};
use crate::runtime::guest::{Allocator, Guest, Stdout};
use crate::runtime::import::{self, Import, WASI, WasmType};
use crate::runtime::output::Output;
use crate::runtime::tests::call;
use crate::runtime::{Stop, engine};

/// The size of the memory.
const END: u32 = 65536;
const OK: Errno = Errno::SUCCESS;

/// A guest whose exports call each function with the arguments they are given.
struct Harness {
    store: Store<Guest>,
    instance: Instance,
    memory: Memory,
}

fn functions() -> impl Iterator<Item = &'static Import> {
    TABLE.iter().copied().flatten()
}

fn wrappers() -> String {
    let types = |types: &[WasmType]| {
        let names: Vec<_> = types.iter().map(|ty| ty.as_str()).collect();
        names.join(" ")
    };
    let mut imports = String::new();
    let mut exports = String::new();
    for f in functions() {
        let signature = format!("(param {}) (result {})", types(f.params), types(f.results));
        let name = f.name;
        imports += &format!("(import \"{WASI}\" \"{name}\" (func ${name} {signature}))\n");
        let args: String = (0..f.params.len())
            .map(|i| format!("(local.get {i})"))
            .collect();
        exports += &format!("(func (export \"{name}\") {signature} (call ${name} {args}))\n");
    }
    format!("(module {imports} (memory (export \"memory\") 1) {exports})")
}

impl Harness {
    async fn new(stdin: &[u8]) -> Self {
        let engine = engine::engine(4).unwrap();
        let mut linker = Linker::new(&engine);
        import::link(&mut linker).unwrap();
        let module = wasmtime::Module::new(&engine, wat::parse_str(wrappers()).unwrap()).unwrap();
        let call = call(stdin, Arc::new(Semaphore::new(1)));
        let guest = Guest::new(call, Allocator::None, Stdout::Result(Output::default()));
        let mut store = Store::new(&engine, guest);
        store.set_epoch_deadline(1000);
        let instance = linker.instantiate_async(&mut store, &module).await.unwrap();
        let Some(Extern::Memory(memory)) = instance.get_export(&mut store, "memory") else {
            panic!("no memory");
        };
        Self {
            store,
            instance,
            memory,
        }
    }

    async fn try_call(&mut self, name: &str, args: &[u64]) -> Result<Errno, Stop> {
        let import = functions().find(|f| f.name == name).unwrap();
        assert_eq!(args.len(), import.params.len(), "{name}");
        let args: Vec<Val> = args
            .iter()
            .zip(import.params)
            .map(|(arg, ty)| match ty {
                WasmType::I32 => Val::I32(*arg as u32 as i32),
                WasmType::I64 => Val::I64(*arg as i64),
            })
            .collect();
        let function = self.instance.get_func(&mut self.store, name).unwrap();
        let mut results = vec![Val::I32(0); import.results.len()];
        match function
            .call_async(&mut self.store, &args, &mut results)
            .await
        {
            Ok(()) => Ok(Errno(u16::try_from(results[0].unwrap_i32()).unwrap())),
            Err(e) => Err(*e
                .downcast_ref::<Stop>()
                .unwrap_or_else(|| panic!("{name}{args:?}: {e:?}"))),
        }
    }

    async fn call(&mut self, name: &str, args: &[u64]) -> Errno {
        self.try_call(name, args).await.unwrap()
    }

    fn put(&mut self, at: u32, bytes: &[u8]) {
        self.memory
            .write(&mut self.store, at as usize, bytes)
            .unwrap();
    }

    fn put_u32s(&mut self, at: u32, values: &[u32]) {
        for (i, value) in values.iter().enumerate() {
            self.put(at + 4 * i as u32, &value.to_le_bytes());
        }
    }

    fn bytes(&mut self, at: u32, len: u32) -> Vec<u8> {
        let data = self.memory.data(self.store.as_context_mut());
        data[at as usize..(at + len) as usize].to_vec()
    }

    fn u32(&mut self, at: u32) -> u32 {
        u32::from_le_bytes(self.bytes(at, 4).try_into().unwrap())
    }

    fn u64(&mut self, at: u32) -> u64 {
        u64::from_le_bytes(self.bytes(at, 8).try_into().unwrap())
    }

    fn stdout(&self) -> &[u8] {
        match &self.store.data().stdout {
            Stdout::Result(output) => &output.bytes,
            Stdout::Log(_) => panic!("not a command"),
        }
    }
}

#[tokio::test]
async fn linked_types_are_the_tables_types() {
    let engine = engine::engine(4).unwrap();
    let mut linker = Linker::<Guest>::new(&engine);
    import::link(&mut linker).unwrap();
    let guest = Guest::new(
        call(b"", Arc::new(Semaphore::new(1))),
        Allocator::None,
        Stdout::Result(Output::default()),
    );
    let mut store = Store::new(&engine, guest);
    let mut count = 0;
    for (module, name, item) in linker.iter(&mut store).collect::<Vec<_>>() {
        let import = import::functions(module)
            .unwrap()
            .find(|f| f.name == name)
            .unwrap();
        let ty = item.into_func().unwrap().ty(&store);
        let text = |types: &mut dyn Iterator<Item = wasmtime::ValType>| {
            types.map(|ty| ty.to_string()).collect::<Vec<_>>()
        };
        let names = |types: &[WasmType]| types.iter().map(|ty| ty.as_str()).collect::<Vec<_>>();
        assert_eq!(
            text(&mut ty.params()),
            names(import.params),
            "{module}.{name}"
        );
        assert_eq!(
            text(&mut ty.results()),
            names(import.results),
            "{module}.{name}"
        );
        count += 1;
    }
    let names: Vec<_> = functions().map(|f| f.name).collect();
    assert_eq!(names.len(), 46, "all of preview 1");
    assert_eq!(
        count,
        46 + 3 * crate::hostfn::TABLE.iter().map(|t| t.len()).sum::<usize>()
    );
}
