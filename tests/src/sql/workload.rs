//! Random statements that would tell replicas apart: everything that asks a
//! clock or a die, and everything whose failure SQLite undoes in a way of its own.
//!
//! Each kind says whether it can succeed, so that a run in which a statement
//! was refused for another reason than meant is no success ([`Tally::check`]).

mod texts;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Op;
use crate::Rng;
use texts::FIXED;
pub use texts::{NOTHING_LEFT, SCHEMA};

/// How a kind of statement may end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// It succeeds at least once in a run; what others did before may make it fail.
    Done,
    /// It never succeeds, whoever runs it.
    Fails,
    /// It never succeeds because the platform refuses it; plain SQLite would not.
    Denied,
    /// The platform may refuse it; whatever it does, it does everywhere.
    Any,
}

/// One request: a statement, or several in one transaction.
#[derive(Debug, Clone, PartialEq)]
pub struct Statement {
    /// Names what it tries.
    pub kind: &'static str,
    /// How it may end.
    pub expect: Expect,
    /// What it does; several are a transaction.
    pub ops: Vec<Op>,
}

/// Draws statements.
#[derive(Debug, Clone)]
pub struct Workload {
    rng: Rng,
}

impl Workload {
    /// The statements of this generator.
    pub fn new(rng: Rng) -> Self {
        Self { rng }
    }

    fn name(&mut self) -> Value {
        json!(format!("p{}", self.rng.below(400)))
    }
    /// One of few tables that come and go.
    fn extra(&mut self) -> String {
        format!("extra_{}", self.rng.below(4))
    }

    /// The next request.
    pub fn draw(&mut self) -> Statement {
        // Half of them have arguments drawn, a quarter change the schema or are transactions.
        match self.rng.below(8) {
            0..3 => self.fixed(),
            3..5 => self.with_arguments(),
            5 => self.schema_change(),
            6 => self.people(),
            _ => self.transaction(),
        }
    }

    fn fixed(&mut self) -> Statement {
        loop {
            let at = self.rng.below(FIXED.len() as u64) as usize;
            let (kind, expect, sql) = FIXED[at];
            // Costs as much as all others together.
            if kind == "no end" && self.rng.below(8) > 0 {
                continue;
            }
            return one(kind, expect, sql, vec![]);
        }
    }

    fn people(&mut self) -> Statement {
        let args = vec![self.name(), json!(self.rng.below(300) as f64 / 3.0)];
        match self.rng.below(4) {
            0 => one(
                "insert or replace",
                Expect::Done,
                "INSERT OR REPLACE INTO people(name, score) VALUES (?, ?)",
                args,
            ),
            1 => one(
                "upsert",
                Expect::Done,
                "INSERT INTO people(name, score) VALUES (?, ?) ON CONFLICT(name) DO UPDATE SET score = score + excluded.score, lucky = random(), token = hex(randomblob(8))",
                args,
            ),
            2 => one(
                "returning",
                Expect::Done,
                "INSERT INTO people(name, score) VALUES (?, ?) RETURNING id, token, lucky, born",
                args,
            ),
            _ => one(
                "defaults",
                Expect::Done,
                "INSERT INTO people(name, score) VALUES (?, ?)",
                args,
            ),
        }
    }

    fn with_arguments(&mut self) -> Statement {
        use Expect::{Any, Done};
        let draw = self.rng.draw();
        match self.rng.below(9) {
            0 => one(
                "now as an argument",
                Done,
                "INSERT INTO audit(what) VALUES (datetime(?) || strftime(?, ?))",
                vec![json!("now"), json!("%Y-%m-%dT%H:%M:%f"), json!("now")],
            ),
            1 => one(
                "64 bits",
                Done,
                "INSERT OR REPLACE INTO pairs(a, b, c) VALUES ('int', ?, ?)",
                vec![json!(i64::MAX - (draw % 9) as i64), json!(i64::MIN)],
            ),
            2 => one(
                "a blob as argument",
                Done,
                "INSERT OR REPLACE INTO pairs(a, b, c) VALUES ('blob', abs(random() % 50), ?)",
                vec![json!({ "blob": "AAEC/w==" })],
            ),
            3 => one(
                "reals",
                Done,
                "INSERT OR REPLACE INTO pairs(a, b, c) VALUES ('real', ?, ? / 3)",
                vec![json!(draw % 20), json!(draw as f64 / 7.0e9)],
            ),
            4 => one(
                "null and bool",
                Done,
                "INSERT INTO moments VALUES (?, ?, ?, NULL, NULL, NULL)",
                vec![
                    Value::Null,
                    json!(true),
                    json!("text with 'quotes' and \u{1f600}"),
                ],
            ),
            5 => one(
                "big values",
                Done,
                "INSERT OR REPLACE INTO pairs(a, b, c) VALUES ('big', ?, randomblob(9000))",
                vec![json!(draw % 10)],
            ),
            6 => one(
                "insert into a view",
                Done,
                "INSERT INTO recent(name) VALUES (?)",
                vec![self.name()],
            ),
            7 => one(
                "function as argument",
                Any,
                "INSERT INTO audit(what) SELECT group_concat(value) FROM json_each(?)",
                vec![json!("[1,2,3]")],
            ),
            _ => one(
                "wrong number of arguments",
                Expect::Denied,
                "INSERT INTO audit(what) VALUES (?)",
                vec![json!(1), json!(2)],
            ),
        }
    }

    fn schema_change(&mut self) -> Statement {
        use Expect::Done;
        let (extra, number) = (self.extra(), self.rng.below(3));
        match self.rng.below(12) {
            0..3 => one(
                "create table",
                Done,
                format!(
                    "CREATE TABLE IF NOT EXISTS {extra}(id INTEGER PRIMARY KEY, v DEFAULT (random()), t DEFAULT CURRENT_TIMESTAMP)"
                ),
                vec![],
            ),
            3 | 4 => one(
                "fill it",
                Done,
                format!("INSERT INTO {extra}(v) VALUES (randomblob(2)), (hex(randomblob(3)))"),
                vec![],
            ),
            5 => one(
                "add a column",
                Done,
                format!("ALTER TABLE {extra} ADD COLUMN c{number} TEXT DEFAULT 'x'"),
                vec![],
            ),
            6 => one(
                "drop a column",
                Done,
                format!("ALTER TABLE {extra} DROP COLUMN c{number}"),
                vec![],
            ),
            7 => one(
                "rename a column",
                Done,
                format!("ALTER TABLE {extra} RENAME COLUMN t TO t2"),
                vec![],
            ),
            8 => one(
                "rename a table",
                Done,
                // Another one's name would be taken more often than not.
                format!(
                    "ALTER TABLE {extra} RENAME TO renamed_{}",
                    self.rng.below(100_000)
                ),
                vec![],
            ),
            9 => one("drop a table", Done, format!("DROP TABLE {extra}"), vec![]),
            10 => one(
                "create an index",
                Done,
                format!("CREATE INDEX IF NOT EXISTS {extra}_v ON {extra}(v)"),
                vec![],
            ),
            _ => one(
                "create table as select",
                Done,
                format!(
                    "CREATE TABLE {extra} AS SELECT 1 AS id, name AS v, random() AS r, datetime('now') AS t FROM people ORDER BY random() LIMIT 5"
                ),
                vec![],
            ),
        }
    }

    fn transaction(&mut self) -> Statement {
        let (name, number) = (self.name(), json!(self.rng.below(1_000)));
        let insert = Op::exec(
            "INSERT INTO audit(what, dice) VALUES (?, random())",
            vec![name.clone()],
        );
        let undone = Op::exec(
            "INSERT INTO pairs(a, b, c) VALUES ('undone in a transaction', ?, datetime('now'))",
            vec![number.clone()],
        );
        match self.rng.below(6) {
            0 | 1 => Statement {
                kind: "transaction",
                expect: Expect::Done,
                ops: vec![
                    insert,
                    Op::query("SELECT count(*) AS n, random() AS r FROM audit", vec![]),
                    Op::exec(
                        "INSERT OR REPLACE INTO pairs(a, b, c) SELECT 'counted', ?, count(*) FROM audit",
                        vec![number],
                    ),
                    Op::exec(
                        "UPDATE people SET lucky = random() WHERE name = ?",
                        vec![name],
                    ),
                ],
            },
            2 => Statement {
                kind: "transaction that rolls back",
                expect: Expect::Fails,
                ops: vec![undone, Op::exec("INSERT INTO nowhere VALUES (1)", vec![])],
            },
            3 => Statement {
                kind: "transaction with or rollback",
                expect: Expect::Fails,
                ops: vec![
                    undone,
                    Op::exec(
                        "INSERT OR ROLLBACK INTO pairs VALUES ('undone', 1, 0), ('undone', 1, 0)",
                        vec![],
                    ),
                ],
            },
            4 => Statement {
                kind: "transaction with a query that fails",
                expect: Expect::Fails,
                ops: vec![
                    undone,
                    Op::query("SELECT abs(-9223372036854775808)", vec![]),
                ],
            },
            _ => Statement {
                kind: "schema and rows in one transaction",
                expect: Expect::Done,
                ops: vec![
                    Op::exec(
                        "CREATE TABLE IF NOT EXISTS both(id INTEGER PRIMARY KEY, v DEFAULT (randomblob(5)))",
                        vec![],
                    ),
                    Op::exec("INSERT INTO both DEFAULT VALUES", vec![]),
                    Op::query("SELECT hex(v) FROM both ORDER BY random() LIMIT 1", vec![]),
                ],
            },
        }
    }
}

fn one(kind: &'static str, expect: Expect, sql: impl Into<String>, args: Vec<Value>) -> Statement {
    Statement {
        kind,
        expect,
        ops: vec![Op::exec(sql, args)],
    }
}

/// How statements ended, by kind.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Expectation, successes, failures, and the last failure's text.
    kinds: BTreeMap<&'static str, (Option<Expect>, u64, u64, String)>,
    /// Without a verdict: refused or unknown.
    pub without: u64,
}

impl Tally {
    /// One that ended; `Err` is the failure's text.
    pub fn count(&mut self, statement: &Statement, ended: Result<(), String>) {
        let kind = self.kinds.entry(statement.kind).or_default();
        kind.0 = Some(statement.expect);
        match ended {
            Ok(()) => kind.1 += 1,
            Err(why) => {
                kind.2 += 1;
                kind.3 = why;
            }
        }
    }
    /// Adds what another client counted.
    pub fn add(&mut self, other: Self) {
        for (kind, (expect, done, failed, why)) in other.kinds {
            let mine = self.kinds.entry(kind).or_default();
            mine.0 = expect;
            mine.1 += done;
            mine.2 += failed;
            if !why.is_empty() {
                mine.3 = why;
            }
        }
        self.without += other.without;
    }
    /// Successes and failures.
    pub fn sums(&self) -> (u64, u64) {
        let kinds = self.kinds.values();
        kinds.fold((0, 0), |sum, k| (sum.0 + k.1, sum.1 + k.2))
    }
    /// What went otherwise than meant. Kinds that were tried fewer than `tries` times prove nothing.
    pub fn check(&self, tries: u64) -> Vec<String> {
        let mut wrong = Vec::new();
        for (kind, (expect, done, failed, why)) in &self.kinds {
            match expect {
                Some(Expect::Done) if *done == 0 && *failed >= tries => {
                    wrong.push(format!("{kind:?} never succeeded: {why}"));
                }
                Some(Expect::Fails | Expect::Denied) if *done > 0 => {
                    wrong.push(format!("{kind:?} succeeded {done} times"));
                }
                _ => {}
            }
        }
        wrong
    }
    /// For people.
    pub fn table(&self) -> String {
        let line = |(kind, (_, done, failed, _)): (&&str, &(_, u64, u64, String))| {
            format!("  {kind}: {done} done, {failed} failed\n")
        };
        self.kinds.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests;
