use std::time::Duration;

use super::*;

fn file(sql: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let conn = Connection::writer(&path).unwrap();
    drop(conn);
    let conn = rusqlite::Connection::open(&path).unwrap();
    conn.execute_batch(sql).unwrap();
    (dir, path)
}

fn ask(reader: &mut Reader, sqls: &[&str]) -> Vec<Result<Rows, SqlError>> {
    let queries: Vec<Query> = sqls
        .iter()
        .map(|sql| Query {
            sql: (*sql).to_owned(),
            args: vec![],
        })
        .collect();
    let deadline = Instant::now() + Duration::from_secs(10);
    let cancelled = Arc::new(AtomicBool::new(false));
    reader
        .run(&queries, 1000, 1 << 20, deadline, &cancelled)
        .unwrap()
}

fn json(answer: &Result<Rows, SqlError>) -> &str {
    std::str::from_utf8(&answer.as_ref().unwrap().json).unwrap()
}

#[test]
fn each_query_is_answered_for_itself() {
    let (_dir, path) = file("CREATE TABLE t(a); INSERT INTO t VALUES(1), (2)");
    let mut reader = Reader::open(&path).unwrap();
    let answers = ask(
        &mut reader,
        &[
            "SELECT a FROM t",
            "SELECT nonsense",
            "SELECT sum(a) AS s FROM t",
        ],
    );
    assert_eq!(json(&answers[0]), r#"[{"a":1},{"a":2}]"#);
    assert_eq!(
        answers[1].as_ref().unwrap_err().code,
        SqlCode::InvalidArgument
    );
    assert_eq!(json(&answers[2]), r#"[{"s":3}]"#);
    assert!(ask(&mut reader, &[]).is_empty());
}

#[test]
fn writes_are_refused_with_the_way_to_do_them() {
    let (_dir, path) = file("CREATE TABLE t(a); CREATE INDEX i ON t(a)");
    let mut reader = Reader::open(&path).unwrap();
    for sql in [
        "INSERT INTO t VALUES(1)",
        "INSERT INTO t VALUES(1) RETURNING a",
        "WITH x AS (SELECT 1) DELETE FROM t",
        "CREATE TABLE u(a)",
        "CREATE TABLE IF NOT EXISTS t(a)",
        "DROP TABLE t",
        "UPDATE t SET a = 2",
        "ALTER TABLE t ADD COLUMN b",
        "ANALYZE",
        "REINDEX",
    ] {
        let answers = ask(&mut reader, &[sql]);
        let Err(error) = &answers[0] else {
            panic!("{sql}");
        };
        assert_eq!(error.code, SqlCode::InvalidArgument, "{sql}");
        assert_eq!(error.hint, Some(SqlHint::Execute), "{sql}: {error}");
    }
    for sql in [
        "PRAGMA writable_schema = ON",
        "ATTACH 'x.db' AS x",
        "BEGIN",
        "COMMIT",
    ] {
        let answers = ask(&mut reader, &[sql]);
        let error = answers[0].as_ref().unwrap_err();
        assert_eq!(error.code, SqlCode::InvalidArgument, "{sql}: {error}");
    }
    assert_eq!(json(&ask(&mut reader, &["SELECT * FROM t"])[0]), "[]");
}

#[test]
fn all_see_the_same_moment() {
    let (_dir, path) = file("CREATE TABLE t(a)");
    let mut reader = Reader::open(&path).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let writer = std::thread::spawn({
        let (path, stop) = (path.clone(), stop.clone());
        move || {
            let conn = rusqlite::Connection::open(path).unwrap();
            while !stop.load(Ordering::Relaxed) {
                conn.execute("INSERT INTO t VALUES(1)", []).unwrap();
            }
        }
    });
    for _ in 0..200 {
        let answers = ask(&mut reader, &["SELECT count(*) AS n FROM t"; 3]);
        assert_eq!(answers[0], answers[1]);
        assert_eq!(answers[0], answers[2]);
    }
    stop.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    // And none of them holds that moment on.
    let n = json(&ask(&mut reader, &["SELECT count(*) AS n FROM t"])[0]).to_owned();
    let conn = rusqlite::Connection::open(path).unwrap();
    let now: i64 = conn
        .query_row("SELECT count(*) FROM t", [], |r| r.get(0))
        .unwrap();
    assert_eq!(n, format!("[{{\"n\":{now}}}]"));
}

const ENDLESS: &str =
    "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT sum(x) FROM c";

fn endless(deadline: Duration, cancelled: &Arc<AtomicBool>) -> Vec<Result<Rows, SqlError>> {
    let mut reader = Reader::empty().unwrap();
    let query = |sql: &str| Query {
        sql: sql.to_owned(),
        args: vec![],
    };
    let deadline = Instant::now() + deadline;
    let answers = reader
        .run(
            &[query("SELECT 1 AS a"), query(ENDLESS), query("SELECT 2")],
            10,
            1000,
            deadline,
            cancelled,
        )
        .unwrap();
    assert_eq!(
        json(&ask(&mut reader, &["SELECT 3 AS a"])[0]),
        r#"[{"a":3}]"#
    );
    answers
}

#[test]
fn what_never_ends_is_ended() {
    let cancelled = Arc::new(AtomicBool::new(false));
    let answers = endless(Duration::from_millis(200), &cancelled);
    assert_eq!(json(&answers[0]), r#"[{"a":1}]"#);
    for late in &answers[1..] {
        assert_eq!(late.as_ref().unwrap_err().code, SqlCode::DeadlineExceeded);
    }
    let canceller = std::thread::spawn({
        let cancelled = cancelled.clone();
        move || {
            std::thread::park_timeout(Duration::from_millis(50));
            cancelled.store(true, Ordering::Relaxed);
        }
    });
    let answers = endless(Duration::from_secs(60), &cancelled);
    canceller.join().unwrap();
    assert!(answers[1].is_err() && answers[2].is_err());
}

#[test]
fn caps_are_shared_by_all_queries() {
    let mut reader = Reader::empty().unwrap();
    let numbers = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT 1000000)
         SELECT x FROM c";
    let queries = vec![
        Query {
            sql: numbers.to_owned(),
            args: vec![],
        };
        3
    ];
    let deadline = Instant::now() + Duration::from_secs(60);
    let cancelled = Arc::new(AtomicBool::new(false));
    let answers = reader
        .run(&queries, 100, 1500, deadline, &cancelled)
        .unwrap();
    let of = |at: usize| {
        let rows: &Rows = answers[at].as_ref().unwrap();
        (rows.count, rows.cut)
    };
    assert_eq!(of(0), (100, true));
    assert!(of(1).0 < 80 && of(1).1);
    assert!(of(2).0 < 3 && of(2).1);
    let bytes: usize = answers.iter().flatten().map(|r| r.json.len()).sum();
    assert!(bytes <= 1502, "{bytes}");
}

#[test]
fn a_damaged_page_is_a_fault() {
    let (_dir, path) = file(
        "PRAGMA journal_mode = DELETE; CREATE TABLE t(a);
         WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT 9999)
         INSERT INTO t SELECT hex(x) FROM c",
    );
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[4096 * 5..4096 * 6].fill(0xa5);
    std::fs::write(&path, bytes).unwrap();
    let mut reader = Reader::open(&path).unwrap();
    let query = Query {
        sql: "SELECT sum(length(a)) FROM t".to_owned(),
        args: vec![],
    };
    let deadline = Instant::now() + Duration::from_secs(10);
    let cancelled = Arc::new(AtomicBool::new(false));
    let fault = reader
        .run(&[query], 10, 1000, deadline, &cancelled)
        .unwrap_err();
    assert!(matches!(fault, EngineFault::Damaged(_)), "{fault:?}");
}
