//! Statements that are sent together as one transaction.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use orama_proto::limits::{SQL_BODY_MAX_BYTES, SQL_OPS_MAX};
use orama_proto::sql::{SqlOp, SqlValue};

/// Texts and values of one transaction, below the server's limit.
const BATCH_MAX_BYTES: usize = 900 << 10;
/// The same as JSON, where a character may take six bytes.
pub(super) const BATCH_MAX_JSON_BYTES: usize = SQL_BODY_MAX_BYTES - (64 << 10);

/// What the server counts for a value beside its bytes.
const VALUE_FRAME_BYTES: usize = 10;

/// Where a statement comes from, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Which of the statements that are imported, from 1.
    pub(super) number: usize,
    /// The line it begins in, from 1; an SQLite file has none.
    pub(super) line: Option<usize>,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line}"),
            None => write!(f, "statement {}", self.number),
        }
    }
}

/// Whether rows must have the rows that they refer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keys {
    Enforced,
    /// They may come in a later transaction.
    Off,
}

/// As the first of a transaction's statements it holds for all of them.
const KEYS_OFF: &str = r#"{"kind":"exec","sql":"PRAGMA foreign_keys=OFF"}"#;

/// A transaction under way.
#[derive(Debug)]
pub(super) struct Batch {
    /// `{"ops":[…` without its end.
    json: String,
    pub(super) places: Vec<Place>,
    bytes: usize,
    pub(super) keys: Keys,
}

impl Batch {
    pub(super) fn new(keys: Keys) -> Self {
        let (json, bytes) = match keys {
            Keys::Enforced => (String::new(), 0),
            Keys::Off => (KEYS_OFF.to_owned(), KEYS_OFF.len()),
        };
        Self {
            json: format!("{{\"ops\":[{json}"),
            places: Vec::new(),
            bytes,
            keys,
        }
    }

    /// Statements that are sent and come from no place of the file.
    pub(super) fn own_ops(&self) -> usize {
        match self.keys {
            Keys::Enforced => 0,
            Keys::Off => 1,
        }
    }

    /// Whether there is room for a statement; one alone always fits.
    pub(super) fn takes(&self, json: &str, bytes: usize) -> bool {
        self.places.is_empty()
            || (self.own_ops() + self.places.len() < SQL_OPS_MAX
                && self.bytes + bytes <= BATCH_MAX_BYTES
                && self.json.len() + json.len() < BATCH_MAX_JSON_BYTES)
    }

    pub(super) fn push(&mut self, json: &str, bytes: usize, place: Place) {
        if self.own_ops() + self.places.len() > 0 {
            self.json.push(',');
        }
        self.json.push_str(json);
        self.bytes += bytes;
        self.places.push(place);
    }

    pub(super) fn into_body(mut self) -> Vec<u8> {
        self.json.push_str("]}");
        self.json.into_bytes()
    }
}

/// A statement as JSON, and the bytes of its text and values as the server counts them.
pub(super) fn encoded(op: &SqlOp) -> (String, usize) {
    let mut json = format!(
        "{{\"kind\":\"exec\",\"sql\":{}",
        serde_json::Value::from(op.sql.as_str())
    );
    let mut bytes = op.sql.len();
    if !op.args.is_empty() {
        let args: Vec<String> = op.args.iter().map(|arg| value(arg, &mut bytes)).collect();
        json.push_str(&format!(",\"args\":[{}]", args.join(",")));
    }
    json.push('}');
    (json, bytes)
}

fn value(value: &SqlValue, bytes: &mut usize) -> String {
    *bytes += VALUE_FRAME_BYTES;
    match value {
        SqlValue::Null => "null".into(),
        SqlValue::Integer(whole) => whole.to_string(),
        // With a point or an exponent: without one it would be an integer.
        SqlValue::Real(real) => format!("{real:?}"),
        SqlValue::Text(text) => {
            *bytes += text.len();
            serde_json::Value::from(text.as_str()).to_string()
        }
        SqlValue::Blob(blob) => {
            *bytes += blob.len();
            format!("{{\"blob\":\"{}\"}}", STANDARD.encode(blob))
        }
    }
}

#[cfg(test)]
mod tests {
    use orama_proto::sql::OpKind;

    use super::*;

    fn at(number: usize) -> Place {
        Place { number, line: None }
    }

    #[test]
    fn values_stay_exact_in_json() {
        let op = SqlOp {
            kind: OpKind::Exec,
            sql: "I \"n\"".into(),
            args: vec![
                SqlValue::Null,
                SqlValue::Integer(i64::MIN),
                SqlValue::Real(1.0),
                SqlValue::Real(1e300),
                SqlValue::Text("é\n".into()),
                SqlValue::Blob(vec![0, 255]),
            ],
        };
        let (json, bytes) = encoded(&op);
        assert_eq!(
            json,
            r#"{"kind":"exec","sql":"I \"n\"","args":[null,-9223372036854775808,1.0,1e300,"é\n",{"blob":"AP8="}]}"#
        );
        assert_eq!(bytes, 5 + 6 * 10 + 3 + 2);
    }

    #[test]
    fn transactions_have_limits() {
        let mut batch = Batch::new(Keys::Enforced);
        assert!(batch.takes(&"x".repeat(5 << 20), 5 << 20), "one alone");
        for n in 0..SQL_OPS_MAX {
            assert!(batch.takes("{}", 10));
            batch.push("{}", 10, at(n));
        }
        assert!(!batch.takes("{}", 10));
        let mut batch = Batch::new(Keys::Enforced);
        batch.push("{}", BATCH_MAX_BYTES - 10, at(1));
        assert!(batch.takes("{}", 10) && !batch.takes("{}", 11));
        assert!(!batch.takes(&"\\u0000".repeat(700_000), 10));
        batch.push("{}", 1, at(2));
        assert_eq!(batch.into_body(), b"{\"ops\":[{},{}]}");
    }

    #[test]
    fn foreign_keys_are_turned_off_first() {
        let mut batch = Batch::new(Keys::Off);
        for n in 1..SQL_OPS_MAX {
            assert!(batch.takes("{}", 10));
            batch.push("{}", 10, at(n));
        }
        assert!(!batch.takes("{}", 10));
        let mut batch = Batch::new(Keys::Off);
        batch.push("{}", 1, at(1));
        let body = String::from_utf8(batch.into_body()).unwrap();
        assert_eq!(body, format!("{{\"ops\":[{KEYS_OFF},{{}}]}}"));
    }
}
