//! The property that replicas rest on: what entries do does not depend on how they are
//! cut into batches, nor on restarts and replays in between.

use proptest::prelude::*;

use super::*;

/// Statements that work together and against each other. `#` becomes a number.
const STATEMENTS: &[&str] = &[
    "INSERT INTO t(a, b) VALUES(#, 'b' || #)",
    "INSERT INTO t(a, b) VALUES(#, random()) RETURNING id, b",
    "INSERT INTO t(a, b) VALUES(#, hex(randomblob(4)))",
    "INSERT INTO t(a) VALUES(#) ON CONFLICT(a) DO UPDATE SET b = b || 'x', at = CURRENT_TIMESTAMP",
    "INSERT OR ROLLBACK INTO t(a) VALUES(#)",
    "INSERT OR FAIL INTO t(a) VALUES(# + 1), (#), (# + 2)",
    "INSERT OR IGNORE INTO t(a) VALUES(#), (# + 1)",
    "REPLACE INTO t(a, b) VALUES(#, strftime('%f', 'now'))",
    "UPDATE t SET a = a + 1 WHERE a % 3 = # % 3",
    "UPDATE OR ROLLBACK t SET a = # WHERE id < 4",
    "UPDATE t SET b = (SELECT group_concat(a) FROM (SELECT a FROM t ORDER BY random() LIMIT 3))",
    "DELETE FROM t WHERE a = #",
    "DELETE FROM t",
    "INSERT INTO guarded VALUES(#)",
    "INSERT INTO guarded VALUES(7)",
    "INSERT INTO child VALUES(#)",
    "INSERT INTO late VALUES(#)",
    "INSERT INTO parent VALUES(#)",
    "DELETE FROM parent WHERE id = #",
    "DELETE FROM child WHERE p = #",
    "DELETE FROM late WHERE p < #",
    "PRAGMA defer_foreign_keys = ON",
    "DROP TABLE IF EXISTS late",
    "INSERT INTO t(b) VALUES(zeroblob(20000 * #))",
    "CREATE TABLE extra(x, y DEFAULT (random()))",
    "INSERT INTO extra(x) VALUES(#)",
    "ALTER TABLE extra ADD COLUMN z#",
    "SELECT * FROM extra",
    "DROP TABLE extra",
    "CREATE INDEX tb ON t(b)",
    "DROP INDEX tb",
    "CREATE TABLE copied AS SELECT * FROM t",
    "DROP TABLE copied",
    "ANALYZE",
    "REINDEX",
    "SELECT id, a, b, at FROM t ORDER BY id",
    "SELECT changes() AS c, last_insert_rowid() AS l",
    "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) INSERT INTO t(b) SELECT x FROM c",
    "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT sum(x) FROM c",
    "SELECT nonsense",
    "PRAGMA user_version = #",
    "INSERT INTO t(a) VALUES(?)",
];

fn setup() -> SqlTransaction {
    transaction(vec![
        exec(
            "CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, a UNIQUE, b,
             at DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now')))",
        ),
        exec("CREATE TABLE guarded(a)"),
        exec(
            "CREATE TRIGGER g BEFORE INSERT ON guarded WHEN new.a = 7
             BEGIN SELECT RAISE(ROLLBACK, 'never 7'); END",
        ),
        exec("CREATE TABLE log(a, r)"),
        exec(
            "CREATE TRIGGER l AFTER UPDATE ON t
             BEGIN INSERT INTO log VALUES(new.a, random()); END",
        ),
        exec("CREATE TABLE parent(id INTEGER PRIMARY KEY)"),
        exec("CREATE TABLE child(p REFERENCES parent ON DELETE CASCADE)"),
        exec("CREATE TABLE late(p REFERENCES parent DEFERRABLE INITIALLY DEFERRED)"),
    ])
}

fn any_transaction() -> impl Strategy<Value = SqlTransaction> {
    let op = (0..STATEMENTS.len(), 0..9u8).prop_map(|(at, n)| {
        let kind = if n == 8 { OpKind::Query } else { OpKind::Exec };
        op(kind, &STATEMENTS[at].replace('#', &n.to_string()), vec![])
    });
    let unchecked = proptest::bool::weighted(0.2);
    (proptest::collection::vec(op, 1..5), unchecked).prop_map(|(mut ops, unchecked)| {
        if unchecked {
            ops.insert(0, exec("PRAGMA foreign_keys = OFF"));
        }
        let mut transaction = transaction(ops);
        transaction.limits.steps = 30_000;
        transaction.limits.pages = 50;
        transaction
    })
}

/// Applies everything in batches of these lengths, over and over. A zero opens the file again,
/// and repeats the entry before.
fn apply(entries: &[SqlTransaction], cuts: &[usize]) -> (Vec<Applied>, Mark, Vec<String>) {
    let mut db = Db::new();
    let items: Vec<_> = (1..).zip(entries).map(|(i, t)| item(i, t)).collect();
    let mut all = Vec::new();
    let mut at = 0;
    let mut cuts = cuts.iter().cycle();
    while at < items.len() {
        let cut = *cuts.next().unwrap();
        let mut from = at;
        if cut == 0 {
            let path = db.path();
            drop(db.writer);
            db.writer = Writer::open(&path, true).unwrap();
            assert_eq!(db.writer.mark().applied, at as u64);
            from = at.saturating_sub(1);
        }
        let to = (at + cut.max(1)).min(items.len());
        let applied = db.writer.apply(&items[from..to]).unwrap();
        assert_eq!(applied.len(), to - from);
        all.extend(applied.into_iter().filter(|a| a.outcome.is_some()));
        at = to;
    }
    let mark = db.writer.mark();
    let path = db.path();
    (all, mark, dump(&path))
}

proptest! {
    #![proptest_config(ProptestConfig {
        // More by PROPTEST_CASES.
        cases: ProptestConfig::default().cases.max(256) - 160,
        ..ProptestConfig::default()
    })]

    #[test]
    fn batches_do_not_show(
        entries in proptest::collection::vec(any_transaction(), 1..40),
        cuts in proptest::collection::vec(0..12usize, 1..6),
    ) {
        let mut all = vec![setup()];
        all.extend(entries);
        let (outcomes, mark, contents) = apply(&all, &[1]);
        prop_assert!(matches!(outcomes[0].outcome, Some(SqlOutcome::Committed(_))));
        for cuts in [&cuts[..], &[usize::MAX / 2]] {
            let (other, other_mark, other_contents) = apply(&all, cuts);
            for (a, b) in outcomes.iter().zip(&other) {
                prop_assert_eq!(a, b, "{:?}", &all[a.index as usize - 1].ops
                    .iter().map(|op| &op.sql).collect::<Vec<_>>());
            }
            prop_assert_eq!(outcomes.len(), other.len());
            prop_assert_eq!(mark, other_mark);
            prop_assert_eq!(&contents, &other_contents);
        }
    }
}

/// The property is worth nothing if its statements never get anywhere.
#[test]
fn the_statements_end_in_every_way() {
    let mut db = Db::new();
    db.done(setup().ops);
    let mut codes = std::collections::HashSet::new();
    let mut committed = 0;
    for n in 0..9 {
        for statement in STATEMENTS {
            let mut tx = transaction(vec![exec(&statement.replace('#', &n.to_string()))]);
            tx.limits.steps = 30_000;
            tx.limits.pages = 50;
            match db.apply(&tx).unwrap() {
                SqlOutcome::Committed(_) => committed += 1,
                SqlOutcome::RolledBack { error, .. } => {
                    codes.insert(error.code.as_str());
                }
            }
        }
    }
    assert!(committed > 100, "{committed}");
    for code in [
        SqlCode::ConstraintViolation,
        SqlCode::DeadlineExceeded,
        SqlCode::InvalidArgument,
        SqlCode::StorageQuotaExceeded,
    ] {
        assert!(codes.contains(code.as_str()), "{code:?} of {codes:?}");
    }
}

/// Effects show in the hash even where outcomes are equal.
#[test]
fn the_hash_tells_different_effects_apart() {
    let hash = |values: &str, seed: u8| {
        let mut db = Db::new();
        db.done(vec![exec("CREATE TABLE t(a, b)")]);
        let tx = transaction(vec![exec(&format!("INSERT INTO t SELECT {values}"))]);
        let mut item = item(2, &tx);
        item.stamp.seed = [seed; 16];
        db.writer.apply(&[item]).unwrap()[0].hash
    };
    assert_eq!(hash("1, random()", 1), hash("1, random()", 1));
    assert_ne!(hash("1, random()", 1), hash("1, random()", 2));
    assert_eq!(hash("1, 2", 1), hash("1, 2", 2));
}

/// What SQLite has in memory of statistics that were rolled back with an entry must not plan the
/// entries before it when they are applied again.
#[test]
fn what_is_applied_again_knows_nothing_of_what_was_rolled_back() {
    let rows = |a: &str, b: &str| {
        format!(
            "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT 2000)
             INSERT INTO t(a, b, c) SELECT {a}, {b}, (x * 7919) % 2003 FROM c"
        )
    };
    let before = [
        transaction(vec![
            exec("CREATE TABLE t(id INTEGER PRIMARY KEY, a, b, c)"),
            exec("CREATE INDEX ia ON t(a, c)"),
            exec("CREATE INDEX ib ON t(b, c DESC)"),
            exec("CREATE TABLE u(id INTEGER PRIMARY KEY, c)"),
            exec("CREATE TABLE once(x UNIQUE)"),
            exec("INSERT INTO once VALUES(1)"),
        ]),
        transaction(vec![exec(&rows("x % 1000", "1")), exec("ANALYZE")]),
        transaction(vec![exec("UPDATE t SET a = 1, b = 1 WHERE id % 3 = 0")]),
    ];
    let together = [
        transaction(vec![exec(
            "INSERT INTO u(c) SELECT c FROM t WHERE a = 1 AND b = 1",
        )]),
        transaction(vec![
            exec("UPDATE t SET a = 1, b = id % 1000 WHERE id % 3 <> 0"),
            exec("ANALYZE"),
        ]),
        transaction(vec![exec("INSERT OR ROLLBACK INTO once VALUES(1)")]),
        transaction(vec![exec(
            "INSERT INTO u(c) SELECT c FROM t WHERE a = 1 AND b = 1",
        )]),
    ];
    let run = |cut: usize| {
        let mut db = Db::new();
        let mut index = 0;
        let all: Vec<&SqlTransaction> = before.iter().chain(&together).collect();
        let (first, rest) = all.split_at(before.len());
        for batch in first.chunks(1).chain(rest.chunks(cut)) {
            let items: Vec<Item<'_>> = batch
                .iter()
                .map(|transaction| {
                    index += 1;
                    item(index, transaction)
                })
                .collect();
            db.writer.apply(&items).unwrap();
        }
        let hash = db.writer.mark().hash;
        drop(db.writer);
        let conn = rusqlite::Connection::open(db.dir.path().join("a.db")).unwrap();
        let mut statement = conn.prepare("SELECT c FROM u ORDER BY id").unwrap();
        let rows = statement.query_map([], |row| row.get::<_, i64>(0)).unwrap();
        let rows: Vec<i64> = rows.map(Result::unwrap).collect();
        (hash, rows)
    };
    let apart = run(1);
    assert!(apart.1.len() > 100);
    for cut in [2, 3, 4] {
        assert_eq!(run(cut), apart, "{cut} at a time");
    }
}
