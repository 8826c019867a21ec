//! An alert: something is wrong with a series, because a reading broke a rule.

use serde::{Deserialize, Serialize};

use super::ids::{AlertId, RuleId, SeriesId, TenantId};
use super::reading::UnixMicros;
use super::rule::Severity;

/// What decided it: enough for anybody to judge the same reading again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "condition", rename_all = "snake_case")]
pub enum Evidence {
    /// The value was greater than the threshold.
    AboveThreshold {
        /// In the unit of the series.
        threshold: f64,
    },
    /// The value was less than the threshold.
    BelowThreshold {
        /// In the unit of the series.
        threshold: f64,
    },
}

/// An alert as detection opens it.
#[derive(Debug, Clone, PartialEq)]
pub struct Alert {
    /// Which.
    pub id: AlertId,
    /// Whose.
    pub tenant: TenantId,
    /// The rule that fired.
    pub rule: RuleId,
    /// The rule as it was.
    pub rule_version: i32,
    /// What it is about.
    pub series: SeriesId,
    /// How bad it is.
    pub severity: Severity,
    /// The time of the reading that broke the rule, on the sensor's clock.
    pub breached_at: UnixMicros,
    /// The value that broke the rule.
    pub value: f64,
    /// What decided it.
    pub evidence: Evidence,
    /// The reading was older than one of its series that had been judged before.
    pub late: bool,
}
