//! Guests made by real compilers, once per source: the result is kept in
//! `TARGET/guests` under a hash of source, flags and compiler.
//!
//! A missing compiler fails the test and names the command that installs it.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::node::target_dir;

const GO_FLAGS: &[&str] = &["build", "-trimpath", "-ldflags=-s -w"];
const C_FLAGS: &[&str] = &[
    "--target=wasm32-wasi",
    "-O2",
    "-Wall",
    "-Wno-infinite-recursion",
    "-Wl,--export=malloc",
    "-Wl,--export=free",
    // The stack grows towards address 0, so that its overflow traps instead of eating the data.
    "-Wl,--stack-first",
    "-Wl,-z,stack-size=131072",
    "-Wl,--strip-all",
];

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("guests")
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the repository")
        .to_owned()
}

/// The Go toolchain: `$ORAMA_GO`, the one in PATH, or the repository's own.
pub fn go_toolchain() -> PathBuf {
    if let Some(given) = std::env::var_os("ORAMA_GO") {
        let given = PathBuf::from(given);
        assert!(
            given.is_file(),
            "ORAMA_GO={} is not a file",
            given.display()
        );
        return given;
    }
    let in_path = std::env::var_os("PATH").and_then(|path| {
        std::env::split_paths(&path)
            .map(|dir| dir.join("go"))
            .find(|go| go.is_file())
    });
    in_path
        .or_else(|| Some(repository().join(".build/go/bin/go")).filter(|go| go.is_file()))
        .unwrap_or_else(|| {
            panic!("no Go toolchain; run scripts/install-go.sh, or set ORAMA_GO to the go command")
        })
}

/// The environment in which Go builds without a network and without touching the user's caches.
pub fn go_environment() -> Vec<(&'static str, String)> {
    let cache = target_dir().join("guests").join("gocache");
    vec![
        ("GOCACHE", cache.display().to_string()),
        ("GOPROXY", "off".into()),
        ("GOTOOLCHAIN", "local".into()),
        ("GOFLAGS", String::new()),
        ("GOENV", "off".into()),
        ("GOTELEMETRY", "off".into()),
    ]
}

/// A stock Go program of `tests/guests/go/NAME`, as a WASI command.
pub fn go(name: &str) -> Vec<u8> {
    let dir = sources().join("go").join(name);
    let toolchain = go_toolchain();
    let version = run(Command::new(&toolchain)
        .arg("version")
        .env("GOTOOLCHAIN", "local"));
    let mut files: Vec<PathBuf> = fs::read_dir(&dir)
        .unwrap_or_else(|e| panic!("{}: {e}", dir.display()))
        .map(|entry| entry.expect("a directory entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "go"))
        .collect();
    files.sort();
    let key = key(&files, &(GO_FLAGS, version));
    cached(&format!("go-{name}-{key:016x}.wasm"), |out| {
        run(Command::new(&toolchain)
            .args(GO_FLAGS)
            .arg("-o")
            .arg(out)
            .args(&files)
            .current_dir(&dir)
            .envs(go_environment())
            .env("GOOS", "wasip1")
            .env("GOARCH", "wasm"));
    })
}

/// The C program of `tests/guests/c/NAME.c`, as a WASI command.
pub fn c(name: &str) -> Vec<u8> {
    const INSTALL: &str =
        "apt-get install -y clang lld wasi-libc libclang-rt-14-dev-wasm32 (Debian 12)";
    let file = sources().join("c").join(format!("{name}.c"));
    let found = Command::new("clang").arg("--version").output();
    let version = match found {
        Ok(output) if output.status.success() => output.stdout,
        other => panic!("clang does not run ({other:?}); {INSTALL}"),
    };
    let key = key(std::slice::from_ref(&file), &(C_FLAGS, version));
    cached(&format!("c-{name}-{key:016x}.wasm"), |out| {
        let output = Command::new("clang")
            .args(C_FLAGS)
            .arg("-o")
            .arg(out)
            .arg(&file)
            .output()
            .expect("running clang");
        assert!(
            output.status.success(),
            "clang failed; if it lacks the WASI library: {INSTALL}\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    })
}

/// A module from its text form.
pub fn wat(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap_or_else(|e| panic!("{e}"))
}

/// A small module that answers these bytes; each text makes another module.
pub fn constant(text: &str) -> Vec<u8> {
    let escaped: String = text.bytes().map(|b| format!("\\{b:02x}")).collect();
    wat(&format!(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (data (i32.const 64) "{escaped}")
            (func (export "_start")
                (i32.store (i32.const 0) (i32.const 64))
                (i32.store (i32.const 4) (i32.const {len}))
                (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#,
        len = text.len(),
    ))
}

/// A small module that answers its input, up to 32 KiB of it.
pub fn echo() -> Vec<u8> {
    wat(r#"(module
        (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (func (export "_start") (local $len i32)
            (i32.store (i32.const 0) (i32.const 64))
            (loop $more
                (i32.store (i32.const 0) (i32.add (i32.const 64) (local.get $len)))
                (i32.store (i32.const 4) (i32.sub (i32.const 32768) (local.get $len)))
                (if (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable))
                (local.set $len (i32.add (local.get $len) (i32.load (i32.const 8))))
                (br_if $more (i32.load (i32.const 8))))
            (i32.store (i32.const 0) (i32.const 64))
            (i32.store (i32.const 4) (local.get $len))
            (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#)
}

/// A small module that waits this long and answers `1`.
pub fn sleeper(millis: u64) -> Vec<u8> {
    // A subscription of preview 1: the clock's tag at 8, its id at 16, the time at 24, relative.
    wat(&format!(
        r#"(module
            (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (data (i32.const 256) "1")
            (func (export "_start")
                (i32.store (i32.const 80) (i32.const 1))
                (i64.store (i32.const 88) (i64.const {nanos}))
                (if (call $poll (i32.const 64) (i32.const 128) (i32.const 1) (i32.const 192)) (then unreachable))
                (i32.store (i32.const 0) (i32.const 256))
                (i32.store (i32.const 4) (i32.const 1))
                (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#,
        nanos = millis * 1_000_000,
    ))
}

/// A module that never ends.
pub fn endless() -> Vec<u8> {
    wat(r#"(module (memory (export "memory") 1) (func (export "_start") (loop $l (br $l))))"#)
}

/// A module that answers the secret its input names; `exports` decides which allocators it has.
///
/// `malloc` hands out 8192, `orama_alloc` 16384, so the answer's last line tells which was used.
pub fn secret_reader(exports: &[&str]) -> Vec<u8> {
    let allocator = |name: &str, at: u32| {
        if exports.contains(&name) {
            format!(r#"(func (export "{name}") (param i32) (result i32) (i32.const {at}))"#)
        } else {
            String::new()
        }
    };
    wat(&format!(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (import "env" "get_secret" (func $secret (param i32 i32) (result i64)))
            (memory (export "memory") 2)
            (data (i32.const 32) "m") (data (i32.const 33) "o")
            {malloc} {orama_alloc}
            (func $print (param $at i32) (param $len i32)
                (i32.store (i32.const 0) (local.get $at))
                (i32.store (i32.const 4) (local.get $len))
                (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
            (func (export "_start") (local $packed i64)
                (i32.store (i32.const 0) (i32.const 64))
                (i32.store (i32.const 4) (i32.const 1024))
                (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
                (local.set $packed (call $secret (i32.const 64) (i32.load (i32.const 8))))
                (if (i64.eqz (local.get $packed)) (then (return)))
                (if (i64.eq (i64.shr_u (local.get $packed) (i64.const 32)) (i64.const 8192))
                    (then (call $print (i32.const 32) (i32.const 1))))
                (if (i64.eq (i64.shr_u (local.get $packed) (i64.const 32)) (i64.const 16384))
                    (then (call $print (i32.const 33) (i32.const 1))))
                (call $print
                    (i32.wrap_i64 (i64.shr_u (local.get $packed) (i64.const 32)))
                    (i32.wrap_i64 (local.get $packed)))))"#,
        malloc = allocator("malloc", 8192),
        orama_alloc = allocator("orama_alloc", 16384),
    ))
}

fn key(files: &[PathBuf], rest: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    for file in files {
        file.file_name().hash(&mut hasher);
        fs::read(file)
            .unwrap_or_else(|e| panic!("{}: {e}", file.display()))
            .hash(&mut hasher);
    }
    rest.hash(&mut hasher);
    hasher.finish()
}

/// The cached file of this name, made by `build` when it is missing. A lock
/// keeps test processes that run at the same time from building it twice.
fn cached(name: &str, build: impl FnOnce(&Path)) -> Vec<u8> {
    let dir = target_dir().join("guests");
    fs::create_dir_all(&dir).expect("the directory of guests");
    let file = dir.join(name);
    if !file.is_file() {
        let lock = File::create(dir.join("lock")).expect("the lock of guests");
        lock.lock().expect("locking the directory of guests");
        if !file.is_file() {
            let unfinished = dir.join(format!("{name}.unfinished"));
            build(&unfinished);
            fs::rename(&unfinished, &file).expect("naming the guest");
        }
    }
    fs::read(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}

fn run(command: &mut Command) -> Vec<u8> {
    let output = command
        .output()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(
        output.status.success(),
        "{command:?} failed:\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}
