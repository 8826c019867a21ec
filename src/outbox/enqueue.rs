//! Owing: a notification and its owed row, in the transaction of whatever they tell about.

use deadpool_postgres::Transaction;

use crate::db::error::DatabaseError;
use crate::model::notification::Notification;

const INSERT_NOTIFICATIONS: &str = include_str!("../../sql/queries/outbox/insert_notifications.sql");
const INSERT_ALERTS: &str = include_str!("../../sql/queries/outbox/insert_notification_alerts.sql");
const INSERT_OWED: &str = include_str!("../../sql/queries/outbox/insert_owed.sql");

/// Writes notifications and owes them. Three statements at most, whatever their number.
///
/// # Errors
/// If the database is away or refuses; the caller's transaction is lost then.
pub async fn enqueue(
    transaction: &Transaction<'_>,
    notifications: &[Notification],
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
    let classes: Vec<_> = each().map(|notification| notification.lane_class).collect();
    let statement = transaction.prepare_cached(INSERT_NOTIFICATIONS).await?;
    transaction
        .execute(&statement, &[&ids, &tenants, &alerts, &destinations, &events, &episodes, &bodies])
        .await?;
    link_many(transaction, notifications).await?;
    let statement = transaction.prepare_cached(INSERT_OWED).await?;
    transaction.execute(&statement, &[&ids, &tenants, &destinations, &classes]).await?;
    Ok(())
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
