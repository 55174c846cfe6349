//! Builds with programs that stand in for compilers.

use super::*;
use orama_proto::manifest::Manifest;
use std::os::unix::fs::PermissionsExt;

fn project(dir: &Path, yaml: &str) -> Project {
    Project {
        dir: dir.to_owned(),
        manifest: Manifest::parse(&format!("name: f\n{yaml}")).unwrap(),
    }
}

fn quiet() -> Output {
    Output::to(false, std::io::sink(), std::io::sink())
}

/// A program that runs `script` and has its `-o` argument in `$out`.
fn compiler(dir: &Path, script: &str) -> PathBuf {
    let path = dir.join("compiler");
    let text = format!(
        "#!/bin/sh\n[ \"$1\" = env ] && {{ echo go1.27; exit 0; }}\nout=$3\nargs=\"$*\"\n{script}\n"
    );
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    path
}

fn wasm_files(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter(|n| n.contains("wasm"))
        .collect();
    names.sort();
    names
}

const WRITE: &str = r"printf '\0asm\001\0\0\0' > $out";

#[test]
fn a_build_replaces_the_module_and_dates_it_to_its_begin() {
    let dir = tempfile::tempdir().unwrap();
    let tools = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("function.go"), "").unwrap();
    fs::write(dir.path().join(WASM), "old").unwrap();
    // A source saved while the compiler runs.
    let script = format!("{WRITE}\nsleep 0.05; touch function.go");
    let tool = Tool::Go(compiler(tools.path(), &script));
    let project = project(dir.path(), "");
    let built = build(&project, &tool, &mut quiet()).unwrap();
    assert_eq!((built.bytes, built.tool), (8, "go"));
    assert_eq!(wasm_files(dir.path()), [WASM]);
    assert!(matches!(
        project.freshness().unwrap(),
        super::super::project::Freshness::Older(_)
    ));
}

#[test]
fn a_failed_build_leaves_no_module() {
    let tools = tempfile::tempdir().unwrap();
    for script in [
        format!("{WRITE}\nexit 3"),
        "echo no wasm > $out".to_owned(),
        "true".to_owned(),
    ] {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("function.go"), "").unwrap();
        fs::write(dir.path().join(WASM), "old").unwrap();
        let tool = Tool::TinyGo(compiler(tools.path(), &script));
        assert!(build(&project(dir.path(), ""), &tool, &mut quiet()).is_err());
        assert_eq!(wasm_files(dir.path()), Vec::<String>::new(), "{script}");
    }
}

#[test]
fn files_are_named_without_go_mod_and_the_package_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let tools = tempfile::tempdir().unwrap();
    for file in ["b.go", "a.go", "a_test.go"] {
        fs::write(dir.path().join(file), "").unwrap();
    }
    let script = format!("{WRITE}\necho \"$args|$GOOS/$GOARCH|$GOPROXY\" > said");
    let tool = Tool::Go(compiler(tools.path(), &script));
    let project = project(dir.path(), "");
    let said = |project: &Project| {
        build(project, &tool, &mut quiet()).unwrap();
        fs::read_to_string(dir.path().join("said")).unwrap()
    };
    assert!(said(&project).ends_with(" a.go b.go|wasip1/wasm|off\n"));
    fs::write(dir.path().join("go.mod"), "").unwrap();
    assert!(said(&project).ends_with(" .|wasip1/wasm|off\n"));
    fs::write(dir.path().join("go.sum"), "").unwrap();
    assert!(!said(&project).ends_with("|off\n"));
}

#[test]
fn a_build_command_must_leave_a_new_module() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(WASM), "old").unwrap();
    let project = project(dir.path(), "");
    let tool = |line: &str| Tool::Command(line.to_owned());
    let made = tool(r"printf '\0asm\001\0\0\0' > function.wasm");
    build(&project, &made, &mut quiet()).unwrap();
    let e = build(&project, &tool("true"), &mut quiet()).err().unwrap();
    assert!(e.to_string().contains("left no function.wasm"), "{e}");
    assert_eq!(wasm_files(dir.path()), Vec::<String>::new());
}

#[test]
fn the_package_s_own_module_is_found_in_cargo_s_messages() {
    let dir = tempfile::tempdir().unwrap();
    let manifest = dir.path().join("Cargo.toml");
    fs::write(&manifest, "").unwrap();
    let line = |manifest: &Path, file: &str| {
        json!({"reason": "compiler-artifact", "manifest_path": manifest, "filenames": [file]})
            .to_string()
    };
    let messages = [
        "not json".to_owned(),
        line(Path::new("/other/Cargo.toml"), "/x/dep.wasm"),
        line(&manifest, "/x/libf.rlib"),
        line(&manifest, "/x/f.wasm"),
    ]
    .join("\n");
    assert_eq!(
        artifact(messages.as_bytes(), dir.path()),
        Some(PathBuf::from("/x/f.wasm"))
    );
    let two = format!("{messages}\n{}", line(&manifest, "/x/g.wasm"));
    assert_eq!(artifact(two.as_bytes(), dir.path()), None);
}
