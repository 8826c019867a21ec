//! A figure: what was measured, and what it must and should be. Pure.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::{Value, json};

/// Which way is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// More is better.
    Higher,
    /// Less is better.
    Lower,
}

/// One measured number.
#[derive(Debug, Clone, Serialize)]
pub struct Figure {
    /// What is measured.
    pub name: String,
    /// The median of the rounds.
    pub value: f64,
    /// Of the value.
    pub unit: &'static str,
    /// Which way is good.
    pub better: Better,
    /// The least that is good enough; `None` for a figure that only explains others.
    pub must: Option<f64>,
    /// What we are after.
    pub reach: Option<f64>,
    /// The rounds, and what else explains the figure.
    pub detail: Value,
}

impl Figure {
    /// The median of the rounds' values.
    pub fn of_rounds(name: impl Into<String>, rounds: &[f64], unit: &'static str, better: Better) -> Self {
        let (low, high) = spread(rounds);
        Self {
            name: name.into(),
            value: rounded(median(rounds)),
            unit,
            better,
            must: None,
            reach: None,
            detail: json!({
                "rounds": rounds.iter().copied().map(rounded).collect::<Vec<_>>(),
                "lowest": rounded(low),
                "highest": rounded(high),
            }),
        }
    }

    /// With what it must be, and what we are after.
    pub fn wanted(mut self, must: f64, reach: f64) -> Self {
        self.must = Some(must);
        self.reach = Some(reach);
        self
    }

    /// With something more that explains it.
    pub fn explained(mut self, name: &str, by: impl Into<Value>) -> Self {
        if let Some(details) = self.detail.as_object_mut() {
            details.insert(name.to_owned(), by.into());
        }
        self
    }

    fn meets(&self, wanted: f64) -> bool {
        match self.better {
            Better::Higher => self.value >= wanted,
            Better::Lower => self.value <= wanted,
        }
    }

    fn verdict(&self) -> &'static str {
        match (self.must, self.reach) {
            (_, Some(reach)) if self.meets(reach) => "reached",
            (Some(must), _) if self.meets(must) => "good enough",
            (Some(_), _) => "SHORT",
            _ => "",
        }
    }
}

/// The figures for people: a line each.
pub fn table(figures: &[Figure]) -> String {
    let mut text = String::new();
    let number = |value: Option<f64>| value.map_or(String::new(), |value| format!("{value}"));
    let _ = writeln!(
        text,
        "{:<44} {:>12} {:<9} {:>12} {:>12} {:>6} {:>6}",
        "figure", "value", "unit", "lowest", "highest", "must", "reach"
    );
    for figure in figures {
        let detail = |key: &str| number(figure.detail.get(key).and_then(Value::as_f64));
        let line = format!(
            "{:<44} {:>12} {:<9} {:>12} {:>12} {:>6} {:>6}  {}",
            figure.name,
            figure.value,
            figure.unit,
            detail("lowest"),
            detail("highest"),
            number(figure.must),
            number(figure.reach),
            figure.verdict(),
        );
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

/// The middle of the values; of an even number the mean of the two in the middle; zero of none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        length if length % 2 == 1 => sorted[length / 2],
        length => f64::midpoint(sorted[length / 2 - 1], sorted[length / 2]),
    }
}

/// The value that `share` (0 to 1) of the sorted values do not exceed: the nearest rank. Zero of none.
pub fn percentile(sorted: &[f64], share: f64) -> f64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

fn spread(values: &[f64]) -> (f64, f64) {
    let fold = |pick: fn(f64, f64) -> f64| values.iter().copied().reduce(pick).unwrap_or_default();
    (fold(f64::min), fold(f64::max))
}

/// Three digits that count; whole numbers from a hundred on.
fn rounded(value: f64) -> f64 {
    let digits = match value.abs() {
        magnitude if magnitude >= 100.0 => 0,
        magnitude if magnitude >= 10.0 => 1,
        magnitude if magnitude >= 1.0 => 2,
        _ => 3,
    };
    let scale = 10_f64.powi(digits);
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_rounds_is_not_moved_by_one_of_them() {
        assert_eq!(median(&[3.0, 1.0, 1000.0]), 3.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&[]), 0.0);
    }

    #[test]
    fn a_percentile_is_a_value_that_was_measured() {
        let values: Vec<f64> = (1..=200).map(f64::from).collect();
        assert_eq!(percentile(&values, 0.5), 100.0);
        assert_eq!(percentile(&values, 0.99), 198.0);
        assert_eq!(percentile(&values, 1.0), 200.0);
        assert_eq!(percentile(&[7.0], 0.01), 7.0);
        assert_eq!(percentile(&[1.0, 2.0, 3.0], 0.5), 2.0, "the rank is rounded up");
        assert_eq!(percentile(&[], 0.5), 0.0);
    }

    #[test]
    fn a_figure_says_whether_it_is_good_enough() {
        let figure = |value, better| Figure::of_rounds("f", &[value], "ratio", better).wanted(0.5, 0.75);
        assert_eq!(figure(0.8, Better::Higher).verdict(), "reached");
        assert_eq!(figure(0.5, Better::Higher).verdict(), "good enough");
        assert_eq!(figure(0.49, Better::Higher).verdict(), "SHORT");
        let latency = |value| Figure::of_rounds("f", &[value], "ms", Better::Lower).wanted(5.0, 3.0);
        assert_eq!(latency(2.9).verdict(), "reached");
        assert_eq!(latency(4.0).verdict(), "good enough");
        assert_eq!(latency(5.1).verdict(), "SHORT");
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(rounded(0.123_456), 0.123);
        assert_eq!(rounded(1.234_5), 1.23);
        assert_eq!(rounded(12.345), 12.3);
        assert_eq!(rounded(123_456.7), 123_457.0);
    }
}
