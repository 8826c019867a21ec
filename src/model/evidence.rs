//! Evidence: what decided that a reading, or the lack of one, is a breach. Enough for anybody to judge it again from the
//! stored rows.

use serde::{Deserialize, Serialize};

/// What decided it.
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
    /// The value was less than `lowest` or greater than `highest`.
    OutsideRange {
        /// In the unit of the series.
        lowest: f64,
        /// In the unit of the series.
        highest: f64,
        /// Which end it was: true for `highest`.
        above: bool,
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
    /// The value was further from the one before it than `limit` in `per_seconds`.
    RateOfChange {
        /// The change, upwards or downwards (negative), in `per_seconds`.
        rate: f64,
        /// How much was allowed.
        limit: f64,
        /// The time that both are for.
        per_seconds: u32,
        /// The value before.
        previous_value: f64,
        /// How long before, in seconds; less than one counts as one.
        previous_seconds: f64,
    },
    /// From `window_minutes` before to the reading, lowest and highest were no further apart than `tolerance`.
    Stuck {
        /// The lowest value in that time.
        lowest: f64,
        /// The highest.
        highest: f64,
        /// How far apart they may be and count as unchanged.
        tolerance: f64,
        /// Minutes that had a reading, the reading's own among them.
        n: usize,
        /// Minutes that were looked at, beside the reading's own.
        window_minutes: i32,
    },
    /// Nothing came for longer than `interval_seconds`.
    NoData {
        /// What was allowed.
        interval_seconds: u32,
    },
}

/// What an alert looks like to people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Class {
    /// Higher than it may be.
    #[serde(rename = "spike above")]
    SpikeAbove,
    /// Lower than it may be.
    #[serde(rename = "drop below")]
    DropBelow,
    /// Far from what it was before.
    #[serde(rename = "deviation")]
    Deviation,
    /// It changes faster than it may.
    #[serde(rename = "too fast")]
    TooFast,
    /// It does not change.
    #[serde(rename = "stuck")]
    Stuck,
    /// Nothing is heard.
    #[serde(rename = "silent")]
    Silent,
}

impl Class {
    /// As it stands in SQL and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SpikeAbove => "spike above",
            Self::DropBelow => "drop below",
            Self::Deviation => "deviation",
            Self::TooFast => "too fast",
            Self::Stuck => "stuck",
            Self::Silent => "silent",
        }
    }
}

impl Evidence {
    /// What an alert of it looks like.
    pub fn class(&self) -> Class {
        match self {
            Self::AboveThreshold { .. } | Self::OutsideRange { above: true, .. } => Class::SpikeAbove,
            Self::BelowThreshold { .. } | Self::OutsideRange { .. } => Class::DropBelow,
            Self::DeviationFromMean { .. } => Class::Deviation,
            Self::RateOfChange { .. } => Class::TooFast,
            Self::Stuck { .. } => Class::Stuck,
            Self::NoData { .. } => Class::Silent,
        }
    }

    /// Whether a reading of `value` that is such a breach is beyond `limit`, in the place of the rule's own threshold.
    pub fn is_beyond(&self, value: f64, limit: f64) -> bool {
        match self {
            Self::AboveThreshold { .. } => value > limit,
            Self::BelowThreshold { .. } => value < limit,
            Self::DeviationFromMean { z, .. } => z.abs() > limit,
            Self::RateOfChange { rate, .. } => rate.abs() > limit,
            Self::OutsideRange { .. } | Self::Stuck { .. } | Self::NoData { .. } => false,
        }
    }
}
