//! What a receiver promises: an answer to each call.

use std::fmt;
use std::time::Instant;

use axum::http::HeaderMap;

use super::answer::Reply;

/// One call, as far as a receiver looks at it.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// The HTTP method.
    pub method: &'a str,
    /// The path, without a query.
    pub path: &'a str,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The body; `None` if it was larger than a mebibyte.
    pub body: Option<&'a [u8]>,
}

impl<'a> Call<'a> {
    /// A header's text, if it is there and is text.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// A receiver's mind.
pub trait Contract: fmt::Debug + Send {
    /// The answer to a call that came at `now`, which must not be earlier than the call before.
    fn answer(&mut self, call: Call<'_>, now: Instant) -> Reply;
}
