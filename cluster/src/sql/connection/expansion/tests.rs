//! Never too low, and not too high for what people write.

use super::*;

fn views(texts: &[(&str, &str)]) -> Views {
    let own = |(name, text): &(&str, &str)| ((*name).to_owned(), (*text).to_owned());
    Views::new(&texts.iter().map(own).collect::<Vec<_>>())
}

#[test]
fn each_name_of_a_view_counts_as_its_text() {
    let one = "CREATE VIEW one AS SELECT 1";
    let two = "CREATE VIEW Two AS SELECT * FROM one, 'ONE' -- one";
    let odd = "CREATE VIEW x AS SELECT [two].a FROM main.[two]";
    let views = views(&[("one", one), ("Two", two), ("odd \"]", odd)]);
    let weight = |sql: &str| views.expanded(sql) as usize - sql.len();
    // The name in a view's own text copies nothing.
    assert_eq!(weight("SELECT * FROM one"), one.len());
    assert_eq!(weight("SELECT one.a FROM main . one"), one.len());
    let two = two.len() + 2 * one.len();
    assert_eq!(weight("SELECT * FROM \"Two\" /* two */"), two);
    assert_eq!(weight("SELECT * FROM \"odd \"\"]\""), odd.len() + two);
    assert_eq!(weight("SELECT three, oneone, 1one FROM x"), 0);
}

#[test]
fn views_and_definitions_that_double_grow_beyond_the_bound() {
    let texts: Vec<(String, String)> = (1..3000)
        .map(|n| {
            let text = format!(
                "CREATE VIEW v{n} AS SELECT * FROM v{} a, v{} b",
                n - 1,
                n - 1
            );
            (format!("v{n}"), text)
        })
        .collect();
    let views = Views::new(&texts);
    assert!(views.expanded("SELECT * FROM v10") < EXPANDED_MAX);
    assert!(views.expanded("SELECT * FROM v20") > EXPANDED_MAX);
    assert_eq!(views.expanded("SELECT * FROM v2999"), u64::MAX);

    let chain = |length: usize| {
        let links: Vec<String> = (1..length)
            .map(|n| {
                format!(
                    "c{n}(x) AS NOT MATERIALIZED (SELECT x FROM c{} UNION SELECT x FROM c{})",
                    n - 1,
                    n - 1
                )
            })
            .collect();
        format!(
            "WITH c0 AS (SELECT 1 x), {} SELECT * FROM c{}",
            links.join(", "),
            length - 1
        )
    };
    assert!(Views::default().expanded(&chain(10)) < EXPANDED_MAX);
    assert!(Views::default().expanded(&chain(30)) > EXPANDED_MAX);
    let recursive =
        "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT * FROM c";
    assert!(Views::default().expanded(recursive) < 1000);
}

#[test]
fn generated_columns_count_where_they_are_named() {
    for between in ["", "INT", "DECIMAL(10, 2) GENERATED ALWAYS"] {
        let table = |columns: usize| {
            let columns: Vec<String> = (1..columns)
                .map(|n| format!("g{n} {between} AS (g{} + g{}) STORED", n - 1, n - 1))
                .collect();
            format!(
                "CREATE TABLE t (g0 INT CHECK (g0 > 1), {})",
                columns.join(", ")
            )
        };
        assert!(Views::default().expanded(&table(5)) < 10_000);
        assert!(Views::default().expanded(&table(40)) > EXPANDED_MAX);
    }
}

#[test]
fn texts_that_are_no_sql_are_looked_at_too() {
    for piece in [
        "a AS (",
        "(",
        ")",
        "'",
        "\"",
        "[",
        "/*",
        "--",
        "a(",
        "as",
        "\0",
        "é",
        "1.",
        "a AS (b) (",
    ] {
        for times in [1, 2, 40_000] {
            let text = piece.repeat(times);
            views(&[("a", &text)]).expanded(&text);
        }
    }
}
