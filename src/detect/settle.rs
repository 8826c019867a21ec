//! Settling: one transaction for everything that was judged. A fixed number of statements, whatever its size.
//!
//! Invariant: the rollup, the alerts with all notifications they owe, and the deletion of the flushes commit together,
//! under the lease's fence and the versions that they were judged with; or nothing does.

use std::collections::{HashMap, HashSet};

use deadpool_postgres::{Object, Transaction};
use jiff::Timestamp;

use super::effects::TimelineEvent;
use super::judge::Judged;
use super::late::{load_stretches, open_untold};
use super::load::Versions;
use super::memory::Memory;
use super::tell::{Facts, Told, chains, notifications};
use super::told_before::load_told;
use super::write;
use crate::config::PublicUrl;
use crate::db::error::DatabaseError;
use crate::db::lease::Lease;
use crate::model::alert::{Alert, Disposition, Happening};
use crate::model::ids::AlertId;
use crate::outbox::chain;
use crate::outbox::enqueue::enqueue;

const LOCK_VERSIONS: &str = include_str!("../../sql/queries/detect/lock_versions.sql");
const LOAD_POINTS: &str = include_str!("../../sql/queries/detect/load_points.sql");
const DELETE_FLUSHES: &str = include_str!("../../sql/queries/detect/delete_flushes.sql");

/// How a settlement ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// It is committed.
    Committed(Accounts),
    /// Another holds the lease: nothing was written.
    LeaseLost,
    /// Something changed behind memory's back: nothing was written, it must be judged again.
    Changed(Versions),
}

/// What a settlement wrote, for the metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accounts {
    /// Alerts opened.
    pub opened: u64,
    /// Alerts resolved.
    pub resolved: u64,
    /// Episodes that fired, by what became of them.
    pub episodes: HashMap<Disposition, u64>,
    /// Notifications owed.
    pub notifications: u64,
}

/// How to tell.
#[derive(Debug, Clone, Copy)]
pub struct Telling<'a> {
    /// Where people reach us.
    pub public_url: &'a PublicUrl,
    /// More alerts than this of one rule become one notice for a destination.
    pub group_above: usize,
}

/// Settles what was judged.
///
/// # Errors
/// If nothing was written, or nobody knows: the flush rows tell.
pub async fn settle(
    client: &mut Object,
    lease: &Lease,
    memory: &Memory,
    judged: &mut Judged,
    telling: Telling<'_>,
) -> Result<Settled, DatabaseError> {
    let transaction = client.transaction().await?;
    // Renewing locks the row until the end: nobody takes the lease over while this commits.
    if !lease.renew(&*transaction).await? {
        return Ok(Settled::LeaseLost);
    }
    let statement = transaction.prepare_cached(LOCK_VERSIONS).await?;
    let row = transaction.query_one(&statement, &[]).await?;
    let versions = Versions { config: row.get(0), alerts: row.get(1) };
    if versions != memory.versions() {
        return Ok(Settled::Changed(versions));
    }
    write::rollups(&transaction, &judged.rollups).await?;
    write::states(&transaction, memory, &judged.touched).await?;
    let accounts = settle_effects(&transaction, memory, judged, telling).await?;
    let statement = transaction.prepare_cached(DELETE_FLUSHES).await?;
    let deleted = transaction.execute(&statement, &[&judged.flushes]).await?;
    if deleted != judged.flushes.len() as u64 {
        // Somebody settled one of them without the lease. Rolled back: counting it twice would be worse.
        let problem = format!("{} flushes were judged, {deleted} are owed", judged.flushes.len());
        return Err(DatabaseError::Unreadable(problem));
    }
    transaction.commit().await?;
    Ok(Settled::Committed(accounts))
}

async fn settle_effects(
    transaction: &Transaction<'_>,
    memory: &Memory,
    judged: &mut Judged,
    telling: Telling<'_>,
) -> Result<Accounts, DatabaseError> {
    let effects = &mut judged.effects;
    if !effects.is_urgent() {
        return Ok(Accounts::default());
    }
    if !effects.late.is_empty() {
        let stored = load_stretches(transaction, &effects.late).await?;
        open_untold(memory, &stored, effects);
    }
    if effects.lives.is_empty() {
        return Ok(Accounts::default());
    }
    let mut alerts: Vec<&mut Alert> = effects.alerts.iter_mut().map(|(alert, _)| alert).collect();
    load_points(transaction, &mut alerts).await?;
    write::alerts(transaction, &effects.alerts, &effects.lives, &memory.series).await?;
    let mut told: HashMap<AlertId, Told> = effects
        .alerts
        .iter()
        .map(|(alert, rule)| {
            let told = Told {
                alert: alert.clone(),
                rule_name: rule.name.to_string(),
                labels: rule.labels.clone(),
                runbook_url: rule.runbook_url.clone(),
            };
            (alert.id, told)
        })
        .collect();
    let before: HashSet<AlertId> =
        effects.tells.iter().map(|tell| tell.alert).filter(|alert| !told.contains_key(alert)).collect();
    load_told(transaction, &before, &mut told).await?;
    let facts = Facts {
        alerts: &told,
        lives: &effects.lives,
        series: &memory.series,
        setup: &memory.setup,
        public_url: telling.public_url,
        group_above: telling.group_above,
    };
    let owed = chain::lock(transaction, &chains(&effects.tells, &told)).await?;
    let (notifications, grouped) = notifications(&effects.tells, &facts, &owed);
    for event in &mut effects.events {
        if event.disposition == Some(Disposition::Notified) && grouped.contains(&(event.alert, event.episode))
        {
            event.disposition = Some(Disposition::Grouped);
        }
    }
    write::lives(transaction, &effects.lives).await?;
    write::events(transaction, &effects.events).await?;
    enqueue(transaction, &notifications, &owed).await?;
    Ok(accounts(effects.alerts.len(), &effects.events, notifications.len()))
}

fn accounts(opened: usize, events: &[TimelineEvent], notifications: usize) -> Accounts {
    let mut accounts =
        Accounts { opened: opened as u64, notifications: notifications as u64, ..Accounts::default() };
    for event in events {
        accounts.resolved += u64::from(event.kind == Happening::Resolved);
        if let Some(disposition) = event.disposition {
            *accounts.episodes.entry(disposition).or_default() += 1;
        }
    }
    accounts
}

/// The last readings before each alert: they are stored, as their flush is.
async fn load_points(transaction: &Transaction<'_>, alerts: &mut [&mut Alert]) -> Result<(), DatabaseError> {
    if alerts.is_empty() {
        return Ok(());
    }
    let series: Vec<_> = alerts.iter().map(|alert| alert.series.0).collect();
    let until: Vec<_> = alerts.iter().map(|alert| alert.decision.ts.to_timestamp()).collect();
    let statement = transaction.prepare_cached(LOAD_POINTS).await?;
    for row in transaction.query(&statement, &[&series, &until]).await? {
        let place = usize::try_from(row.get::<_, i64>("place") - 1).unwrap_or(usize::MAX);
        if let Some(alert) = alerts.get_mut(place) {
            alert.points.push((row.get::<_, Timestamp>("ts"), row.get("value")));
        }
    }
    for alert in alerts {
        alert.points.reverse();
    }
    Ok(())
}
