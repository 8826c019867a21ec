//! The retry policy and its backoff schedule: from the number of an attempt to the wait before the next one. Pure.
//!
//! The only user of the crate `backoff`, which nobody maintains (RUSTSEC-2025-0012): replacing it touches this file only.

use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff;
use serde::{Deserialize, Serialize};

/// How patiently a destination is tried again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetryPolicy {
    /// Wait before the second attempt, in milliseconds.
    pub first_delay_ms: u64,
    /// Each wait is this many times the one before.
    pub factor: f64,
    /// No wait is longer, in milliseconds (`Retry-After` may ask for more).
    pub max_delay_ms: u64,
    /// Each wait is lengthened by a random share of itself, up to this one (0.2 = 20 %).
    pub jitter: f64,
    /// From the first moment it was owed until it is given up, in seconds.
    pub horizon_seconds: u64,
}

/// 400 days: no wait and no horizon is longer, so that every time computed from them can be stored.
const LONGEST_MS: u64 = 400 * 86_400_000;

impl RetryPolicy {
    /// This policy with the fields that a destination's own `policy` object names.
    ///
    /// # Errors
    /// Says which field is unknown, of the wrong type or out of bounds.
    pub fn overlaid(&self, own: &serde_json::Value) -> Result<Self, String> {
        let mut merged = serde_json::to_value(self).map_err(|error| error.to_string())?;
        if let (Some(fields), Some(own)) = (merged.as_object_mut(), own.as_object()) {
            fields.extend(own.clone());
        }
        let policy: Self = serde_json::from_value(merged).map_err(|error| error.to_string())?;
        match policy.problem() {
            Some((field, problem)) => Err(format!("{field} {problem}")),
            None => Ok(policy),
        }
    }

    /// The first field that is out of bounds, and what it must be.
    pub fn problem(&self) -> Option<(&'static str, &'static str)> {
        if !(1..=LONGEST_MS).contains(&self.first_delay_ms) {
            Some(("first_delay_ms", "must be 1 to 34560000000, which is 400 days"))
        } else if self.max_delay_ms > LONGEST_MS {
            Some(("max_delay_ms", "must be at most 34560000000, which is 400 days"))
        } else if !(1..=LONGEST_MS / 1000).contains(&self.horizon_seconds) {
            Some(("horizon_seconds", "must be 1 to 34560000, which is 400 days"))
        } else if !(1.0..=1000.0).contains(&self.factor) {
            Some(("factor", "must be from 1 to 1000"))
        } else if !(0.0..=1.0).contains(&self.jitter) {
            Some(("jitter", "must be from 0 to 1"))
        } else {
            None
        }
    }

    /// The wait after attempt `attempt` (1 for the first) failed. `chance` is a random number in 0..1 that lengthens it.
    pub fn delay(&self, attempt: u32, chance: f64) -> Duration {
        let first = Duration::from_millis(self.first_delay_ms);
        let longest = Duration::from_millis(self.max_delay_ms).max(first);
        let mut schedule = ExponentialBackoff {
            current_interval: first,
            initial_interval: first,
            // Jitter is ours: the crate's goes both ways and can't be given its randomness.
            randomization_factor: 0.0,
            multiplier: self.factor,
            max_interval: longest,
            // Its default gives up after 15 minutes; giving up is the horizon's business.
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        };
        let mut delay = first;
        for _ in 0..attempt.max(1) {
            delay = schedule.next_backoff().unwrap_or(longest);
            if delay >= longest {
                break;
            }
        }
        delay.min(longest).mul_f64(1.0 + self.jitter * chance)
    }

    /// When to try again, or that it is given up: the delay, but no earlier than the receiver asked for, and no later
    /// than the horizon, at which one last attempt is made. `owed` is the time since it was first owed.
    pub fn next(
        &self,
        attempt: u32,
        chance: f64,
        asked: Option<Duration>,
        owed: Duration,
    ) -> Option<Duration> {
        let left =
            Duration::from_secs(self.horizon_seconds).checked_sub(owed).filter(|left| !left.is_zero())?;
        // Jitter lengthens what the receiver asked for too, so that not all come back at the same instant.
        let floor = asked.unwrap_or_default().mul_f64(1.0 + self.jitter * chance);
        Some(self.delay(attempt, chance).max(floor).min(left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> RetryPolicy {
        RetryPolicy {
            first_delay_ms: 1000,
            factor: 2.0,
            max_delay_ms: 900_000,
            jitter: 0.2,
            horizon_seconds: 259_200,
        }
    }

    #[test]
    fn waits_double_up_to_the_maximum() {
        let seconds = |attempt| policy().delay(attempt, 0.0).as_secs();
        assert_eq!([1, 2, 3, 4, 10, 11, 12, 1_000_000].map(seconds), [1, 2, 4, 8, 512, 900, 900, 900]);
    }

    #[test]
    fn jitter_only_lengthens_a_wait() {
        assert_eq!(policy().delay(3, 0.0), Duration::from_secs(4));
        assert_eq!(policy().delay(3, 1.0), Duration::from_millis(4800));
    }

    #[test]
    fn retry_after_is_a_floor_that_jitter_raises_and_the_horizon_caps() {
        let minute = Some(Duration::from_secs(60));
        let day = Duration::from_secs(86_400);
        assert_eq!(policy().next(1, 0.0, minute, Duration::ZERO), minute);
        assert_eq!(policy().next(1, 1.0, minute, Duration::ZERO), Some(Duration::from_secs(72)));
        let year = Some(Duration::from_secs(365 * 86_400));
        assert_eq!(policy().next(1, 0.0, year, day), Some(2 * day));
    }

    #[test]
    fn the_last_attempt_is_made_at_the_horizon_and_none_after_it() {
        let horizon = Duration::from_secs(259_200);
        let second = Duration::from_secs(1);
        assert_eq!(policy().next(20, 0.0, None, horizon - second), Some(second));
        assert_eq!(policy().next(20, 0.0, None, horizon), None);
        assert_eq!(policy().next(20, 0.0, None, horizon + second), None);
    }

    #[test]
    fn a_policy_of_its_own_overrides_single_fields_and_refuses_unknown_ones() {
        let own = serde_json::json!({"horizon_seconds": 5});
        assert_eq!(policy().overlaid(&own).unwrap(), RetryPolicy { horizon_seconds: 5, ..policy() });
        assert!(policy().overlaid(&serde_json::json!({"horizon": 5})).is_err());
        for (field, value) in [
            ("jitter", -2.0),
            ("factor", 0.5),
            ("first_delay_ms", 1e16),
            ("horizon_seconds", 1e14),
            ("max_delay_ms", 1e17),
        ] {
            let integer = field.ends_with("_ms") || field.ends_with("_seconds");
            let value = if integer { (value as u64).into() } else { serde_json::json!(value) };
            let error = policy().overlaid(&serde_json::json!({ field: value })).unwrap_err();
            assert!(error.contains(field), "{error}");
        }
    }
}
