//! How a browser logs in: HTTP Basic, with any user name and an API key for a password.
//!
//! Invariant: a page is made for a [`Visitor`] only, and a visitor's key has the scope `read`. The pages change nothing,
//! so that another site that makes a browser ask for them gains nothing.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::layout;
use crate::api::auth::{self, AuthError, Caller};
use crate::api::scope::Scope;
use crate::api::state::ApiState;

const CHALLENGE: HeaderValue = HeaderValue::from_static("Basic realm=\"watchbell\", charset=\"UTF-8\"");

/// Somebody who may look.
#[derive(Debug)]
pub struct Visitor(pub Caller);

impl FromRequestParts<ApiState> for Visitor {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Response> {
        let Some(key) = password(&parts.headers) else {
            return Err(log_in("Log in with any user name; the password is an API key with the scope read."));
        };
        match auth::authenticate(&state.pool, &key).await {
            Ok(caller) if caller.scopes.allow(Scope::Read) => Ok(Self(caller)),
            // A browser keeps a password that was not answered with 401, and there would be no way to another one.
            Ok(_) => Err(log_in("This key has not the scope read.")),
            Err(AuthError::Database(error)) => Err(layout::failure(error)),
            Err(AuthError::EndedKey) => Err(log_in("This key has expired or was revoked.")),
            Err(AuthError::NoKey | AuthError::UnknownKey) => Err(log_in("Nobody has this key.")),
        }
    }
}

fn log_in(what: &str) -> Response {
    let mut response = layout::message(StatusCode::UNAUTHORIZED, "Log in", what).into_response();
    response.headers_mut().insert(header::WWW_AUTHENTICATE, CHALLENGE);
    response
}

/// The password of HTTP Basic (RFC 7617).
fn password(headers: &HeaderMap) -> Option<String> {
    let pair = decode_base64(auth::credentials(headers, "Basic")?)?;
    let (_user, password) = std::str::from_utf8(&pair).ok()?.split_once(':')?;
    Some(password.trim().to_owned())
}

/// Base64 with the standard alphabet (RFC 4648, section 4), padded or not.
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 2);
    let (mut bits, mut held) = (0_u32, 0);
    for c in text.trim_end_matches('=').bytes() {
        let digit = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(digit);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held & 0xff) as u8);
        }
    }
    // One digit alone is no byte.
    (held < 6).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_reads_the_examples_of_its_rfc() {
        for (text, bytes) in [
            ("", ""),
            ("Zg==", "f"),
            ("Zm8=", "fo"),
            ("Zm9v", "foo"),
            ("Zm9vYg==", "foob"),
            ("Zm9vYmE=", "fooba"),
            ("Zm9vYmFy", "foobar"),
            ("Zm8", "fo"),
        ] {
            assert_eq!(decode_base64(text).unwrap(), bytes.as_bytes(), "{text}");
        }
        assert_eq!(decode_base64("+/8="), Some(vec![0xfb, 0xff]));
        for bad in ["Z", "Zm9vY", "Zm 9", "Zm9v-_", "é"] {
            assert_eq!(decode_base64(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_password_is_what_stands_behind_the_first_colon() {
        let with = |value: &'static str| {
            HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_static(value))])
        };
        assert_eq!(password(&with("Basic bWU6d2JfYTpi")).as_deref(), Some("wb_a:b"));
        assert_eq!(password(&with("Basic bWU=")), None);
        assert_eq!(password(&with("Bearer bWU6d2I=")), None);
    }
}
