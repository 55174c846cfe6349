//! The database as functions use it: every call from Go and from C, values,
//! failures, own writes at every level, and long runs of single writes.

use std::time::Instant;

use orama_proto::invocation::{InvocationRecord, LogLevel};
use orama_tests::cluster::{Cluster, Options};
use orama_tests::{Deploy, Node, Tenant, expect_success, guests, setting};
use serde_json::{Value, json};

async fn tenant(node: &Node, namespace: &str) -> Tenant {
    let tenant = node.tenant(namespace).await;
    let deploy = Deploy::new("database", &guests::go("database")).timeout(300);
    tenant.deploy(deploy).await;
    tenant
}

/// Makes the calls in one invocation; one answer for each.
async fn calls(tenant: &Tenant, calls: Value) -> (Vec<Value>, InvocationRecord) {
    let count = calls.as_array().unwrap().len();
    let request = json!({ "calls": calls }).to_string();
    let (reply, record) = expect_success(tenant, "database", request).await;
    let answers: Vec<Value> = reply.parse();
    assert_eq!(answers.len(), count);
    (answers, record)
}

fn warnings(record: &InvocationRecord) -> Vec<&str> {
    record
        .wasm_logs
        .iter()
        .filter(|line| line.level == LogLevel::Warn)
        .map(|line| line.message.as_str())
        .collect()
}

fn exec(sql: &str, args: Value) -> Value {
    json!({"call": "db_execute_v2", "sql": sql, "args": args})
}

fn query(sql: &str, args: Value) -> Value {
    json!({"call": "db_query_v2", "sql": sql, "args": args})
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_works_from_go() {
    let node = Node::start().await;
    let tenant = tenant(&node, "every").await;
    let (answers, record) = calls(
        &tenant,
        json!([
            // Nothing was ever written: there is no table, and no error of another kind.
            {"call": "db_query_v2", "sql": "SELECT 1 AS one"},
            exec("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT UNIQUE)", json!([])),
            {"call": "db_query", "sql": "SELECT * FROM t"},
            {"call": "db_execute", "sql": "INSERT INTO t (name) VALUES (?)", "args": ["a"]},
            exec("INSERT INTO t (name) VALUES (?), (?)", json!(["b", "c"])),
            {"call": "db_query", "sql": "SELECT id, name FROM t WHERE id <= ? ORDER BY id", "args": [2]},
            query("SELECT count(*) AS n FROM t", Value::Null),
            {"call": "db_transaction", "ops": {"ops": [
                {"kind": "exec", "sql": "UPDATE t SET name = name || '!' WHERE id > ?", "args": [1]},
                {"kind": "query", "sql": "SELECT name FROM t ORDER BY id"},
                {"kind": "exec", "sql": "DELETE FROM t WHERE id = 1"},
                {"kind": "query", "sql": "SELECT count(*) AS n FROM t"},
            ]}},
            exec("INSERT INTO t (name) VALUES ('r') RETURNING id, name", json!([])),
            {"call": "db_query_batch", "ops": {"consistency": "weak", "ops": [
                {"sql": "SELECT name FROM t WHERE id = ?", "args": [4]}, {"sql": "SELECT nonsense"},
            ]}},
        ]),
    )
    .await;
    assert_eq!(answers[0], json!({"rows": [{"one": 1}]}));
    assert_eq!(answers[1]["rows_affected"], 0);
    assert!(answers[1].get("error").is_none(), "{}", answers[1]);
    assert_eq!(answers[2], json!([]), "no rows are [], not null");
    assert_eq!(answers[3], 1);
    assert_eq!(answers[4], json!({"rows_affected": 2, "last_insert_id": 3}));
    assert_eq!(
        answers[5],
        json!([{"id": 1, "name": "a"}, {"id": 2, "name": "b"}])
    );
    assert_eq!(answers[6], json!({"rows": [{"n": 3}]}));
    let results = &answers[7]["results"];
    assert_eq!(answers[7]["committed"], true, "{}", answers[7]);
    // A query sees what was done before it, and not what came after.
    assert_eq!(results[0]["rows_affected"], 2);
    assert_eq!(
        results[1],
        json!({"kind": "query", "rows": [{"name": "a"}, {"name": "b!"}, {"name": "c!"}]})
    );
    assert_eq!(results[3], json!({"kind": "query", "rows": [{"n": 2}]}));
    assert_eq!(
        answers[8],
        json!({"rows_affected": 1, "last_insert_id": 4, "rows": [{"id": 4, "name": "r"}]})
    );
    let batch = &answers[9]["results"];
    assert_eq!(batch[0], json!({"kind": "query", "rows": [{"name": "r"}]}));
    assert_eq!(batch[1]["rows"], json!([]));
    assert_eq!(batch[1]["code"], "INVALID_ARGUMENT");
    let warnings = warnings(&record);
    assert!(
        warnings.len() == 1
            && warnings[0].starts_with("db_query_batch: ops[1]: INVALID_ARGUMENT: "),
        "{warnings:?}"
    );
    // What a function wrote stays, for every function of the namespace and no other.
    let (answers, _) = calls(
        &tenant,
        json!([query("SELECT count(*) AS n FROM t", json!([]))]),
    )
    .await;
    assert_eq!(answers[0], json!({"rows": [{"n": 3}]}));
    let other = self::tenant(&node, "other").await;
    let (answers, _) = calls(
        &other,
        json!([query("SELECT count(*) AS n FROM t", json!([]))]),
    )
    .await;
    assert_eq!(answers[0]["code"], "INVALID_ARGUMENT");
    assert_eq!(answers[0]["rows"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_works_from_c() {
    let node = Node::start().await;
    let tenant = node.tenant("fromc").await;
    tenant
        .deploy(Deploy::new("database", &guests::c("database")))
        .await;
    let (reply, record) = expect_success(&tenant, "database", "").await;
    // What a guest writes that is no JSON is wrapped (CONTRACT 2.5).
    let body = reply.json();
    let output = body["output"].as_str().unwrap();
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines.len(), 10, "{lines:?}");
    assert!(lines[0].starts_with(r#"{"rows_affected":0"#), "{lines:?}");
    assert_eq!(
        lines[1..6],
        [
            "1",
            r#"[{"id":1,"name":"one"}]"#,
            r#"{"results":[{"kind":"exec","rows_affected":1,"last_insert_id":2},{"kind":"query","rows":[{"name":"two"}]}],"committed":true}"#,
            r#"{"rows":[{"id":1,"name":"one"},{"id":2,"name":"two"}]}"#,
            r#"{"results":[{"kind":"query","rows":[{"n":2}]}]}"#,
        ]
    );
    assert_eq!(lines[6..8], ["0", "none"]);
    assert!(
        lines[8].ends_with(r#""code":"CONSTRAINT_VIOLATION"}"#),
        "{}",
        lines[8]
    );
    assert!(
        lines[9].contains("not within the function's memory"),
        "{}",
        lines[9]
    );
    assert_eq!(warnings(&record).len(), 4, "{record:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn values_come_back_as_they_went() {
    let node = Node::start().await;
    let tenant = tenant(&node, "values").await;
    // Written as text: 64 bits do not pass through a float here either.
    let values = r#"[null,true,9007199254740993,9223372036854775807,-9223372036854775808,0.1,-1.5e300,"","Žluťoučký 馬 🐎\u0001\"",{"blob":"AP//gA=="}]"#;
    let request = format!(
        r#"{{"calls":[
            {{"call":"db_execute_v2","sql":"CREATE TABLE v (a,b,c,d,e,f,g,h,i,j)"}},
            {{"call":"db_execute_v2","sql":"INSERT INTO v VALUES (?,?,?,?,?,?,?,?,?,?)","args":{values}}},
            {{"call":"db_query","sql":"SELECT *, typeof(d) AS td, typeof(j) AS tj, length(i) AS li FROM v"}}]}}"#
    );
    let (reply, _) = expect_success(&tenant, "database", request).await;
    let text = reply.text();
    for exact in [
        r#""a":null"#,
        r#""b":1,"#,
        r#""c":9007199254740993"#,
        r#""d":9223372036854775807"#,
        r#""e":-9223372036854775808"#,
        r#""f":0.1,"#,
        r#""h":"""#,
        r#""j":"AP//gA==""#,
        r#""td":"integer""#,
        r#""tj":"blob""#,
    ] {
        assert!(text.contains(exact), "{exact}: {text}");
    }
    let row = &reply.json()[2][0];
    assert_eq!(row["g"], -1.5e300);
    assert_eq!(row["i"], "Žluťoučký 馬 🐎\u{1}\"");
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_have_codes_and_are_in_the_log() {
    let node = Node::start().await;
    let tenant = tenant(&node, "failures").await;
    let insert = "INSERT INTO t VALUES (?)";
    let many: Vec<Value> = (0..101)
        .map(|_| json!({"kind": "exec", "sql": insert, "args": [9]}))
        .collect();
    let runaway = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r)";
    let (answers, record) = calls(
        &tenant,
        json!([
            exec("CREATE TABLE t (id INTEGER PRIMARY KEY)", json!([])),
            {"call": "db_transaction", "ops": {"ops": [
                {"kind": "exec", "sql": insert, "args": [1]}, {"kind": "exec", "sql": insert, "args": [1]}]}},
            query("SELECT * FROM t", json!([])),
            {"call": "db_execute", "sql": "nonsense"},
            {"call": "db_query", "sql": "SELECT * FROM nowhere"},
            exec("nonsense", json!([])),
            exec(insert, json!([1, 2])),
            exec(insert, json!([[1]])),
            exec("INSERT INTO t VALUES (1); INSERT INTO t VALUES (2)", json!([])),
            exec("ATTACH 'other.db' AS other", json!([])),
            exec("PRAGMA writable_schema = 1", json!([])),
            query("INSERT INTO t VALUES (5) RETURNING id", json!([])),
            {"call": "db_transaction", "ops": {"ops": many}},
            {"call": "db_transaction", "ops": {"ops": [{"kind": "drop", "sql": "x"}]}},
            {"call": "db_query_batch", "ops": {"ops": []}},
            query(&format!("{runaway} SELECT count(*) AS n FROM r"), json!([])),
            exec(&format!("{runaway} INSERT INTO t SELECT n FROM r WHERE n < 0"), json!([])),
            query("SELECT count(*) AS n FROM t", json!([])),
        ]),
    )
    .await;
    let rolled_back = &answers[1];
    assert_eq!(rolled_back["committed"], false);
    assert_eq!(rolled_back["failed_index"], 1);
    assert_eq!(rolled_back["code"], "CONSTRAINT_VIOLATION");
    assert_eq!(rolled_back["results"].as_array().unwrap().len(), 1);
    assert_eq!(answers[2], json!({"rows": []}), "nothing of it is left");
    assert_eq!((&answers[3], &answers[4]), (&json!(0), &Value::Null));
    for (index, code, words) in [
        (5, "INVALID_ARGUMENT", "nonsense"),
        (6, "INVALID_ARGUMENT", ""),
        (7, "INVALID_ARGUMENT", "args[0]"),
        (8, "TOO_MANY_STATEMENTS", "op of its own"),
        (9, "INVALID_ARGUMENT", ""),
        (10, "INVALID_ARGUMENT", ""),
        (11, "INVALID_ARGUMENT", "db_execute"),
        (12, "TOO_MANY_STATEMENTS", "101"),
        (13, "INVALID_ARGUMENT", "ops[0].kind"),
        (14, "INVALID_ARGUMENT", "ops"),
        (15, "DEADLINE_EXCEEDED", ""),
        (16, "DEADLINE_EXCEEDED", ""),
    ] {
        let answer = &answers[index];
        assert_eq!(answer["code"], code, "{index}: {answer}");
        let error = answer["error"].as_str().unwrap();
        assert!(
            !error.is_empty() && error.contains(words),
            "{index}: {answer}"
        );
    }
    assert_eq!(answers[17], json!({"rows": [{"n": 0}]}));
    let told = warnings(&record);
    assert_eq!(told.len(), 15, "{told:?}");
    assert!(
        told[0].starts_with("db_transaction: ops[1]: CONSTRAINT_VIOLATION: "),
        "{told:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_over_the_cap_are_cut_and_said_to_be() {
    let node = Node::start().await;
    let tenant = tenant(&node, "caps").await;
    let series =
        "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r LIMIT ?) SELECT n FROM r";
    let (answers, record) = calls(
        &tenant,
        json!([
            query(series, json!([10_000])),
            query(series, json!([10_001])),
            {"call": "db_query", "sql": series, "args": [10_001]},
            {"call": "db_query_batch", "ops": {"ops": [{"sql": series, "args": [20_000]}, {"sql": series, "args": [2]}]}},
        ]),
    )
    .await;
    let rows = |answer: &Value| answer["rows"].as_array().unwrap().len();
    assert_eq!(rows(&answers[0]), 10_000);
    assert!(answers[0].get("code").is_none());
    assert_eq!(rows(&answers[1]), 10_000);
    assert_eq!(answers[1]["code"], "PAYLOAD_TOO_LARGE");
    assert_eq!(
        answers[2],
        Value::Null,
        "half an answer would be taken for all of it"
    );
    assert_eq!(rows(&answers[3]["results"][0]), 10_000);
    assert_eq!(answers[3]["results"][0]["code"], "PAYLOAD_TOO_LARGE");
    assert_eq!(
        answers[3]["results"][1],
        json!({"kind": "query", "rows": [{"n": 1}, {"n": 2}]})
    );
    let told = warnings(&record);
    assert!(
        told.iter()
            .any(|line| line.starts_with("db_query: PAYLOAD_TOO_LARGE: ")),
        "{told:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_invocation_makes_thousands_of_writes() {
    let node = Node::start().await;
    let tenant = tenant(&node, "long").await;
    let writes = setting("ORAMA_TEST_WRITES", 2_000);
    calls(
        &tenant,
        json!([exec(
            "CREATE TABLE steps (n INTEGER PRIMARY KEY)",
            json!([])
        )]),
    )
    .await;
    let began = Instant::now();
    let request = json!({ "loop": writes }).to_string();
    let (reply, record) = expect_success(&tenant, "database", request).await;
    let figures = &reply.json()[0];
    assert_eq!(figures["writes"], writes);
    println!(
        "{writes} sequential writes in one invocation: {figures}, {:?} in all, {} MB",
        began.elapsed(),
        record.memory_used_mb
    );
    assert_eq!(warnings(&record), [""; 0]);
    let (answers, _) = calls(
        &tenant,
        json!([query(
            "SELECT count(*) AS n, max(n) AS m FROM steps",
            json!([])
        )]),
    )
    .await;
    assert_eq!(
        answers[0],
        json!({"rows": [{"n": writes, "m": writes - 1}]})
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_sees_its_own_writes_at_every_level_on_every_node() {
    let cluster = Cluster::start(3, Options::default()).await;
    let first = tenant(cluster.node(0), "own").await;
    calls(
        &first,
        json!([exec(
            "CREATE TABLE steps (n INTEGER PRIMARY KEY)",
            json!([])
        )]),
    )
    .await;
    let mut from = 0;
    for place in 0..cluster.len() {
        // On this node, through its gateway; it may hold the leader, a follower or no replica.
        let here = cluster.node(place).tenant_of(&first);
        for level in ["none", "weak", "linearizable"] {
            let request = json!({"loop": 50, "from": from, "read": level}).to_string();
            let (reply, _) = expect_success(&here, "database", request).await;
            println!("node {place}, {level}: {}", reply.text());
            from += 50;
        }
    }
    let (answers, _) = calls(
        &first,
        json!([query("SELECT count(*) AS n FROM steps", json!([]))]),
    )
    .await;
    assert_eq!(answers[0], json!({"rows": [{"n": from}]}));
}
