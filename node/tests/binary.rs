//! The binary starts. This test also makes `cargo test --workspace` build it,
//! which the black-box tests of `orama-tests` rely on.

use std::process::Command;

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
