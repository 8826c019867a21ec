//! Owing: a notification and its owed row, in the transaction of whatever they tell about.

use deadpool_postgres::Transaction;

use crate::db::error::DatabaseError;
use crate::model::notification::Notification;

const INSERT_NOTIFICATIONS: &str = include_str!("../../sql/queries/outbox/insert_notifications.sql");
const INSERT_OWED: &str = include_str!("../../sql/queries/outbox/insert_owed.sql");

/// Writes notifications and owes them. Two statements, whatever their number.
///
/// # Errors
/// If the database is away or refuses; the caller's transaction is lost then.
pub async fn enqueue(
    transaction: &Transaction<'_>,
    notifications: &[Notification],
) -> Result<(), DatabaseError> {
    if notifications.is_empty() {
        return Ok(());
    }
    let ids: Vec<_> = notifications.iter().map(|notification| notification.id.0).collect();
    let tenants: Vec<_> = notifications.iter().map(|notification| notification.tenant.0).collect();
    let alerts: Vec<_> = notifications.iter().map(|notification| notification.alert.0).collect();
    let destinations: Vec<_> = notifications.iter().map(|notification| notification.destination.0).collect();
    let events: Vec<_> = notifications.iter().map(|notification| notification.event.as_str()).collect();
    let bodies: Vec<_> = notifications.iter().map(|notification| notification.body.as_str()).collect();
    let classes: Vec<_> = notifications.iter().map(|notification| notification.lane_class).collect();
    let statement = transaction.prepare_cached(INSERT_NOTIFICATIONS).await?;
    transaction.execute(&statement, &[&ids, &tenants, &alerts, &destinations, &events, &bodies]).await?;
    let statement = transaction.prepare_cached(INSERT_OWED).await?;
    transaction.execute(&statement, &[&ids, &tenants, &destinations, &classes]).await?;
    Ok(())
}
