//! `orama db export`, whole commands.

use super::*;
use crate::cli::args::GlobalArgs;
use crate::cli::error::Exit;
use crate::cli::files::Home;
use crate::cli::harness::{self, ran};
use crate::cli::scripted::Scripted;

#[tokio::test]
async fn an_export_is_there_as_a_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.db");
    let path = file.display().to_string();
    let done = ran(&["db", "export", &path], vec![(200, "the file")]).await;
    done.result.unwrap();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "the file");
    assert!(done.out.contains("(8 bytes)"), "{}", done.out);
    // It is not replaced by accident, nor by a failure.
    let again = ran(&["db", "export", &path], Vec::new()).await;
    assert_eq!(again.result.unwrap_err().exit(), Some(Exit::Usage));
    let failed = ran(&["db", "export", &path, "--force"], vec![(503, "{}")]).await;
    assert_eq!(failed.result.unwrap_err().exit(), Some(Exit::Unavailable));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "the file");
    // What is no SQLite file cannot become SQL.
    let sql = dir.path().join("a.sql").display().to_string();
    let refused = ran(&["db", "export", &sql], vec![(200, "the file")]).await;
    assert!(refused.result.unwrap_err().to_string().contains("as SQL"));
    let names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
    assert_eq!(names.len(), 1, "{names:?}");
}

#[tokio::test]
async fn an_interrupted_export_leaves_what_was_there() {
    let (home, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = dir.path().join("a.db");
    std::fs::write(&file, "yesterday's").unwrap();
    let server = Scripted::start(vec![(200, "the file".to_owned())]).await;
    let client = Client::new(reqwest::Url::parse(&server.url).unwrap(), None).unwrap();
    let (mut app, _, _) = harness::app(Home::at(home.path()), GlobalArgs::default());
    let (interrupt, given) = tokio::sync::mpsc::channel(1);
    interrupt.send(()).await.unwrap();
    let mut given = Interrupt::Given(given);
    let ended = run(&mut app, &client, &file, true, &mut given).await;
    let error = ended.unwrap_err().to_string();
    assert!(error.starts_with("interrupted; "), "{error}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "yesterday's");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    // Without an interrupt it is replaced.
    let server = Scripted::start(vec![(200, "the file".to_owned())]).await;
    let client = Client::new(reqwest::Url::parse(&server.url).unwrap(), None).unwrap();
    let mut never = Interrupt::Given(tokio::sync::mpsc::channel(1).1);
    run(&mut app, &client, &file, true, &mut never)
        .await
        .unwrap();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "the file");
}
