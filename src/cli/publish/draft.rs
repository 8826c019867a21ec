//! A reading on its way to the broker: checked by the service's own functions, movable in time. Pure.

use std::hash::{DefaultHasher, Hash, Hasher};

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::ingest::decode::decode;
use crate::ingest::reject::{Reason, Refusal};
use crate::ingest::validate::{Window, validate};
use crate::model::reading::UnixMicros;

/// Before the readings are moved, any time will do.
const ANY_TIME: Window = Window { from: UnixMicros(i64::MIN), until: UnixMicros(i64::MAX) };

/// The fields of a reading, each as JSON.
#[derive(Debug, Clone, Default)]
pub struct Fields {
    /// Text.
    pub device: Option<String>,
    /// Text.
    pub metric: Option<String>,
    /// Text.
    pub unit: Option<String>,
    /// A number.
    pub value: Option<String>,
    /// RFC 3339 text, or a Unix time.
    pub ts: Option<String>,
}

impl Fields {
    fn json(&self) -> String {
        let fields = [
            ("device", &self.device),
            ("metric", &self.metric),
            ("value", &self.value),
            ("unit", &self.unit),
            ("ts", &self.ts),
        ];
        let present: Vec<String> = fields
            .into_iter()
            .filter_map(|(name, json)| json.as_ref().map(|json| format!("\"{name}\":{json}")))
            .collect();
        format!("{{{}}}", present.join(","))
    }
}

/// A reading that the service would take, if its time suits it.
#[derive(Debug, Clone)]
pub struct Draft {
    fields: Fields,
    ts: Option<UnixMicros>,
}

impl Draft {
    /// Checks everything but whether the time lies in the accepted window.
    ///
    /// # Errors
    /// What the service would answer.
    pub fn check(fields: Fields) -> Result<Self, Refusal> {
        let ts = accepted(fields.json().as_bytes(), ANY_TIME)?;
        Ok(Self { ts: fields.ts.is_some().then_some(ts), fields })
    }

    /// When it was taken, if it says so.
    pub fn ts(&self) -> Option<UnixMicros> {
        self.ts
    }

    /// What makes it one reading and not another: two with the same key are one for the service. `None` without a time.
    pub fn key(&self) -> Option<u64> {
        let mut hasher = DefaultHasher::new();
        (&self.fields.device, &self.fields.metric, self.ts?.0).hash(&mut hasher);
        Some(hasher.finish())
    }

    /// The reading's JSON, `shift` microseconds later if one is asked for; and when that is.
    ///
    /// # Errors
    /// If the service would refuse its time; or if it has none and is to be moved.
    pub fn finish(
        mut self,
        shift: Option<i64>,
        window: Window,
    ) -> Result<(String, Option<UnixMicros>), Refusal> {
        if let Some(shift) = shift {
            let Some(ts) = self.ts else {
                return Err(Refusal::new(Reason::BadTime, "without a time it can't be moved to another"));
            };
            let moved = UnixMicros(ts.0.saturating_add(shift));
            self.fields.ts = Some(format!("\"{}\"", exact(moved)));
            self.ts = Some(moved);
        }
        let json = self.fields.json();
        if self.ts.is_some() {
            accepted(json.as_bytes(), window)?;
        }
        Ok((json, self.ts))
    }
}

/// Asks the service's own functions. Returns the reading's time.
fn accepted(json: &[u8], window: Window) -> Result<UnixMicros, Refusal> {
    match decode(json).pop() {
        Some(Ok(raw)) => validate(raw, UnixMicros(0), window).map(|reading| reading.ts),
        Some(Err(refusal)) => Err(refusal),
        None => Err(Refusal::new(Reason::NotAReading, "is empty")),
    }
}

/// An instant so that it can be given back to us: RFC 3339 with microseconds.
pub fn exact(at: UnixMicros) -> String {
    format!("{:.6}", at.to_timestamp())
}

/// What a file or a person wrote, as the JSON that the service reads: Unix times are numbers, and a date and time without
/// an offset is UTC. What is neither stays as it is, for the service to refuse.
pub fn time_from_text(text: &str) -> String {
    if text.parse::<i64>().is_ok() || serde_json::from_str::<f64>(text).is_ok() {
        return text.trim_start_matches('+').to_owned();
    }
    let has_time = text.contains(':');
    let at = text.parse::<Timestamp>().or_else(|error| match text.parse::<DateTime>() {
        Ok(local) if has_time => local.to_zoned(TimeZone::UTC).map(|zoned| zoned.timestamp()),
        _ => Err(error),
    });
    serde_json::Value::String(at.map_or_else(|_| text.to_owned(), |at| at.to_string())).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(value: &str, ts: Option<&str>) -> Fields {
        Fields {
            device: Some("\"pump-1\"".to_owned()),
            metric: Some("\"temperature\"".to_owned()),
            unit: None,
            value: Some(value.to_owned()),
            ts: ts.map(time_from_text),
        }
    }

    #[test]
    fn times_are_read_as_files_have_them() {
        for (text, micros) in [
            ("2013-12-02 21:15:00", 1_386_018_900_000_000),
            ("2013-12-02 21:15:00.25", 1_386_018_900_250_000),
            ("2013-12-02T21:15:00", 1_386_018_900_000_000),
            ("2013-12-02T22:15:00+01:00", 1_386_018_900_000_000),
            ("1386018900", 1_386_018_900_000_000),
            ("1386018900000", 1_386_018_900_000_000),
            ("1386018900.5", 1_386_018_900_500_000),
        ] {
            let draft = Draft::check(fields("1", Some(text))).unwrap();
            assert_eq!(draft.ts(), Some(UnixMicros(micros)), "{text}");
        }
        for text in ["", "2013-12-02", "yesterday", "2013-13-02 21:15:00"] {
            assert_eq!(Draft::check(fields("1", Some(text))).unwrap_err().reason, Reason::BadTime, "{text}");
        }
    }

    #[test]
    fn a_moved_reading_keeps_its_digits_and_says_its_time_to_the_microsecond() {
        let window = Window { from: UnixMicros(0), until: UnixMicros(i64::MAX) };
        let draft = Draft::check(fields("74.93588199999998", Some("2013-12-02 21:15:00"))).unwrap();
        let (json, ts) = draft.finish(Some(1), window).unwrap();
        assert_eq!(
            json,
            r#"{"device":"pump-1","metric":"temperature","value":74.93588199999998,"ts":"2013-12-02T21:15:00.000001Z"}"#
        );
        assert_eq!(exact(ts.unwrap()), "2013-12-02T21:15:00.000001Z");
    }

    #[test]
    fn what_lies_outside_the_window_after_the_move_is_refused() {
        let window = Window { from: UnixMicros(0), until: UnixMicros(100_000_000) };
        let draft = || Draft::check(fields("1", Some("99"))).unwrap();
        assert!(draft().finish(Some(1_000_000), window).is_ok());
        assert_eq!(draft().finish(Some(1_000_001), window).unwrap_err().reason, Reason::InTheFuture);
        assert_eq!(draft().finish(Some(-99_000_001), window).unwrap_err().reason, Reason::TooOld);
        assert_eq!(draft().finish(Some(i64::MAX), window).unwrap_err().reason, Reason::InTheFuture);
        let timeless = Draft::check(fields("1", None)).unwrap();
        assert_eq!(timeless.clone().finish(Some(1), window).unwrap_err().reason, Reason::BadTime);
        assert!(timeless.finish(None, window).unwrap().1.is_none());
    }
}
