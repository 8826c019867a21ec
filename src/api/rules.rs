//! `/api/rules`: what to look for, in which devices, and who is told.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use uuid::Uuid;

use super::actor::Actor;
use super::auth::{Reader, Writer};
use super::json_body::JsonBody;
use super::parameters::{Parameters, PathId};
use super::problem::Problem;
use super::rule_draft::RuleDraft;
use super::rule_store::{self, RuleEntry, RuleError, RuleFilter, STATES, VersionEntry};
use super::state::ApiState;
use crate::db::tenant_scope;

impl From<RuleError> for Problem {
    fn from(error: RuleError) -> Self {
        match error {
            RuleError::Unknown => Self::not_found("rule"),
            RuleError::Archived => Self::new(StatusCode::CONFLICT, error.to_string()),
            RuleError::NameTaken(bad) => Self::bad_member(StatusCode::CONFLICT, &bad),
            RuleError::Bad(bad) => bad.into(),
            RuleError::Database(error) => error.into(),
        }
    }
}

/// The answer of `GET /api/rules`.
#[derive(Debug, Serialize)]
pub(super) struct RulePage {
    rules: Vec<RuleEntry>,
    next: Option<Uuid>,
}

/// The answer of `GET /api/rules/{id}`.
#[derive(Debug, Serialize)]
pub(super) struct WholeRule {
    #[serde(flatten)]
    rule: RuleEntry,
    versions: Vec<VersionEntry>,
}

/// `GET /api/rules`: all that are not archived, unless `state` says otherwise.
pub(super) async fn get_list(
    State(state): State<ApiState>,
    Reader(caller): Reader,
    parameters: Parameters,
) -> Result<Json<RulePage>, Problem> {
    let parameters = parameters.only(&["state", "metric", "name", "limit", "before"])?;
    let filter = RuleFilter {
        rule_id: None,
        state: parameters.choice("state", &STATES)?,
        metric: parameters.text("metric"),
        name: parameters.text("name"),
    };
    let page = parameters.page()?;
    let mut connection = state.pool.get().await?;
    let transaction = tenant_scope::begin(&mut connection, caller.tenant_id.0).await?;
    let found = rule_store::list(&transaction, &filter, page).await?;
    Ok(Json(RulePage { rules: found.rows, next: found.next }))
}

/// `POST /api/rules`
pub(super) async fn post(
    State(state): State<ApiState>,
    Writer(caller): Writer,
    JsonBody(body): JsonBody,
) -> Result<Response, Problem> {
    let draft = RuleDraft::parse(body)?;
    let mut connection = state.pool.get().await?;
    let rule = rule_store::create(&mut connection, &Actor::from(&caller), &draft).await?;
    let mut response = (StatusCode::CREATED, Json(&rule)).into_response();
    // Of digits and hyphens: it can't fail.
    if let Ok(address) = HeaderValue::try_from(format!("/api/rules/{}", rule.rule_id)) {
        response.headers_mut().insert(header::LOCATION, address);
    }
    Ok(response)
}

/// `GET /api/rules/{id}`
pub(super) async fn get_one(
    State(state): State<ApiState>,
    Reader(caller): Reader,
    PathId(id): PathId,
) -> Result<Json<WholeRule>, Problem> {
    let mut connection = state.pool.get().await?;
    let transaction = tenant_scope::begin(&mut connection, caller.tenant_id.0).await?;
    let rule = rule_store::find(&transaction, id).await?.ok_or_else(|| Problem::not_found("rule"))?;
    let versions = rule_store::versions(&transaction, id).await?;
    Ok(Json(WholeRule { rule, versions }))
}

/// `PATCH /api/rules/{id}`
pub(super) async fn patch(
    State(state): State<ApiState>,
    Writer(caller): Writer,
    PathId(id): PathId,
    JsonBody(body): JsonBody,
) -> Result<Json<RuleEntry>, Problem> {
    let mut connection = state.pool.get().await?;
    Ok(Json(rule_store::change(&mut connection, &Actor::from(&caller), id, body).await?))
}

/// `DELETE /api/rules/{id}`: archives it; its alerts and versions stay.
pub(super) async fn delete(
    State(state): State<ApiState>,
    Writer(caller): Writer,
    PathId(id): PathId,
) -> Result<Json<RuleEntry>, Problem> {
    let mut connection = state.pool.get().await?;
    Ok(Json(rule_store::archive(&mut connection, &Actor::from(&caller), id).await?))
}
