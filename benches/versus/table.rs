//! Markdown tables whose columns also line up as plain text.

pub struct Table {
    rows: Vec<Vec<String>>,
    /// Columns before this one hold words and are set left, the others right.
    first_figure: usize,
}

impl Table {
    pub fn new(first_figure: usize, headings: &[&str]) -> Table {
        let headings = headings.iter().map(|text| (*text).to_string()).collect();
        Table { rows: vec![headings], first_figure }
    }

    pub fn row(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.rows[0].len());
        self.rows.push(cells);
    }

    pub fn print(&self) {
        let width = |column: usize| {
            let widths = self.rows.iter().map(|row| row[column].chars().count());
            widths.max().unwrap_or(0).max(3)
        };
        let widths: Vec<usize> = (0..self.rows[0].len()).map(width).collect();
        for (index, row) in self.rows.iter().enumerate() {
            let mut line = String::from("|");
            for (column, cell) in row.iter().enumerate() {
                let width = widths[column];
                if column < self.first_figure {
                    line.push_str(&format!(" {cell:<width$} |"));
                } else {
                    line.push_str(&format!(" {cell:>width$} |"));
                }
            }
            println!("{line}");
            if index == 0 {
                println!("{}", self.rule(&widths));
            }
        }
        println!();
    }

    fn rule(&self, widths: &[usize]) -> String {
        let mut line = String::from("|");
        for (column, width) in widths.iter().enumerate() {
            let dashes = "-".repeat(width + 1);
            if column < self.first_figure {
                line.push_str(&format!(":{dashes}|"));
            } else {
                line.push_str(&format!("{dashes}:|"));
            }
        }
        line
    }
}

/// A figure with about three significant digits; a dash where there is none.
pub fn figure(value: f64) -> String {
    if !value.is_finite() {
        return "–".to_string();
    }
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

pub fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}
