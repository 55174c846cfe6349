//! Ours answer what SQLite's answer, and in time.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use rusqlite::types::Value;

use super::super::meter;
use super::*;

/// SQLite's own functions, and ours.
fn both() -> (Connection, Connection) {
    super::super::raw::register().unwrap();
    let open = || {
        let sqlite = Connection::open_in_memory().unwrap();
        let limit = rusqlite::limits::Limit::SQLITE_LIMIT_LENGTH;
        sqlite.set_limit(limit, LENGTH_MAX as i32).unwrap();
        sqlite
    };
    let (plain, own) = (open(), open());
    install(&own, &Arc::default()).unwrap();
    (plain, own)
}

/// A value as `quote` shows it, its type, or what it failed of.
fn answer(sqlite: &Connection, sql: &str, args: &[Value]) -> Result<String, String> {
    sqlite
        .prepare_cached(sql)
        .and_then(|mut statement| {
            statement.query_row(rusqlite::params_from_iter(args), |row| row.get(0))
        })
        .map_err(|error| error.to_string())
}

/// `{}` are the arguments; those marked are made a TEXT of their bytes.
fn compare(own: &(Connection, Connection), name: &str, args: &[(Value, bool)]) {
    let shown: Vec<String> = args
        .iter()
        .enumerate()
        .map(|(at, (_, text))| match text {
            true => format!("CAST(?{} AS TEXT)", at + 1),
            false => format!("?{}", at + 1),
        })
        .collect();
    let call = format!("{name}({})", shown.join(", "));
    let sql = format!(
        "SELECT typeof({call}) || ' ' || hex({call}) || ' ' || json_array(iif(typeof({call}) = 'blob', 1, {call}))"
    );
    let sql = match name.starts_with("json") {
        true => sql,
        false => format!("SELECT typeof({call}) || ' ' || hex({call})"),
    };
    let values: Vec<Value> = args.iter().map(|(value, _)| value.clone()).collect();
    assert_eq!(
        answer(&own.1, &sql, &values),
        answer(&own.0, &sql, &values),
        "{call} of {values:?}"
    );
}

/// Bytes of few kinds, so that patterns and characters meet: letters, spaces, NUL, parts of characters.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => Just(b"a".to_vec()),
        3 => Just(b"b".to_vec()),
        2 => Just(b" ".to_vec()),
        2 => Just("é".as_bytes().to_vec()),
        2 => Just("€".as_bytes().to_vec()),
        1 => Just(vec![0xc3]),
        1 => Just(vec![0xa9]),
        1 => Just(vec![0x80]),
        1 => Just(vec![0xff]),
        1 => Just(vec![0]),
        1 => Just(b"4".to_vec()),
        1 => any::<u8>().prop_map(|byte| vec![byte]),
    ];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

fn argument() -> impl Strategy<Value = (Value, bool)> {
    prop_oneof![
        8 => bytes().prop_map(|bytes| (Value::Blob(bytes), true)),
        2 => bytes().prop_map(|bytes| (Value::Blob(bytes), false)),
        1 => Just((Value::Null, false)),
        1 => (-20i64..200).prop_map(|number| (Value::Integer(number), false)),
        1 => prop_oneof![Just(1.5), Just(1e300), Just(-0.0), Just(4.0), Just(f64::INFINITY)]
            .prop_map(|number| (Value::Real(number), false)),
    ]
}

/// Documents, well formed or nearly.
fn document() -> impl Strategy<Value = (Value, bool)> {
    let leaf = prop_oneof![
        Just("1".to_owned()),
        Just("null".to_owned()),
        Just("-1.50e3".to_owned()),
        Just("0x1F".to_owned()),
        Just("'x,]'".to_owned()),
        Just(r#""a\"[{,:é\u0041""#.to_owned()),
        Just("[]".to_owned()),
        Just("{}".to_owned()),
        Just("{".to_owned()),
    ];
    let tree = leaf.prop_recursive(4, 20, 4, |inner| {
        let key = prop_oneof![Just("a"), Just("b"), Just("'b'"), Just("\"\\u0061\"")];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4)
                .prop_map(|items| format!("[{}]", items.join(" , "))),
            proptest::collection::vec((key, inner), 0..4).prop_map(|members| {
                let members: Vec<String> = members
                    .iter()
                    .map(|(key, value)| format!("{key}:{value}"))
                    .collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    });
    prop_oneof![
        9 => tree.prop_map(|text| (Value::Text(text), false)),
        1 => argument(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn texts_are_answered_as_by_sqlite(
        calls in proptest::collection::vec((argument(), argument(), argument()), 40)
    ) {
        let own = both();
        for (a, b, c) in calls {
            compare(&own, "instr", &[a.clone(), b.clone()]);
            compare(&own, "replace", &[a.clone(), b.clone(), c]);
            compare(&own, "unhex", &[a.clone(), b.clone()]);
            for name in ["trim", "ltrim", "rtrim"] {
                compare(&own, name, &[a.clone(), b.clone()]);
                compare(&own, name, std::slice::from_ref(&a));
            }
        }
    }

    #[test]
    fn documents_are_answered_as_by_sqlite(
        calls in proptest::collection::vec((document(), document(), argument()), 20)
    ) {
        let own = both();
        for (a, b, c) in calls {
            compare(&own, "json_patch", &[a.clone(), b.clone()]);
            compare(&own, "jsonb_patch", &[a.clone(), b]);
            compare(&own, "json_pretty", std::slice::from_ref(&a));
            compare(&own, "json_pretty", &[a, c]);
        }
    }
}

#[test]
fn hexadecimal_with_other_characters_between() {
    let own = both();
    for (hex, pass) in [
        ("4a-4B", "-"),
        ("4 a", " "),
        ("é4aé", "é"),
        ("4a4", ""),
        ("4a\0zz", ""),
        ("--", "-"),
        ("", ""),
    ] {
        let text = |text: &str| (Value::Text(text.to_owned()), false);
        compare(&own, "unhex", &[text(hex), text(pass)]);
    }
}

#[test]
fn json_stays_json() {
    let own = both();
    for sql in [
        "SELECT json_array(json_patch('{\"a\":1}', '{\"b\":2}'))",
        "SELECT json_array(json_pretty('[1]'))",
        "SELECT json_array(json_patch(NULL, '{}'))",
        "SELECT json(jsonb_patch(jsonb('{\"a\":1}'), jsonb('{\"a\":{\"c\":null}}')))",
        "SELECT json_pretty(jsonb('{\"a\":[1,{}]}'), 5)",
    ] {
        assert_eq!(answer(&own.1, sql, &[]), answer(&own.0, sql, &[]), "{sql}");
    }
}

/// Each of these took SQLite minutes, or gigabytes.
#[test]
fn hostile_calls_end() {
    let (_, own) = both();
    let long = |piece: &str, bytes: usize| Value::Text(piece.repeat(bytes / piece.len()));
    let members = |name: &str| {
        let members: Vec<String> = (0..40_000).map(|n| format!("\"{name}{n}\":1")).collect();
        Value::Text(format!("{{{}}}", members.join(",")))
    };
    // Characters that begin alike, each a byte shorter than the one before.
    let ragged: Vec<u8> = (0..1300)
        .rev()
        .flat_map(|n| std::iter::once(0xc3).chain(std::iter::repeat_n(0x80, n)))
        .collect();
    let begin = Instant::now();
    for (sql, args, expected) in [
        (
            "instr(?1, ?2 || 'b')",
            vec![long("a", 1_000_000), long("a", 500_000)],
            Ok("0"),
        ),
        (
            "length(replace(?1, ?2 || 'b', ''))",
            vec![long("a", 1_000_000), long("a", 500_000)],
            Ok("1000000"),
        ),
        (
            "length(replace(?1, 'a', ?1))",
            vec![long("a", 1_000_000)],
            Err("too big"),
        ),
        (
            "length(trim(?1, ?2 || 'a'))",
            vec![long("a", 1_000_000), long("é", 1_000_000)],
            Ok("0"),
        ),
        (
            "length(trim(CAST(?1 AS TEXT), CAST(?1 AS TEXT)))",
            vec![Value::Blob(ragged)],
            Ok("0"),
        ),
        (
            "length(unhex(?1, ?2 || '-'))",
            vec![long("-", 1_000_000), long("b", 1_000_000)],
            Ok("0"),
        ),
        (
            "length(json_patch(?1, ?2))",
            vec![members("a"), members("b")],
            Err("too long"),
        ),
        (
            "length(json_pretty(?1 || ?2 || '1' || replace(?1, '[', ']')))",
            vec![long("[", 990), long("1,", 900_000)],
            Err("too big"),
        ),
        (
            "length(json_pretty('[[[[1,1]]]]', ?1))",
            vec![long(" ", 1_000_000)],
            Err("too big"),
        ),
    ] {
        meter::reset();
        let answered = answer(&own, &format!("SELECT CAST({sql} AS TEXT)"), &args);
        match expected {
            Ok(text) => assert_eq!(answered.as_deref(), Ok(text), "{sql}"),
            Err(part) => {
                let error = answered.unwrap_err();
                assert!(error.contains(part), "{sql}: {error}");
                continue;
            }
        }
        assert!(meter::take_steps() > 10_000, "{sql} is not noted as work");
    }
    assert!(
        begin.elapsed() < Duration::from_secs(60),
        "{:?}",
        begin.elapsed()
    );
}
