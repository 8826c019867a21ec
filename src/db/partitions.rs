//! Daily partitions: made ahead of time for the tables that need one for each day that passes, and on demand.

use jiff::civil::Date;
use tokio_postgres::GenericClient;

use super::error::DatabaseError;

const ENSURE: &str = include_str!("../../sql/queries/db/ensure_partitions.sql");
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
