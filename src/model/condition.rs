//! A condition: what counts as a breach, for how long, and from where on it counts as over. Stored as JSON in
//! `rules.condition`, such as `{"kind": "above_threshold", "threshold": 80, "clear": 75, "for_seconds": 60}`.

use serde::{Deserialize, Serialize};

/// What is looked at in a reading, or in the lack of one.
///
/// Each kind has a threshold beyond which a reading is a breach, and one of its own behind which it is clear again; a value
/// between the two changes nothing. Without it the two are the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Check {
    /// The value is greater than the threshold.
    AboveThreshold {
        /// In the unit of the series.
        threshold: f64,
        /// Clear from here downwards.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        clear: Option<f64>,
    },
    /// The value is less than the threshold.
    BelowThreshold {
        /// In the unit of the series.
        threshold: f64,
        /// Clear from here upwards.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        clear: Option<f64>,
    },
    /// The value is less than the lowest or greater than the highest that is right.
    OutsideRange {
        /// In the unit of the series.
        lowest: f64,
        /// In the unit of the series.
        highest: f64,
        /// Clear only this far inside both ends, in the unit of the series.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        clear_margin: Option<f64>,
    },
    /// The value is more than `k` standard deviations away from the mean of the minutes before its own.
    DeviationFromMean(Deviation),
    /// The value changes faster, upwards or downwards, than `limit` in `per_seconds`, compared with the reading before it.
    RateOfChange {
        /// In the unit of the series.
        limit: f64,
        /// The time that the limit is for.
        #[serde(default = "minute")]
        per_seconds: u32,
        /// Clear from here downwards.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        clear: Option<f64>,
    },
    /// The value has not changed by more than `tolerance` for `window_minutes`.
    Stuck {
        /// 1 to [`LONGEST_WINDOW`].
        window_minutes: i32,
        /// The distance between lowest and highest that counts as no change, in the unit of the series.
        #[serde(default)]
        tolerance: f64,
        /// Clear only when the distance is greater than this.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        clear: Option<f64>,
    },
    /// Nothing came for longer than the interval.
    NoData {
        /// The longest time between two readings that is right.
        interval_seconds: u32,
        /// Clear only when two readings come no further apart than this; without it, at the first reading.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        clear_seconds: Option<u32>,
    },
}

fn minute() -> u32 {
    60
}

/// The minutes that a condition may look back: a day.
pub const LONGEST_WINDOW: i32 = 1440;
/// The longest `for_seconds`, `interval_seconds` and the like: a year.
pub const LONGEST_SECONDS: u32 = 366 * 24 * 60 * 60;

/// Settings of [`Check::DeviationFromMean`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deviation {
    /// Complete minutes before the reading's own that it is compared with, 1 to [`LONGEST_WINDOW`].
    pub window_minutes: i32,
    /// Standard deviations. The default is what raised the fewest false alarms on a labelled public corpus; the
    /// textbook's 3 raised thousands.
    #[serde(default = "Deviation::default_k")]
    pub k: f64,
    /// Clear from so many downwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clear_k: Option<f64>,
    /// Minutes that must have had a reading, or nothing is a breach.
    #[serde(default = "Deviation::default_min_buckets")]
    pub min_buckets: usize,
    /// The least that counts as a standard deviation, in the unit of the series: the sensor's resolution, say. Without it,
    /// [`Deviation::RELATIVE_FLOOR`] of the mean: a constant series has none, and every wiggle would be infinitely many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_sigma: Option<f64>,
}

impl Deviation {
    /// Two per cent.
    pub const RELATIVE_FLOOR: f64 = 0.02;

    fn default_k() -> f64 {
        5.0
    }

    fn default_min_buckets() -> usize {
        5
    }
}

/// So many of the last judgements must be breaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MOfN {
    /// Breaches, 1 to `n`.
    pub m: u32,
    /// Judgements, 1 to [`MOfN::MOST`].
    pub n: u32,
}

impl MOfN {
    /// They are kept as the bits of a number.
    pub const MOST: u32 = 60;
}

/// What counts as a breach, and how long it must hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// What is looked at.
    pub check: Check,
    /// The breach must hold this long, in microseconds of the readings' own time.
    pub for_micros: i64,
    /// Of the last judgements so many must be breaches; `None`: the last one alone decides.
    pub m_of_n: Option<MOfN>,
}

impl From<Check> for Condition {
    fn from(check: Check) -> Self {
        Self { check, for_micros: 0, m_of_n: None }
    }
}

impl Condition {
    /// Reads and checks what stands in `rules.condition`.
    ///
    /// # Errors
    /// Says what is wrong with it, and what it may be.
    pub fn from_json(mut json: serde_json::Value) -> Result<Self, String> {
        let members =
            json.as_object_mut().ok_or("must be an object such as {\"kind\": \"above_threshold\", ..}")?;
        let mut take = |name: &str| members.remove(name).filter(|value| !value.is_null());
        let for_seconds: u32 = match take("for_seconds") {
            None => 0,
            Some(value) => {
                serde_json::from_value(value).ok().filter(|seconds| *seconds <= LONGEST_SECONDS).ok_or_else(
                    || format!("for_seconds must be a whole number from 0 to {LONGEST_SECONDS}"),
                )?
            }
        };
        let m_of_n = take("m_of_n").map(serde_json::from_value::<MOfN>).transpose();
        let m_of_n =
            m_of_n.map_err(|error| format!("m_of_n must be such as {{\"m\": 3, \"n\": 5}}: {error}"))?;
        if m_of_n.is_some_and(|MOfN { m, n }| m < 1 || m > n || n > MOfN::MOST) {
            return Err(format!("m_of_n must have 1 <= m <= n <= {}", MOfN::MOST));
        }
        let check: Check = serde_json::from_value(json).map_err(|error| error.to_string())?;
        check.validate()?;
        Ok(Self { check, for_micros: i64::from(for_seconds) * 1_000_000, m_of_n })
    }

    /// How many minutes back it looks, if it looks back.
    pub fn window_minutes(&self) -> Option<i32> {
        match &self.check {
            Check::DeviationFromMean(deviation) => Some(deviation.window_minutes),
            Check::Stuck { window_minutes, .. } => Some(*window_minutes),
            _ => None,
        }
    }

    /// Whether one reading alone decides it: such a condition judges readings that come late, too.
    pub fn is_of_one_point(&self) -> bool {
        let alone = self.m_of_n.is_none_or(|MOfN { m, .. }| m == 1) && self.for_micros == 0;
        let point = matches!(
            self.check,
            Check::AboveThreshold { .. } | Check::BelowThreshold { .. } | Check::OutsideRange { .. }
        );
        alone && point
    }
}

impl Check {
    fn validate(&self) -> Result<(), String> {
        let finite = |name: &str, value: f64| {
            if value.is_finite() { Ok(()) } else { Err(format!("{name} must be a finite number")) }
        };
        let positive = |name: &str, value: f64| {
            if value.is_finite() && value > 0.0 {
                Ok(())
            } else {
                Err(format!("{name} must be greater than 0"))
            }
        };
        let window = |minutes: i32| {
            let fits = (1..=LONGEST_WINDOW).contains(&minutes);
            if fits { Ok(()) } else { Err(format!("window_minutes must be 1 to {LONGEST_WINDOW}")) }
        };
        let seconds = |name: &str, seconds: u32| {
            let fits = (1..=LONGEST_SECONDS).contains(&seconds);
            if fits { Ok(()) } else { Err(format!("{name} must be 1 to {LONGEST_SECONDS}")) }
        };
        let when = |fits: bool, problem: &str| if fits { Ok(()) } else { Err(problem.to_owned()) };
        match self {
            Self::AboveThreshold { threshold, clear } => {
                finite("threshold", *threshold)?;
                when(clear.is_none_or(|clear| clear <= *threshold), "clear must not be above the threshold")
            }
            Self::BelowThreshold { threshold, clear } => {
                finite("threshold", *threshold)?;
                when(clear.is_none_or(|clear| clear >= *threshold), "clear must not be below the threshold")
            }
            Self::OutsideRange { lowest, highest, clear_margin } => {
                finite("lowest", *lowest)?;
                finite("highest", *highest)?;
                when(lowest <= highest, "lowest must not be above highest")?;
                let fits = |margin: f64| margin >= 0.0 && lowest + margin <= highest - margin;
                when(clear_margin.is_none_or(fits), "clear_margin must leave something of the range")
            }
            Self::DeviationFromMean(deviation) => {
                window(deviation.window_minutes)?;
                positive("k", deviation.k)?;
                let fits = |clear: f64| clear >= 0.0 && clear <= deviation.k;
                when(deviation.clear_k.is_none_or(fits), "clear_k must be 0 to k")?;
                when(
                    deviation.min_buckets >= 2,
                    "min_buckets must be at least 2: one minute has no standard deviation",
                )?;
                let most = usize::try_from(deviation.window_minutes).unwrap_or(usize::MAX);
                when(
                    deviation.min_buckets <= most,
                    "min_buckets must not be more than window_minutes, or it never fires",
                )?;
                deviation.min_sigma.map_or(Ok(()), |floor| positive("min_sigma", floor))
            }
            Self::RateOfChange { limit, per_seconds, clear } => {
                positive("limit", *limit)?;
                seconds("per_seconds", *per_seconds)?;
                let fits = |clear: f64| clear >= 0.0 && clear <= *limit;
                when(clear.is_none_or(fits), "clear must be 0 to limit")
            }
            Self::Stuck { window_minutes, tolerance, clear } => {
                window(*window_minutes)?;
                when(tolerance.is_finite() && *tolerance >= 0.0, "tolerance must be 0 or greater")?;
                when(clear.is_none_or(|clear| clear >= *tolerance), "clear must not be below the tolerance")
            }
            Self::NoData { interval_seconds, clear_seconds } => {
                seconds("interval_seconds", *interval_seconds)?;
                let fits = |clear: u32| clear >= 1 && clear <= *interval_seconds;
                when(clear_seconds.is_none_or(fits), "clear_seconds must be 1 to interval_seconds")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn the_json_of_a_condition_is_fixed() {
        let json = json!({ "kind": "above_threshold", "threshold": 80.0 });
        let condition = Condition::from_json(json.clone()).unwrap();
        assert_eq!(condition, Check::AboveThreshold { threshold: 80.0, clear: None }.into());
        assert_eq!(serde_json::to_value(&condition.check).unwrap(), json);
        let json = json!({ "kind": "no_data", "interval_seconds": 90, "for_seconds": 5, "m_of_n": { "m": 2, "n": 3 } });
        let condition = Condition::from_json(json).unwrap();
        assert_eq!(condition.check, Check::NoData { interval_seconds: 90, clear_seconds: None });
        assert_eq!((condition.for_micros, condition.m_of_n), (5_000_000, Some(MOfN { m: 2, n: 3 })));
    }

    #[test]
    fn a_deviation_has_defaults() {
        let json = json!({ "kind": "deviation_from_mean", "window_minutes": 60 });
        let deviation =
            Deviation { window_minutes: 60, k: 5.0, clear_k: None, min_buckets: 5, min_sigma: None };
        assert_eq!(Condition::from_json(json).unwrap(), Check::DeviationFromMean(deviation).into());
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_the_name_of_the_setting() {
        let above = json!({ "kind": "above_threshold", "threshold": 80 });
        let below = json!({ "kind": "below_threshold", "threshold": 80 });
        let range = json!({ "kind": "outside_range", "lowest": 1, "highest": 5 });
        let deviation = json!({ "kind": "deviation_from_mean", "window_minutes": 60 });
        let rate = json!({ "kind": "rate_of_change", "limit": 2 });
        let stuck = json!({ "kind": "stuck", "window_minutes": 10 });
        let silent = json!({ "kind": "no_data", "interval_seconds": 60 });
        for (whole, setting, value) in [
            (&above, "treshold", json!(1)),
            (&above, "clear", json!(81)),
            (&above, "for_seconds", json!(-1)),
            (&above, "for_seconds", json!("long")),
            (&above, "m_of_n", json!({ "m": 3, "n": 2 })),
            (&above, "m_of_n", json!({ "m": 0, "n": 2 })),
            (&above, "m_of_n", json!({ "m": 1, "n": 61 })),
            (&above, "kind", json!("phase_of_the_moon")),
            (&below, "clear", json!(79)),
            (&range, "lowest", json!(6)),
            (&range, "clear_margin", json!(2.5)),
            (&deviation, "window_minutes", json!(0)),
            (&deviation, "window_minutes", json!(1441)),
            (&deviation, "k", json!(0)),
            (&deviation, "clear_k", json!(6)),
            (&deviation, "min_buckets", json!(1)),
            (&deviation, "min_sigma", json!(0)),
            (&rate, "limit", json!(0)),
            (&rate, "per_seconds", json!(0)),
            (&rate, "clear", json!(3)),
            (&stuck, "window_minutes", json!(2000)),
            (&stuck, "tolerance", json!(-1)),
            (&stuck, "clear", json!(-1)),
            (&silent, "interval_seconds", json!(0)),
            (&silent, "clear_seconds", json!(61)),
        ] {
            assert!(Condition::from_json(whole.clone()).is_ok(), "{whole}");
            let mut broken: Value = whole.clone();
            broken[setting] = value;
            let problem = Condition::from_json(broken.clone()).unwrap_err();
            let named = problem.contains(setting) || problem.contains("phase_of_the_moon");
            // A margin that is too wide is told by its own name; an unknown kind by what it was.
            assert!(named, "{broken}: {problem}");
        }
        assert!(Condition::from_json(json!([])).is_err());
    }

    #[test]
    fn only_conditions_of_one_point_judge_what_comes_late() {
        let point = |json: Value| Condition::from_json(json).unwrap().is_of_one_point();
        assert!(point(json!({ "kind": "outside_range", "lowest": 1, "highest": 5 })));
        assert!(!point(json!({ "kind": "above_threshold", "threshold": 1, "for_seconds": 1 })));
        assert!(!point(json!({ "kind": "above_threshold", "threshold": 1, "m_of_n": { "m": 2, "n": 3 } })));
        assert!(!point(json!({ "kind": "rate_of_change", "limit": 1 })));
    }
}
