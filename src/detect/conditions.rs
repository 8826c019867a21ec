//! Whether a reading breaks a condition, and what decided it. Pure.

use super::window::{Window, minute_of};
use crate::model::alert::Evidence;
use crate::model::reading::UnixMicros;
use crate::model::rule::{Condition, Deviation};

/// Whether a reading is a breach.
#[derive(Debug, Clone, PartialEq)]
pub enum Judgement {
    /// It is, and this decided it.
    Breach(Evidence),
    /// It is not.
    Clear,
    /// The condition has nothing to say of it: too little is known, or it came late.
    Unknown,
}

/// Judges a reading. `window` holds the series' minutes, if a condition needs them; `late`: a later reading of the series
/// was judged before, so that only conditions that look at one point have something to say.
pub fn judge(
    condition: &Condition,
    ts: UnixMicros,
    value: f64,
    window: Option<&mut Window>,
    late: bool,
) -> Judgement {
    let breach_if = |broken: bool, evidence: Evidence| {
        if broken { Judgement::Breach(evidence) } else { Judgement::Clear }
    };
    match condition {
        Condition::AboveThreshold { threshold } => {
            breach_if(value > *threshold, Evidence::AboveThreshold { threshold: *threshold })
        }
        Condition::BelowThreshold { threshold } => {
            breach_if(value < *threshold, Evidence::BelowThreshold { threshold: *threshold })
        }
        Condition::DeviationFromMean(_) if late => Judgement::Unknown,
        Condition::DeviationFromMean(deviation) => deviates(deviation, ts, value, window),
    }
}

fn deviates(deviation: &Deviation, ts: UnixMicros, value: f64, window: Option<&mut Window>) -> Judgement {
    let statistics = window.and_then(|window| window.statistics(minute_of(ts), deviation.window_minutes));
    let Some(statistics) = statistics.filter(|statistics| statistics.n >= deviation.min_buckets) else {
        return Judgement::Unknown;
    };
    // The last term is for a series that is constant at zero: it keeps the division legal.
    let floor = deviation
        .min_sigma
        .unwrap_or(Deviation::RELATIVE_FLOOR * statistics.mean.abs())
        .max(f64::MIN_POSITIVE);
    let sigma = statistics.sigma.max(floor);
    let z = (value - statistics.mean) / sigma;
    if z.abs() <= deviation.k {
        return Judgement::Clear;
    }
    Judgement::Breach(Evidence::DeviationFromMean {
        mean: statistics.mean,
        sigma,
        // JSON has no infinity.
        z: z.clamp(f64::MIN, f64::MAX),
        k: deviation.k,
        n: statistics.n,
        window_minutes: deviation.window_minutes,
    })
}

#[cfg(test)]
mod tests {
    use super::super::window::Bucket;
    use super::*;

    fn at(minute: i64) -> UnixMicros {
        UnixMicros(minute * UnixMicros::MINUTE + 30_000_000)
    }

    fn threshold(condition: &Condition, value: f64) -> bool {
        judge(condition, at(0), value, None, true) != Judgement::Clear
    }

    #[test]
    fn only_values_beyond_the_threshold_are_breaches() {
        let above = Condition::AboveThreshold { threshold: 80.0 };
        let below = Condition::BelowThreshold { threshold: -5.0 };
        for (condition, value, expected) in [
            (&above, 80.000001, true),
            (&above, 80.0, false),
            (&above, -1e9, false),
            (&below, -5.000001, true),
            (&below, -5.0, false),
            (&below, 0.0, false),
        ] {
            assert_eq!(threshold(condition, value), expected, "{value} {condition:?}");
        }
    }

    /// What a value in minute 10 is, after minutes `10 - averages.len()` to 9 had these averages.
    fn deviation(averages: &[f64], value: f64, min_sigma: Option<f64>, k: f64) -> Judgement {
        let first = 10 - averages.len() as i32;
        let buckets = averages.iter().enumerate().map(|(i, mean)| Bucket {
            minute: first + i as i32,
            count: 3,
            mean: *mean,
        });
        let mut window = Window::new(10, buckets);
        let condition =
            Condition::DeviationFromMean(Deviation { window_minutes: 10, k, min_buckets: 5, min_sigma });
        judge(&condition, at(10), value, Some(&mut window), false)
    }

    fn breaks(averages: &[f64], value: f64, min_sigma: Option<f64>, k: f64) -> bool {
        matches!(deviation(averages, value, min_sigma, k), Judgement::Breach(_))
    }

    #[test]
    fn four_minutes_never_fire_and_five_can() {
        assert_eq!(deviation(&[1.0, 2.0, 1.0, 2.0], 1e12, None, 5.0), Judgement::Unknown);
        assert!(breaks(&[1.0, 2.0, 1.0, 2.0, 1.0], 1e12, None, 5.0));
    }

    #[test]
    fn a_constant_series_needs_more_than_its_floor() {
        let constant = [50.0; 6];
        assert!(!breaks(&constant, 50.001, None, 5.0), "2 % of 50 is 1: five of them are 5");
        assert!(!breaks(&constant, 55.0, None, 5.0));
        assert!(breaks(&constant, 55.01, None, 5.0));
        assert!(breaks(&constant, 44.99, None, 5.0));
        assert!(!breaks(&constant, 50.5, Some(0.1), 5.0));
        assert!(breaks(&constant, 50.51, Some(0.1), 5.0));
        assert!(!breaks(&[0.0; 6], 0.0, None, 5.0));
        assert!(breaks(&[0.0; 6], 0.1, None, 5.0));
    }

    #[test]
    fn what_decided_it_can_be_computed_again() {
        let Judgement::Breach(evidence) = deviation(&[1.0, 2.0, 3.0, 4.0, 5.0], -7.0, None, 5.0) else {
            panic!("it is 6.3 standard deviations away")
        };
        let sigma = 2.5_f64.sqrt();
        let z = (-7.0 - 3.0) / sigma;
        let expected = Evidence::DeviationFromMean { mean: 3.0, sigma, z, k: 5.0, n: 5, window_minutes: 10 };
        assert_eq!(evidence, expected);
    }

    #[test]
    fn a_late_reading_is_not_compared_with_what_came_after_it() {
        let condition = Condition::DeviationFromMean(Deviation {
            window_minutes: 10,
            k: 5.0,
            min_buckets: 5,
            min_sigma: None,
        });
        let buckets = (0..10).map(|minute| Bucket { minute, count: 1, mean: f64::from(minute % 2) });
        let mut window = Window::new(10, buckets);
        assert_eq!(judge(&condition, at(10), 1e9, Some(&mut window), true), Judgement::Unknown);
        assert!(matches!(judge(&condition, at(10), 1e9, Some(&mut window), false), Judgement::Breach(_)));
    }
}
