//! A destination's own policy: how patiently it is tried again, how fast and how wide it is sent to, and after how many
//! failures it is left alone. Pure.

use serde::Deserialize;
use serde_json::Value;

use crate::retry::RetryPolicy;

/// How fast and how wide a destination is sent to.
#[derive(Debug, Clone, PartialEq)]
pub struct Pace {
    /// Requests a second, of all processes together; `None`: as many as there are.
    pub rate: Option<f64>,
    /// So many of them may come at once, after a time without any.
    pub burst: u32,
    /// Requests under way at once, of all processes together; `None`: the service's limit, for each process.
    pub concurrency: Option<u32>,
    /// It is left alone when so many notifications in a row failed; 0: never.
    pub breaker_failures: u32,
}

/// The fields of `destinations.policy` that are about pace.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Own {
    rate: Option<f64>,
    burst: Option<u32>,
    concurrency: Option<u32>,
    breaker_failures: Option<u32>,
}

const FIELDS: [&str; 4] = ["rate", "burst", "concurrency", "breaker_failures"];

/// Requests a second. The lowest is one in about 28 hours.
const RATES: std::ops::RangeInclusive<f64> = 0.00001..=100_000.0;

impl Pace {
    /// No limit of its own.
    pub fn unlimited(breaker_failures: u32) -> Self {
        Self { rate: None, burst: 1, concurrency: None, breaker_failures }
    }

    /// The service's, with the fields that a destination's own `policy` object names.
    ///
    /// # Errors
    /// Says which field is of the wrong type or out of bounds.
    fn overlaid(breaker_failures: u32, own: Value) -> Result<Self, String> {
        let own: Own = serde_json::from_value(own).map_err(|error| error.to_string())?;
        if own.rate.is_some_and(|rate| !RATES.contains(&rate)) {
            return Err("rate must be 0.00001 to 100000 requests a second".to_owned());
        }
        if own.burst.is_some() && own.rate.is_none() {
            return Err("burst needs a rate".to_owned());
        }
        for (field, value, lowest) in [
            ("burst", own.burst, 1),
            ("concurrency", own.concurrency, 1),
            ("breaker_failures", own.breaker_failures, 0),
        ] {
            if value.is_some_and(|value| !(lowest..=1000).contains(&value)) {
                return Err(format!("{field} must be {lowest} to 1000"));
            }
        }
        Ok(Self {
            rate: own.rate,
            burst: own.burst.unwrap_or(1),
            concurrency: own.concurrency,
            breaker_failures: own.breaker_failures.unwrap_or(breaker_failures),
        })
    }
}

/// Reads a destination's `policy` object over what the service says.
///
/// # Errors
/// Says which field is unknown, of the wrong type or out of bounds.
pub fn read(retry: &RetryPolicy, breaker_failures: u32, own: &Value) -> Result<(RetryPolicy, Pace), String> {
    let Some(fields) = own.as_object() else { return Err("a policy is an object".to_owned()) };
    let (pace, rest) = fields.clone().into_iter().partition(|(name, _)| FIELDS.contains(&name.as_str()));
    Ok((retry.overlaid(&Value::Object(rest))?, Pace::overlaid(breaker_failures, Value::Object(pace))?))
}

/// Where a worker stands among those that are alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// How many there are.
    pub workers: u32,
    /// How many of them are older.
    pub older: u32,
    /// It came so lately that the others may not have made room for it.
    pub new: bool,
}

impl Place {
    /// Its share of so many slots. The shares of all add up to them; the oldest have what can't be divided, so that one that
    /// joins takes nothing that is in use.
    pub fn share(self, slots: u32) -> u32 {
        if self.workers == 0 || (self.new && self.workers > 1) {
            return 0;
        }
        slots / self.workers + u32::from(self.older < slots % self.workers)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn retry() -> RetryPolicy {
        RetryPolicy {
            first_delay_ms: 1000,
            factor: 2.0,
            max_delay_ms: 900_000,
            jitter: 0.2,
            horizon_seconds: 259_200,
        }
    }

    #[test]
    fn a_policy_of_its_own_names_what_is_different() {
        let (same, pace) = read(&retry(), 5, &json!({})).unwrap();
        assert_eq!((same, pace), (retry(), Pace::unlimited(5)));
        let own =
            json!({"horizon_seconds": 5, "rate": 0.5, "burst": 3, "concurrency": 1, "breaker_failures": 0});
        let (own, pace) = read(&retry(), 5, &own).unwrap();
        assert_eq!(own.horizon_seconds, 5);
        assert_eq!(pace, Pace { rate: Some(0.5), burst: 3, concurrency: Some(1), breaker_failures: 0 });
    }

    #[test]
    fn what_is_wrong_with_a_policy_is_said_by_name() {
        for (wrong, told) in [
            (json!({"rate": 0}), "rate must be"),
            (json!({"rate": -1.0}), "rate must be"),
            (json!({"rate": 1e9}), "rate must be"),
            (json!({"rate": "fast"}), "fast"),
            (json!({"burst": 3}), "burst needs a rate"),
            (json!({"rate": 1, "burst": 0}), "burst must be"),
            (json!({"concurrency": 0}), "concurrency must be"),
            (json!({"concurrency": 1.5}), "1.5"),
            (json!({"breaker_failures": 1001}), "breaker_failures must be 0 to 1000"),
            (json!({"rates": 1}), "rates"),
            (json!({"factor": 0.5}), "factor"),
            (json!([]), "object"),
        ] {
            let error = read(&retry(), 5, &wrong).unwrap_err();
            assert!(error.contains(told), "{wrong}: {error}");
        }
    }

    #[test]
    fn the_shares_of_all_workers_add_up() {
        for workers in 1..6 {
            for slots in 1..20 {
                let share = |older| Place { workers, older, new: false }.share(slots);
                assert_eq!((0..workers).map(share).sum::<u32>(), slots);
                assert!(share(0) - share(workers - 1) <= 1);
            }
        }
        assert_eq!(Place { workers: 2, older: 1, new: true }.share(8), 0);
        assert_eq!(Place { workers: 1, older: 0, new: true }.share(8), 8);
    }
}
