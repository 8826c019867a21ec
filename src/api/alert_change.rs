//! Changing an alert by hand: somebody takes it on, or says that it is over.
//!
//! Invariants: detection waits for it, or it for detection, so that each sees what the other did; those who were told that it
//! is open are owed, in the same transaction, that it is over. All of it works inside a transaction of one tenant
//! (`db::tenant_scope`). Called by the handlers of `/api/alerts` and by `watchbell alerts`.

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use tokio_postgres::Row;
use uuid::Uuid;

use super::alert_store::{self, WholeAlert};
use crate::config::PublicUrl;
use crate::db::error::DatabaseError;
use crate::model::alert::{Alert, AlertState, Decision, Happening, Life, Told};
use crate::model::destination::Kind;
use crate::model::ids::{AlertId, DestinationId, NotificationId, RuleId, SeriesId, SilenceId, TenantId};
use crate::model::reading::UnixMicros;
use crate::model::rule::Severity;
use crate::model::selector::Tags;
use crate::notice::render::render;
use crate::notice::told::{Notice, RuleFacts};
use crate::outbox::redrive::Reason;

const CHANGE: &str = include_str!("../../sql/queries/api/change_alert.sql");
const FIND: &str = include_str!("../../sql/queries/api/find_told_alert.sql");
const DESTINATIONS: &str = include_str!("../../sql/queries/api/list_told_destinations.sql");
const OWE: &str = include_str!("../../sql/queries/api/owe_notifications.sql");

/// What somebody says of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// That they take it on.
    Acknowledge,
    /// That it is over.
    Resolve,
}

impl Word {
    fn new_state(self) -> AlertState {
        match self {
            Self::Acknowledge => AlertState::Acknowledged,
            Self::Resolve => AlertState::Resolved,
        }
    }
}

/// What became of it.
#[derive(Debug)]
pub enum Changed {
    /// It is so now. The transaction is still to be committed.
    Now(WholeAlert),
    /// It was so before.
    Before(WholeAlert),
    /// It is over: nobody can take it on any more.
    Over,
    /// The tenant has no such alert.
    Unknown,
}

/// Changes an alert, with whoever did it and what they said on its timeline, and owes what people are to hear of it.
///
/// # Errors
/// If the database is away, or holds what can't be read.
pub async fn change(
    transaction: &Transaction<'_>,
    public_url: &PublicUrl,
    id: Uuid,
    word: Word,
    actor: &str,
    note: Option<&Reason>,
) -> Result<Changed, DatabaseError> {
    let statement = transaction.prepare_cached(CHANGE).await?;
    let parameters: &[&(dyn tokio_postgres::types::ToSql + Sync)] =
        &[&id, &word.new_state().as_str(), &actor, &note.map(Reason::as_str)];
    let found: Option<String> = transaction.query_one(&statement, parameters).await?.get(0);
    let is_new = match found.as_deref() {
        None => return Ok(Changed::Unknown),
        Some("changed") => true,
        Some("to be told") => {
            tell_end(transaction, public_url, id, actor).await?;
            true
        }
        Some(state) if state == word.new_state().as_str() => false,
        Some(_) => return Ok(Changed::Over),
    };
    let whole = alert_store::find(transaction, public_url, id).await?;
    let whole = whole.ok_or_else(|| unreadable(id, "it was there a moment ago"))?;
    Ok(if is_new { Changed::Now(whole) } else { Changed::Before(whole) })
}

/// Owes those who were told that it is open that it is over. A silence does not keep that from them.
async fn tell_end(
    transaction: &Transaction<'_>,
    public_url: &PublicUrl,
    id: Uuid,
    actor: &str,
) -> Result<(), DatabaseError> {
    let statement = transaction.prepare_cached(FIND).await?;
    let row = transaction.query_one(&statement, &[&id]).await?;
    let (alert, life) = (alert(&row, id)?, life(&row, id)?);
    let statement = transaction.prepare_cached(DESTINATIONS).await?;
    let destinations =
        transaction.query(&statement, &[&row.get::<_, Vec<Uuid>>("told_destination_ids")]).await?;
    let labels: Tags = json(&row, "labels", id)?;
    let (mut ids, mut told, mut bodies) = (Vec::new(), Vec::new(), Vec::new());
    for destination in &destinations {
        let kind = Kind::from_columns(destination.get("kind"), &destination.get("settings"))
            .map_err(|error| unreadable(id, format!("a destination that was told: {error}")))?;
        let notification = NotificationId::new();
        let notice = Notice {
            id: notification,
            event: Happening::Resolved,
            alert: &alert,
            life: &life,
            rule: RuleFacts { name: row.get("rule"), labels: &labels, runbook_url: row.get("runbook_url") },
            device: row.get("device"),
            metric: row.get("metric"),
            unit: row.get("unit"),
            link: public_url.alert(id),
            by: Some(actor),
        };
        ids.push(notification.0);
        told.push(destination.get::<_, Uuid>("destination_id"));
        bodies.push(render(&kind, &notice));
    }
    let count = ids.len();
    let parameters: &[&(dyn tokio_postgres::types::ToSql + Sync)] = &[
        &ids,
        &vec![id; count],
        &told,
        &vec![Happening::Resolved.as_str(); count],
        &vec![life.episodes; count],
        &vec![life.severity.lane_class(); count],
        &bodies,
    ];
    let statement = transaction.prepare_cached(OWE).await?;
    transaction.query_one(&statement, parameters).await?;
    Ok(())
}

fn alert(row: &Row, id: Uuid) -> Result<Alert, DatabaseError> {
    let micros = |column| UnixMicros::from(row.get::<_, Timestamp>(column));
    Ok(Alert {
        id: AlertId(id),
        tenant: TenantId(row.get("tenant_id")),
        rule: RuleId(row.get("rule_id")),
        rule_version: row.get("rule_version"),
        series: SeriesId(row.get("series_id")),
        breached_at: micros("breached_at"),
        fired_at: micros("fired_at"),
        decision: Decision {
            ts: micros("decided_at"),
            value: row.get("value"),
            evidence: json(row, "evidence", id)?,
        },
        tags: json(row, "device_tags", id)?,
        points: json(row, "points", id)?,
        late: row.get("late"),
    })
}

/// How it stands now: it is over.
fn life(row: &Row, id: Uuid) -> Result<Life, DatabaseError> {
    let severity: &str = row.get("severity");
    Ok(Life {
        alert: AlertId(id),
        state: AlertState::Resolved,
        severity: Severity::parse(severity).ok_or_else(|| unreadable(id, format!("severity {severity}")))?,
        episodes: row.get("episodes"),
        breached_at: row.get::<_, Timestamp>("breached_at").into(),
        ended_at: row.get::<_, Option<Timestamp>>("ended_at").map(UnixMicros::from),
        historical: row.get("historical"),
        silence: row.get::<_, Option<Uuid>>("silence_id").map(SilenceId),
        told: Told::Resolved,
        told_at: row.get("told_at"),
        told_destinations: row
            .get::<_, Vec<Uuid>>("told_destination_ids")
            .into_iter()
            .map(DestinationId)
            .collect(),
    })
}

fn json<T: DeserializeOwned>(row: &Row, column: &str, id: Uuid) -> Result<T, DatabaseError> {
    serde_json::from_value(row.get(column)).map_err(|error| unreadable(id, format!("{column}: {error}")))
}

fn unreadable(id: Uuid, problem: impl std::fmt::Display) -> DatabaseError {
    DatabaseError::Unreadable(format!("alert {id}: {problem}"))
}
