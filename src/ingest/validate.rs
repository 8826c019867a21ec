//! From a raw reading to one that may be stored. Pure: the clock is given.

use std::borrow::Cow;

use jiff::Timestamp;
use serde_json::json;

use super::decode::RawReading;
use super::reject::{Reason, Refusal};
use crate::model::reading::UnixMicros;

/// Longest device name in bytes.
pub const DEVICE_MAX: usize = 256;
/// Longest metric name in bytes.
pub const METRIC_MAX: usize = 128;
/// Largest magnitude of a value.
pub const LARGEST_VALUE: f64 = 1e140;
/// Longest unit in bytes.
const UNIT_MAX: usize = 32;

/// The times that are accepted.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// Nothing before it.
    pub from: UnixMicros,
    /// Nothing after it.
    pub until: UnixMicros,
}

impl Window {
    /// The window around `now`.
    pub fn around(now: UnixMicros, accepted_days: u32, future_tolerance_seconds: u32) -> Self {
        Self {
            from: UnixMicros(now.0 - i64::from(accepted_days) * 86_400_000_000),
            until: UnixMicros(now.0 + i64::from(future_tolerance_seconds) * 1_000_000),
        }
    }
}

/// A reading that may be stored once its series is known.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedReading<'a> {
    /// The name that the sensor gives itself.
    pub device: Cow<'a, str>,
    /// What it measures.
    pub metric: Cow<'a, str>,
    /// For people.
    pub unit: Option<Cow<'a, str>>,
    /// When it was taken.
    pub ts: UnixMicros,
    /// Finite.
    pub value: f64,
}

impl NamedReading<'_> {
    /// The reading as a JSON object, for the record.
    pub fn to_json(&self) -> String {
        let (device, metric, unit) = (&self.device, &self.metric, &self.unit);
        let ts = self.ts.to_timestamp();
        json!({ "device": device, "metric": metric, "unit": unit, "ts": ts, "value": self.value }).to_string()
    }
}

/// Checks a reading. `fallback` is its time when it brings none: the broker's store time plus its place in the message,
/// so that a redelivery is the same reading.
///
/// # Errors
/// [`Refusal`] with the first rule that it breaks.
pub fn validate<'a>(
    raw: RawReading<'a>,
    fallback: UnixMicros,
    window: Window,
) -> Result<NamedReading<'a>, Refusal> {
    check_text("device", &raw.device, DEVICE_MAX)?;
    check_text("metric", &raw.metric, METRIC_MAX)?;
    if let Some(unit) = &raw.unit {
        check_text("unit", unit, UNIT_MAX)?;
    }
    // The largest whose squares can be added up a hundred million times: statistics must not fail on what was stored.
    if raw.value.abs() > LARGEST_VALUE || raw.value.is_nan() {
        return Err(Refusal::new(
            Reason::NotFinite,
            format!("value is not a number from -{LARGEST_VALUE:e} to {LARGEST_VALUE:e}"),
        ));
    }
    let ts = match raw.ts.map(|ts| ts.get()) {
        // The broker's own time is never refused: nobody could send it better.
        None | Some("null") => return Ok(named(raw, fallback)),
        Some(text) => parse_ts(text)?,
    };
    if ts < window.from {
        return Err(Refusal::new(
            Reason::TooOld,
            format!("{} lies before the accepted window", ts.to_timestamp()),
        ));
    }
    if ts > window.until {
        return Err(Refusal::new(Reason::InTheFuture, format!("{} lies in the future", ts.to_timestamp())));
    }
    Ok(named(raw, ts))
}

fn named(raw: RawReading<'_>, ts: UnixMicros) -> NamedReading<'_> {
    let RawReading { device, metric, unit, value, .. } = raw;
    NamedReading { device, metric, unit, ts, value }
}

fn check_text(field: &str, text: &str, max: usize) -> Result<(), Refusal> {
    let problem = if text.trim().is_empty() {
        "is empty".to_owned()
    } else if text.len() > max {
        format!("is longer than {max} bytes")
    } else if text.chars().any(char::is_control) {
        "has control characters".to_owned()
    } else {
        return Ok(());
    };
    Err(Refusal::new(Reason::BadText, format!("{field} {problem}")))
}

/// An RFC 3339 string, or Unix time as a number. Its unit shows in its size: the smallest of seconds, milliseconds,
/// microseconds and nanoseconds that puts it before the year 5138.
///
/// # Errors
/// [`Refusal`] for any other JSON.
pub fn parse_ts(json: &str) -> Result<UnixMicros, Refusal> {
    let bad = || Refusal::new(Reason::BadTime, "ts is neither an RFC 3339 time nor a Unix time");
    if let Some(text) = json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        return text.parse::<Timestamp>().map(UnixMicros::from).map_err(|_| bad());
    }
    if let Ok(number) = json.parse::<i64>() {
        let micros = match number.unsigned_abs() {
            0..100_000_000_000 => number * 1_000_000,
            100_000_000_000..100_000_000_000_000 => number * 1_000,
            100_000_000_000_000..100_000_000_000_000_000 => number,
            _ => number / 1_000,
        };
        return Ok(UnixMicros(micros));
    }
    let seconds: f64 = json.parse().map_err(|_| bad())?;
    let scale = match seconds.abs() {
        magnitude if magnitude < 1e11 => 1e6,
        magnitude if magnitude < 1e14 => 1e3,
        magnitude if magnitude < 1e17 => 1.0,
        _ => 1e-3,
    };
    // A float that does not fit saturates, and lies outside every window.
    Ok(UnixMicros((seconds * scale).round() as i64))
}

#[cfg(test)]
mod tests {
    use super::super::decode::decode;
    use super::*;

    const NOW: UnixMicros = UnixMicros(1_790_000_000_000_000);

    fn check(json: &str) -> Result<(String, i64, f64), Reason> {
        let raw = decode(json.as_bytes()).pop().unwrap().map_err(|refusal| refusal.reason)?;
        let window = Window::around(NOW, 90, 300);
        let named = validate(raw, UnixMicros(NOW.0 + 3), window).map_err(|refusal| refusal.reason)?;
        Ok((named.device.into_owned(), named.ts.0 - NOW.0, named.value))
    }

    fn check_ts(ts: &str) -> Result<i64, Reason> {
        check(&format!(r#"{{"device":"d","metric":"m","value":1,"ts":{ts}}}"#)).map(|(_, ts, _)| ts)
    }

    #[test]
    fn a_time_is_read_in_every_usual_form() {
        assert_eq!(check_ts(r#""2026-09-21T14:13:20Z""#), Ok(0));
        assert_eq!(check_ts(r#""2026-09-21T16:13:20.000005+02:00""#), Ok(5));
        assert_eq!(check_ts("1790000000"), Ok(0));
        assert_eq!(check_ts("1790000000.5"), Ok(500_000));
        assert_eq!(check_ts("1790000000001"), Ok(1_000));
        assert_eq!(check_ts("1790000000000001"), Ok(1));
        assert_eq!(check_ts("1790000000000001000"), Ok(1));
        for bad in [r#""yesterday""#, "true", "[]", r#""2026-09-21""#] {
            assert_eq!(check_ts(bad), Err(Reason::BadTime), "{bad}");
        }
    }

    #[test]
    fn a_reading_without_a_time_has_the_time_it_was_stored() {
        assert_eq!(check(r#"{"device":"d","metric":"m","value":1}"#), Ok(("d".into(), 3, 1.0)));
        assert_eq!(check_ts("null"), Ok(3));
    }

    #[test]
    fn absurd_times_are_refused() {
        assert_eq!(check_ts("0"), Err(Reason::TooOld));
        assert_eq!(check_ts("1e300"), Err(Reason::InTheFuture));
        assert_eq!(check_ts("1790000301"), Err(Reason::InTheFuture));
        assert_eq!(check_ts("1790000299"), Ok(299_000_000));
    }

    #[test]
    fn empty_long_and_unprintable_names_are_refused() {
        let named = |device: &str| check(&format!(r#"{{"device":"{device}","metric":"m","value":1}}"#));
        assert_eq!(named(""), Err(Reason::BadText));
        assert_eq!(named("  "), Err(Reason::BadText));
        assert_eq!(named("a\\u0000b"), Err(Reason::BadText));
        assert_eq!(named(&"x".repeat(257)), Err(Reason::BadText));
        assert!(named("Pümpe 1/a").is_ok());
    }
}
