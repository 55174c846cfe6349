//! The schema, and statements without arguments.

use super::Expect;

/// What every run begins with, one statement each.
pub const SCHEMA: &[&str] = &[
    "CREATE TABLE people(
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL,
        born TEXT DEFAULT CURRENT_TIMESTAMP,
        day TEXT DEFAULT CURRENT_DATE,
        lucky INTEGER DEFAULT (random()),
        token TEXT DEFAULT (hex(randomblob(8))),
        julian REAL DEFAULT (julianday('now')),
        score REAL DEFAULT 0 CHECK (score > -1000),
        shout TEXT GENERATED ALWAYS AS (upper(name) || '!') STORED,
        size INTEGER GENERATED ALWAYS AS (length(name)) VIRTUAL)",
    "CREATE UNIQUE INDEX people_name ON people(name)",
    "CREATE INDEX people_score ON people(score) WHERE score > 10",
    "CREATE INDEX people_shout ON people(shout COLLATE NOCASE, abs(score))",
    "CREATE TABLE notes(
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        person INTEGER REFERENCES people(id) ON DELETE CASCADE,
        body TEXT CHECK (length(body) < 4000),
        at INTEGER DEFAULT (unixepoch()),
        r BLOB DEFAULT (randomblob(4)))",
    "CREATE TABLE audit(
        seq INTEGER PRIMARY KEY,
        what TEXT,
        at TEXT DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now')),
        dice INTEGER DEFAULT (abs(random() % 6)))",
    "CREATE TABLE pairs(a TEXT, b INTEGER, c, PRIMARY KEY (a, b)) WITHOUT ROWID",
    "CREATE TABLE chance(id INTEGER PRIMARY KEY, v INTEGER CHECK (random() % 5 <> 0))",
    "CREATE TABLE strict_(id INTEGER PRIMARY KEY, n INTEGER NOT NULL) STRICT",
    "CREATE TABLE moments(a, b, c, d, e, f)",
    "CREATE TABLE full_(id INTEGER PRIMARY KEY, v)",
    "CREATE VIEW recent AS
        SELECT name, datetime('now') AS seen, random() AS r FROM people ORDER BY random() LIMIT 5",
    "CREATE TRIGGER people_added AFTER INSERT ON people BEGIN
        INSERT INTO audit(what) VALUES ('+' || new.name || ' ' || random() || ' ' || datetime('now'));
     END",
    "CREATE TRIGGER people_scored AFTER UPDATE OF score ON people WHEN new.score > 400 BEGIN
        UPDATE people SET score = new.score / 3, token = hex(randomblob(4)) WHERE id = new.id;
        INSERT INTO audit(what) SELECT name FROM people ORDER BY random() LIMIT 1;
     END",
    "CREATE TRIGGER people_gone AFTER DELETE ON people BEGIN
        INSERT INTO audit(what) VALUES ('-' || old.name);
     END",
    "CREATE TRIGGER recent_insert INSTEAD OF INSERT ON recent BEGIN
        INSERT OR IGNORE INTO people(name) VALUES (new.name);
     END",
    "CREATE TRIGGER notes_guard BEFORE INSERT ON notes BEGIN
        SELECT CASE new.body
            WHEN 'raise rollback' THEN RAISE(ROLLBACK, 'rolled back')
            WHEN 'raise abort' THEN RAISE(ABORT, 'aborted')
            WHEN 'raise fail' THEN RAISE(FAIL, 'failed')
            WHEN 'raise ignore' THEN RAISE(IGNORE) END;
     END",
];

/// Nothing that a statement of kind [`Expect::Fails`] wrote may be there: these queries count 0.
pub const NOTHING_LEFT: &[&str] = &[
    "SELECT count(*) FROM pairs WHERE a LIKE 'undone%'",
    "SELECT count(*) FROM notes WHERE body LIKE 'raise%'",
    "SELECT count(*) FROM people WHERE score <= -1000",
    "SELECT count(*) FROM notes WHERE person IS NOT NULL AND person NOT IN (SELECT id FROM people)",
];

/// Statements without arguments: kind, how they may end, text.
pub(super) const FIXED: &[(&str, Expect, &str)] = {
    use Expect::{Any, Denied, Done, Fails};
    &[
        (
            "insert … select … order by random()",
            Done,
            "INSERT OR IGNORE INTO pairs(a, b, c) SELECT name, abs(random() % 1000), randomblob(3) FROM people ORDER BY random() LIMIT 7",
        ),
        (
            "a note to somebody drawn",
            Done,
            "INSERT INTO notes(person, body) SELECT id, name || hex(randomblob(2)) FROM people ORDER BY random() LIMIT 1",
        ),
        (
            "update with a subquery on random()",
            Done,
            "UPDATE people SET score = (abs(random()) % 500) / 7.0 WHERE id IN (SELECT id FROM people ORDER BY random() LIMIT 3)",
        ),
        (
            "update from",
            Done,
            "UPDATE people SET score = x.s FROM (SELECT id, random() % 900 AS s FROM people ORDER BY random() LIMIT 2) AS x WHERE people.id = x.id",
        ),
        (
            "delete with a subquery on random()",
            Done,
            "DELETE FROM notes WHERE id IN (SELECT id FROM notes ORDER BY random() LIMIT 2)",
        ),
        (
            "delete that cascades",
            Done,
            "DELETE FROM people WHERE id = (SELECT id FROM people ORDER BY random() LIMIT 1)",
        ),
        (
            "every now",
            Done,
            "INSERT INTO moments VALUES (CURRENT_TIMESTAMP, CURRENT_TIME || ' ' || CURRENT_DATE, julianday(), unixepoch('subsec'), timediff('now', '2020-01-01'), strftime('%J %s %f', 'now', '+1 month'))",
        ),
        (
            "insert from a view that draws",
            Done,
            "INSERT INTO audit(what) SELECT name || ' ' || seen || ' ' || r FROM recent",
        ),
        (
            "recursion",
            Done,
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 12) INSERT INTO audit(what, dice) SELECT i, random() FROM n",
        ),
        (
            "window over random()",
            Done,
            "INSERT INTO audit(what, dice) SELECT name, row_number() OVER (ORDER BY random()) FROM people LIMIT 5",
        ),
        (
            "group_concat",
            Done,
            "INSERT INTO audit(what) SELECT group_concat(name, ',') FROM (SELECT name FROM people ORDER BY random() LIMIT 4)",
        ),
        (
            "sums of reals",
            Done,
            "INSERT INTO audit(what) SELECT printf('%.17g %s', sum(score / 3), avg(score)) FROM people",
        ),
        (
            "a chance to fail",
            Done,
            "INSERT INTO chance(v) VALUES (abs(random() % 100))",
        ),
        (
            "connection state",
            Any,
            "INSERT INTO audit(what, dice) VALUES ('last ' || changes(), last_insert_rowid())",
        ),
        (
            "connection totals",
            Any,
            "INSERT INTO audit(what) VALUES ('total ' || total_changes())",
        ),
        (
            "local time",
            Any,
            "INSERT INTO audit(what) VALUES (datetime('now', 'localtime') || datetime('now', 'utc'))",
        ),
        (
            "version",
            Any,
            "INSERT INTO audit(what) VALUES (sqlite_version() || sqlite_source_id())",
        ),
        (
            "largest rowid",
            Any,
            "INSERT OR IGNORE INTO full_(id, v) VALUES (9223372036854775807, 'last')",
        ),
        (
            "rowid after the largest",
            Any,
            "INSERT INTO full_(v) VALUES (random())",
        ),
        ("sequence", Any, "UPDATE sqlite_sequence SET seq = seq + 3"),
        ("analyze", Done, "ANALYZE"),
        ("reindex", Done, "REINDEX"),
        (
            "shorten the audit",
            Done,
            "DELETE FROM audit WHERE seq < (SELECT max(seq) - 600 FROM audit)",
        ),
        (
            "insert or ignore of what is there",
            Done,
            "INSERT OR IGNORE INTO people(name) SELECT name FROM people ORDER BY random() LIMIT 3",
        ),
        (
            "raise ignore",
            Done,
            "INSERT INTO notes(body) VALUES ('raise ignore')",
        ),
        (
            "raise rollback",
            Fails,
            "INSERT INTO notes(body) VALUES ('raise rollback')",
        ),
        (
            "raise abort",
            Fails,
            "INSERT INTO notes(body) VALUES ('a'), ('raise abort')",
        ),
        (
            "raise fail after a row",
            Fails,
            "INSERT INTO notes(body) VALUES ('raised'), ('raise fail')",
        ),
        (
            "or rollback",
            Fails,
            "INSERT OR ROLLBACK INTO pairs VALUES ('undone rollback', 1, 0), ('undone rollback', 1, 0)",
        ),
        (
            "or fail after a row",
            Fails,
            "INSERT OR FAIL INTO pairs VALUES ('undone fail', 1, 0), ('undone fail', 1, 0)",
        ),
        (
            "or abort",
            Fails,
            "INSERT OR ABORT INTO pairs VALUES ('undone abort', 1, 0), ('undone abort', 1, 0)",
        ),
        (
            "check",
            Fails,
            "INSERT INTO people(name, score) VALUES ('undone', -5000)",
        ),
        (
            "foreign key",
            Fails,
            "INSERT INTO notes(person, body) VALUES (-1, 'undone')",
        ),
        ("not null", Fails, "INSERT INTO people(name) VALUES (NULL)"),
        (
            "strict type",
            Fails,
            "INSERT INTO strict_(n) VALUES ('no number')",
        ),
        ("no such table", Fails, "INSERT INTO nowhere VALUES (1)"),
        ("no SQL", Fails, "INSRT INTO people VALUES (1)"),
        (
            "two statements",
            Denied,
            "INSERT INTO audit(what) VALUES ('one'); INSERT INTO audit(what) VALUES ('two')",
        ),
        (
            "no end",
            Fails,
            "INSERT INTO pairs(a, b) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT 'undone', max(i) FROM n",
        ),
        ("attach", Denied, "ATTACH ':memory:' AS other"),
        ("vacuum", Denied, "VACUUM"),
        ("the tenant's number", Done, "PRAGMA user_version = 7"),
        ("pragma", Denied, "PRAGMA recursive_triggers = ON"),
        ("begin", Denied, "BEGIN"),
        ("temporary table", Denied, "CREATE TEMP TABLE t(a)"),
        (
            "our own table",
            Fails,
            "UPDATE _orama_state SET applied = 0",
        ),
    ]
};
