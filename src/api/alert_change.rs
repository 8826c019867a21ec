//! Changing an alert by hand: somebody takes it on, or says that it is over.
//!
//! Invariants: detection waits for it, or it for detection, so that each sees what the other did; those who were told that it
//! is open are owed, in the same transaction, that it is over. All of it works inside a transaction of one tenant
//! (`db::tenant_scope`). Called by the handlers of `/api/alerts` and by `watchbell alerts`.

use std::collections::HashMap;

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
const LOCK_UNSENT: &str = include_str!("../../sql/queries/api/lock_unsent_openings.sql");
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
    let whom: Vec<Uuid> = destinations.iter().map(|destination| destination.get("destination_id")).collect();
    let unsent = lock_unsent(transaction, id, &whom).await?;
    let mut owed = Owed::default();
    for (destination, whom) in destinations.iter().zip(whom) {
        let kind = Kind::from_columns(destination.get("kind"), &destination.get("settings"))
            .map_err(|error| unreadable(id, format!("a destination that was told: {error}")))?;
        let notice = |id, supersedes| Notice {
            id,
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
            link: public_url.alert(told.alert.id.0),
            by: Some(actor),
            supersedes,
        };
        let (end, both) = (NotificationId::new(), NotificationId::new());
        let unsent = unsent.get(&whom).map_or(&[][..], Vec::as_slice);
        if unsent.is_empty() {
            owed.push(end, whom, render(&kind, &notice(end, &[])), None);
            continue;
        }
        // Nobody was sent a word of it: one notice tells that it opened and that it is over.
        owed.push(end, whom, render(&kind, &notice(end, &[])), Some(both));
        let mut supersedes = unsent.to_vec();
        supersedes.push(end);
        owed.push(both, whom, render(&kind, &notice(both, &supersedes)), None);
        owed.replace(unsent, both);
    }
    let count = owed.ids.len();
    let parameters: &[&(dyn tokio_postgres::types::ToSql + Sync)] = &[
        &owed.ids,
        &vec![id; count],
        &owed.whom,
        &vec![Happening::Resolved.as_str(); count],
        &vec![life.episodes; count],
        &vec![life.severity.lane_class(); count],
        &owed.bodies,
        &owed.superseded_by,
        &owed.replaced,
        &owed.replaced_by,
    ];
    let statement = transaction.prepare_cached(OWE).await?;
    transaction.query_one(&statement, parameters).await?;
    Ok(())
}

/// What is to be owed, as arrays.
#[derive(Default)]
struct Owed {
    ids: Vec<Uuid>,
    whom: Vec<Uuid>,
    bodies: Vec<String>,
    superseded_by: Vec<Option<Uuid>>,
    replaced: Vec<Uuid>,
    replaced_by: Vec<Uuid>,
}

impl Owed {
    fn push(&mut self, id: NotificationId, whom: Uuid, body: String, superseded_by: Option<NotificationId>) {
        self.ids.push(id.0);
        self.whom.push(whom);
        self.bodies.push(body);
        self.superseded_by.push(superseded_by.map(|by| by.0));
    }

    fn replace(&mut self, unsent: &[NotificationId], by: NotificationId) {
        self.replaced.extend(unsent.iter().map(|gone| gone.0));
        self.replaced_by.extend(unsent.iter().map(|_| by.0));
    }
}

/// What says to each of these destinations that it is open, and was never sent: locked until the end.
async fn lock_unsent(
    transaction: &Transaction<'_>,
    alert: Uuid,
    destinations: &[Uuid],
) -> Result<HashMap<Uuid, Vec<NotificationId>>, DatabaseError> {
    let statement = transaction.prepare_cached(LOCK_UNSENT).await?;
    let mut unsent: HashMap<Uuid, Vec<NotificationId>> = HashMap::new();
    for row in transaction.query(&statement, &[&alert, &destinations]).await? {
        unsent.entry(row.get("destination_id")).or_default().push(NotificationId(row.get("notification_id")));
    }
    Ok(unsent)
}

fn unreadable(id: Uuid, problem: impl std::fmt::Display) -> DatabaseError {
    DatabaseError::Unreadable(format!("alert {id}: {problem}"))
}
