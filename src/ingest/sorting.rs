//! Readings that somebody hands in at once: what will be accepted, made into messages, and what will not, and why. Pure.
//!
//! It asks the same functions as ingestion itself, so what is accepted here is not rejected there, but for what only the
//! database can tell: quotas, and another value for a time that has one.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserializer, Serialize};
use serde_json::value::RawValue;

use super::decode::RawReading;
use super::reject::{Reason, Refusal};
use super::validate::{Window, validate};
use crate::model::reading::UnixMicros;

/// Readings of one message at most: a message is stored as a whole.
const READINGS_EACH: usize = 500;
/// Bytes of one message at most, far below what a broker takes (1 MiB unless told otherwise).
const BYTES_EACH: usize = 256 * 1024;
/// Refusals that are told one by one; the others are counted.
const REFUSALS_TOLD: usize = 100;

/// A reading that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// Its place in what was sent, from 0.
    pub index: usize,
    /// As in `rejected_readings.reason`.
    pub reason: &'static str,
    /// Why, in words.
    pub detail: String,
}

/// What was sent, sorted.
#[derive(Debug, Default)]
pub struct Sorted {
    /// Messages to publish, with their number of readings.
    pub messages: Vec<(Bytes, usize)>,
    /// Readings in them.
    pub accepted: usize,
    /// Readings that are not.
    pub refused: usize,
    /// The first of those.
    pub refusals: Vec<Refused>,
    /// How many of all those, by reason.
    pub by_reason: BTreeMap<&'static str, u64>,
    growing: Vec<u8>,
    growing_readings: usize,
}

impl Sorted {
    /// Of a JSON object, or an array of them. A reading without a time gets `now`, plus the number of those accepted before it in microseconds.
    ///
    /// # Errors
    /// If it is not JSON.
    pub fn of_json(sent: &[u8], now: UnixMicros, window: Window) -> Result<Self, Refusal> {
        let mut sorted = Self::default();
        each_element(sent, |element| sorted.sort(element.get(), now, window))?;
        sorted.finish();
        Ok(sorted)
    }

    /// Of lines, each a JSON object or an array of them. A line that is not JSON refuses itself.
    pub fn of_lines(sent: &[u8], now: UnixMicros, window: Window) -> Self {
        let mut sorted = Self::default();
        for line in sent.split(|byte| *byte == b'\n') {
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            if let Err(refusal) = each_element(line, |element| sorted.sort(element.get(), now, window)) {
                sorted.refuse(refusal);
            }
        }
        sorted.finish();
        sorted
    }

    fn sort(&mut self, sent: &str, now: UnixMicros, window: Window) {
        let at = UnixMicros(now.0 + self.accepted as i64);
        match with_time(sent, at, window) {
            Ok(reading) => self.add(&reading),
            Err(refusal) => self.refuse(refusal),
        }
    }

    fn add(&mut self, reading: &str) {
        if self.growing_readings == READINGS_EACH || self.growing.len() + reading.len() > BYTES_EACH {
            self.finish();
        }
        self.growing.push(if self.growing.is_empty() { b'[' } else { b',' });
        self.growing.extend_from_slice(reading.as_bytes());
        self.growing_readings += 1;
        self.accepted += 1;
    }

    fn refuse(&mut self, refusal: Refusal) {
        *self.by_reason.entry(refusal.reason.as_str()).or_default() += 1;
        if self.refusals.len() < REFUSALS_TOLD {
            let index = self.accepted + self.refused;
            self.refusals.push(Refused { index, reason: refusal.reason.as_str(), detail: refusal.detail });
        }
        self.refused += 1;
    }

    fn finish(&mut self) {
        if self.growing_readings > 0 {
            self.growing.push(b']');
            let message = std::mem::take(&mut self.growing);
            self.messages.push((message.into(), std::mem::take(&mut self.growing_readings)));
        }
    }
}

/// Hands on what an array holds, or the one thing that it is. No list of them is made: 32 MB may hold sixteen million.
///
/// # Errors
/// If the whole is not JSON: then nothing was handed on.
fn each_element<'a>(sent: &'a [u8], mut each: impl FnMut(&'a RawValue)) -> Result<(), Refusal> {
    let not_json = |error: serde_json::Error| Refusal::new(Reason::NotJson, error.to_string());
    let whole: &RawValue = serde_json::from_slice(sent).map_err(not_json)?;
    if whole.get().starts_with('[') {
        let mut array = serde_json::Deserializer::from_str(whole.get());
        array.deserialize_seq(EachElement(each)).map_err(not_json)
    } else {
        each(whole);
        Ok(())
    }
}

struct EachElement<F>(F);

impl<'a, F: FnMut(&'a RawValue)> Visitor<'a> for EachElement<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of readings")
    }

    fn visit_seq<A: SeqAccess<'a>>(mut self, mut sequence: A) -> Result<(), A::Error> {
        while let Some(element) = sequence.next_element()? {
            (self.0)(element);
        }
        Ok(())
    }
}

/// The reading as it was sent, with a time.
fn with_time(sent: &str, at: UnixMicros, window: Window) -> Result<String, Refusal> {
    if sent.len() > BYTES_EACH {
        let detail = format!("a reading must not be larger than {BYTES_EACH} bytes");
        return Err(Refusal::new(Reason::NotAReading, detail));
    }
    if !sent.starts_with('{') {
        return Err(Refusal::new(Reason::NotAReading, "a reading is a JSON object"));
    }
    let raw: RawReading<'_> = serde_json::from_str(sent).map_err(|error| super::decode::refusal(&error))?;
    let has_time = raw.ts.is_some();
    validate(raw, at, window)?;
    if has_time {
        return Ok(sent.to_owned());
    }
    // A `null` is no time, and two fields of one name are no reading, escaped or not.
    if sent.contains("\"ts\"") || sent.contains('\\') {
        let mut fields: serde_json::Map<_, _> =
            serde_json::from_str(sent).map_err(|error| super::decode::refusal(&error))?;
        fields.insert("ts".to_owned(), at.0.into());
        return Ok(serde_json::Value::Object(fields).to_string());
    }
    Ok(format!("{{\"ts\":{},{}", at.0, &sent[1..]))
}

#[cfg(test)]
mod tests {
    use super::super::decode::decode;
    use super::*;

    const NOW: UnixMicros = UnixMicros(1_790_000_000_000_000);

    fn window() -> Window {
        Window::around(NOW, 90, 300)
    }

    fn json(sent: &str) -> Sorted {
        Sorted::of_json(sent.as_bytes(), NOW, window()).unwrap()
    }

    #[test]
    fn a_reading_is_published_as_it_was_sent_and_one_without_a_time_gets_one_of_its_own() {
        let sorted = json(
            r#"[{"device":"a","metric":"m","value":1.10,"ts":1790000000,"x":[1]}, {"device":"a","metric":"m","value":2},
                {"device":"a","metric":"m","value":3,"ts":null}]"#,
        );
        assert_eq!((sorted.accepted, sorted.refused), (3, 0));
        let text = String::from_utf8(sorted.messages[0].0.to_vec()).unwrap();
        assert!(
            text.starts_with(
                r#"[{"device":"a","metric":"m","value":1.10,"ts":1790000000,"x":[1]},{"ts":1790000000000001,"#
            ),
            "{text}"
        );
        let times: Vec<_> =
            decode(text.as_bytes()).into_iter().map(|r| r.unwrap().ts.unwrap().get().to_owned()).collect();
        assert_eq!(times, ["1790000000", "1790000000000001", "1790000000000002"]);
    }

    #[test]
    fn each_bad_reading_is_refused_by_itself_with_its_place() {
        let sorted = json(
            r#"[{"device":"a","metric":"m","value":1},{"device":"","metric":"m","value":1},7,["a","m",3],
                {"device":"a","metric":"m","value":1e999},{"device":"a","metric":"m","value":1,"ts":5}]"#,
        );
        assert_eq!(sorted.accepted, 1);
        let refusals: Vec<_> =
            sorted.refusals.iter().map(|refused| (refused.index, refused.reason)).collect();
        let expected =
            [(1, "bad_text"), (2, "not_a_reading"), (3, "not_a_reading"), (4, "not_finite"), (5, "too_old")];
        assert_eq!(refusals, expected);
    }

    #[test]
    fn all_refusals_are_counted_by_reason_and_the_first_hundred_told() {
        let sorted = json(&format!("[{}{{\"device\":\"\",\"metric\":\"m\",\"value\":1}}]", "7,".repeat(300)));
        assert_eq!((sorted.refused, sorted.refusals.len()), (301, 100));
        assert_eq!(sorted.by_reason, BTreeMap::from([("bad_text", 1), ("not_a_reading", 300)]));
    }

    #[test]
    fn a_time_of_null_is_replaced_however_its_name_is_spelled() {
        let sorted = json(r#"{"device":"a\"b","metric":"m","value":1,"\u0074s":null}"#);
        let published = decode(&sorted.messages[0].0);
        let reading = published.into_iter().next().unwrap().unwrap();
        assert_eq!((&*reading.device, reading.ts.unwrap().get()), ("a\"b", "1790000000000000"));
    }

    #[test]
    fn lines_are_readings_or_arrays_and_one_that_is_not_json_refuses_itself() {
        let one = r#"{"device":"a","metric":"m","value":1}"#;
        let sent = format!("{one}\r\n\n[{one},{one}]\n{{oops\n{one}");
        let sorted = Sorted::of_lines(sent.as_bytes(), NOW, window());
        assert_eq!((sorted.accepted, sorted.refused), (4, 1));
        assert_eq!((sorted.refusals[0].index, sorted.refusals[0].reason), (3, "not_json"));
        assert!(Sorted::of_json(sent.as_bytes(), NOW, window()).is_err());
    }

    #[test]
    fn messages_are_small_and_hold_everything() {
        let one = format!(r#"{{"device":"a","metric":"m","value":1,"remark":"{}"}}"#, "x".repeat(2_000));
        let sorted = json(&format!("[{}]", vec![one; 1_200].join(",")));
        assert_eq!(sorted.accepted, 1_200);
        assert_eq!(sorted.messages.iter().map(|(_, readings)| readings).sum::<usize>(), 1_200);
        for (message, readings) in &sorted.messages {
            assert!(message.len() <= BYTES_EACH + 2 && *readings <= READINGS_EACH);
            assert_eq!(decode(message).into_iter().flatten().count(), *readings);
        }
        let huge =
            format!(r#"{{"device":"a","metric":"m","value":1,"remark":"{}"}}"#, "x".repeat(BYTES_EACH));
        assert_eq!(json(&huge).refused, 1);
        assert_eq!(json("[]").accepted, 0);
    }
}
