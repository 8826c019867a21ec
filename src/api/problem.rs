//! Errors as programs read them: RFC 9457 problem details.
//!
//! Invariant: every answer of 400 or more carries `application/problem+json`, and none tells a stranger what went wrong
//! inside; that is logged here, once.

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};

use super::member::BadMember;
use super::scope::Scope;
use crate::db::error::DatabaseError;

/// The media type of a problem.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// Seconds after which it is worth asking again, when the database is away.
const RETRY_AFTER_SECONDS: &str = "5";

/// An answer that says what is wrong.
#[derive(Debug, Clone)]
pub struct Problem {
    status: StatusCode,
    members: Map<String, Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    /// A problem that its status names; `detail` says what happened this time.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self::typed("about:blank", status, status.canonical_reason().unwrap_or("Error"), detail)
    }

    fn typed(kind: &str, status: StatusCode, title: &str, detail: impl Into<String>) -> Self {
        let members = [
            ("type", kind.into()),
            ("title", title.into()),
            ("status", status.as_u16().into()),
            ("detail", detail.into().into()),
        ];
        let members = members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Self { status, members, headers: Vec::new() }
    }

    /// A parameter that can't be used: 400 that names it and says what it may be.
    pub fn bad_parameter(parameter: &str, allowed: &str) -> Self {
        Self::typed(
            "urn:watchbell:problem:bad-parameter",
            StatusCode::BAD_REQUEST,
            "Bad parameter",
            format!("`{parameter}` must be {allowed}"),
        )
        .with("parameter", parameter)
        .with("allowed", allowed)
    }

    /// A parameter that nobody knows, or that came twice.
    pub fn unusable_parameter(parameter: &str, why: &str, known: &[&str]) -> Self {
        let detail = format!("`{parameter}` {why}; the parameters here are: {}", known.join(", "));
        Self::typed("urn:watchbell:problem:bad-parameter", StatusCode::BAD_REQUEST, "Bad parameter", detail)
            .with("parameter", parameter)
            .with("allowed", known.join(", "))
    }

    /// A member of the body that can't be used: 400, or 409 if it could be at another time.
    pub fn bad_member(status: StatusCode, bad: &BadMember) -> Self {
        Self::typed("urn:watchbell:problem:bad-member", status, "Bad member", bad.to_string())
            .with("member", bad.member.as_str())
    }

    /// There is no such thing, or it belongs to somebody else: the two look the same.
    pub fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("there is no such {what}"))
    }

    /// Whoever asks did not show a key that is good for anything. `challenge` goes into `WWW-Authenticate`.
    pub fn unauthorized(detail: &str, challenge: &'static str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, detail)
            .header(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
    }

    /// The key is good, but not for this.
    pub fn missing_scope(scope: Scope) -> Self {
        Self::typed(
            "urn:watchbell:problem:missing-scope",
            StatusCode::FORBIDDEN,
            "Missing scope",
            format!("this needs a key with the scope `{scope}`"),
        )
        .with("scope", scope.as_str())
    }

    /// Come back later.
    pub fn unavailable(detail: &str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
            .header(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECONDS))
    }

    /// Something is broken here; what it is stands in the log.
    pub fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "this is our fault; the log has the details")
    }

    /// Adds a member beyond those of RFC 9457.
    #[must_use]
    pub fn with(mut self, member: &str, value: impl Into<Value>) -> Self {
        self.members.insert(member.to_owned(), value.into());
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        self.status
    }
}

impl From<DatabaseError> for Problem {
    fn from(error: DatabaseError) -> Self {
        if error.is_transient() {
            tracing::warn!(%error, "a request found the database away");
            Self::unavailable("the database does not answer")
        } else {
            tracing::error!(%error, "a request failed in the database");
            Self::internal()
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = Value::Object(self.members).to_string();
        let mut response = (self.status, [(header::CONTENT_TYPE, PROBLEM_JSON)], body).into_response();
        response.headers_mut().extend(self.headers);
        response
    }
}

/// Turns an error that the framework phrased in its own words into a problem. Pages for people stay as they are.
pub fn in_place_of_plain_text(response: Response) -> Response {
    let status = response.status();
    if !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let content_type = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if content_type.is_some_and(|value| !value.starts_with("text/plain")) {
        return response;
    }
    let mut problem = Problem::new(status, "the request could not be understood").into_response();
    for (name, value) in response.headers() {
        if *name != header::CONTENT_TYPE && *name != header::CONTENT_LENGTH {
            problem.headers_mut().insert(name.clone(), value.clone());
        }
    }
    problem
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_has_the_four_members_and_its_media_type() {
        let problem = Problem::bad_parameter("limit", "a whole number from 1 to 1000");
        assert_eq!(
            Value::Object(problem.members.clone()),
            serde_json::json!({
                "type": "urn:watchbell:problem:bad-parameter",
                "title": "Bad parameter",
                "status": 400,
                "detail": "`limit` must be a whole number from 1 to 1000",
                "parameter": "limit",
                "allowed": "a whole number from 1 to 1000",
            })
        );
        let response = problem.into_response();
        assert_eq!(response.status(), 400);
        assert_eq!(response.headers()[header::CONTENT_TYPE], PROBLEM_JSON);
    }

    #[test]
    fn a_broken_database_tells_a_stranger_nothing() {
        let problem = Problem::from(DatabaseError::Unreadable("column `hash` of api_keys".to_owned()));
        assert_eq!(problem.status(), 500);
        assert!(!Value::Object(problem.members).to_string().contains("hash"));
    }

    #[test]
    fn plain_text_errors_become_problems_and_keep_their_headers() {
        let plain = (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET")], "no").into_response();
        let response = in_place_of_plain_text(plain);
        assert_eq!(response.headers()[header::CONTENT_TYPE], PROBLEM_JSON);
        assert_eq!(response.headers()[header::ALLOW], "GET");
        let page = (StatusCode::NOT_FOUND, axum::response::Html("<p>")).into_response();
        assert_eq!(in_place_of_plain_text(page).headers()[header::CONTENT_TYPE], "text/html; charset=utf-8");
    }
}
