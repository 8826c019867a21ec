//! `GET /api/deliveries` and `GET /api/deliveries/{id}`: who was told what, when, in which bytes, and did they accept it.
//!
//! The query functions work inside a transaction of one tenant (`db::tenant_scope`); the console shows the same rows.

use axum::Json;
use axum::extract::State;
use deadpool_postgres::Transaction;
use jiff::Timestamp;
use serde::Serialize;
use tokio_postgres::Row;
use uuid::Uuid;

use super::auth::Reader;
use super::parameters::{Page, PageRequest, Parameters, PathId};
use super::problem::Problem;
use super::state::ApiState;
use crate::db::error::DatabaseError;
use crate::db::tenant_scope;

const LIST: &str = include_str!("../../sql/queries/api/list_deliveries.sql");
const ATTEMPTS: &str = include_str!("../../sql/queries/api/list_attempts.sql");
const TOLD: &str = include_str!("../../sql/queries/api/list_notified_alerts.sql");
const BODY: &str = include_str!("../../sql/queries/api/find_notification_body.sql");
const ACTIONS: &str = include_str!("../../sql/queries/api/list_notification_actions.sql");
const COUNT: &str = include_str!("../../sql/queries/api/count_deliveries.sql");

/// All that the column `status` of the view `deliveries` may say.
pub const STATUSES: [&str; 9] = [
    "pending",
    "in_flight",
    "retrying",
    "delivered",
    "superseded",
    "cancelled",
    "dead",
    "abandoned",
    "missing",
];

/// A notification and how far it got: a row of the view `deliveries`.
#[derive(Debug, Serialize)]
#[expect(missing_docs, reason = "the columns of the view")]
pub struct DeliveryEntry {
    pub notification_id: Uuid,
    pub alert_id: Uuid,
    pub destination_id: Uuid,
    pub destination: String,
    pub destination_kind: String,
    /// Now: `active`, `paused`, `broken`, `held` or `parked`.
    pub destination_state: String,
    /// Why it is broken, held or parked.
    pub destination_reason: Option<String>,
    /// When it is tried again, if it is left alone now.
    pub destination_opens_at: Option<Timestamp>,
    pub event: String,
    /// Of how many alerts it tells; `alert_id` is one of them.
    pub alerts: i64,
    pub created_at: Timestamp,
    pub status: String,
    pub attempts: i32,
    /// `None` while it waits for others.
    pub next_attempt_at: Option<Timestamp>,
    /// The notifications that must have left the outbox before this one is sent.
    pub waits_for: Vec<Uuid>,
    pub leased_by: Option<Uuid>,
    pub leased_at: Option<Timestamp>,
    pub last_attempt_at: Option<Timestamp>,
    pub last_status_code: Option<i32>,
    pub last_error: Option<String>,
    pub warning: Option<String>,
    pub delivered_at: Option<Timestamp>,
    pub dead_reason: Option<String>,
    pub died_at: Option<Timestamp>,
}

/// What happened once: a row of `delivery_attempts`.
#[derive(Debug, Serialize)]
#[expect(missing_docs, reason = "the columns of the table, explained in its migration")]
pub struct AttemptEntry {
    pub attempt: i32,
    pub late: bool,
    pub destination_id: Uuid,
    pub outcome: String,
    pub worker_id: Option<Uuid>,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    pub status_code: Option<i32>,
    pub error: Option<String>,
    pub warning: Option<String>,
    pub answer: Option<String>,
    /// In hexadecimal.
    pub body_sha256: Option<String>,
    pub external_id: Option<String>,
    pub recorded_at: Timestamp,
    pub xid: String,
}

/// What a person did to it: a row of `admin_actions`.
#[derive(Debug, Serialize)]
#[expect(missing_docs, reason = "the columns of the table")]
pub struct ActionEntry {
    pub at: Timestamp,
    pub actor: String,
    pub action: String,
    pub reason: Option<String>,
}

/// A notification with everything that is known of it.
#[derive(Debug, Serialize)]
pub struct WholeDelivery {
    /// How far it got.
    pub delivery: DeliveryEntry,
    /// The alerts that it tells of, if they are many.
    pub told_alert_ids: Vec<Uuid>,
    /// The exact text that is sent, the same at each attempt.
    pub body: String,
    /// Each attempt, the first one first; a late record stands behind the attempt it completes.
    pub attempts: Vec<AttemptEntry>,
    /// What people did to it, the first first: who sent it again, and why.
    pub actions: Vec<ActionEntry>,
}

/// Which deliveries; `None` means any.
#[derive(Debug, Default)]
pub struct DeliveryFilter {
    /// This one.
    pub notification_id: Option<Uuid>,
    /// That got so far.
    pub status: Option<String>,
    /// To the destination with this id or name.
    pub destination: Option<String>,
    /// Of this alert, alone or among others.
    pub alert_id: Option<Uuid>,
}

/// The deliveries of a page, the newest first.
///
/// # Errors
/// If the database is away.
pub async fn list(
    transaction: &Transaction<'_>,
    filter: &DeliveryFilter,
    page: PageRequest,
) -> Result<Page<DeliveryEntry>, DatabaseError> {
    let statement = transaction.prepare_cached(LIST).await?;
    let DeliveryFilter { notification_id, status, destination, alert_id } = filter;
    let rows = transaction
        .query(
            &statement,
            &[notification_id, status, destination, alert_id, &page.before, &page.rows_to_fetch()],
        )
        .await?;
    Ok(page.cut(rows.iter().map(entry).collect(), |delivery| delivery.notification_id))
}

/// One delivery with its body and its attempts; `None` if this tenant has no such notification.
///
/// # Errors
/// If the database is away.
pub async fn find(
    transaction: &Transaction<'_>,
    notification_id: Uuid,
) -> Result<Option<WholeDelivery>, DatabaseError> {
    let filter = DeliveryFilter { notification_id: Some(notification_id), ..DeliveryFilter::default() };
    let Some(delivery) = list(transaction, &filter, PageRequest::newest(1)).await?.rows.into_iter().next()
    else {
        return Ok(None);
    };
    let statement = transaction.prepare_cached(BODY).await?;
    let body = transaction.query_one(&statement, &[&notification_id]).await?.get("body");
    let statement = transaction.prepare_cached(TOLD).await?;
    let rows = transaction.query(&statement, &[&notification_id]).await?;
    let told_alert_ids = rows.iter().map(|row| row.get("alert_id")).collect();
    let statement = transaction.prepare_cached(ATTEMPTS).await?;
    let rows = transaction.query(&statement, &[&notification_id]).await?;
    let attempts = rows.iter().map(attempt).collect();
    let statement = transaction.prepare_cached(ACTIONS).await?;
    let rows = transaction.query(&statement, &[&notification_id.to_string()]).await?;
    let actions = rows.iter().map(action).collect();
    Ok(Some(WholeDelivery { delivery, told_alert_ids, body, attempts, actions }))
}

/// How many notifications are owed or dead, by status; and how many of the last 24 hours were delivered.
///
/// # Errors
/// If the database is away.
pub async fn count_by_status(transaction: &Transaction<'_>) -> Result<Vec<(String, i64)>, DatabaseError> {
    let statement = transaction.prepare_cached(COUNT).await?;
    let rows = transaction.query(&statement, &[]).await?;
    Ok(rows.iter().map(|row| (row.get("status"), row.get("count"))).collect())
}

fn entry(row: &Row) -> DeliveryEntry {
    DeliveryEntry {
        notification_id: row.get("notification_id"),
        alert_id: row.get("alert_id"),
        destination_id: row.get("destination_id"),
        destination: row.get("destination"),
        destination_kind: row.get("destination_kind"),
        destination_state: row.get("destination_state"),
        destination_reason: row.get("destination_reason"),
        destination_opens_at: row.get("destination_opens_at"),
        event: row.get("event"),
        alerts: row.get("alerts"),
        created_at: row.get("created_at"),
        status: row.get("status"),
        attempts: row.get("attempts"),
        next_attempt_at: row.get("next_attempt_at"),
        waits_for: row.get("waits_for"),
        leased_by: row.get("leased_by"),
        leased_at: row.get("leased_at"),
        last_attempt_at: row.get("last_attempt_at"),
        last_status_code: row.get("last_status_code"),
        last_error: row.get("last_error"),
        warning: row.get("warning"),
        delivered_at: row.get("delivered_at"),
        dead_reason: row.get("dead_reason"),
        died_at: row.get("died_at"),
    }
}

fn action(row: &Row) -> ActionEntry {
    ActionEntry {
        at: row.get("at"),
        actor: row.get("actor"),
        action: row.get("action"),
        reason: row.get("reason"),
    }
}

fn attempt(row: &Row) -> AttemptEntry {
    AttemptEntry {
        attempt: row.get("attempt"),
        late: row.get("late"),
        destination_id: row.get("destination_id"),
        outcome: row.get("outcome"),
        worker_id: row.get("worker_id"),
        started_at: row.get("started_at"),
        finished_at: row.get("finished_at"),
        status_code: row.get("status_code"),
        error: row.get("error"),
        warning: row.get("warning"),
        answer: row.get("answer"),
        body_sha256: row.get("body_sha256"),
        external_id: row.get("external_id"),
        recorded_at: row.get("recorded_at"),
        xid: row.get("xid"),
    }
}

/// The answer of `GET /api/deliveries`.
#[derive(Debug, Serialize)]
pub(super) struct DeliveryPage {
    deliveries: Vec<DeliveryEntry>,
    next: Option<Uuid>,
}

/// `GET /api/deliveries`
pub(super) async fn get_list(
    State(state): State<ApiState>,
    Reader(caller): Reader,
    parameters: Parameters,
) -> Result<Json<DeliveryPage>, Problem> {
    let parameters = parameters.only(&["status", "destination", "alert", "limit", "before"])?;
    let filter = DeliveryFilter {
        notification_id: None,
        status: parameters.choice("status", &STATUSES)?,
        destination: parameters.text("destination"),
        alert_id: parameters.id("alert")?,
    };
    let page = parameters.page()?;
    let mut connection = state.pool.get().await?;
    let transaction = tenant_scope::begin(&mut connection, caller.tenant_id.0).await?;
    let found = list(&transaction, &filter, page).await?;
    Ok(Json(DeliveryPage { deliveries: found.rows, next: found.next }))
}

/// `GET /api/deliveries/{id}`
pub(super) async fn get_one(
    State(state): State<ApiState>,
    Reader(caller): Reader,
    PathId(id): PathId,
) -> Result<Json<WholeDelivery>, Problem> {
    let mut connection = state.pool.get().await?;
    let transaction = tenant_scope::begin(&mut connection, caller.tenant_id.0).await?;
    find(&transaction, id).await?.map(Json).ok_or_else(|| Problem::not_found("delivery"))
}
