//! Rows as CSV (RFC 4180): all of every value, NULL as an empty field and an empty text as `""`.

use super::answer::{Items, Text};
use crate::cli::error::CliError;
use crate::cli::output::Output;

/// Writes a head line and the rows.
///
/// # Errors
/// As [`Output::line`].
pub(super) fn write(out: &mut Output, rows: &Items<'_>) -> Result<(), CliError> {
    let columns = rows.columns();
    if columns.is_empty() {
        return Ok(());
    }
    let head: Vec<String> = columns.iter().map(|name| field(name)).collect();
    out.raw(format!("{}\r\n", head.join(",")).as_bytes())?;
    for row in &rows.items {
        let mut line = String::new();
        for (index, name) in columns.iter().enumerate() {
            if index > 0 {
                line.push(',');
            }
            let json = row.value(index, name).map_or("null", |value| value.get());
            match serde_json::from_str::<Text<'_>>(json) {
                Ok(Text(text)) => line.push_str(&field(&text)),
                Err(_) if json == "null" => {}
                Err(_) => line.push_str(json),
            }
        }
        // One empty field would be an empty line.
        if line.is_empty() {
            line.push_str("\"\"");
        }
        line.push_str("\r\n");
        out.raw(line.as_bytes())?;
    }
    Ok(())
}

fn field(text: &str) -> String {
    let edges = text.starts_with(' ') || text.ends_with(' ');
    if text.is_empty() || edges || text.contains(['"', ',', '\r', '\n']) {
        return format!("\"{}\"", text.replace('"', "\"\""));
    }
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::harness::Shared;

    fn csv(json: &str) -> String {
        let (out, err) = (Shared::default(), Shared::default());
        let rows: Items<'_> = serde_json::from_str(json).unwrap();
        write(&mut Output::to(false, out.clone(), err), &rows).unwrap();
        out.text()
    }

    #[test]
    fn rows_are_quoted_where_they_must_be() {
        let long = "x".repeat(5000);
        let json = format!(
            r#"{{"items":[{{"a,b":1,"c":"say \"hi\"\n","d":null}},{{"a,b":1.50,"c":"","d":"{long}"}}],"columns":["a,b","c","d"]}}"#
        );
        assert_eq!(
            csv(&json),
            format!("\"a,b\",c,d\r\n1,\"say \"\"hi\"\"\n\",\r\n1.50,\"\",{long}\r\n")
        );
        assert_eq!(csv(r#"{"items":[{"a":null}]}"#), "a\r\n\"\"\r\n");
        assert_eq!(csv(r#"{"items":[],"columns":["a"]}"#), "a\r\n");
        assert_eq!(csv(r#"{"items":[]}"#), "");
    }
}
