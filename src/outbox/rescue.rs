//! Rescuing: rows in flight whose worker stopped renewing its heartbeat are owed again, at once.

use deadpool_postgres::Object;
use uuid::Uuid;

use super::chain::release;
use crate::db::error::DatabaseError;
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
    let statement = transaction.prepare_cached(RESCUE).await?;
    let row = transaction.query_one(&statement, &[&dead]).await?;
    release(&transaction, &row.try_get::<_, Vec<Uuid>>(1)?).await?;
    transaction.commit().await?;
    Ok(row.try_get::<_, i64>(0)?.unsigned_abs())
}
