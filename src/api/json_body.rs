//! The body of a request as JSON.
//!
//! Invariant: as the last extractor of a handler it is read after the key was looked at: a stranger learns nothing from it.

use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::body::too_large;
use super::problem::Problem;

/// 10,000 points to test a rule with are some 600 kB.
const LARGEST_BODY: usize = 1024 * 1024;

/// A body that is JSON, whatever it says of itself; an empty one is `null`.
#[derive(Debug)]
pub struct JsonBody(pub Value);

impl JsonBody {
    /// What it asks for; an empty one is an empty object.
    ///
    /// # Errors
    /// 400 if it asks for something else; `example` shows what it may be.
    pub fn read<T: DeserializeOwned>(self, example: &str) -> Result<T, Problem> {
        let object = if self.0.is_null() { json!({}) } else { self.0 };
        serde_json::from_value(object).map_err(|error| {
            let detail = format!("the body must be a JSON object such as {example}: {error}");
            Problem::new(StatusCode::BAD_REQUEST, detail)
        })
    }
}

impl<S: Send + Sync> FromRequest<S> for JsonBody {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let body = axum::body::to_bytes(request.into_body(), LARGEST_BODY).await;
        let body = body.map_err(|_| too_large("in all", LARGEST_BODY))?;
        if body.is_empty() {
            return Ok(Self(Value::Null));
        }
        serde_json::from_slice(&body)
            .map(Self)
            .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, format!("the body is not JSON: {error}")))
    }
}
