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
}
