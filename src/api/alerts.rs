//! `GET /api/alerts` and `GET /api/alerts/{id}`: what was found wrong.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use uuid::Uuid;

use super::alert_store::{self, AlertEntry, AlertFilter, CLASSES, SEVERITIES, STATES, WholeAlert, parse_tag};
use super::auth::Reader;
use super::parameters::{Parameters, PathId};
use super::problem::Problem;
use super::state::ApiState;
use crate::db::tenant_scope;

const PARAMETERS: [&str; 10] =
    ["state", "severity", "class", "silenced", "device", "tag", "metric", "rule", "limit", "before"];

/// The answer of `GET /api/alerts`.
#[derive(Debug, Serialize)]
pub(super) struct AlertPage {
    alerts: Vec<AlertEntry>,
    next: Option<Uuid>,
}

/// `GET /api/alerts`
pub(super) async fn get_list(
    State(state): State<ApiState>,
    Reader(caller): Reader,
    parameters: Parameters,
) -> Result<Json<AlertPage>, Problem> {
    let parameters = parameters.only(&PARAMETERS)?;
    let tag = |text: String| {
        parse_tag(&text).ok_or_else(|| Problem::bad_parameter("tag", "a name and a value: site:north"))
    };
    let filter = AlertFilter {
        alert_id: None,
        state: parameters.choice("state", &STATES)?,
        severity: parameters.choice("severity", &SEVERITIES)?,
        class: parameters.choice("class", &CLASSES)?,
        silenced: parameters.choice("silenced", &["true", "false"])?.map(|text| text == "true"),
        device: parameters.text("device"),
        tag: parameters.text("tag").map(tag).transpose()?,
        metric: parameters.text("metric"),
        rule: parameters.text("rule"),
    };
    let page = parameters.page()?;
    let mut connection = state.pool.get().await?;
    let transaction = tenant_scope::begin(&mut connection, caller.tenant_id.0).await?;
    let found = alert_store::list(&transaction, &state.public_url, &filter, page).await?;
    Ok(Json(AlertPage { alerts: found.rows, next: found.next }))
}

/// `GET /api/alerts/{id}`
pub(super) async fn get_one(
    State(state): State<ApiState>,
    Reader(caller): Reader,
    PathId(id): PathId,
) -> Result<Json<WholeAlert>, Problem> {
    let mut connection = state.pool.get().await?;
    let transaction = tenant_scope::begin(&mut connection, caller.tenant_id.0).await?;
    let found = alert_store::find(&transaction, &state.public_url, id).await?;
    found.map(Json).ok_or_else(|| Problem::not_found("alert"))
}
