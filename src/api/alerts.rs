//! `GET /api/alerts` and `GET /api/alerts/{id}`: what was found wrong.
//!
//! The query functions work inside a transaction of one tenant (`db::tenant_scope`); the console shows the same rows.

use axum::Json;
use axum::extract::State;
use deadpool_postgres::Transaction;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use tokio_postgres::Row;
use uuid::Uuid;

use super::auth::Reader;
use super::deliveries::{self, DeliveryEntry, DeliveryFilter};
use super::parameters::{Page, PageRequest, Parameters, PathId};
use super::problem::Problem;
use super::state::ApiState;
use crate::db::error::DatabaseError;
use crate::db::tenant_scope;

const LIST: &str = include_str!("../../sql/queries/api/list_alerts.sql");
const EVENTS: &str = include_str!("../../sql/queries/api/list_alert_events.sql");
const COUNT: &str = include_str!("../../sql/queries/api/count_alerts.sql");

const STATES: [&str; 3] = ["open", "acknowledged", "resolved"];
const SEVERITIES: [&str; 4] = ["critical", "error", "warning", "info"];
/// An alert tells as many destinations as its rule names: a handful.
const MOST_DELIVERIES: i64 = 1000;

/// An alert as it is shown.
#[derive(Debug, Serialize)]
pub struct AlertEntry {
    /// Which.
    pub alert_id: Uuid,
    /// The device's own name.
    pub device: String,
    /// What was measured.
    pub metric: String,
    /// In which unit, if somebody said.
    pub unit: Option<String>,
    /// The rule that fired.
    pub rule_id: Uuid,
    /// The rule's name when it fired.
    pub rule: String,
    /// The rule as it was.
    pub rule_version: i32,
    /// How bad it is.
    pub severity: String,
    /// `open`, `acknowledged` or `resolved`.
    pub state: String,
    /// The value that broke the rule.
    pub value: f64,
    /// What decided it.
    pub evidence: Value,
    /// The time of the reading, on the sensor's clock.
    pub breached_at: Timestamp,
    /// When the alert was stored.
    pub opened_at: Timestamp,
    /// When somebody took it on.
    pub acknowledged_at: Option<Timestamp>,
    /// When it was over.
    pub resolved_at: Option<Timestamp>,
    /// The reading was older than one already judged.
    pub late: bool,
    /// The breach was old and over when it was judged: nobody was told.
    pub historical: bool,
}

/// A change of an alert.
#[derive(Debug, Serialize)]
pub struct EventEntry {
    /// What happened.
    pub kind: String,
    /// Who did it.
    pub actor: String,
    /// When.
    pub at: Timestamp,
    /// What they said.
    pub note: Option<String>,
}

/// Which alerts; `None` means any.
#[derive(Debug, Default)]
pub struct AlertFilter {
    /// This one.
    pub alert_id: Option<Uuid>,
    /// In this state.
    pub state: Option<String>,
    /// So bad.
    pub severity: Option<String>,
    /// Of the device with this name of its own.
    pub device: Option<String>,
    /// Of this metric.
    pub metric: Option<String>,
    /// Of the rule with this id, or with this name when it fired.
    pub rule: Option<String>,
}

/// The alerts of a page, the newest first.
///
/// # Errors
/// If the database is away.
pub async fn list(
    transaction: &Transaction<'_>,
    filter: &AlertFilter,
    page: PageRequest,
) -> Result<Page<AlertEntry>, DatabaseError> {
    let statement = transaction.prepare_cached(LIST).await?;
    let AlertFilter { alert_id, state, severity, device, metric, rule } = filter;
    let rows = transaction
        .query(
            &statement,
            &[alert_id, state, severity, device, metric, rule, &page.before, &page.rows_to_fetch()],
        )
        .await?;
    Ok(page.cut(rows.iter().map(entry).collect(), |alert| alert.alert_id))
}

/// How many alerts of the last 24 hours are not resolved, by severity.
///
/// # Errors
/// If the database is away.
pub async fn count_unresolved(transaction: &Transaction<'_>) -> Result<Vec<(String, i64)>, DatabaseError> {
    let statement = transaction.prepare_cached(COUNT).await?;
    let rows = transaction.query(&statement, &[]).await?;
    Ok(rows.iter().map(|row| (row.get("severity"), row.get("count"))).collect())
}

async fn events(transaction: &Transaction<'_>, alert_id: Uuid) -> Result<Vec<EventEntry>, DatabaseError> {
    let statement = transaction.prepare_cached(EVENTS).await?;
    let rows = transaction.query(&statement, &[&alert_id]).await?;
    let event = |row: &Row| EventEntry {
        kind: row.get("kind"),
        actor: row.get("actor"),
        at: row.get("at"),
        note: row.get("note"),
    };
    Ok(rows.iter().map(event).collect())
}

fn entry(row: &Row) -> AlertEntry {
    AlertEntry {
        alert_id: row.get("alert_id"),
        device: row.get("device"),
        metric: row.get("metric"),
        unit: row.get("unit"),
        rule_id: row.get("rule_id"),
        rule: row.get("rule"),
        rule_version: row.get("rule_version"),
        severity: row.get("severity"),
        state: row.get("state"),
        value: row.get("value"),
        evidence: row.get("evidence"),
        breached_at: row.get("breached_at"),
        opened_at: row.get("opened_at"),
        acknowledged_at: row.get("acknowledged_at"),
        resolved_at: row.get("resolved_at"),
        late: row.get("late"),
        historical: row.get("historical"),
    }
}

/// The answer of `GET /api/alerts`.
#[derive(Debug, Serialize)]
pub(super) struct AlertPage {
    alerts: Vec<AlertEntry>,
    next: Option<Uuid>,
}

/// The answer of `GET /api/alerts/{id}`.
#[derive(Debug, Serialize)]
pub(super) struct WholeAlert {
    alert: AlertEntry,
    events: Vec<EventEntry>,
    deliveries: Vec<DeliveryEntry>,
}

/// `GET /api/alerts`
pub(super) async fn get_list(
    State(state): State<ApiState>,
    Reader(caller): Reader,
    parameters: Parameters,
) -> Result<Json<AlertPage>, Problem> {
    let parameters =
        parameters.only(&["state", "severity", "device", "metric", "rule", "limit", "before"])?;
    let filter = AlertFilter {
        alert_id: None,
        state: parameters.choice("state", &STATES)?,
        severity: parameters.choice("severity", &SEVERITIES)?,
        device: parameters.text("device"),
        metric: parameters.text("metric"),
        rule: parameters.text("rule"),
    };
    let page = parameters.page()?;
    let mut connection = state.pool.get().await?;
    let transaction = tenant_scope::begin(&mut connection, caller.tenant_id.0).await?;
    let found = list(&transaction, &filter, page).await?;
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
    let filter = AlertFilter { alert_id: Some(id), ..AlertFilter::default() };
    let found = list(&transaction, &filter, PageRequest::newest(1)).await?;
    let alert = found.rows.into_iter().next().ok_or_else(|| Problem::not_found("alert"))?;
    let events = events(&transaction, id).await?;
    let filter = DeliveryFilter { alert_id: Some(id), ..DeliveryFilter::default() };
    let deliveries =
        deliveries::list(&transaction, &filter, PageRequest::newest(MOST_DELIVERIES)).await?.rows;
    Ok(Json(WholeAlert { alert, events, deliveries }))
}
