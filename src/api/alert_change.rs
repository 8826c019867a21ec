//! Changing an alert by hand: somebody takes it on, or says that it is over.
//!
//! Invariants: detection waits for it, or it for detection, so that each sees what the other did; those who were told that it
//! is open are owed, in the same transaction, that it is over. All of it works inside a transaction of one tenant
//! (`db::tenant_scope`). Called by the handlers of `/api/alerts` and by `watchbell alerts`.

use deadpool_postgres::Transaction;
use uuid::Uuid;

use super::alert_store::{self, WholeAlert};
use crate::config::PublicUrl;
use crate::db::error::DatabaseError;
use crate::detect::told_before::{life_from_row, told_from_row};
use crate::model::alert::{AlertState, Happening};
use crate::model::destination::Kind;
use crate::model::ids::NotificationId;
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
    let told = told_from_row(&row)?;
    let life = life_from_row(&row)?.ok_or_else(|| unreadable(id, "it was there a moment ago"))?;
    let statement = transaction.prepare_cached(DESTINATIONS).await?;
    let destinations =
        transaction.query(&statement, &[&row.get::<_, Vec<Uuid>>("told_destination_ids")]).await?;
    let (mut ids, mut whom, mut bodies) = (Vec::new(), Vec::new(), Vec::new());
    for destination in &destinations {
        let kind = Kind::from_columns(destination.get("kind"), &destination.get("settings"))
            .map_err(|error| unreadable(id, format!("a destination that was told: {error}")))?;
        let notification = NotificationId::new();
        let notice = Notice {
            id: notification,
            event: Happening::Resolved,
            alert: &told.alert,
            life: &life,
            rule: RuleFacts {
                name: &told.rule_name,
                labels: &told.labels,
                runbook_url: told.runbook_url.as_deref(),
            },
            device: row.get("device"),
            metric: row.get("metric"),
            unit: row.get("unit"),
            link: public_url.alert(id),
            by: Some(actor),
        };
        ids.push(notification.0);
        whom.push(destination.get::<_, Uuid>("destination_id"));
        bodies.push(render(&kind, &notice));
    }
    let count = ids.len();
    let parameters: &[&(dyn tokio_postgres::types::ToSql + Sync)] = &[
        &ids,
        &vec![id; count],
        &whom,
        &vec![Happening::Resolved.as_str(); count],
        &vec![life.episodes; count],
        &vec![life.severity.lane_class(); count],
        &bodies,
    ];
    let statement = transaction.prepare_cached(OWE).await?;
    transaction.query_one(&statement, parameters).await?;
    Ok(())
}

fn unreadable(id: Uuid, problem: impl std::fmt::Display) -> DatabaseError {
    DatabaseError::Unreadable(format!("alert {id}: {problem}"))
}
