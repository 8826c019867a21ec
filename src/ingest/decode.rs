//! From a message's bytes to raw readings. Pure. One bad element of an array refuses itself, never the others.

use std::borrow::Cow;

use serde::Deserialize;
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
    #[serde(default)]
    pub unit: Option<String>,
}

/// The elements of a message: one for an object, one an element for an array, one refusal for what is not JSON.
pub fn decode(payload: &[u8]) -> Vec<Result<RawReading<'_>, Refusal>> {
    if !is_array(payload) {
        return vec![serde_json::from_slice(payload).map_err(|error| refusal(&error))];
    }
    if let Ok(readings) = serde_json::from_slice::<Vec<RawReading<'_>>>(payload) {
        return readings.into_iter().map(Ok).collect();
    }
    match serde_json::from_slice::<Vec<&RawValue>>(payload) {
        Ok(elements) => elements
            .into_iter()
            .map(|element| serde_json::from_str(element.get()).map_err(|error| refusal(&error)))
            .collect(),
        Err(error) => vec![Err(refusal(&error))],
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

fn refusal(error: &serde_json::Error) -> Refusal {
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
