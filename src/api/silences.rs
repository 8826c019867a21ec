//! `/api/silences`: not being told of some alerts for a while.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderName, StatusCode, header};
use serde::Serialize;
use uuid::Uuid;

use super::auth::{Reader, Writer};
use super::json_body::JsonBody;
use super::parameters::{Parameters, PathId};
use super::problem::Problem;
use super::silence_store::{self, NotSilenced, STATES, SilenceEntry, SilenceWish};
use super::state::ApiState;
use crate::db::error::DatabaseError;
use crate::db::tenant_scope;

const EXAMPLE: &str = r#"{"devices": {"tags": {"site": "north"}}, "duration_seconds": 3600, "reason": "the pumps are serviced"}"#;

/// The answer of `GET /api/silences`.
#[derive(Debug, Serialize)]
pub(super) struct SilencePage {
    silences: Vec<SilenceEntry>,
    next: Option<Uuid>,
}

/// `GET /api/silences`
pub(super) async fn get_list(
    State(state): State<ApiState>,
    Reader(caller): Reader,
    parameters: Parameters,
) -> Result<Json<SilencePage>, Problem> {
    let parameters = parameters.only(&["state", "limit", "before"])?;
    let wanted = parameters.choice("state", &STATES)?;
    let page = parameters.page()?;
    let mut connection = state.pool.get().await?;
    let transaction = tenant_scope::begin(&mut connection, caller.tenant_id.0).await?;
    let found = silence_store::list(&transaction, wanted.as_deref(), page).await?;
    Ok(Json(SilencePage { silences: found.rows, next: found.next }))
}

/// `GET /api/silences/{id}`
pub(super) async fn get_one(
    State(state): State<ApiState>,
    Reader(caller): Reader,
    PathId(id): PathId,
) -> Result<Json<SilenceEntry>, Problem> {
    let mut connection = state.pool.get().await?;
    let transaction = tenant_scope::begin(&mut connection, caller.tenant_id.0).await?;
    silence_store::find(&transaction, id).await?.map(Json).ok_or_else(|| Problem::not_found("silence"))
}

/// `POST /api/silences`
pub(super) async fn post(
    State(state): State<ApiState>,
    Writer(caller): Writer,
    body: JsonBody,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<SilenceEntry>), Problem> {
    let wish: SilenceWish = body.read(EXAMPLE)?;
    let actor = caller.actor();
    let mut connection = state.pool.get().await?;
    let transaction = tenant_scope::begin_change(&mut connection, caller.tenant_id.0).await?;
    let made = silence_store::create(&transaction, wish, &actor).await.map_err(|error| match error {
        NotSilenced::Invalid(invalid) => Problem::bad_parameter(invalid.field, &invalid.allowed),
        NotSilenced::Database(error) => error.into(),
    })?;
    transaction.commit().await.map_err(DatabaseError::from)?;
    tracing::info!(tenant = caller.tenant, silence_id = %made.silence_id, ends_at = %made.ends_at, actor, "silenced");
    let location = [(header::LOCATION, format!("/api/silences/{}", made.silence_id))];
    Ok((StatusCode::CREATED, location, Json(made)))
}

/// `DELETE /api/silences/{id}`: ends it now. It stays on the record.
pub(super) async fn delete(
    State(state): State<ApiState>,
    Writer(caller): Writer,
    PathId(id): PathId,
) -> Result<Json<SilenceEntry>, Problem> {
    let actor = caller.actor();
    let mut connection = state.pool.get().await?;
    let transaction = tenant_scope::begin_change(&mut connection, caller.tenant_id.0).await?;
    let ended = silence_store::end(&transaction, id, &actor, None).await?;
    let ended = ended.ok_or_else(|| Problem::not_found("silence"))?;
    transaction.commit().await.map_err(DatabaseError::from)?;
    tracing::info!(tenant = caller.tenant, silence_id = %id, actor, "ended a silence");
    Ok(Json(ended))
}
