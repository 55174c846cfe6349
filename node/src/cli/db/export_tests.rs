//! `orama db export`, whole commands.

use super::*;
use crate::cli::error::Exit;
use crate::cli::harness::ran;

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
