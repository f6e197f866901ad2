//! Measurements, and how they are told.

use std::fmt::Write as _;

/// One number, taken several times.
#[derive(Clone, Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    pub fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
    }

    /// The median, and from where to where it went.
    pub fn text(&self) -> String {
        let low = self.0.iter().copied().fold(f64::INFINITY, f64::min);
        let high = self.0.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        format!("{} ({}–{})", short(self.median()), short(low), short(high))
    }
}

/// Three significant digits.
pub fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 10_000.0 => {
            let thousands = (value / 1000.0).round();
            format!("{thousands},000")
        }
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// A Markdown table that grows by rows.
pub struct Table {
    text: String,
}

impl Table {
    pub fn new(columns: &[&str]) -> Self {
        let mut text = format!("| {} |\n|", columns.join(" | "));
        text.push_str(&" --- |".repeat(columns.len()));
        println!("{text}");
        text.push('\n');
        Self { text }
    }

    /// Adds a row, and shows it at once.
    pub fn row(&mut self, cells: &[String]) {
        let line = format!("| {} |", cells.join(" | "));
        println!("{line}");
        let _ = writeln!(self.text, "{line}");
    }
}
