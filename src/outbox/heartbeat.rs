//! The heartbeat of a worker, on the database's clock.
//!
//! Invariant: a worker is alive as long as its row is there. Whoever takes it for dead, because it was not renewed in time,
//! deletes the row and rescues what it had in flight, in one transaction; the worker finds that out at its next renewal or
//! claim, and goes on under a new id. One that renewed late and was not taken for dead goes on as it was: its requests are
//! under way.

use std::time::Duration;

use deadpool_postgres::Object;

use crate::db::error::DatabaseError;
use crate::model::ids::WorkerId;

const REGISTER: &str = include_str!("../../sql/queries/outbox/register_worker.sql");
const RENEW: &str = include_str!("../../sql/queries/outbox/renew_worker.sql");
const RETIRE: &str = include_str!("../../sql/queries/outbox/retire_worker.sql");

/// Makes a worker known, alive for `time_to_live`.
///
/// # Errors
/// If the database is away.
pub async fn register(
    client: &Object,
    worker: WorkerId,
    host: &str,
    time_to_live: Duration,
) -> Result<(), DatabaseError> {
    let pid = std::process::id() as i32;
    client.execute(REGISTER, &[&worker.0, &host, &pid, &time_to_live.as_secs_f64()]).await?;
    Ok(())
}

/// Renews it. False if somebody took it for dead.
///
/// # Errors
/// If the database is away.
pub async fn renew(client: &Object, worker: WorkerId, time_to_live: Duration) -> Result<bool, DatabaseError> {
    Ok(client.execute(RENEW, &[&worker.0, &time_to_live.as_secs_f64()]).await? == 1)
}

/// Says that it ends with nothing in flight.
///
/// # Errors
/// If the database is away; it expires then.
pub async fn retire(client: &Object, worker: WorkerId) -> Result<(), DatabaseError> {
    client.execute(RETIRE, &[&worker.0]).await?;
    Ok(())
}
