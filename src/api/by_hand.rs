//! `POST /api/alerts/{id}/acknowledge` and `/resolve`: what a person says of an alert.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use uuid::Uuid;

use super::alert_change::{Changed, Word, change};
use super::alert_store::WholeAlert;
use super::auth::{Caller, Writer};
use super::json_body::JsonBody;
use super::parameters::PathId;
use super::problem::Problem;
use super::state::ApiState;
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
    Writer(caller): Writer,
    PathId(id): PathId,
    body: JsonBody,
) -> Result<Json<WholeAlert>, Problem> {
    post(&state, &caller, id, body, Word::Acknowledge).await
}

/// `POST /api/alerts/{id}/resolve`
pub(super) async fn resolve(
    State(state): State<ApiState>,
    Writer(caller): Writer,
    PathId(id): PathId,
    body: JsonBody,
) -> Result<Json<WholeAlert>, Problem> {
    post(&state, &caller, id, body, Word::Resolve).await
}

async fn post(
    state: &ApiState,
    caller: &Caller,
    id: Uuid,
    body: JsonBody,
    word: Word,
) -> Result<Json<WholeAlert>, Problem> {
    let wish: Wish = body.read(r#"{"note": "a valve was stuck"}, or empty"#)?;
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
