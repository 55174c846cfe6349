//! What the gateway answers, with the columns of a row in their order and
//! numbers as they came.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// A row: columns and values.
pub(super) struct Row<'a>(pub(super) Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Row<'a> {
    /// The value of a column, which is most often the one at its place.
    pub(super) fn value(&self, index: usize, name: &str) -> Option<&'a RawValue> {
        let at_place = self.0.get(index).filter(|(key, _)| key == name);
        let found = at_place.or_else(|| self.0.iter().find(|(key, _)| key == name));
        found.map(|(_, value)| *value)
    }
}

/// Answer of a query.
#[derive(Deserialize)]
pub(super) struct Items<'a> {
    #[serde(borrow)]
    pub(super) items: Vec<Row<'a>>,
    /// Absent from other gateways' answers.
    #[serde(default)]
    pub(super) columns: Vec<String>,
}

impl Items<'_> {
    /// Its columns; where they are not said, those of the first row.
    pub(super) fn columns(&self) -> Vec<String> {
        match self.items.first() {
            Some(Row(first)) if self.columns.is_empty() => {
                first.iter().map(|(name, _)| name.to_string()).collect()
            }
            _ => self.columns.clone(),
        }
    }
}

/// Answer of a statement that writes.
#[derive(Deserialize)]
pub(super) struct Effect<'a> {
    #[serde(default)]
    pub(super) rows_affected: u64,
    #[serde(default)]
    pub(super) last_insert_id: i64,
    #[serde(default, borrow)]
    pub(super) rows: Option<Vec<Row<'a>>>,
    #[serde(default)]
    pub(super) rows_cut: bool,
}

/// A text that is borrowed when it holds no escapes.
#[derive(Deserialize)]
pub(super) struct Text<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Row<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Row<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a row")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut row = Vec::new();
                while let Some((Text(key), value)) = map.next_entry::<Text<'de>, &RawValue>()? {
                    row.push((key, value));
                }
                Ok(Row(row))
            }
        }
        deserializer.deserialize_map(Object)
    }
}
