//! The notification hub: `POST {url}/api/events` with the header `X-API-Key`.
//!
//! Its surprises: 200 with `processed: 0` means that it told nobody; malformed JSON and bodies over 1 MiB are 500, so a
//! horizon has to end them.

use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::super::send::{Answer, Target};

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

#[derive(Deserialize)]
struct Published {
    processed: u64,
}

/// Where and with what headers.
///
/// # Errors
/// Says what is wrong with the destination's settings.
pub fn target(base: &str, key: Option<&SecretString>) -> Result<Target, String> {
    let key = key.ok_or("the hub wants an API key, and the destination has no secret")?;
    let mut value = HeaderValue::from_str(key.expose_secret())
        .map_err(|_| "the destination's secret can't stand in a header".to_owned())?;
    value.set_sensitive(true);
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(X_API_KEY, value);
    Target::new(&format!("{}/api/events", base.trim_end_matches('/')), headers)
}

/// What somebody should know although the hub accepted it.
pub fn warning(answer: &Answer) -> Option<String> {
    match serde_json::from_slice::<Published>(&answer.body) {
        Ok(Published { processed: 0 }) => {
            Some("the hub accepted it and told nobody (processed: 0)".to_owned())
        }
        Ok(_) => None,
        Err(_) => Some("the hub accepted it, but its answer is not a hub's".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_goes_into_its_header_and_into_no_debug_output() {
        let target_of = |url| target(url, Some(&"hush".into()));
        let found = target_of("https://hub.example/").unwrap();
        assert_eq!(found.uri(), "https://hub.example/api/events");
        assert_eq!(found.headers()[X_API_KEY], "hush");
        assert!(!format!("{found:?}").contains("hush"));
        assert!(target("https://hub.example", None).is_err());
        assert!(target_of("not a url").is_err());
        assert!(target("https://hub.example", Some(&"a\nb".into())).is_err());
    }

    #[test]
    fn processed_nobody_is_a_warning() {
        let warned = |body: &str| {
            let answer = Answer { status: 200, retry_after: None, body: body.into() };
            warning(&answer).is_some()
        };
        assert!(!warned(r#"{"published":true,"processed":2}"#));
        assert!(warned(r#"{"published":true,"processed":0}"#));
        assert!(warned("<html>"));
    }
}
