//! Each function, called with what the specification speaks of and with what it does not.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use wasmtime::{AsContextMut, Extern, Instance, Linker, Memory, Store, Val};

use super::super::guest::{Allocator, Guest, Stdout};
use super::super::import::{self, Import, WASI, WasmType};
use super::super::output::Output;
use super::super::tests::call;
use super::super::{Stop, engine};
use super::{Errno, TABLE};

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

#[tokio::test]
async fn args_and_environ() {
    let mut h = Harness::new(b"").await;
    assert_eq!(h.call("args_sizes_get", &[0, 4]).await, OK);
    assert_eq!((h.u32(0), h.u32(4)), (1, 5));
    assert_eq!(h.call("args_get", &[8, 100]).await, OK);
    assert_eq!(h.u32(8), 100);
    assert_eq!(h.bytes(100, 5), b"echo\0");
    assert_eq!(h.call("environ_sizes_get", &[0, 4]).await, OK);
    assert_eq!((h.u32(0), h.u32(4)), (0, 0));
    assert_eq!(h.call("environ_get", &[0, 0]).await, OK);
    for args in [[END - 3, 4], [0, END - 3], [u32::MAX, 0]] {
        let args = args.map(u64::from);
        assert_eq!(h.call("args_sizes_get", &args).await, Errno::FAULT);
        assert_eq!(h.call("environ_sizes_get", &args).await, Errno::FAULT);
    }
    assert_eq!(
        h.call("args_get", &[u64::from(END) - 3, 0]).await,
        Errno::FAULT
    );
    h.put(8, &[9; 4]);
    assert_eq!(
        h.call("args_get", &[8, u64::from(END) - 4]).await,
        Errno::FAULT
    );
    assert_eq!(
        h.bytes(8, 4),
        [9; 4],
        "nothing is written when not everything can be"
    );
}

#[tokio::test]
async fn clocks_move() {
    let mut h = Harness::new(b"").await;
    for id in 0..4 {
        assert_eq!(h.call("clock_res_get", &[id, 0]).await, OK);
        assert_eq!(h.u64(0), 1);
        assert_eq!(h.call("clock_time_get", &[id, 0, 0]).await, OK);
        assert_eq!(h.call("clock_time_get", &[id, u64::MAX, 8]).await, OK);
        let (first, then) = (h.u64(0), h.u64(8));
        assert!(then > first, "clock {id}: {first} {then}");
        assert_eq!(
            h.call("clock_time_get", &[id, 0, END.into()]).await,
            Errno::FAULT
        );
        assert_eq!(
            h.call("clock_res_get", &[id, u64::from(END) - 7]).await,
            Errno::FAULT
        );
    }
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    assert_eq!(h.call("clock_time_get", &[0, 0, 0]).await, OK);
    assert!(Duration::from_nanos(h.u64(0)).abs_diff(now) < Duration::from_secs(5));
    assert_eq!(h.call("clock_time_get", &[1, 0, 0]).await, OK);
    assert!(h.u64(0) >= 1_000_000_000, "never 0");
    for id in [4, u64::from(u32::MAX)] {
        assert_eq!(h.call("clock_time_get", &[id, 0, 0]).await, Errno::INVAL);
        assert_eq!(h.call("clock_res_get", &[id, 0]).await, Errno::INVAL);
    }
}

#[tokio::test]
async fn reading() {
    let mut h = Harness::new(b"hello world").await;
    h.put_u32s(0, &[100, 3, 200, 0, 300, 4]);
    // What cannot be done entirely takes nothing.
    let end = u64::from(END);
    assert_eq!(h.call("fd_read", &[0, 0, 3, end - 3]).await, Errno::FAULT);
    assert_eq!(h.call("fd_read", &[0, end - 8, 2, 64]).await, Errno::FAULT);
    assert_eq!(
        h.call("fd_read", &[0, u64::from(u32::MAX) - 7, 2, 64])
            .await,
        Errno::FAULT
    );
    h.put_u32s(400, &[100, 3, END - 1, 2]);
    assert_eq!(h.call("fd_read", &[0, 400, 2, 64]).await, Errno::FAULT);
    h.put_u32s(400, &[u32::MAX, u32::MAX]);
    assert_eq!(h.call("fd_read", &[0, 400, 1, 64]).await, Errno::FAULT);
    assert_eq!(h.call("fd_read", &[0, 0, 1025, 64]).await, Errno::INVAL);

    assert_eq!(h.call("fd_read", &[0, 0, 3, 64]).await, OK);
    assert_eq!(
        (h.u32(64), h.bytes(100, 3), h.bytes(300, 4)),
        (7, b"hel".to_vec(), b"lo w".to_vec())
    );
    assert_eq!(h.call("fd_read", &[0, 0, 0, 64]).await, OK);
    assert_eq!(h.u32(64), 0);
    assert_eq!(h.call("fd_read", &[0, 0, 3, 64]).await, OK);
    assert_eq!(
        (h.u32(64), h.bytes(100, 3), h.bytes(300, 1)),
        (4, b"orl".to_vec(), b"d".to_vec())
    );
    for _ in 0..2 {
        assert_eq!(h.call("fd_read", &[0, 0, 3, 64]).await, OK);
        assert_eq!(h.u32(64), 0, "end of input");
    }
    for fd in [1, 2, 3, u64::from(u32::MAX)] {
        assert_eq!(h.call("fd_read", &[fd, 0, 3, 64]).await, Errno::BADF);
    }
}

#[tokio::test]
async fn a_read_over_its_own_buffers_does_not_escape() {
    // The first piece lands on the second entry and changes it to one outside.
    let mut input = (END - 2).to_le_bytes().to_vec();
    input.extend(1000u32.to_le_bytes());
    input.extend([7; 20]);
    let mut h = Harness::new(&input).await;
    h.put_u32s(0, &[8, 8, 500, 4]);
    assert_eq!(h.call("fd_read", &[0, 0, 2, 64]).await, Errno::FAULT);
}

#[tokio::test]
async fn writing() {
    let mut h = Harness::new(b"").await;
    h.put(100, b"hello world\nrest");
    h.put_u32s(0, &[100, 5, 0, 0, 105, 7]);
    let end = u64::from(END);
    assert_eq!(h.call("fd_write", &[1, 0, 3, end - 3]).await, Errno::FAULT);
    assert_eq!(h.call("fd_write", &[1, end - 8, 2, 64]).await, Errno::FAULT);
    assert_eq!(h.call("fd_write", &[1, 0, 1025, 64]).await, Errno::INVAL);
    h.put_u32s(400, &[100, 3, END - 1, 2]);
    for fd in [1, 2] {
        assert_eq!(h.call("fd_write", &[fd, 400, 2, 64]).await, Errno::FAULT);
    }
    assert_eq!(h.stdout(), b"");
    assert_eq!(h.call("fd_write", &[1, 0, 3, 64]).await, OK);
    assert_eq!((h.u32(64), h.stdout()), (12, &b"hello world\n"[..]));
    assert_eq!(h.call("fd_write", &[2, 0, 3, 64]).await, OK);
    assert_eq!(h.store.data().log.lines[0].message, "hello world");
    for fd in [0, 3, u64::from(u32::MAX)] {
        assert_eq!(h.call("fd_write", &[fd, 0, 3, 64]).await, Errno::BADF);
    }
    // The whole memory 1,024 times over is more than any output.
    for i in 0..1024 {
        h.put_u32s(8192 + i * 8, &[0, END]);
    }
    assert_eq!(h.call("fd_write", &[2, 8192, 1024, 64]).await, OK);
    assert_eq!(h.u32(64), 1 << 20, "stderr is taken in pieces");
    assert_eq!(
        h.try_call("fd_write", &[1, 8192, 1024, 64]).await,
        Err(Stop::OutputTooLarge)
    );
}

#[tokio::test]
async fn descriptors() {
    let mut h = Harness::new(b"").await;
    const READ: u64 = 1 << 1;
    const WRITE: u64 = 1 << 6;
    const SEEK_AND_TELL: u64 = 1 << 2 | 1 << 5;
    for (fd, has, lacks) in [(0, READ, WRITE), (1, WRITE, READ), (2, WRITE, READ)] {
        h.put(0, &[0xff; 24]);
        assert_eq!(h.call("fd_fdstat_get", &[fd, 0]).await, OK);
        assert_eq!(h.u64(0), 0, "type unknown, no flags");
        let rights = h.u64(8);
        assert!(
            rights & has != 0 && rights & (lacks | SEEK_AND_TELL) == 0,
            "{rights:b}"
        );
        assert_eq!(h.u64(16), 0);
        h.put(0, &[0xff; 64]);
        assert_eq!(h.call("fd_filestat_get", &[fd, 0]).await, OK);
        assert_eq!(h.bytes(0, 64), [0; 64]);
        for flags in [0, 1, 4, 0x1f] {
            assert_eq!(h.call("fd_fdstat_set_flags", &[fd, flags]).await, OK);
        }
        assert_eq!(
            h.call("fd_fdstat_set_flags", &[fd, 0x20]).await,
            Errno::INVAL
        );
        assert_eq!(h.call("fd_seek", &[fd, 0, 0, 0]).await, Errno::SPIPE);
        assert_eq!(h.call("fd_seek", &[fd, 0, 3, 0]).await, Errno::INVAL);
        assert_eq!(h.call("fd_tell", &[fd, 0]).await, Errno::SPIPE);
        for at in [END - 23, u32::MAX] {
            assert_eq!(
                h.call("fd_fdstat_get", &[fd, at.into()]).await,
                Errno::FAULT
            );
            assert_eq!(
                h.call("fd_filestat_get", &[fd, at.into()]).await,
                Errno::FAULT
            );
        }
    }
    for fd in [0, 1, 2, 3, 4, u64::from(u32::MAX)] {
        assert_eq!(h.call("fd_prestat_get", &[fd, 0]).await, Errno::BADF);
        assert_eq!(
            h.call("fd_prestat_dir_name", &[fd, 0, 0]).await,
            Errno::BADF
        );
    }
    for fd in [3, u64::from(u32::MAX)] {
        assert_eq!(h.call("fd_fdstat_get", &[fd, 0]).await, Errno::BADF);
        assert_eq!(h.call("fd_filestat_get", &[fd, 0]).await, Errno::BADF);
        assert_eq!(h.call("fd_fdstat_set_flags", &[fd, 0]).await, Errno::BADF);
        assert_eq!(h.call("fd_seek", &[fd, 0, 0, 0]).await, Errno::BADF);
        assert_eq!(h.call("fd_tell", &[fd, 0]).await, Errno::BADF);
        assert_eq!(h.call("fd_close", &[fd]).await, Errno::BADF);
    }
    assert_eq!(h.call("fd_close", &[1]).await, OK);
    assert_eq!(h.call("fd_close", &[1]).await, Errno::BADF);
    assert_eq!(h.call("fd_write", &[1, 0, 0, 64]).await, Errno::BADF);
    assert_eq!(h.call("fd_write", &[2, 0, 0, 64]).await, OK);
}

impl Harness {
    fn subscribe_clock(&mut self, at: u32, userdata: u64, id: u32, timeout: u64, flags: u16) {
        self.put(at, &[0; 48]);
        self.put(at, &userdata.to_le_bytes());
        self.put(at + 16, &id.to_le_bytes());
        self.put(at + 24, &timeout.to_le_bytes());
        self.put(at + 40, &flags.to_le_bytes());
    }
    fn subscribe_fd(&mut self, at: u32, userdata: u64, tag: u8, fd: u32) {
        self.put(at, &[0; 48]);
        self.put(at, &userdata.to_le_bytes());
        self.put(at + 8, &[tag]);
        self.put(at + 16, &fd.to_le_bytes());
    }
    /// userdata, errno, type, bytes, flags.
    fn event(&mut self, at: u32) -> (u64, u16, u8, u64, u16) {
        let bytes = self.bytes(at, 32);
        let u16_at = |i: usize| u16::from_le_bytes([bytes[i], bytes[i + 1]]);
        (
            self.u64(at),
            u16_at(8),
            bytes[10],
            self.u64(at + 16),
            u16_at(24),
        )
    }
}

#[tokio::test]
async fn sleeping() {
    let mut h = Harness::new(b"").await;
    const MS: u64 = 1_000_000;
    // The earliest of several clocks ends the wait; only what is due is told.
    h.subscribe_clock(0, 1, 1, 500 * MS, 0);
    h.subscribe_clock(48, 2, 1, 20 * MS, 0);
    h.subscribe_clock(96, 3, 0, 10 * MS, 0);
    let started = Instant::now();
    assert_eq!(h.call("poll_oneoff", &[0, 1024, 3, 900]).await, OK);
    let took = started.elapsed();
    assert!(
        (Duration::from_millis(10)..Duration::from_millis(400)).contains(&took),
        "{took:?}"
    );
    assert_eq!(h.u32(900), 1);
    assert_eq!(h.event(1024), (3, 0, 0, 0, 0));
    // An instant on either clock; one that is past returns at once.
    for id in [0, 1] {
        assert_eq!(h.call("clock_time_get", &[id, 0, 800]).await, OK);
        let at = h.u64(800);
        for (deadline, least) in [(at + 15 * MS, 14), (at, 0), (0, 0)] {
            h.subscribe_clock(0, 9, id as u32, deadline, 1);
            let started = Instant::now();
            assert_eq!(h.call("poll_oneoff", &[0, 1024, 1, 900]).await, OK);
            assert_eq!((h.u32(900), h.event(1024)), (1, (9, 0, 0, 0, 0)));
            let took = started.elapsed();
            assert!(
                took >= Duration::from_millis(least) && took < Duration::from_millis(200),
                "{took:?}"
            );
        }
    }
    // Clocks that cannot be waited for are events with an error.
    for (id, errno) in [(2, Errno::NOTSUP), (3, Errno::NOTSUP), (77, Errno::INVAL)] {
        h.subscribe_clock(0, 5, id, u64::MAX, 0);
        assert_eq!(h.call("poll_oneoff", &[0, 1024, 1, 900]).await, OK);
        assert_eq!((h.u32(900), h.event(1024)), (1, (5, errno.0, 0, 0, 0)));
    }
    h.subscribe_clock(0, 5, 1, 0, 2);
    assert_eq!(h.call("poll_oneoff", &[0, 1024, 1, 900]).await, OK);
    assert_eq!(h.event(1024), (5, Errno::INVAL.0, 0, 0, 0));
}

#[tokio::test]
async fn polling_streams() {
    let mut h = Harness::new(b"12345").await;
    let started = Instant::now();
    h.subscribe_clock(0, 1, 1, 10_000_000_000, 0);
    for (i, (tag, fd)) in [(1, 0), (2, 1), (2, 2), (1, 1), (2, 0), (1, 3)]
        .iter()
        .enumerate()
    {
        h.subscribe_fd(48 * (i as u32 + 1), 10 + i as u64, *tag, *fd);
    }
    // Events go over the subscriptions: they are read first.
    assert_eq!(h.call("poll_oneoff", &[0, 0, 7, 900]).await, OK);
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "something was ready"
    );
    assert_eq!(h.u32(900), 6);
    assert_eq!(h.event(0), (10, 0, 1, 5, 0));
    assert_eq!(h.event(32), (11, 0, 2, 65536, 0));
    assert_eq!(h.event(64), (12, 0, 2, 65536, 0));
    for (i, tag) in [(3, 1), (4, 2), (5, 1)] {
        assert_eq!(
            h.event(32 * i),
            (10 + u64::from(i), Errno::BADF.0, tag, 0, 0)
        );
    }
    h.put_u32s(500, &[1000, 100]);
    assert_eq!(h.call("fd_read", &[0, 500, 1, 64]).await, OK);
    h.subscribe_fd(0, 1, 1, 0);
    assert_eq!(h.call("poll_oneoff", &[0, 1024, 1, 900]).await, OK);
    assert_eq!(
        h.event(1024),
        (1, 0, 1, 0, 1),
        "end of input is ready and hung up"
    );
}

#[tokio::test]
async fn polling_nonsense() {
    let mut h = Harness::new(b"").await;
    let end = u64::from(END);
    for count in [0, 1025, u64::from(u32::MAX)] {
        assert_eq!(
            h.call("poll_oneoff", &[0, 1024, count, 900]).await,
            Errno::INVAL
        );
    }
    h.subscribe_clock(0, 1, 1, 0, 0);
    for args in [
        [end - 47, 1024, 1, 900],
        [0, end - 31, 1, 900],
        [0, 1024, 1, end - 3],
        [u64::from(u32::MAX), 0, 2, 0],
    ] {
        assert_eq!(h.call("poll_oneoff", &args).await, Errno::FAULT);
    }
    h.put(8, &[3]);
    assert_eq!(
        h.call("poll_oneoff", &[0, 1024, 1, 900]).await,
        Errno::INVAL
    );
}

#[tokio::test]
async fn process_and_random() {
    for code in [0, 1, 255, u64::from(u32::MAX)] {
        let mut h = Harness::new(b"").await;
        let functions = h.instance.get_func(&mut h.store, "proc_exit").unwrap();
        let error = functions
            .call_async(&mut h.store, &[Val::I32(code as u32 as i32)], &mut [])
            .await
            .unwrap_err();
        assert_eq!(error.downcast_ref(), Some(&Stop::Exit(code as u32 as i32)));
    }
    let mut h = Harness::new(b"").await;
    assert_eq!(h.call("proc_raise", &[6]).await, Errno::NOTSUP);
    assert_eq!(h.call("sched_yield", &[]).await, OK);
    assert_eq!(h.call("random_get", &[0, 32]).await, OK);
    assert_eq!(h.call("random_get", &[32, 32]).await, OK);
    let (first, second) = (h.bytes(0, 32), h.bytes(32, 32));
    assert!(first != second && first != [0; 32]);
    assert_eq!(h.bytes(64, 8), [0; 8], "and no more than was asked for");
    let end = u64::from(END);
    assert_eq!(h.call("random_get", &[0, end]).await, OK);
    assert!(h.bytes(END - 64, 64) != [0; 64]);
    assert_eq!(h.call("random_get", &[end, 0]).await, OK);
    for args in [
        [end, 1],
        [0, end + 1],
        [u64::from(u32::MAX), u64::from(u32::MAX)],
    ] {
        assert_eq!(h.call("random_get", &args).await, Errno::FAULT);
    }
}

#[tokio::test]
async fn what_there_is_not() {
    let mut h = Harness::new(b"").await;
    let pipe = |name: &str| match name {
        "fd_advise" | "fd_allocate" | "fd_pread" | "fd_pwrite" => Errno::SPIPE,
        "fd_datasync" | "fd_sync" | "fd_filestat_set_size" => Errno::INVAL,
        "fd_fdstat_set_rights" | "fd_filestat_set_times" => Errno::NOTCAPABLE,
        "fd_renumber" => Errno::NOTSUP,
        "fd_readdir" => Errno::NOTDIR,
        name if name.starts_with("path_") => Errno::NOTDIR,
        name if name.starts_with("sock_") => Errno::NOTSOCK,
        other => panic!("{other}"),
    };
    for f in super::unsupported::TABLE {
        let place = if f.name == "path_symlink" { 2 } else { 0 };
        let mut args = vec![0; f.params.len()];
        for (fd, errno) in [
            (0, pipe(f.name)),
            (1, pipe(f.name)),
            (3, Errno::BADF),
            (u64::MAX, Errno::BADF),
        ] {
            args[place] = fd;
            assert_eq!(h.call(f.name, &args).await, errno, "{}({args:?})", f.name);
        }
    }
    assert_eq!(h.call("fd_renumber", &[0, 9]).await, Errno::BADF);
}

#[tokio::test]
async fn no_arguments_do_harm() {
    // Every combination of hostile values in up to three places, over hostile memory.
    let values = [
        0,
        1,
        3,
        u64::from(END) - 4,
        u64::from(END),
        u64::from(u32::MAX),
        u64::MAX,
    ];
    for fill in [0x00, 0xff] {
        let mut h = Harness::new(b"input").await;
        for f in functions() {
            // Sleeping for ever is right when asked for; random bytes would change the memory.
            if f.name == "proc_exit"
                || f.name == "random_get"
                || (f.name == "poll_oneoff" && fill == 0)
            {
                continue;
            }
            let places = f.params.len().min(3) as u32;
            for combination in 0..values.len().pow(places) {
                let mut rest = combination;
                let args: Vec<u64> = (0..f.params.len())
                    .map(|_| {
                        let value = values[rest % values.len()];
                        rest /= values.len();
                        value
                    })
                    .collect();
                h.memory.data_mut(&mut h.store).fill(fill);
                let _ = h.try_call(f.name, &args).await;
            }
        }
    }
}
