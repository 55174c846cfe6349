//! What can be told of a statement of SQL from its text.

/// The first word of a statement, after comments.
pub(crate) fn first_word(sql: &str) -> &str {
    let mut rest = sql.trim_start();
    loop {
        let after = if let Some(comment) = rest.strip_prefix("--") {
            comment.split_once('\n').map_or("", |(_, after)| after)
        } else if let Some(comment) = rest.strip_prefix("/*") {
            comment.split_once("*/").map_or("", |(_, after)| after)
        } else {
            break;
        };
        rest = after.trim_start();
    }
    let end = rest
        .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .unwrap_or(rest.len());
    &rest[..end]
}

#[cfg(test)]
mod tests {
    use super::first_word;

    #[test]
    fn comments_come_before_the_first_word() {
        for (sql, word) in [
            ("SELECT 1", "SELECT"),
            (" \n-- INSERT\n/* UPDATE */ /**/with a", "with"),
            ("VALUES(1)", "VALUES"),
            ("(SELECT 1)", ""),
            ("-- nothing", ""),
            ("/* never ends", ""),
            ("", ""),
        ] {
            assert_eq!(first_word(sql), word, "{sql:?}");
        }
    }
}
