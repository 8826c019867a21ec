//! A rule: which series it watches, what counts as a breach, how often it may fire.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::ids::{DestinationId, RuleId, TenantId};

/// What counts as a breach. Stored as JSON in `rules.condition`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Condition {
    /// The value is greater than the threshold.
    AboveThreshold {
        /// In the unit of the series.
        threshold: f64,
    },
    /// The value is less than the threshold.
    BelowThreshold {
        /// In the unit of the series.
        threshold: f64,
    },
    /// The value is more than `k` standard deviations away from the mean of the minutes before its own.
    DeviationFromMean(Deviation),
}

/// Settings of [`Condition::DeviationFromMean`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deviation {
    /// Complete minutes before the reading's own that it is compared with, 1 to [`Deviation::LONGEST_WINDOW`].
    pub window_minutes: i32,
    /// Standard deviations. The default is what raised the fewest false alarms on a labelled public corpus; the
    /// textbook's 3 raised thousands.
    #[serde(default = "Deviation::default_k")]
    pub k: f64,
    /// Minutes that must have had a reading, or nothing is a breach.
    #[serde(default = "Deviation::default_min_buckets")]
    pub min_buckets: usize,
    /// The least that counts as a standard deviation, in the unit of the series: the sensor's resolution, say. Without it,
    /// [`Deviation::RELATIVE_FLOOR`] of the mean: a constant series has none, and every wiggle would be infinitely many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_sigma: Option<f64>,
}

impl Deviation {
    /// A day.
    pub const LONGEST_WINDOW: i32 = 1440;
    /// Two per cent.
    pub const RELATIVE_FLOOR: f64 = 0.02;

    fn default_k() -> f64 {
        5.0
    }

    fn default_min_buckets() -> usize {
        5
    }
}

impl Condition {
    /// Reads and checks what stands in `rules.condition`.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn from_json(json: serde_json::Value) -> Result<Self, String> {
        let condition: Self = serde_json::from_value(json).map_err(|error| error.to_string())?;
        match &condition {
            Self::AboveThreshold { threshold } | Self::BelowThreshold { threshold }
                if !threshold.is_finite() =>
            {
                Err("threshold must be a finite number".to_owned())
            }
            Self::DeviationFromMean(deviation) => deviation.check().map(|()| condition),
            _ => Ok(condition),
        }
    }
}

impl Deviation {
    fn check(&self) -> Result<(), String> {
        if !(1..=Self::LONGEST_WINDOW).contains(&self.window_minutes) {
            return Err(format!("window_minutes must be 1 to {}", Self::LONGEST_WINDOW));
        }
        if !(self.k.is_finite() && self.k > 0.0) {
            return Err("k must be greater than 0".to_owned());
        }
        if self.min_buckets < 2 {
            return Err("min_buckets must be at least 2: one minute has no standard deviation".to_owned());
        }
        if self.min_sigma.is_some_and(|floor| !(floor.is_finite() && floor > 0.0)) {
            return Err("min_sigma must be greater than 0".to_owned());
        }
        Ok(())
    }
}

/// How bad it is: the four of PagerDuty's Events API v2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Somebody must get up.
    Critical,
    /// Broken.
    Error,
    /// About to break.
    Warning,
    /// Good to know.
    Info,
}

impl Severity {
    /// As it stands in SQL and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }

    /// Reads what [`Self::as_str`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Critical, Self::Error, Self::Warning, Self::Info].into_iter().find(|s| s.as_str() == text)
    }

    /// The place in its destination's lane: lower is sent first.
    pub fn lane_class(self) -> i16 {
        self as i16
    }
}

/// Devices by external id, where `*` stands for any run of characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DevicePattern(String);

impl DevicePattern {
    /// Any text is a pattern.
    pub fn new(pattern: impl Into<String>) -> Self {
        Self(pattern.into())
    }

    /// Whether the pattern selects this device.
    pub fn matches(&self, device: &str) -> bool {
        let mut parts = self.0.split('*');
        let Some(mut rest) = device.strip_prefix(parts.next().unwrap_or("")) else { return false };
        let Some(last) = parts.next_back() else { return rest.is_empty() };
        for part in parts {
            let Some(at) = rest.find(part) else { return false };
            rest = &rest[at + part.len()..];
        }
        rest.ends_with(last)
    }
}

/// A rule as detection holds it.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Which.
    pub id: RuleId,
    /// Raised by every change of its definition.
    pub version: i32,
    /// Whose.
    pub tenant: TenantId,
    /// For people.
    pub name: Arc<str>,
    /// The metric it watches.
    pub metric: String,
    /// The devices it watches.
    pub devices: DevicePattern,
    /// What counts as a breach.
    pub condition: Condition,
    /// How bad a breach is.
    pub severity: Severity,
    /// After it fired it stays silent for this long, in microseconds of the readings' own time, for each series.
    pub cooldown_micros: i64,
    /// Who is told.
    pub destinations: Vec<DestinationId>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_run_of_characters() {
        let cases = [
            ("*", "", true),
            ("*", "pump-1", true),
            ("pump-1", "pump-1", true),
            ("pump-1", "pump-12", false),
            ("pump-*", "pump-12", true),
            ("*-1", "pump-1", true),
            ("p*p*1", "pump-1", true),
            ("p*m*m*", "pump", false),
            ("a*a", "a", false),
            ("", "", true),
            ("", "x", false),
        ];
        for (pattern, device, expected) in cases {
            assert_eq!(DevicePattern::new(pattern).matches(device), expected, "{pattern} on {device}");
        }
    }

    #[test]
    fn the_json_of_a_condition_is_fixed() {
        let json = r#"{"kind":"above_threshold","threshold":80.0}"#;
        let condition: Condition = serde_json::from_str(json).unwrap();
        assert_eq!(condition, Condition::AboveThreshold { threshold: 80.0 });
        assert_eq!(serde_json::to_string(&condition).unwrap(), json);
        assert!(serde_json::from_str::<Condition>(r#"{"kind":"above_threshold","treshold":1}"#).is_err());
    }

    #[test]
    fn a_deviation_has_defaults_and_limits() {
        let read = |json: serde_json::Value| Condition::from_json(json);
        let deviation = Deviation { window_minutes: 60, k: 5.0, min_buckets: 5, min_sigma: None };
        let json = serde_json::json!({ "kind": "deviation_from_mean", "window_minutes": 60 });
        assert_eq!(read(json), Ok(Condition::DeviationFromMean(deviation)));
        for (field, value) in [
            ("window_minutes", 0.0),
            ("window_minutes", 1441.0),
            ("k", 0.0),
            ("min_buckets", 1.0),
            ("min_sigma", 0.0),
        ] {
            let mut json = serde_json::json!({ "kind": "deviation_from_mean", "window_minutes": 60 });
            json[field] =
                if field == "k" || field == "min_sigma" { value.into() } else { (value as i64).into() };
            assert!(read(json).unwrap_err().contains(field), "{field} = {value}");
        }
    }
}
