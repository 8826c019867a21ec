//! What somebody wants changed: who asks is found out first, then the body is read.
//!
//! Invariant: a stranger learns nothing about ids and bodies.

use axum::body::Body;
use axum::extract::{FromRequestParts, Request};
use axum::http::StatusCode;
use serde::de::DeserializeOwned;

use super::auth::{Caller, authorize};
use super::parameters::PathId;
use super::problem::Problem;
use super::scope::Scope;
use super::state::ApiState;

/// A body holds a few texts and nothing else.
const LARGEST_BODY: usize = 16 * 1024;

/// Somebody whose key has the scope, the id in the path, and the body.
///
/// # Errors
/// 401 without a good key, 403 without the scope, 400 if the id is no UUID.
pub async fn about_one(
    request: Request,
    state: &ApiState,
    scope: Scope,
) -> Result<(Caller, PathId, Body), Problem> {
    let (mut parts, body) = request.into_parts();
    let caller = authorize(&parts, state, scope).await?;
    let id = PathId::from_request_parts(&mut parts, state).await?;
    Ok((caller, id, body))
}

/// Somebody whose key has the scope, and the body.
///
/// # Errors
/// 401 without a good key, 403 without the scope.
pub async fn about_new(request: Request, state: &ApiState, scope: Scope) -> Result<(Caller, Body), Problem> {
    let (parts, body) = request.into_parts();
    Ok((authorize(&parts, state, scope).await?, body))
}

/// The JSON object of a body; `example` shows what it may be. A body that is empty counts as an empty object.
///
/// # Errors
/// 400 if it is something else, 413 if it is larger than 16 KiB.
pub async fn read<T: DeserializeOwned>(body: Body, example: &str) -> Result<T, Problem> {
    let bytes = axum::body::to_bytes(body, LARGEST_BODY)
        .await
        .map_err(|_| Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than 16 KiB"))?;
    let text = if bytes.is_empty() { b"{}" } else { bytes.as_ref() };
    serde_json::from_slice(text).map_err(|error| {
        let detail = format!("the body must be a JSON object such as {example}: {error}");
        Problem::new(StatusCode::BAD_REQUEST, detail)
    })
}
