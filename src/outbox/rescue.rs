//! Rescuing: rows in flight whose worker stopped renewing its heartbeat are owed again, at once.

use deadpool_postgres::Object;

use crate::db::error::DatabaseError;
use crate::model::ids::WorkerId;

const RESCUE: &str = include_str!("../../sql/queries/outbox/rescue.sql");

/// Takes the rows of all dead workers but `this`; each attempt that was cut short is recorded as `unknown`. Returns how
/// many there were.
///
/// # Errors
/// If the database is away.
pub async fn rescue(client: &Object, this: WorkerId) -> Result<u64, DatabaseError> {
    let statement = client.prepare_cached(RESCUE).await?;
    Ok(client.execute(&statement, &[&this.0]).await?)
}
