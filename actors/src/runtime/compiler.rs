//! The compiler, in a process of its own.
//!
//! A module of a few hundred kilobytes can be built so that compiling it takes
//! hours and tens of gigabytes, and a compilation that runs cannot be called
//! off. So a node compiles in a child: this very program, started with
//! [`COMPILE_ARGUMENT`], without the node's environment, which limits its own
//! memory and time before it looks at the module, steps back behind the
//! node's threads, and is the first to go when the machine is out of memory.
//! The module comes on its stdin, machine code goes to its stdout, the
//! compiler's complaint to its stderr.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use bytes::Bytes;
use orama_proto::limits::{MIB, WASM_MAX_BYTES};
use rustix::process::{Resource, Rlimit, nice, setrlimit};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use wasmtime::Engine;

use super::engine;
use super::error::ModuleError;

/// The argument with which this program compiles one module and ends.
pub const COMPILE_ARGUMENT: &str = "compile-module";

/// Time one compilation may take, of the clock and of the processors.
const COMPILE_LIMIT: Duration = Duration::from_secs(120);
/// Memory one compilation may take.
const MEMORY_LIMIT: usize = 2048 * MIB;
/// Machine code of one module.
const CODE_MAX_BYTES: usize = 256 * MIB;
/// Text of the compiler's complaint that is shown.
const COMPLAINT_MAX_BYTES: u64 = 4096;
/// How far a compilation steps back behind the threads that serve.
const NICE: i32 = 10;
/// The child's exit code for a module that it refuses.
const REFUSED: u8 = 1;

/// How modules are compiled.
#[derive(Debug, Clone)]
pub enum Compiler {
    /// On a thread of this process, without limits: for tests and benchmarks.
    Here,
    /// In a child process; the program is this one or knows [`COMPILE_ARGUMENT`] as this one does.
    Child(PathBuf),
}

impl Compiler {
    /// This program as its own compiler, whatever happened to its file since it was started.
    pub fn this_program() -> Self {
        Self::Child(PathBuf::from("/proc/self/exe"))
    }

    pub(super) async fn compile(
        &self,
        engine: &Engine,
        wasm: Bytes,
    ) -> Result<Vec<u8>, ModuleError> {
        match self {
            Self::Here => {
                let engine = engine.clone();
                tokio::task::spawn_blocking(move || engine.precompile_module(&wasm))
                    .await
                    .map_err(failed)?
                    .map_err(|e| refused(&format!("{e:#}")))
            }
            Self::Child(program) => {
                let mut command = Command::new(program);
                command.arg(COMPILE_ARGUMENT);
                in_child(command, wasm, COMPILE_LIMIT).await
            }
        }
    }
}

async fn in_child(
    mut command: Command,
    wasm: Bytes,
    limit: Duration,
) -> Result<Vec<u8>, ModuleError> {
    let mut child = command
        // Keys and tokens are none of the compiler's business.
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let (Some(mut stdin), Some(stdout), Some(stderr)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(failed("it has no pipes"));
    };
    let (mut code, mut complaint) = (Vec::new(), Vec::new());
    let work = async {
        let give = async {
            // A child that has ended does not read; its exit tells why.
            let _ = stdin.write_all(&wasm).await;
            drop(stdin);
        };
        // Each closes its pipe at its end: a child that writes too much must not wait for more room.
        let ((), code_read, complaint_read) = tokio::join!(
            give,
            take(CODE_MAX_BYTES as u64 + 1, stdout, &mut code),
            take(COMPLAINT_MAX_BYTES, stderr, &mut complaint),
        );
        code_read.and(complaint_read)?;
        child.wait().await
    };
    match tokio::time::timeout(limit, work).await {
        // Dropping the child kills it.
        Err(_) => Err(too_costly()),
        Ok(Err(e)) => Err(failed(e)),
        Ok(Ok(_)) if code.len() > CODE_MAX_BYTES => Err(ModuleError::Invalid(format!(
            "the module compiles to more than {} MiB of machine code",
            CODE_MAX_BYTES / MIB
        ))),
        Ok(Ok(status)) => judge(status, &String::from_utf8_lossy(&complaint)).map(|()| code),
    }
}

async fn take(
    limit: u64,
    pipe: impl AsyncRead + Unpin,
    into: &mut Vec<u8>,
) -> std::io::Result<usize> {
    pipe.take(limit).read_to_end(into).await
}

fn judge(status: ExitStatus, complaint: &str) -> Result<(), ModuleError> {
    match status.code() {
        Some(0) => Ok(()),
        Some(code) if code == i32::from(REFUSED) => Err(refused(complaint.trim())),
        Some(_) => Err(failed(format_args!("{status}: {complaint}"))),
        // A signal: out of memory, or of processor time.
        None => Err(too_costly()),
    }
}

fn refused(why: &str) -> ModuleError {
    ModuleError::Invalid(format!("the module does not compile: {why}"))
}

fn too_costly() -> ModuleError {
    ModuleError::Invalid(format!(
        "the module takes more than {} seconds or {} MiB of memory to compile: its functions are too large",
        COMPILE_LIMIT.as_secs(),
        MEMORY_LIMIT / MIB
    ))
}

fn failed(why: impl std::fmt::Display) -> ModuleError {
    ModuleError::Unavailable(format!("the compiler failed: {why}"))
}

/// The child's part: compiles the module on stdin to stdout. Answers the exit code.
pub fn compile_stdin() -> u8 {
    confine();
    let compiled = take_module().and_then(|wasm| {
        let engine = engine::engine(1).map_err(|e| format!("{e:#}"))?;
        engine
            .precompile_module(&wasm)
            .map_err(|e| format!("{e:#}"))
    });
    let written = match compiled {
        Ok(code) => std::io::stdout().write_all(&code).map(|()| 0),
        Err(why) => std::io::stderr()
            .write_all(why.as_bytes())
            .map(|()| REFUSED),
    };
    // Nobody listens any more.
    written.unwrap_or(REFUSED)
}

fn take_module() -> Result<Vec<u8>, String> {
    let mut wasm = Vec::new();
    std::io::stdin()
        .take(WASM_MAX_BYTES as u64 + 1)
        .read_to_end(&mut wasm)
        .map_err(|e| format!("the module cannot be read: {e}"))?;
    Ok(wasm)
}

/// Takes limits and the last place. Each is best effort: without one the others still hold.
fn confine() {
    let limit = |resource, most: u64| {
        let limit = Rlimit {
            current: Some(most),
            maximum: Some(most),
        };
        let _ = setrlimit(resource, limit);
    };
    limit(Resource::Data, MEMORY_LIMIT as u64);
    limit(Resource::Cpu, COMPILE_LIMIT.as_secs());
    limit(Resource::Core, 0);
    let _ = nice(NICE);
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn shell(script: &str, limit: Duration) -> Result<Vec<u8>, String> {
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(script);
        let wasm = Bytes::from(vec![b'x'; 3 * MIB]);
        in_child(command, wasm, limit)
            .await
            .map_err(|e| e.to_string())
    }

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn what_the_child_writes_is_the_code() {
        let code = shell("/bin/cat", LONG).await.unwrap();
        assert_eq!(code.len(), 3 * MIB);
    }

    #[tokio::test]
    async fn every_end_of_the_child_has_words() {
        for (script, says) in [
            (
                "echo no such type >&2; exit 1",
                "does not compile: no such type",
            ),
            ("exit 101", "the compiler failed"),
            ("kill -ABRT $$", "too large"),
        ] {
            let error = shell(script, LONG).await.unwrap_err();
            assert!(error.contains(says), "{script}: {error}");
        }
        let error = in_child(Command::new("/nowhere"), Bytes::new(), LONG).await;
        assert!(matches!(error, Err(ModuleError::Unavailable(_))));
    }

    #[tokio::test]
    async fn a_child_that_takes_too_long_is_killed() {
        let dir = tempfile::tempdir().unwrap();
        let pid = dir.path().join("pid");
        let script = format!("echo $$ > {}; exec /bin/sleep 600", pid.display());
        let error = shell(&script, Duration::from_millis(300))
            .await
            .unwrap_err();
        assert!(error.contains("seconds"), "{error}");
        let pid = std::fs::read_to_string(pid).unwrap();
        let alive = format!("/proc/{}/cmdline", pid.trim());
        // A killed child that nobody has waited for yet has no command line.
        while std::fs::read(&alive).is_ok_and(|line| !line.is_empty()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn the_environment_stays_with_the_node() {
        let seen = shell("/usr/bin/env", LONG).await.unwrap();
        let seen = String::from_utf8(seen).unwrap();
        assert!(!seen.contains("CARGO"), "{seen}");
    }
}
