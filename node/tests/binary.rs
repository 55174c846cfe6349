//! The binary starts. This test also makes `cargo test --workspace` build it,
//! which the black-box tests of `orama-tests` rely on.

use std::io::Write;
use std::process::{Command, Output, Stdio};

#[test]
fn it_tells_its_version() {
    let output = Command::new(env!("CARGO_BIN_EXE_orama"))
        .arg("--version")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(said.starts_with("orama "), "{said}");
    assert!(said.contains(env!("CARGO_PKG_VERSION")), "{said}");
}

#[test]
fn it_is_its_own_compiler() {
    let compile = |module: &[u8]| -> Output {
        let mut child = Command::new(env!("CARGO_BIN_EXE_orama"))
            .arg("compile-module")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(module).unwrap();
        child.wait_with_output().unwrap()
    };
    let good = compile(b"\0asm\x01\0\0\0");
    assert!(good.status.success(), "{good:?}");
    assert!(good.stdout.starts_with(b"\x7fELF"));
    let bad = compile(b"\0asm\x01\0\0\0\xff");
    assert_eq!(bad.status.code(), Some(1));
    assert!(bad.stdout.is_empty() && !bad.stderr.is_empty());
}

#[test]
fn the_compiler_limits_itself_before_it_reads() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_orama"))
        .arg("compile-module")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let limits = format!("/proc/{}/limits", child.id());
    let limit = |name: &str| -> Option<u64> {
        let text = std::fs::read_to_string(&limits).unwrap();
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        let hard = line.split_whitespace().rev().nth(1).unwrap();
        hard.parse().ok()
    };
    // The last one to be taken.
    while limit("Max core file size") != Some(0) {
        std::thread::yield_now();
    }
    assert_eq!(limit("Max data size"), Some(2048 * 1024 * 1024));
    assert_eq!(limit("Max cpu time"), Some(120));
    drop(child.stdin.take());
    // Nothing is no module.
    assert_eq!(child.wait().unwrap().code(), Some(1));
}
