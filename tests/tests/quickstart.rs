//! The quick start of the specification, through the command line, with the
//! specification's minimal function.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use orama_tests::{Node, Orama, guests};
use tokio::io::{AsyncBufReadExt, BufReader};

const MINIMAL: &str = include_str!("../guests/go/spec_minimal/function.go");

/// Steps 1 to 6 of the specification; the command line knows its node already.
async fn six_steps(orama: &Orama) {
    let said = orama.ok(&["function", "init", "my-function"]).await;
    assert!(said.contains("my-function"), "{said}");
    let project = orama.home().join("my-function");
    for file in ["function.go", "function.yaml"] {
        assert!(project.join(file).is_file(), "{file}");
    }
    let twice = orama.run(&["function", "init", "my-function"]).await;
    assert!(
        twice.code != 0 && twice.stderr.contains("already exists"),
        "{twice:?}"
    );

    // The scaffold builds by itself, and so does the specification's function in its place.
    orama.ok_in(&project, &["function", "build"]).await;
    assert!(project.join("function.wasm").is_file());
    std::fs::write(project.join("function.go"), MINIMAL).unwrap();
    let built = orama.run_in(&project, &["function", "build"]).await;
    assert_eq!(built.code, 0, "{built:?}");
    assert!(
        built.all().to_lowercase().contains("go"),
        "it says which toolchain it took: {built:?}"
    );

    let deployed = orama.ok_in(&project, &["function", "deploy"]).await;
    assert!(
        deployed.contains("my-function") && deployed.contains('1'),
        "{deployed}"
    );
    let invoked = orama
        .ok_in(
            &project,
            &[
                "function",
                "invoke",
                "my-function",
                "--data",
                r#"{"name": "World"}"#,
            ],
        )
        .await;
    assert!(
        invoked.contains(r#"{"result":"Hello!"}"#) || invoked.contains(r#""result": "Hello!""#),
        "{invoked}"
    );
    let id = invoked
        .split(|c: char| !(c.is_ascii_hexdigit() || c == '-'))
        .find(|word| uuid::Uuid::parse_str(word).is_ok())
        .expect("the request id is shown")
        .to_owned();
    // The journal follows the answer closely.
    let began = Instant::now();
    loop {
        let logs = orama
            .ok_in(&project, &["function", "logs", "my-function"])
            .await;
        if logs.contains(&id) && logs.to_lowercase().contains("success") {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(10), "{logs}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    // A source newer than the module is built again by deploy itself.
    tokio::time::sleep(Duration::from_millis(20)).await;
    std::fs::write(
        project.join("function.go"),
        MINIMAL.replace("Hello!", "Changed!"),
    )
    .unwrap();
    orama.ok_in(&project, &["function", "deploy"]).await;
    let changed = orama
        .ok_in(&project, &["function", "invoke", "my-function"])
        .await;
    assert!(changed.contains("Changed!"), "{changed}");
    let versions = orama.ok(&["function", "versions", "my-function"]).await;
    assert!(
        versions.contains("bafkrei") && versions.contains("2 version"),
        "{versions}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn through_a_node() {
    assert_eq!(guests::go("spec_minimal")[..4], *b"\0asm");
    let node = Node::start().await;
    let tenant = node.tenant("default").await;
    six_steps(&Orama::of(&tenant)).await;
}

async fn start_dev(orama: &Orama, data: &Path) -> (tokio::process::Child, String, Vec<String>) {
    let data = data.display().to_string();
    let mut dev = orama
        .command(
            orama.home(),
            &["dev", "--data-dir", &data, "--http-addr", "127.0.0.1:0"],
        )
        .env("ORAMA_METRICS_ADDR", "127.0.0.1:0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(std::fs::File::create(orama.home().join("dev.stderr")).unwrap())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(dev.stdout.take().unwrap()).lines();
    let mut said = Vec::new();
    let mut url = None;
    // It prints the URL, the key and three commands to try.
    let began = Instant::now();
    loop {
        match tokio::time::timeout(Duration::from_secs(1), lines.next_line()).await {
            Ok(Ok(Some(line))) => {
                if let Some(at) = line.find("http://127.0.0.1:")
                    && url.is_none()
                    && !line.contains("metrics")
                {
                    let end = line[at..]
                        .find(char::is_whitespace)
                        .map_or(line.len(), |e| at + e);
                    url = Some(line[at..end].trim_end_matches(['/', '.', ',']).to_owned());
                }
                said.push(line);
            }
            Ok(end) => {
                let stderr = std::fs::read_to_string(orama.home().join("dev.stderr")).unwrap();
                panic!("orama dev ended: {end:?} {said:?}\n{stderr}")
            }
            // A second of silence after the URL: it has said everything.
            Err(_) if url.is_some() => break,
            Err(_) => assert!(
                began.elapsed() < Duration::from_secs(60),
                "orama dev says nothing: {said:?}"
            ),
        }
    }
    // Its output is read on, so that it never blocks on a full pipe.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    (dev, url.unwrap(), said)
}

#[tokio::test(flavor = "multi_thread")]
async fn through_orama_dev() {
    let orama = Orama::new();
    let data = orama.home().join("dev-data");
    let (mut dev, url, said) = start_dev(&orama, &data).await;
    let text = said.join("\n");
    assert!(
        text.matches("orama function").count() >= 3,
        "three commands to try: {text}"
    );
    // Nothing but the environment that `dev` made tells the command line where to go.
    six_steps(&orama).await;
    let current = orama.ok(&["env", "current"]).await;
    assert!(current.contains("local"), "{current}");
    let who = orama.json(&["auth", "whoami"]).await;
    assert_eq!(who["namespace"], "default", "{who}");
    assert!(url.starts_with("http://127.0.0.1:"));

    // Started again it is the same: same key, same functions.
    let pid = rustix::process::Pid::from_raw(dev.id().unwrap() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let status = tokio::time::timeout(Duration::from_secs(30), dev.wait())
        .await
        .unwrap()
        .unwrap();
    assert!(status.success(), "Ctrl-C ends it well: {status}");
    let (mut dev, _, _) = start_dev(&orama, &data).await;
    let list = orama.ok(&["function", "list"]).await;
    assert!(list.contains("my-function"), "{list}");
    dev.kill().await.unwrap();
}
