//! A rule: which series it watches, what counts as a breach, how its alerts live, and who is told.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::condition::{Check, Condition, LONGEST_SECONDS};
use super::ids::{DestinationId, RuleId, TenantId};
use super::selector::{Selector, Tags};

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

/// Places in a lane: two for each severity.
pub const LANE_CLASSES: usize = 8;

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

    /// Its place in its destination's lane, before any attempt: lower is sent first. What failed comes after others of its
    /// severity, one place on.
    pub fn lane_class(self) -> i16 {
        2 * self as i16
    }

    /// Whether it is worse than another.
    pub fn is_worse_than(self, other: Self) -> bool {
        self < other
    }
}

/// When the severity of an open alert rises.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Escalation {
    /// To this.
    pub severity: Severity,
    /// When it has fired for this long, in seconds of the readings' own time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_seconds: Option<u32>,
    /// When a reading is beyond this, which stands in the place of the condition's own `threshold`, `k` or `limit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beyond: Option<f64>,
}

impl Escalation {
    /// Reads and checks what stands in `rules.escalations`, for a rule with this condition and severity.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn list_from_json(
        json: serde_json::Value,
        check: &Check,
        severity: Severity,
    ) -> Result<Vec<Self>, String> {
        let list: Vec<Self> = serde_json::from_value(json).map_err(|error| {
            format!("must be such as [{{\"severity\": \"critical\", \"after_seconds\": 600}}]: {error}")
        })?;
        for escalation in &list {
            escalation.validate(check, severity)?;
        }
        Ok(list)
    }

    fn validate(&self, check: &Check, severity: Severity) -> Result<(), String> {
        if !self.severity.is_worse_than(severity) {
            return Err(format!("severity must be worse than the rule's own, `{}`", severity.as_str()));
        }
        match (self.after_seconds, self.beyond) {
            (Some(seconds), None) if (1..=LONGEST_SECONDS).contains(&seconds) => Ok(()),
            (Some(_), None) => Err(format!("after_seconds must be 1 to {LONGEST_SECONDS}")),
            (None, Some(beyond)) => {
                let fits = match check {
                    Check::AboveThreshold { threshold, .. } => beyond > *threshold,
                    Check::BelowThreshold { threshold, .. } => beyond < *threshold,
                    Check::DeviationFromMean(deviation) => beyond > deviation.k,
                    Check::RateOfChange { limit, .. } => beyond > *limit,
                    _ => return Err("beyond goes with one threshold, k or limit only".to_owned()),
                };
                if fits {
                    Ok(())
                } else {
                    Err("beyond must be beyond the condition's own threshold".to_owned())
                }
            }
            _ => Err("an escalation has either after_seconds or beyond".to_owned()),
        }
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
    pub devices: Selector,
    /// What counts as a breach.
    pub condition: Condition,
    /// How bad a breach is.
    pub severity: Severity,
    /// When that gets worse.
    pub escalations: Vec<Escalation>,
    /// After it fired, a breach within this long opens no other alert, in microseconds of the readings' own time, for each
    /// series; one that still burns at its end is told again. 0: neither.
    pub cooldown_micros: i64,
    /// An alert resolves when its series was clear for this long, in microseconds of the readings' own time.
    pub resolve_after_micros: i64,
    /// While nobody acknowledges, people are told again this often, in microseconds.
    pub reminder_micros: Option<i64>,
    /// Said with every alert.
    pub labels: Tags,
    /// Where it is written what to do.
    pub runbook_url: Option<String>,
    /// Who is told.
    pub destinations: Vec<DestinationId>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn severity_only_rises() {
        let check = Check::AboveThreshold { threshold: 80.0, clear: None };
        let read = |json| Escalation::list_from_json(json, &check, Severity::Warning);
        assert_eq!(read(json!([])), Ok(Vec::new()));
        assert_eq!(read(json!([{ "severity": "critical", "after_seconds": 600 }])).unwrap().len(), 1);
        assert_eq!(read(json!([{ "severity": "error", "beyond": 90 }])).unwrap().len(), 1);
        for broken in [
            json!({ "severity": "info", "after_seconds": 600 }),
            json!({ "severity": "warning", "after_seconds": 600 }),
            json!({ "severity": "critical" }),
            json!({ "severity": "critical", "after_seconds": 600, "beyond": 90 }),
            json!({ "severity": "critical", "after_seconds": 0 }),
            json!({ "severity": "critical", "beyond": 80 }),
            json!({ "severity": "critical", "beyond": 70 }),
            json!({ "severity": "loud", "after_seconds": 1 }),
        ] {
            assert!(read(json!([broken])).is_err(), "{broken}");
        }
        let silent = Check::NoData { interval_seconds: 5, clear_seconds: None };
        let beyond = json!([{ "severity": "critical", "beyond": 90 }]);
        assert!(Escalation::list_from_json(beyond, &silent, Severity::Info).is_err());
    }
}
