//! Tables for people: columns as wide as their widest cell on the screen.

use unicode_width::UnicodeWidthStr;

use super::output::printable;

/// Space between columns.
const GAP: usize = 2;

/// A table under construction.
pub struct Table {
    head: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these column heads.
    pub fn new(head: &[&'static str]) -> Self {
        Self {
            head: head.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a row. Missing cells are empty, those beyond the head are dropped.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        let mut row: Vec<String> = cells
            .into_iter()
            .map(|cell| printable(&cell).replace(['\n', '\t'], " "))
            .collect();
        row.resize(self.head.len(), String::new());
        self.rows.push(row);
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Its lines, without space at their ends.
    pub fn render(&self) -> Vec<String> {
        let mut widths: Vec<usize> = self.head.iter().map(|h| h.width()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.width());
            }
        }
        let head: Vec<String> = self.head.iter().map(|h| (*h).to_owned()).collect();
        std::iter::once(&head)
            .chain(&self.rows)
            .map(|row| line(row, &widths))
            .collect()
    }
}

fn line(cells: &[String], widths: &[usize]) -> String {
    let mut line = String::new();
    for (cell, width) in cells.iter().zip(widths) {
        line.push_str(cell);
        let pad = width.saturating_sub(cell.width()) + GAP;
        line.extend(std::iter::repeat_n(' ', pad));
    }
    line.truncate(line.trim_end().len());
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_by_width_on_the_screen() {
        let mut table = Table::new(&["NAME", "STATUS"]);
        table.row(["日本語".into(), "active".into()]);
        table.row(["a".into(), "é\n".into()]);
        table.row(["tab\there".into(), String::new()]);
        assert_eq!(
            table.render(),
            [
                "NAME      STATUS",
                "日本語    active",
                "a         é",
                "tab here"
            ]
        );
    }
}
