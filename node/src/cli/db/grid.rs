//! Rows for people: aligned columns, numbers to the right, `NULL` said, values on one
//! line and cut, so that a line fits the terminal and a long value does not widen all rows.

use std::io::IsTerminal;

use serde_json::value::RawValue;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::answer::{Row, Text};
use crate::cli::output::deceives;

/// Space between columns.
const GAP: usize = 2;
/// Widest value that is shown, also where there is no terminal.
pub(super) const CELL_MAX: usize = 1_000;
/// Columns are not cut below this.
const NARROW: usize = 8;
/// Stands where there is no value.
const NULL: &str = "NULL";
/// Stands where a value was cut.
const MORE: char = '…';

/// Rows to be shown.
pub(super) struct Grid {
    columns: Vec<String>,
    /// Whether all its values are numbers or NULL.
    numbers: Vec<bool>,
    rows: Vec<Vec<String>>,
}

impl Grid {
    /// Rows under these columns; without columns, under those of the first row.
    pub(super) fn of(columns: Vec<String>, rows: &[Row<'_>]) -> Self {
        let columns = match rows.first() {
            Some(Row(first)) if columns.is_empty() => {
                first.iter().map(|(name, _)| name.to_string()).collect()
            }
            _ => columns,
        };
        let mut numbers = vec![true; columns.len()];
        let cell = |(index, name): (usize, &String), row: &Row<'_>| {
            row.value(index, name).map_or((String::new(), false), shown)
        };
        let shown_rows: Vec<Vec<String>> = rows
            .iter()
            .map(|row| {
                let cells = columns.iter().enumerate().map(|at| {
                    let index = at.0;
                    let (text, number) = cell(at, row);
                    if let Some(all) = numbers.get_mut(index) {
                        *all &= number;
                    }
                    text
                });
                cells.collect()
            })
            .collect();
        if rows.is_empty() {
            numbers.fill(false);
        }
        Self {
            columns: columns.iter().map(|name| plain(name)).collect(),
            numbers,
            rows: shown_rows,
        }
    }

    /// Its lines; none without columns. Made one by one: each is as long as the longest.
    pub(super) fn render(&self, width: Option<usize>) -> impl Iterator<Item = String> {
        let mut widths: Vec<usize> = self.columns.iter().map(|c| c.width()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.width());
            }
        }
        if let Some(width) = width {
            fit(&mut widths, width);
        }
        let rule: Vec<String> = widths.iter().map(|w| "-".repeat(*w)).collect();
        let head = (!self.columns.is_empty())
            .then(|| [self.line(&self.columns, &widths), self.line(&rule, &widths)]);
        let rows = if head.is_some() { &self.rows[..] } else { &[] };
        head.into_iter()
            .flatten()
            .chain(rows.iter().map(move |row| self.line(row, &widths)))
    }

    fn line(&self, cells: &[String], widths: &[usize]) -> String {
        let mut line = String::new();
        for ((cell, width), number) in cells.iter().zip(widths).zip(&self.numbers) {
            let cell = cut(cell, *width);
            let pad = width.saturating_sub(cell.width());
            let (before, after) = if *number { (pad, 0) } else { (0, pad) };
            line.extend(std::iter::repeat_n(' ', before));
            line.push_str(&cell);
            line.extend(std::iter::repeat_n(' ', after + GAP));
        }
        line.truncate(line.trim_end().len());
        line
    }
}

/// Makes the widest columns narrower until they fit.
fn fit(widths: &mut [usize], total: usize) {
    let room = total.saturating_sub(GAP * widths.len().saturating_sub(1));
    let used = |cap: usize| -> usize { widths.iter().map(|w| (*w).min(cap)).sum() };
    let widest = widths.iter().copied().max().unwrap_or(0);
    if used(widest) <= room {
        return;
    }
    // The largest width that fits; used() grows with it.
    let (mut low, mut high) = (NARROW.min(widest), widest);
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if used(middle) <= room {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    for width in widths {
        *width = (*width).min(low);
    }
}

/// At most so many columns of the screen.
fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut shown = String::new();
    let mut used = 1;
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used > width {
            break;
        }
        shown.push(c);
    }
    shown.push(MORE);
    shown
}

/// A value, and whether it may stand in a column of numbers.
fn shown(value: &RawValue) -> (String, bool) {
    let json = value.get();
    match json.as_bytes().first() {
        Some(b'n') => (NULL.into(), true),
        Some(b'"') => match serde_json::from_str::<Text<'_>>(json) {
            // With quotes, as SQL writes it, what would be taken for no value at all.
            Ok(Text(text)) if text.trim_matches('\'') == NULL => {
                (format!("'{}'", text.replace('\'', "''")), false)
            }
            Ok(Text(text)) => (plain(&text), false),
            Err(_) => (plain(json), false),
        },
        _ => (plain(json), true),
    }
}

/// On one line, without anything a terminal obeys, and no longer than is shown.
fn plain(text: &str) -> String {
    let mut shown = String::new();
    let mut used = 0;
    for c in text.chars() {
        // Marks that combine have no width, and there may be any number of them.
        used += c.width().unwrap_or(0).max(1);
        if used > CELL_MAX {
            shown.push(MORE);
            break;
        }
        if deceives(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Columns of the terminal that stdout is; none when it is none.
pub(super) fn terminal_width() -> Option<usize> {
    let stdout = std::io::stdout();
    if !stdout.is_terminal() {
        return None;
    }
    rustix::termios::tcgetwinsize(&stdout)
        .ok()
        .map(|size| usize::from(size.ws_col))
        .filter(|columns| *columns > 0)
}

#[cfg(test)]
mod tests {
    use super::super::answer::Items;
    use super::*;

    fn lines(json: &str, width: Option<usize>) -> Vec<String> {
        let items: Items<'_> = serde_json::from_str(json).unwrap();
        let grid = Grid::of(items.columns, &items.items);
        grid.render(width).collect()
    }

    #[test]
    fn columns_keep_their_order_and_numbers_stand_right() {
        let json = r#"{"items":[{"z":1,"a":"x\ny","n":null},{"z":9223372036854775807,"a":null,"n":1.0}],
            "columns":["z","a","n"]}"#;
        assert_eq!(
            lines(json, None),
            [
                "                  z  a        n",
                "-------------------  ----  ----",
                "                  1  x\\ny  NULL",
                "9223372036854775807  NULL   1.0",
            ]
        );
        // Without the columns said, those of the first row.
        assert_eq!(
            lines(r#"{"items":[{"b":"1","a":2}]}"#, None),
            ["b  a", "-  -", "1  2"]
        );
        assert_eq!(lines(r#"{"items":[]}"#, None), [""; 0]);
        assert_eq!(
            lines(r#"{"items":[],"columns":["a","b"]}"#, None),
            ["a  b", "-  -"]
        );
    }

    #[test]
    fn long_values_are_cut_to_the_terminal() {
        let json = format!(
            r#"{{"items":[{{"id":1,"t":"{}","u":"{}"}}]}}"#,
            "日本".repeat(40),
            "x".repeat(12)
        );
        let shown = lines(&json, Some(40));
        for line in &shown {
            assert!(line.width() <= 40, "{line}");
        }
        // The short column stays whole, the long one says that there is more.
        assert!(shown[2].ends_with(&"x".repeat(12)), "{shown:?}");
        assert!(shown[2].contains('…'), "{shown:?}");
        assert!(!lines(&json, None)[2].contains('…'));
        // Many columns: no narrower than can be read.
        let many: Vec<String> = (0..20)
            .map(|n| format!("\"c{n}\":\"{}\"", "y".repeat(30)))
            .collect();
        let shown = lines(
            &format!(r#"{{"items":[{{{}}}]}}"#, many.join(",")),
            Some(40),
        );
        assert!(shown[2].starts_with("yyyyyyy…  yyyyyyy…"), "{}", shown[2]);
    }

    #[test]
    fn terminal_controls_are_not_obeyed() {
        let shown = lines(r#"{"items":[{"a\u202eb":"\u001b[2J"}]}"#, None);
        assert_eq!(shown[0], "a\\u{202e}b");
        assert_eq!(shown[2], "\\u{1b}[2J");
        // Not even a line end makes a line of its own.
        let shown = lines(r#"{"items":[{"a":"x\n1  root\t\u2028y"}]}"#, None);
        assert_eq!(shown.len(), 3);
        assert_eq!(shown[2], "x\\n1  root\\t\\u{2028}y");
    }

    #[test]
    fn no_value_is_not_the_text_null() {
        let json = r#"{"items":[{"a":null},{"a":"NULL"},{"a":"'NULL'"},{"a":"null"},{"a":""}]}"#;
        assert_eq!(
            lines(json, None)[2..],
            ["NULL", "'NULL'", "'''NULL'''", "null", ""]
        );
    }

    #[test]
    fn columns_align_on_the_screen() {
        let json = r#"{"items":[{"a":"日本","b":1},{"a":"e\u0301","b":22},{"a":"abcd","b":3}]}"#;
        assert_eq!(
            lines(json, None),
            [
                "a      b",
                "----  --",
                "日本   1",
                "e\u{301}     22",
                "abcd   3"
            ]
        );
    }

    #[test]
    fn a_long_value_does_not_make_all_rows_long() {
        let json = format!(
            r#"{{"items":[{{"a":"{}","b":1}},{{"a":"{}","b":2}}]}}"#,
            "x".repeat(1 << 20),
            "\u{301}".repeat(1 << 18)
        );
        for line in lines(&json, None) {
            assert!(line.len() < 4 * CELL_MAX, "{}", line.len());
        }
        assert!(lines(&json, None)[2].contains("x…  1"));
    }
}
