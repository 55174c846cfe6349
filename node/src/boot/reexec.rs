//! Backtraces of library errors are switched off before the first one is made.
//!
//! With `RUST_BACKTRACE` set, every error of the WebAssembly engine captures a
//! native backtrace, and every guest that ends through `proc_exit` is such an
//! error: 20 to 50 µs of each invocation. The switch is an environment
//! variable that is read once, and changing the environment of a running
//! process is unsafe, so the process replaces itself with itself. `exec` keeps
//! the process id, so supervisors do not notice. Panics keep their backtraces.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

const SWITCH: &str = "RUST_LIB_BACKTRACE";

/// Starts the program anew with the switch set, when this run would be a node
/// and would pay for backtraces.
pub fn without_library_backtraces() {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let asked = std::env::var_os("RUST_BACKTRACE").is_some_and(|value| value != "0");
    if !asked || std::env::var_os(SWITCH).is_some() || !is_node(&arguments) {
        return;
    }
    let Ok(program) = std::env::current_exe() else {
        return;
    };
    let mut command = Command::new(program);
    if let Some(name) = arguments.first() {
        command.arg0(name);
    }
    // Returns only when it fails; then this run goes on, slower.
    let error = command
        .args(arguments.iter().skip(1))
        .env(SWITCH, "0")
        .exec();
    tracing::warn!(%error, "library backtraces stay on");
}

/// Whether the arguments run a node. A false positive costs one `exec`.
fn is_node(arguments: &[OsString]) -> bool {
    let words: Vec<&OsString> = arguments.iter().skip(1).collect();
    words.contains(&&OsString::from("dev"))
        || words
            .windows(2)
            .any(|pair| pair[0] == "node" && pair[1] == "run")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_nodes_start_anew() {
        let node = |line: &str| is_node(&line.split(' ').map(OsString::from).collect::<Vec<_>>());
        assert!(node("orama dev --data-dir x"));
        assert!(node("orama node run"));
        assert!(!node("orama node status"));
        assert!(!node("orama function list"));
        assert!(!node("dev"));
    }
}
