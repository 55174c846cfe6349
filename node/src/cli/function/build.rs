//! `orama function build`: sources in, `function.wasm` out, or a clear error
//! and no `function.wasm`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Instant, SystemTime};

use orama_proto::limits::WASM_MAX_BYTES;
use serde_json::{Value, json};

use super::super::App;
use super::super::error::CliError;
use super::super::output::{Output, seconds};
use super::super::prompt::file_bytes;
use super::project::{Project, WASM, check_wasm};
use super::toolchain::{Finder, Tool, go_version};

/// A module larger than what can be deployed is still built and reported.
const BUILT_MAX_BYTES: usize = 16 * WASM_MAX_BYTES;

/// A finished build.
pub struct Built {
    /// The module.
    pub path: PathBuf,
    /// Its size.
    pub bytes: usize,
    tool: &'static str,
    took: std::time::Duration,
}

/// Runs the command.
///
/// # Errors
/// See [`CliError`].
pub fn run(app: &mut App, dir: &Path) -> Result<(), CliError> {
    let project = Project::open(dir)?;
    let finder = Finder::from_env(app.home.path());
    let tool = finder.choose(&project)?;
    let built = build(&project, &tool, &mut app.out)?;
    if app.out.json() {
        return app.out.value(&json!({
            "path": built.path,
            "bytes": built.bytes,
            "tool": built.tool,
            "duration_ms": u64::try_from(built.took.as_millis()).unwrap_or(u64::MAX),
        }));
    }
    app.out.line(format!(
        "Built {} ({} bytes)",
        built.path.display(),
        built.bytes
    ))
}

/// Builds a project with a tool.
///
/// # Errors
/// What the compiler said has gone to stderr by then.
pub fn build(project: &Project, tool: &Tool, out: &mut Output) -> Result<Built, CliError> {
    let begun = Instant::now();
    // The module carries the time its build began: a source saved while the
    // compiler ran is newer than the module.
    let clock = SystemTime::now();
    // `.` says little; the name it stands for does.
    let shown = fs::canonicalize(&project.dir).unwrap_or_else(|_| project.dir.clone());
    out.progress(format_args!("Building {}...", shown.display()));
    let wasm = project.wasm();
    // Beside the target, so that the rename is atomic. TinyGo wants the ending.
    let part_name = format!(".function-{}.part.wasm", std::process::id());
    let part = project.dir.join(&part_name);
    let result = compile(project, tool, &part_name, out).and_then(|()| {
        let bytes = file_bytes(&part, BUILT_MAX_BYTES)?;
        check_wasm(&part, &bytes)?;
        let file = fs::File::options()
            .write(true)
            .open(&part)
            .map_err(CliError::file("cannot open", &part))?;
        file.set_modified(clock)
            .map_err(CliError::file("cannot change", &part))?;
        fs::rename(&part, &wasm).map_err(CliError::file("cannot write", &wasm))?;
        Ok(bytes.len())
    });
    match result {
        Ok(bytes) => {
            let took = begun.elapsed();
            out.progress(format_args!("  {} took {}", tool.name(), seconds(took)));
            if bytes > WASM_MAX_BYTES {
                out.warn(format_args!(
                    "{WASM} has {bytes} bytes; more than {WASM_MAX_BYTES} cannot be deployed"
                ));
            }
            Ok(Built {
                path: wasm,
                bytes,
                tool: tool.name(),
                took,
            })
        }
        Err(error) => {
            // Neither half a module nor the one of older sources may be
            // mistaken for this build's.
            let _ = fs::remove_file(&part);
            let _ = fs::remove_file(&wasm);
            Err(error)
        }
    }
}

fn compile(project: &Project, tool: &Tool, part: &str, out: &mut Output) -> Result<(), CliError> {
    match tool {
        Tool::Command(line) => by_command(project, line, part, out),
        Tool::TinyGo(program) => {
            out.progress(format_args!("  with TinyGo ({})", program.display()));
            let mut command = Command::new(program);
            command.args(["build", "-o", part, "-target", "wasi"]);
            go_sources(project, &mut command)?;
            offline_without_sums(project, &mut command);
            finish(project, command, "tinygo")
        }
        Tool::Go(program) => {
            let version = go_version(program)?;
            out.progress(format_args!("  with {version} ({})", program.display()));
            let mut command = Command::new(program);
            // Without paths and revisions in it, the same source is the same
            // module on every machine, under the same content id.
            command.args(["build", "-o", part, "-trimpath", "-buildvcs=false"]);
            command.arg("-ldflags=-s -w");
            go_sources(project, &mut command)?;
            command
                .env("GOOS", "wasip1")
                .env("GOARCH", "wasm")
                .env("CGO_ENABLED", "0");
            offline_without_sums(project, &mut command);
            finish(project, command, "go")
        }
        Tool::Cargo(program) => by_cargo(project, program, part, out),
    }
}

/// The package of the directory; its files by name when it has no go.mod, which
/// the compilers take as a package of its own.
fn go_sources(project: &Project, command: &mut Command) -> Result<(), CliError> {
    if project.has("go.mod") {
        command.arg(".");
    } else {
        command.args(project.go_files()?);
    }
    Ok(())
}

/// A project without go.sum has no dependencies, so nothing is to be fetched:
/// a missing package is an error at once instead of a wait for the network.
fn offline_without_sums(project: &Project, command: &mut Command) {
    if !project.has("go.sum") {
        command.env("GOPROXY", "off").env("GOTOOLCHAIN", "local");
    }
    let known = |name: &str| std::env::var_os(name).is_some_and(|v| !v.is_empty());
    if !known("HOME") && !known("GOCACHE") && !known("XDG_CACHE_HOME") {
        command.env("GOCACHE", std::env::temp_dir().join("orama-go-build"));
    }
}

fn by_command(project: &Project, line: &str, part: &str, out: &mut Output) -> Result<(), CliError> {
    out.progress(format_args!("  with build.command: {line}"));
    let wasm = project.wasm();
    // What is there afterwards was made by this run.
    match fs::remove_file(&wasm) {
        Ok(()) => {}
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(CliError::file("cannot remove", &wasm)(e)),
    }
    let mut command = Command::new("sh");
    command.arg("-c").arg(line);
    finish(project, command, "build.command")?;
    if !wasm.is_file() {
        return Err(CliError::Failed(format!(
            "build.command succeeded and left no {WASM} in {}",
            project.dir.display()
        )));
    }
    fs::rename(&wasm, project.dir.join(part)).map_err(CliError::file("cannot move", &wasm))
}

fn by_cargo(
    project: &Project,
    program: &Path,
    part: &str,
    out: &mut Output,
) -> Result<(), CliError> {
    out.progress(format_args!("  with cargo ({})", program.display()));
    let mut command = Command::new(program);
    command.args(["build", "--release", "--target", "wasm32-wasip1"]);
    command.arg("--message-format=json-render-diagnostics");
    command
        .current_dir(&project.dir)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    let output = command
        .output()
        .map_err(CliError::file("cannot run", program))?;
    if !output.status.success() {
        return Err(CliError::Toolchain {
            message: format!("cargo failed ({})", output.status),
            hint: "if the target is missing: rustup target add wasm32-wasip1".into(),
        });
    }
    let artifact = artifact(&output.stdout, &project.dir).ok_or_else(|| {
        CliError::Failed(
            "cargo built no single .wasm: the package needs one binary, or crate-type [\"cdylib\"]"
                .into(),
        )
    })?;
    let part = project.dir.join(part);
    fs::copy(&artifact, &part).map_err(CliError::file("cannot copy", &artifact))?;
    Ok(())
}

/// The one module that the package itself made, from cargo's messages.
fn artifact(messages: &[u8], dir: &Path) -> Option<PathBuf> {
    let manifest = fs::canonicalize(dir.join("Cargo.toml")).ok()?;
    let mut found: Vec<PathBuf> = Vec::new();
    for line in messages.split(|b| *b == b'\n') {
        let Ok(message) = serde_json::from_slice::<Value>(line) else {
            continue;
        };
        let own = message["manifest_path"]
            .as_str()
            .and_then(|p| fs::canonicalize(p).ok())
            .is_some_and(|p| p == manifest);
        if message["reason"] == "compiler-artifact" && own {
            let files = message["filenames"].as_array().into_iter().flatten();
            found.extend(
                files
                    .filter_map(Value::as_str)
                    .filter(|f| f.ends_with(".wasm"))
                    .map(PathBuf::from),
            );
        }
    }
    match found.as_slice() {
        [one] => Some(one.clone()),
        _ => None,
    }
}

/// Runs a compiler in the project. What it prints goes to stderr: stdout is
/// for the answer.
fn finish(project: &Project, mut command: Command, name: &str) -> Result<(), CliError> {
    let status = command
        .current_dir(&project.dir)
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .stderr(Stdio::inherit())
        .status()
        .map_err(CliError::file("cannot run", name))?;
    if status.success() {
        return Ok(());
    }
    Err(CliError::Failed(format!("build failed: {name}: {status}")))
}

#[cfg(test)]
#[path = "build_tests.rs"]
mod tests;
