//! Foreign keys that are not enforced, or at the end of an entry only: which entries share a transaction
//! must not show.

use super::*;

const TABLES: [&str; 3] = [
    "CREATE TABLE parent(id INTEGER PRIMARY KEY)",
    "CREATE TABLE child(id INTEGER PRIMARY KEY, p INTEGER REFERENCES parent)",
    "CREATE TABLE late(id INTEGER PRIMARY KEY, p INTEGER REFERENCES parent DEFERRABLE INITIALLY DEFERRED)",
];
const OFF: &str = "PRAGMA foreign_keys = OFF";
const DEFER: &str = "PRAGMA defer_foreign_keys = ON";

fn entries(all: &[&[&str]]) -> Vec<SqlTransaction> {
    let tables: &[&str] = &TABLES;
    std::iter::once(&tables)
        .chain(all)
        .map(|ops| transaction(ops.iter().map(|sql| exec(sql)).collect()))
        .collect()
}

/// What becomes of the entries, each as its failing op: alike in one batch, one by one on a
/// connection that stays, and one by one on connections that do not.
fn fates(all: &[&[&str]]) -> Vec<Option<(u32, SqlCode)>> {
    let entries = entries(all);
    let mut seen: Vec<(Vec<Applied>, Mark)> = Vec::new();
    for (together, reopened) in [(entries.len(), false), (1, false), (1, true), (2, false)] {
        let mut db = Db::new();
        let items: Vec<_> = (1..).zip(&entries).map(|(i, t)| item(i, t)).collect();
        let mut applied = Vec::new();
        for batch in items.chunks(together) {
            applied.extend(db.writer.apply(batch).unwrap());
            if reopened {
                db.writer = Writer::open(&db.path(), true).unwrap();
            }
        }
        seen.push((applied, db.writer.mark()));
    }
    for other in &seen[1..] {
        assert_eq!(other, &seen[0]);
    }
    let (applied, _) = seen.remove(0);
    let fates = applied
        .into_iter()
        .skip(1)
        .map(|applied| match applied.outcome {
            Some(SqlOutcome::RolledBack { failed, error, .. }) => Some((failed, error.code)),
            _ => None,
        });
    fates.collect()
}

const VIOLATED: SqlCode = SqlCode::ConstraintViolation;

#[test]
fn a_transaction_may_leave_foreign_keys() {
    assert_eq!(
        fates(&[
            &[
                OFF,
                "INSERT INTO child VALUES(1, 7)",
                "INSERT INTO late VALUES(1, 7), (2, 8)"
            ],
            // Only there.
            &["INSERT INTO child VALUES(2, 7)"],
            &["INSERT INTO late VALUES(3, 7)"],
            &[
                OFF,
                "INSERT INTO parent VALUES(9)",
                "INSERT INTO child VALUES(3, 9)"
            ],
            &["DELETE FROM parent WHERE id = 9"],
            &[
                OFF,
                "DROP TABLE parent",
                "CREATE TABLE parent(id INTEGER PRIMARY KEY)"
            ],
            &["INSERT INTO child VALUES(4, 9)"],
            // When it fails, the next one is held to them again.
            &[OFF, "INSERT INTO child VALUES(5, 1)", "SELECT nonsense"],
            &["INSERT INTO child VALUES(5, 1)"],
            &[OFF, "INSERT OR ROLLBACK INTO child VALUES(1, 1)"],
            &["INSERT INTO child VALUES(5, 1)"],
        ]),
        [
            None,
            Some((0, VIOLATED)),
            Some((0, VIOLATED)),
            None,
            Some((0, VIOLATED)),
            None,
            Some((0, VIOLATED)),
            Some((2, SqlCode::InvalidArgument)),
            Some((0, VIOLATED)),
            Some((1, VIOLATED)),
            Some((0, VIOLATED)),
        ]
    );
}

#[test]
fn only_the_first_of_several_ops_turns_them_off() {
    let mut db = Db::new();
    db.done(TABLES.map(exec).to_vec());
    let insert = "INSERT INTO child VALUES(1, 7)";
    for (ops, at) in [
        (vec![exec(OFF)], 0),
        (vec![exec(insert), exec(OFF)], 0),
        (vec![exec("SELECT 1"), exec(OFF), exec(insert)], 1),
        (vec![query(OFF), exec(insert)], 0),
        (
            vec![op(OpKind::Exec, OFF, vec![SqlValue::Null]), exec(insert)],
            0,
        ),
        (vec![exec("PRAGMA foreign_keys = ON"), exec(insert)], 0),
    ] {
        assert_eq!(db.fails(ops).0, at);
    }
    let done = db.done(vec![
        exec(OFF),
        exec(insert),
        query("PRAGMA foreign_key_check"),
    ]);
    assert_eq!(done.len(), 3);
    assert_eq!((done[0].rows_affected, &done[0].rows), (0, &None));
    let rows = done[2].rows.as_ref().unwrap();
    assert!(String::from_utf8_lossy(&rows.json).contains("\"table\":\"child\""));
}

#[test]
fn deferring_ends_with_the_entry() {
    assert_eq!(
        fates(&[
            &[
                DEFER,
                "INSERT INTO child VALUES(1, 7)",
                "INSERT INTO parent VALUES(7)"
            ],
            &[
                "INSERT INTO child VALUES(2, 8)",
                "INSERT INTO parent VALUES(8)"
            ],
            &[DEFER, "INSERT INTO child VALUES(2, 8)"],
            &[
                "INSERT INTO child VALUES(2, 8)",
                "INSERT INTO parent VALUES(8)"
            ],
            &[DEFER, "INSERT INTO child VALUES(2, 8)", "SELECT nonsense"],
            &[
                "INSERT INTO child VALUES(2, 8)",
                "INSERT INTO parent VALUES(8)"
            ],
            &[DEFER],
            &[
                "INSERT INTO child VALUES(2, 8)",
                "INSERT INTO parent VALUES(8)"
            ],
            &[
                "INSERT INTO child VALUES(2, 7)",
                DEFER,
                "DELETE FROM parent"
            ],
            &[DEFER, "DELETE FROM parent", "DELETE FROM child"],
        ]),
        [
            None,
            Some((0, VIOLATED)),
            Some((1, VIOLATED)),
            Some((0, VIOLATED)),
            Some((2, SqlCode::InvalidArgument)),
            Some((0, VIOLATED)),
            None,
            Some((0, VIOLATED)),
            Some((2, VIOLATED)),
            None,
        ]
    );
}

/// Rows without their parent count SQLite's violations down; below zero, COMMIT would refuse the
/// batch, and the next entry would have some to its credit.
#[test]
fn violations_below_zero_are_nobodys() {
    assert_eq!(
        fates(&[
            &[OFF, "INSERT INTO late VALUES(1, 1), (2, 2), (3, 3), (4, 4)"],
            &[
                "INSERT INTO late VALUES(5, 5)",
                "DELETE FROM late WHERE id < 4"
            ],
            &["INSERT INTO late VALUES(6, 6)"],
            &["INSERT INTO late VALUES(7, 7)"],
            &[
                "INSERT INTO parent VALUES(8)",
                "INSERT INTO late VALUES(8, 8)"
            ],
        ]),
        [None, None, Some((0, VIOLATED)), Some((0, VIOLATED)), None,]
    );
}
