//! Owing: a notification and its owed row, in the transaction of whatever they tell about.

use deadpool_postgres::Transaction;
use uuid::Uuid;

use super::chain::{Links, Owed, release};
use crate::db::error::DatabaseError;
use crate::model::notification::Notification;

const INSERT_NOTIFICATIONS: &str = include_str!("../../sql/queries/outbox/insert_notifications.sql");
const INSERT_ALERTS: &str = include_str!("../../sql/queries/outbox/insert_notification_alerts.sql");
const INSERT_OWED: &str = include_str!("../../sql/queries/outbox/insert_owed.sql");
const INSERT_BLOCKED: &str = include_str!("../../sql/queries/outbox/insert_blocked.sql");
const UPSERT_CHAINS: &str = include_str!("../../sql/queries/outbox/upsert_chains.sql");
const SUPERSEDE: &str = include_str!("../../sql/queries/outbox/supersede.sql");

/// Writes notifications, in the order in which they are to be heard, and owes those that no other supersedes. Seven statements at
/// most, whatever their number. `owed` is what the chains hold, locked before in this transaction.
///
/// # Errors
/// If the database is away or refuses; the caller's transaction is lost then.
pub async fn enqueue(
    transaction: &Transaction<'_>,
    notifications: &[Notification],
    owed: &Owed,
) -> Result<(), DatabaseError> {
    let told: Vec<_> = notifications
        .iter()
        .filter_map(|notification| Some((notification, *notification.about.first()?)))
        .collect();
    if told.is_empty() {
        return Ok(());
    }
    let each = || told.iter().map(|(notification, _)| *notification);
    let ids: Vec<_> = each().map(|notification| notification.id.0).collect();
    let tenants: Vec<_> = each().map(|notification| notification.tenant.0).collect();
    let alerts: Vec<_> = told.iter().map(|(_, (alert, _))| alert.0).collect();
    let episodes: Vec<_> = told.iter().map(|(_, (_, episode))| *episode).collect();
    let destinations: Vec<_> = each().map(|notification| notification.destination.0).collect();
    let events: Vec<_> = each().map(|notification| notification.event.as_str()).collect();
    let bodies: Vec<_> = each().map(|notification| notification.body.as_str()).collect();
    let statement = transaction.prepare_cached(INSERT_NOTIFICATIONS).await?;
    transaction
        .execute(&statement, &[&ids, &tenants, &alerts, &destinations, &events, &episodes, &bodies])
        .await?;
    link_many(transaction, notifications).await?;
    let links = Links::of(notifications, owed);
    owe(transaction, each().filter(|notification| notification.superseded_by.is_none()), &links).await?;
    block(transaction, &links, notifications).await?;
    supersede(transaction, notifications, owed).await
}

/// A notification that tells of many is linked to each of them.
async fn link_many(
    transaction: &Transaction<'_>,
    notifications: &[Notification],
) -> Result<(), DatabaseError> {
    let many = notifications.iter().filter(|notification| notification.about.len() > 1);
    let links: Vec<_> =
        many.flat_map(|one| one.about.iter().map(move |about| (one.id, one.tenant, *about))).collect();
    if links.is_empty() {
        return Ok(());
    }
    let ids: Vec<_> = links.iter().map(|(id, ..)| id.0).collect();
    let tenants: Vec<_> = links.iter().map(|(_, tenant, _)| tenant.0).collect();
    let alerts: Vec<_> = links.iter().map(|(.., (alert, _))| alert.0).collect();
    let episodes: Vec<_> = links.iter().map(|(.., (_, episode))| *episode).collect();
    let statement = transaction.prepare_cached(INSERT_ALERTS).await?;
    transaction.execute(&statement, &[&ids, &alerts, &tenants, &episodes]).await?;
    Ok(())
}

async fn owe(
    transaction: &Transaction<'_>,
    notifications: impl Iterator<Item = &Notification>,
    links: &Links,
) -> Result<(), DatabaseError> {
    let notifications: Vec<_> = notifications.collect();
    let ids: Vec<_> = notifications.iter().map(|notification| notification.id.0).collect();
    let tenants: Vec<_> = notifications.iter().map(|notification| notification.tenant.0).collect();
    let destinations: Vec<_> = notifications.iter().map(|notification| notification.destination.0).collect();
    let classes: Vec<_> = notifications.iter().map(|notification| notification.lane_class).collect();
    let waits: Vec<_> = notifications.iter().map(|notification| links.waits(notification.id)).collect();
    let statement = transaction.prepare_cached(INSERT_OWED).await?;
    transaction.execute(&statement, &[&ids, &tenants, &destinations, &classes, &waits]).await?;
    let ends: Vec<_> = links.ends.iter().collect();
    let destinations: Vec<_> = ends.iter().map(|((destination, ..), _)| destination.0).collect();
    let rules: Vec<_> = ends.iter().map(|((_, rule, _), _)| rule.0).collect();
    let series: Vec<_> = ends.iter().map(|((.., series), _)| series.0).collect();
    let tenants: Vec<_> = ends.iter().map(|(_, (tenant, _))| tenant.0).collect();
    let last: Vec<_> = ends.iter().map(|(_, (_, last))| last.0).collect();
    let statement = transaction.prepare_cached(UPSERT_CHAINS).await?;
    transaction.execute(&statement, &[&destinations, &rules, &series, &tenants, &last]).await?;
    Ok(())
}

async fn block(
    transaction: &Transaction<'_>,
    links: &Links,
    notifications: &[Notification],
) -> Result<(), DatabaseError> {
    if links.waits.is_empty() {
        return Ok(());
    }
    let tenants: std::collections::HashMap<_, _> =
        notifications.iter().map(|notification| (notification.id, notification.tenant.0)).collect();
    let waiting: Vec<_> = links.waits.iter().map(|(one, _)| one.0).collect();
    let after: Vec<_> = links.waits.iter().map(|(_, before)| before.0).collect();
    let tenants: Vec<_> = links.waits.iter().map(|(one, _)| tenants.get(one).copied()).collect();
    let statement = transaction.prepare_cached(INSERT_BLOCKED).await?;
    transaction.execute(&statement, &[&after, &waiting, &tenants]).await?;
    Ok(())
}

/// Ends what others tell in its stead: what is owed so far, and what never was.
async fn supersede(
    transaction: &Transaction<'_>,
    notifications: &[Notification],
    owed: &Owed,
) -> Result<(), DatabaseError> {
    let (mut ids, mut tenants, mut destinations, mut by) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for one in notifications {
        for gone in &one.supersedes {
            ids.push(gone.0);
            tenants.push(one.tenant.0);
            destinations.push(one.destination.0);
            by.push(one.id.0);
        }
    }
    if ids.is_empty() {
        return Ok(());
    }
    let statement = transaction.prepare_cached(SUPERSEDE).await?;
    let rows = transaction.query(&statement, &[&ids, &tenants, &destinations, &by]).await?;
    let gone: Vec<Uuid> = rows.iter().map(|row| row.get(0)).collect();
    let expected = notifications.iter().flat_map(|one| &one.supersedes).filter(|id| owed.is_unsent(**id));
    if gone.len() != expected.count() {
        return Err(DatabaseError::Unreadable("what was locked in the outbox is not there".to_owned()));
    }
    release(transaction, &gone).await?;
    Ok(())
}
