//! The workflow engine: `POST {url}` with `X-Hub-Signature-256: sha256=<HMAC-SHA256 of the exact body>`, left out entirely
//! where the destination has no secret.
//!
//! Its surprises: it answers only after the whole workflow ran, minutes at worst, and it never removes duplicates. So it
//! has a long deadline of its own, and silence is ambiguous.

use hmac::{Hmac, KeyInit, Mac};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use sha2::Sha256;

use super::super::send::{Answer, Target};

const SIGNATURE: HeaderName = HeaderName::from_static("x-hub-signature-256");

#[derive(Deserialize)]
struct Started {
    execution_id: String,
}

/// Where and with what headers; those that are signed want [`signature`] too.
///
/// # Errors
/// Says what is wrong with the destination's settings.
pub fn target(url: &str) -> Result<Target, String> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Target::new(url, headers)
}

/// The header that signs this body.
///
/// # Errors
/// None that a secret could cause.
pub fn signature(secret: &SecretString, body: &[u8]) -> Result<(HeaderName, HeaderValue), String> {
    let value = HeaderValue::from_str(&format!("sha256={}", hmac_sha256(secret, body)?));
    Ok((SIGNATURE, value.map_err(|error| error.to_string())?))
}

/// The execution that the engine started, if its answer names it.
pub fn execution_id(answer: &Answer) -> Option<String> {
    serde_json::from_slice::<Started>(&answer.body).ok().map(|started| started.execution_id)
}

/// In lowercase hexadecimal; the key is the secret's UTF-8 (RFC 2104).
fn hmac_sha256(secret: &SecretString, body: &[u8]) -> Result<String, String> {
    let mac = Hmac::<Sha256>::new_from_slice(secret.expose_secret().as_bytes())
        .map_err(|error| error.to_string())?;
    let tag = mac.chain_update(body).finalize().into_bytes();
    Ok(tag.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_the_one_of_the_contract() {
        let secret = "It's a Secret to Everybody".into();
        let (name, value) = signature(&secret, b"Hello, World!").unwrap();
        assert_eq!(name, "x-hub-signature-256");
        let expected = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        assert_eq!(value, expected);
    }

    #[test]
    fn the_execution_is_kept() {
        let answer = |body: &str| Answer { status: 202, retry_after: None, body: body.into() };
        assert_eq!(execution_id(&answer(r#"{"execution_id":"e-1"}"#)).as_deref(), Some("e-1"));
        assert_eq!(execution_id(&answer("ok")), None);
    }
}
