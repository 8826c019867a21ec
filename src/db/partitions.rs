//! Daily partitions: made ahead of time for the tables that need one for each day that passes, and on demand; dropped when
//! they have been kept long enough.

use jiff::civil::Date;
use tokio_postgres::GenericClient;

use super::error::DatabaseError;

const ENSURE: &str = include_str!("../../sql/queries/db/ensure_partitions.sql");
const DROP_EXPIRED: &str = include_str!("../../sql/queries/db/drop_expired_partition.sql");
const ENSURE_AHEAD: &str = include_str!("../../sql/queries/db/ensure_partitions_ahead.sql");

/// Makes the partitions of the tables `parents` for each of `days` (UTC), where they are missing. Not to be called
/// inside a transaction that does other work: attaching a partition takes locks. Returns how many were missing.
///
/// # Errors
/// If the database is away or refuses.
pub async fn ensure(
    client: &impl GenericClient,
    parents: &[&str],
    days: &[Date],
) -> Result<u64, DatabaseError> {
    let made = client.query(ENSURE, &[&parents, &days]).await?;
    Ok(made.iter().filter(|row| row.get(0)).count() as u64)
}

/// Makes the partitions of yesterday, today and the next three days of every partitioned table, on the database's
/// clock; called when the service starts and every hour.
///
/// # Errors
/// If the database is away or refuses.
pub async fn ensure_ahead(client: &impl GenericClient) -> Result<(), DatabaseError> {
    client.execute(ENSURE_AHEAD, &[]).await?;
    Ok(())
}

/// Drops the oldest partition of `parent` (`readings` or `readings_1m`) that ended `keep_days` ago or earlier, if there is
/// one; returns its day. `keep_days` must be more than `accepted_days`.
///
/// # Errors
/// If the database is away or refuses, or somebody uses the table ([`DatabaseError::is_lock_timeout`]).
pub async fn drop_expired(
    client: &impl GenericClient,
    parent: &str,
    keep_days: u32,
    accepted_days: u32,
) -> Result<Option<Date>, DatabaseError> {
    // More than fits is more than anybody has.
    let days = |days: u32| i32::try_from(days).unwrap_or(i32::MAX);
    Ok(client.query_one(DROP_EXPIRED, &[&parent, &days(keep_days), &days(accepted_days)]).await?.get(0))
}
