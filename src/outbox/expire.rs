//! Expiring: what waits for a destination that is left alone dies at its horizon, though nobody tries it then.

use deadpool_postgres::Transaction;

use super::chain::release;
use crate::db::error::DatabaseError;
use crate::model::ids::{DestinationId, NotificationId};

const EXPIRE: &str = include_str!("../../sql/queries/outbox/expire.sql");

/// A destination that nothing is sent to now.
#[derive(Debug, Clone, PartialEq)]
pub struct Shut {
    /// Which.
    pub destination: DestinationId,
    /// From the first moment a notification was owed until it is given up.
    pub horizon_seconds: u64,
    /// Why nothing is sent.
    pub reason: &'static str,
}

/// Makes dead letters of at most `most` rows that are over their horizons, and releases what waited for them. Returns which.
///
/// # Errors
/// If the database is away.
pub async fn expire(
    transaction: &Transaction<'_>,
    shut: &[Shut],
    most: i64,
) -> Result<Vec<NotificationId>, DatabaseError> {
    if shut.is_empty() {
        return Ok(Vec::new());
    }
    let destinations: Vec<_> = shut.iter().map(|shut| shut.destination.0).collect();
    let horizons: Vec<_> = shut.iter().map(|shut| shut.horizon_seconds as f64).collect();
    let reasons: Vec<_> = shut.iter().map(|shut| shut.reason).collect();
    let statement = transaction.prepare_cached(EXPIRE).await?;
    let rows = transaction.query(&statement, &[&destinations, &horizons, &reasons, &most]).await?;
    let gone: Vec<_> = rows.iter().map(|row| row.get(0)).collect();
    release(transaction, &gone).await?;
    Ok(gone.into_iter().map(NotificationId).collect())
}
