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
    /// The value was more than `k` times `sigma` away from `mean`.
    DeviationFromMean {
        /// The mean of the averages of `n` minutes.
        mean: f64,
        /// Their standard deviation, or the floor under it if that is larger.
        sigma: f64,
        /// How many `sigma` the value is above (below: negative) the mean.
        z: f64,
        /// How many were allowed.
        k: f64,
        /// Minutes that had a reading.
        n: usize,
        /// Minutes that were looked at: the complete ones before the reading's own.
        window_minutes: i32,
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
    /// The breach was old when it was judged, and is over: it is kept and nobody is told. While it is not known to be over
    /// this is not final.
    pub historical: bool,
}
