//! One SQLite behind the HTTP calls that the clients use, right or wrong on
//! purpose: it shows that the clients and their checkers accept the one and find the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::types::{Value as Sql, ValueRef};
use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::bank::Bank;
use super::lists::{self, Lists};
use super::rows::{self, Rows};
use super::{Answer, Database, Op};
use crate::client::http_client;
use crate::history::{self, Outcome, Recorder};
use crate::{Rng, Tenant};

/// What is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    None,
    /// Some reads are answered from an old copy.
    Stale,
    /// Some writes are acknowledged and not done.
    Lost,
    /// Some writes are done and not acknowledged, which is no flaw but bad luck.
    Silent,
    /// Some transactions stop in the middle and keep what they did.
    Torn,
}

struct Server {
    conn: Mutex<rusqlite::Connection>,
    old: Mutex<rusqlite::Connection>,
    flaw: Flaw,
    calls: AtomicU64,
}

fn bound(value: &Value) -> Sql {
    match value {
        Value::Number(n) => n.as_i64().map_or(Sql::Null, Sql::Integer),
        Value::String(text) => Sql::Text(text.clone()),
        _ => Sql::Null,
    }
}

fn run(conn: &rusqlite::Connection, op: &Value) -> rusqlite::Result<(u64, Vec<Value>)> {
    let sql = op["sql"].as_str().unwrap_or_default();
    let args = op["args"].as_array().cloned().unwrap_or_default();
    let mut statement = conn.prepare(sql)?;
    let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let before = conn.total_changes();
    let mut rows = statement.query(rusqlite::params_from_iter(args.iter().map(bound)))?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let mut object = Map::new();
        for (at, name) in columns.iter().enumerate() {
            let value = match row.get_ref(at)? {
                ValueRef::Integer(n) => json!(n),
                ValueRef::Text(text) => json!(String::from_utf8_lossy(text)),
                _ => Value::Null,
            };
            object.insert(name.clone(), value);
        }
        found.push(Value::Object(object));
    }
    drop(rows);
    Ok((conn.total_changes() - before, found))
}

impl Server {
    async fn start(flaw: Flaw) -> Tenant {
        let memory = || Mutex::new(rusqlite::Connection::open_in_memory().unwrap());
        let server = Arc::new(Self {
            conn: memory(),
            old: memory(),
            flaw,
            calls: AtomicU64::new(0),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = server.clone();
                tokio::spawn(async move { server.serve(stream).await });
            }
        });
        Tenant::new(
            Arc::new(Mutex::new(base)),
            http_client(),
            "fake",
            "ak_fake:fake",
        )
    }

    /// One in so many calls, once tables are there and the load runs.
    fn strikes(&self, flaw: Flaw, every: u64) -> bool {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        self.flaw == flaw && call > 60 && call.is_multiple_of(every)
    }

    fn answer(&self, path: &str, body: &Value) -> (u16, Value) {
        let conn = self.conn.lock();
        let silence = (503, json!({ "error": { "retryable": false } }));
        match path {
            "/v1/rqlite/query" => {
                let old = self.old.lock();
                let stale = self.strikes(Flaw::Stale, 7);
                let (_, items) = run(if stale { &old } else { &conn }, body).unwrap();
                if !stale && self.calls.load(Ordering::Relaxed).is_multiple_of(3) {
                    drop(old);
                    self.remember(&conn);
                }
                (200, json!({ "count": items.len(), "items": items }))
            }
            "/v1/rqlite/exec" => {
                if self.strikes(Flaw::Lost, 9) {
                    return (200, json!({ "rows_affected": 1, "last_insert_id": 1 }));
                }
                let (rows_affected, _) = run(&conn, body).unwrap();
                if self.strikes(Flaw::Silent, 5) {
                    return silence;
                }
                let done = json!({ "rows_affected": rows_affected, "last_insert_id": 1 });
                (200, done)
            }
            _ => {
                let torn = self.strikes(Flaw::Torn, 10);
                conn.execute_batch("BEGIN").unwrap();
                let mut results = Vec::new();
                for (at, op) in body["ops"].as_array().unwrap().iter().enumerate() {
                    if torn && at == 2 {
                        conn.execute_batch("COMMIT").unwrap();
                        return silence;
                    }
                    match run(&conn, op) {
                        Ok((rows_affected, rows)) => results.push(match op["kind"].as_str() {
                            Some("query") => json!(rows),
                            _ => json!({ "kind": "exec", "rows_affected": rows_affected }),
                        }),
                        Err(error) => {
                            conn.execute_batch("ROLLBACK").unwrap();
                            let why = error.to_string();
                            let body =
                                json!({ "status": "rollback", "failed_index": at, "error": why });
                            return (409, body);
                        }
                    }
                }
                conn.execute_batch("COMMIT").unwrap();
                (200, json!({ "status": "ok", "results": results }))
            }
        }
    }

    /// Keeps a copy of now for later.
    fn remember(&self, conn: &rusqlite::Connection) {
        let mut old = self.old.lock();
        let backup = rusqlite::backup::Backup::new(conn, &mut old).unwrap();
        backup
            .run_to_completion(10_000, Duration::ZERO, None)
            .unwrap();
    }

    async fn serve(&self, mut stream: TcpStream) {
        let mut buffer = Vec::new();
        loop {
            let (head, body) = loop {
                let end = buffer.windows(4).position(|w| w == b"\r\n\r\n");
                if let Some(end) = end {
                    let head = String::from_utf8_lossy(&buffer[..end]).to_lowercase();
                    let length = head
                        .lines()
                        .find_map(|line| line.strip_prefix("content-length: "))
                        .map_or(0, |n| n.trim().parse::<usize>().unwrap());
                    if buffer.len() >= end + 4 + length {
                        let rest = buffer.split_off(end + 4 + length);
                        let body = buffer.split_off(end + 4);
                        buffer = rest;
                        break (head, body);
                    }
                }
                if !matches!(stream.read_buf(&mut buffer).await, Ok(n) if n > 0) {
                    return;
                }
            };
            let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
            let (status, body) = self.answer(&path, &serde_json::from_slice(&body).unwrap());
            let body = body.to_string();
            let answer = format!(
                "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    }
}

/// Rows and lists for a second; what their checkers say.
async fn registers_and_lists(flaw: Flaw) -> (usize, usize, usize) {
    let tenant = Server::start(flaw).await;
    let recorder = Recorder::default();
    let nodes = [Database::of(&tenant), Database::of(&tenant)];
    for table in [rows::TABLE, lists::TABLE] {
        nodes[0].exec(table, vec![]).await.done();
    }
    let rows = Rows::new(&nodes, 3, &recorder);
    let lists = Lists::new(&nodes, &recorder);
    let (stop, stopped) = watch::channel(false);
    let pause = Duration::from_millis(2);
    let mut clients = tokio::task::JoinSet::new();
    for i in 0..3 {
        let rng = Rng::new(i);
        clients.spawn(
            rows.clone()
                .client(format!("r{i}"), rng, pause, stopped.clone()),
        );
        let rng = Rng::new(100 + i);
        clients.spawn(
            lists
                .clone()
                .client(format!("l{i}"), rng, pause, stopped.clone()),
        );
    }
    while recorder.len() < 400 || lists.history().len() < 400 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stop.send_replace(true);
    while let Some(done) = clients.join_next().await {
        done.unwrap();
    }
    rows.final_reads().await;
    lists.final_reads().await;
    let events = recorder.events();
    let swaps = events.iter().filter(|e| e.outcome == Outcome::Differed);
    assert!(swaps.count() > 5, "swaps fail sometimes");
    let unknown = events.iter().filter(|e| e.outcome == Outcome::Unknown);
    let unknown = unknown.count();
    let wrong = history::check(&events).len();
    (
        wrong,
        history::lists::check(&lists.history()).len(),
        unknown,
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn one_database_is_linearizable() {
    assert_eq!(registers_and_lists(Flaw::None).await, (0, 0, 0));
    let (rows, lists, unknown) = registers_and_lists(Flaw::Silent).await;
    assert_eq!((rows, lists), (0, 0), "lost answers are no flaw");
    assert!(unknown > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn stale_reads_and_lost_writes_are_found() {
    for flaw in [Flaw::Stale, Flaw::Lost] {
        let (rows, lists, _) = registers_and_lists(flaw).await;
        assert!(rows > 0 && lists > 0, "{flaw:?}: {rows} {lists}");
    }
}

async fn bank(flaw: Flaw) -> Result<(), tokio::task::JoinError> {
    let tenant = Server::start(flaw).await;
    let nodes = [Database::of(&tenant), Database::of(&tenant)];
    let bank = Bank::open(&nodes).await;
    let (stop, stopped) = watch::channel(false);
    let pause = Duration::from_millis(2);
    let clients: Vec<_> = (0..3)
        .map(|i| tokio::spawn(bank.clone().client(Rng::new(i), pause, stopped.clone())))
        .collect();
    tokio::time::sleep(Duration::from_millis(700)).await;
    stop.send_replace(true);
    for client in clients {
        client.await?;
    }
    tokio::spawn(async move { bank.verify().await }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bank_keeps_its_money_unless_transactions_tear() {
    bank(Flaw::None).await.unwrap();
    assert!(bank(Flaw::Torn).await.is_err(), "money went missing");
}

#[tokio::test(flavor = "multi_thread")]
async fn dumps_show_every_row() {
    let tenant = Server::start(Flaw::None).await;
    let database = Database::of(&tenant);
    let ops = [
        Op::exec("CREATE TABLE b(v TEXT)", vec![]),
        Op::exec(
            "CREATE TABLE a(k TEXT, n INTEGER, PRIMARY KEY (k, n)) WITHOUT ROWID",
            vec![],
        ),
        Op::exec("CREATE TABLE _orama_state(id)", vec![]),
        Op::exec("INSERT INTO b(rowid, v) VALUES (7, 'seven')", vec![]),
        Op::exec("INSERT INTO a VALUES ('x', 2), ('x', 1)", vec![]),
        Op::exec(
            "WITH RECURSIVE n(i) AS (SELECT 100 UNION ALL SELECT i + 1 FROM n WHERE i < 1700) INSERT INTO b SELECT i FROM n",
            vec![],
        ),
    ];
    database.transaction(&ops).await.done();
    let dump = super::replicas::dump(&database, "none").await;
    assert!(!dump.contains("_orama"), "ours is not the tenant's");
    assert!(dump.contains(r#"b {"rowid_":7,"v":"seven"}"#), "{dump}");
    let of_a: Vec<&str> = dump.lines().filter(|l| l.starts_with("a ")).collect();
    assert_eq!(of_a, [r#"a {"k":"x","n":1}"#, r#"a {"k":"x","n":2}"#]);
    assert_eq!(dump.lines().filter(|l| l.starts_with("b ")).count(), 1602);
    let failed = database.transaction(&[Op::exec("SELEC", vec![])]).await;
    assert!(matches!(failed, Answer::Failed(409, _)));
}
