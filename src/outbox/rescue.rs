//! Rescuing: rows in flight at which nobody works are owed again, at once. Their worker stopped renewing its heartbeat, or the answer
//! to the commit that claimed them was lost.

use deadpool_postgres::{Object, Transaction};
use uuid::Uuid;

use super::chain::release;
use crate::db::error::DatabaseError;
use crate::model::delivery::Fence;
use crate::model::ids::WorkerId;

const BURY_WORKERS: &str = include_str!("../../sql/queries/outbox/bury_workers.sql");
const RESCUE: &str = include_str!("../../sql/queries/outbox/rescue.sql");

/// Takes the rows of all dead workers but `this`; each attempt that was cut short is recorded as `unknown`. Returns how
/// many there were. Nothing but the workers is looked at while all are alive.
///
/// # Errors
/// If the database is away.
pub async fn rescue(client: &mut Object, this: WorkerId) -> Result<u64, DatabaseError> {
    let transaction = client.transaction().await?;
    let statement = transaction.prepare_cached(BURY_WORKERS).await?;
    let rows = transaction.query(&statement, &[&this.0]).await?;
    if rows.is_empty() {
        return Ok(0);
    }
    let dead: Vec<Uuid> = rows.iter().map(|row| row.get(0)).collect();
    // A statement of its own, with a snapshot of its own: a claim that the deletion waited for is seen.
    owe_again(transaction, &dead, &[], "the worker died, and nobody knows whether it was sent").await
}

/// Takes the rows that a worker has in flight and knows nothing of: all but these attempts. For who has no claim under way, and does
/// not know whether his last one was committed. Returns how many there were.
///
/// # Errors
/// If the database is away.
pub async fn rescue_unanswered(
    client: &mut Object,
    worker: WorkerId,
    under_way: &[Fence],
) -> Result<u64, DatabaseError> {
    let transaction = client.transaction().await?;
    let why = "the answer to its claim was lost, and it was not sent";
    owe_again(transaction, &[worker.0], under_way, why).await
}

async fn owe_again(
    transaction: Transaction<'_>,
    workers: &[Uuid],
    under_way: &[Fence],
    why: &str,
) -> Result<u64, DatabaseError> {
    let (notifications, attempts): (Vec<_>, Vec<_>) =
        under_way.iter().map(|(notification, attempt)| (notification.0, *attempt)).unzip();
    let statement = transaction.prepare_cached(RESCUE).await?;
    let row = transaction.query_one(&statement, &[&workers, &notifications, &attempts, &why]).await?;
    release(&transaction, &row.try_get::<_, Vec<Uuid>>(1)?).await?;
    transaction.commit().await?;
    Ok(row.try_get::<_, i64>(0)?.unsigned_abs())
}
