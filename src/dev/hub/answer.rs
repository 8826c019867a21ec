//! What the demo hub may answer.
//!
//! Owns the words in which a test says how the hub should misbehave. [`super::rules`] and [`super::server`] use them.

use std::time::Duration;

/// What becomes of a call.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Answer {
    /// What the contract says.
    #[default]
    ByTheRules,
    /// What the contract says, but this much later: the call is taken at once, and its caller may be gone by then.
    Slow(Duration),
    /// This, whatever was asked.
    Reply(Reply),
    /// Nothing, for as long as the caller keeps the connection.
    Hang,
    /// The connection is closed without an answer.
    Close,
}

impl Answer {
    /// A status with an empty body.
    pub fn status(status: u16) -> Self {
        Self::Reply(Reply::new(status, ""))
    }

    /// 429 with a `retry-after` header; seconds or an HTTP date.
    pub fn too_many_requests(retry_after: &str) -> Self {
        Self::Reply(Reply::new(429, "").with_header("retry-after", retry_after))
    }
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Self {
        Self::Reply(reply)
    }
}

/// An HTTP answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// Headers, in the order in which they are sent.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Reply {
    /// An answer without further headers.
    pub fn new(status: u16, body: impl Into<String>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }

    /// An answer with a JSON body.
    pub fn json(status: u16, body: &serde_json::Value) -> Self {
        Self::new(status, body.to_string()).with_header("content-type", "application/json")
    }

    /// The same with one header more.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}
