//! `POST /api/alerts/{id}/acknowledge` and `/resolve`: what a person says of an alert.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use serde::Deserialize;

use super::alert_change::{Changed, Word, change};
use super::alert_store::WholeAlert;
use super::parameters::PathId;
use super::problem::Problem;
use super::scope::Scope;
use super::state::ApiState;
use super::wish;
use crate::db::error::DatabaseError;
use crate::db::tenant_scope;
use crate::outbox::redrive::Reason;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    note: Option<String>,
}

/// `POST /api/alerts/{id}/acknowledge`
pub(super) async fn acknowledge(
    State(state): State<ApiState>,
    request: Request,
) -> Result<Json<WholeAlert>, Problem> {
    post(&state, request, Word::Acknowledge).await
}

/// `POST /api/alerts/{id}/resolve`
pub(super) async fn resolve(
    State(state): State<ApiState>,
    request: Request,
) -> Result<Json<WholeAlert>, Problem> {
    post(&state, request, Word::Resolve).await
}

async fn post(state: &ApiState, request: Request, word: Word) -> Result<Json<WholeAlert>, Problem> {
    let (caller, PathId(id), body) = wish::about_one(request, state, Scope::Write).await?;
    let wish: Wish = wish::read(body, r#"{"note": "a valve was stuck"}, or empty"#).await?;
    let note = wish.note.as_deref().map(Reason::parse).transpose();
    let note = note.map_err(|_| Problem::bad_parameter("note", "a text of 1 to 1000 bytes, or left out"))?;
    let actor = caller.actor();
    let mut connection = state.pool.get().await?;
    let transaction = tenant_scope::begin_change(&mut connection, caller.tenant_id.0).await?;
    match change(&transaction, &state.public_url, id, word, &actor, note.as_ref()).await? {
        Changed::Now(whole) => {
            transaction.commit().await.map_err(DatabaseError::from)?;
            let state = &whole.alert.state;
            tracing::info!(tenant = caller.tenant, alert_id = %id, state, actor, "changed an alert by hand");
            Ok(Json(whole))
        }
        Changed::Before(whole) => Ok(Json(whole)),
        Changed::Over => {
            let detail = "the alert is resolved: there is nothing to acknowledge any more";
            Err(Problem::new(StatusCode::CONFLICT, detail))
        }
        Changed::Unknown => Err(Problem::not_found("alert")),
    }
}
