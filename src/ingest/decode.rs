//! From a message's bytes to raw readings. Pure. One bad element of an array refuses itself, never the others.

use std::borrow::Cow;
use std::fmt;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::reject::{Reason, Refusal};

/// A reading as it was sent: `{"device", "metric", "value", "ts"?, "unit"?}`. Other fields are ignored.
#[derive(Debug, Deserialize)]
pub struct RawReading<'a> {
    /// The name that the sensor gives itself.
    #[serde(borrow)]
    pub device: Cow<'a, str>,
    /// What it measures.
    #[serde(borrow)]
    pub metric: Cow<'a, str>,
    /// In `unit`.
    pub value: f64,
    /// When, if the sensor says so; read by `validate`.
    #[serde(borrow, default)]
    pub ts: Option<&'a RawValue>,
    /// For people; the first one seen stays.
    #[serde(borrow, default)]
    pub unit: Option<Cow<'a, str>>,
}

/// Hands on the elements of a message with their places: one of an object, one an element of an array.
///
/// # Errors
/// If the message as a whole is not JSON: then nothing that was handed on counts.
pub fn decode_each<'a>(
    payload: &'a [u8],
    mut each: impl FnMut(usize, Result<RawReading<'a>, Refusal>),
) -> Result<(), Refusal> {
    if !is_array(payload) {
        let reading = serde_json::from_slice(payload);
        return match reading.map_err(|error| refusal(&error)) {
            Err(error) if error.reason == Reason::NotJson => Err(error),
            element => {
                each(0, element);
                Ok(())
            }
        };
    }
    let mut handed_on = 0;
    let whole = {
        let mut input = serde_json::Deserializer::from_slice(payload);
        let elements = Elements { handed_on: &mut handed_on, each: &mut each };
        input.deserialize_seq(elements).and_then(|()| input.end())
    };
    if whole.is_ok() {
        return Ok(());
    }
    // One of them is no reading: looked at one by one from there.
    let elements: Vec<&RawValue> = serde_json::from_slice(payload).map_err(|error| refusal(&error))?;
    for (index, element) in elements.into_iter().enumerate().skip(handed_on) {
        each(index, serde_json::from_str(element.get()).map_err(|error| refusal(&error)));
    }
    Ok(())
}

/// The elements of a message: one for an object, one an element for an array, one refusal for what is not JSON.
pub fn decode(payload: &[u8]) -> Vec<Result<RawReading<'_>, Refusal>> {
    let mut elements = Vec::new();
    match decode_each(payload, |_, element| elements.push(element)) {
        Ok(()) => elements,
        Err(refusal) => vec![Err(refusal)],
    }
}

/// Hands on the elements of an array as they are read: no list of them is made.
struct Elements<'n, F> {
    handed_on: &'n mut usize,
    each: &'n mut F,
}

impl<'a, F: FnMut(usize, Result<RawReading<'a>, Refusal>)> Visitor<'a> for Elements<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of readings")
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut sequence: A) -> Result<(), A::Error> {
        while let Some(reading) = sequence.next_element()? {
            (self.each)(*self.handed_on, Ok(reading));
            *self.handed_on += 1;
        }
        Ok(())
    }
}

/// The bytes that each element of [`decode`] was made of.
pub fn as_sent(payload: &[u8]) -> Vec<&[u8]> {
    if is_array(payload)
        && let Ok(elements) = serde_json::from_slice::<Vec<&RawValue>>(payload)
    {
        return elements.into_iter().map(|element| element.get().as_bytes()).collect();
    }
    vec![payload]
}

fn is_array(payload: &[u8]) -> bool {
    payload.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[')
}

pub(super) fn refusal(error: &serde_json::Error) -> Refusal {
    let text = error.to_string();
    let reason = if text.starts_with("number out of range") {
        Reason::NotFinite
    } else if error.is_data() {
        Reason::NotAReading
    } else {
        Reason::NotJson
    };
    Refusal::new(reason, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reasons(payload: &str) -> Vec<Result<String, Reason>> {
        decode(payload.as_bytes())
            .into_iter()
            .map(|element| element.map(|r| r.device.into_owned()).map_err(|refusal| refusal.reason))
            .collect()
    }

    #[test]
    fn an_object_and_an_array_are_read() {
        assert_eq!(reasons(r#"{"device":"a","metric":"m","value":1}"#), [Ok("a".into())]);
        let two = r#" [{"device":"a","metric":"m","value":1.5,"extra":[1]},{"device":"b","metric":"m","value":-2}]"#;
        assert_eq!(reasons(two), [Ok("a".into()), Ok("b".into())]);
        assert_eq!(reasons("[]"), []);
    }

    #[test]
    fn one_bad_element_refuses_itself_only() {
        let mixed = r#"[{"device":"a","metric":"m","value":1},{"device":"b","metric":"m"},7,
            {"device":"c","metric":"m","value":"1"},{"device":"d","metric":"m","value":1e999},
            {"device":"e","metric":"m","value":2}]"#;
        assert_eq!(
            reasons(mixed),
            [
                Ok("a".into()),
                Err(Reason::NotAReading),
                Err(Reason::NotAReading),
                Err(Reason::NotAReading),
                Err(Reason::NotFinite),
                Ok("e".into())
            ]
        );
    }

    #[test]
    fn what_is_not_json_is_one_refusal() {
        for bad in
            ["", "hello", "{", r#"[{"device":"a""#, "\u{0}", r#"{"device":"a","metric":"m","value":NaN}"#]
        {
            assert_eq!(reasons(bad), [Err(Reason::NotJson)], "{bad:?}");
        }
        assert_eq!(decode(&[0xff, 0xfe]).len(), 1);
        assert!(decode(&[0xff, 0xfe])[0].is_err());
    }
}
