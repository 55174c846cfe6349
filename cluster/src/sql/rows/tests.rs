use super::*;

const ALL: Caps = Caps {
    rows: 100,
    bytes: 1 << 20,
};

fn rows(sql: &str, caps: Caps) -> Rows {
    crate::sql::raw::register().unwrap();
    let conn = rusqlite::Connection::open_in_memory().unwrap();
    let mut statement = conn.prepare(sql).unwrap();
    collect(&mut statement, caps).unwrap()
}

fn json(rows: &Rows) -> &str {
    let text = std::str::from_utf8(&rows.json).unwrap();
    let read: serde_json::Value = serde_json::from_str(text).unwrap();
    assert_eq!(read.as_array().unwrap().len() as u64, rows.count);
    text
}

#[test]
fn writes_rows_as_objects() {
    let answer = rows(
        "SELECT 1 AS a, 'x' AS \"b\"\"c\", NULL AS d, x'00ff' AS e, 0.5 AS f
         UNION ALL SELECT 9223372036854775807, '', -9223372036854775808, x'', -1e999",
        ALL,
    );
    assert_eq!(
        json(&answer),
        "[{\"a\":1,\"b\\\"c\":\"x\",\"d\":null,\"e\":\"AP8=\",\"f\":0.5},\
         {\"a\":9223372036854775807,\"b\\\"c\":\"\",\"d\":-9223372036854775808,\"e\":\"\",\
         \"f\":\"-Infinity\"}]"
    );
    assert_eq!(answer.columns, ["a", "b\"c", "d", "e", "f"]);
    assert!(!answer.cut);
    let none = rows("SELECT 1 AS a, 2 AS a WHERE 0", ALL);
    assert_eq!(json(&none), "[]");
    assert_eq!(none.columns, ["a", "a:1"]);
}

#[test]
fn equal_names_get_numbers() {
    let names = |sql| rows(sql, ALL).columns;
    assert_eq!(names("SELECT 1 a, 2 a, 3 a"), ["a", "a:1", "a:2"]);
    assert_eq!(
        names("SELECT 1 a, 2 a, 3 \"a:1\", 4 a, 5 \"a:1\""),
        ["a", "a:2", "a:1", "a:3", "a:1:1"]
    );
    let many: Vec<String> = (0..2000).map(|_| "1 a".to_owned()).collect();
    let columns = names(&format!("SELECT {}", many.join(",")));
    assert_eq!(columns[1999], "a:1999");
}

#[test]
fn cuts_at_its_caps_and_stops() {
    // Without an end: it returns only because it is not stepped further.
    let endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c";
    let caps = |rows, bytes| Caps { rows, bytes };
    let answer = rows(endless, caps(3, 1 << 20));
    assert_eq!(json(&answer), r#"[{"x":1},{"x":2},{"x":3}]"#);
    assert!(answer.cut);
    for bytes in 0..64 {
        let answer = rows(endless, caps(1000, bytes));
        json(&answer);
        assert!(answer.cut);
        assert!(answer.json.len() <= bytes.max(2), "{bytes}");
        // As many as fit beside the name.
        let left = bytes.saturating_sub(NAME_BYTES + 1);
        let count = answer.count as usize;
        assert_eq!(count, left.saturating_sub(1) / 8, "{bytes}");
        assert_eq!(answer.columns.is_empty(), bytes <= NAME_BYTES, "{bytes}");
    }
    let exact = rows(
        "SELECT 1 AS x UNION ALL SELECT 2",
        caps(2, 17 + NAME_BYTES + 1),
    );
    assert_eq!(json(&exact), r#"[{"x":1},{"x":2}]"#);
    assert!(!exact.cut);
}

#[test]
fn names_of_columns_count_also_without_a_row() {
    let names: Vec<String> = (0..2000)
        .map(|n| format!("{n} AS {}{n}", "x".repeat(100)))
        .collect();
    let caps = |bytes| Caps { rows: 10, bytes };
    for end in ["", " WHERE 0"] {
        let sql = format!("SELECT {}{end}", names.join(","));
        let answer = rows(&sql, caps(200_000));
        assert_eq!(json(&answer), "[]");
        assert!(answer.cut && answer.columns.is_empty(), "{end}");
        let answer = rows(&sql, caps(1 << 20));
        assert!(!answer.cut && answer.columns.len() == 2000);
        assert!(bytes_of(&answer) > 200_000);
    }
}

#[test]
fn one_row_cannot_be_larger_than_the_cap() {
    let big = "SELECT printf('%.*c', 900000, 'x') AS a, printf('%.*c', 900000, 'x') AS b";
    let answer = rows(
        big,
        Caps {
            rows: 10,
            bytes: 1_000_000,
        },
    );
    assert_eq!(json(&answer), "[]");
    assert!(answer.cut);
    assert!(answer.json.capacity() < 4_000_000);
}
