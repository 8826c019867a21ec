//! Claiming: due rows, lane by lane, each with a budget, so that a million due rows of one destination delay no other.

use std::time::Duration;

use deadpool_postgres::Transaction;

use super::chain::release;
use crate::db::error::DatabaseError;
use crate::model::delivery::Attempt;
use crate::model::ids::{DestinationId, NotificationId, TenantId, WorkerId};

const CLAIM: &str = include_str!("../../sql/queries/outbox/claim.sql");

/// What a destination may be given now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lane {
    /// Which.
    pub destination: DestinationId,
    /// Requests that may be started; a lease never waits in a queue of ours.
    pub slots: i32,
    /// How long an attempt may hold its row.
    pub lease: Duration,
}

/// Claims due rows of these lanes for `worker`, at most `total`, in the order of the lanes when there are more. A row
/// whose lease ran out is taken over, and its former holder's attempt is recorded as `unknown`. One that was accepted after all leaves the outbox, and releases what waited for it.
///
/// # Errors
/// If the database is away.
pub async fn claim(
    transaction: &Transaction<'_>,
    worker: WorkerId,
    lanes: &[Lane],
    total: usize,
) -> Result<Vec<Attempt>, DatabaseError> {
    if lanes.is_empty() || total == 0 {
        return Ok(Vec::new());
    }
    let destinations: Vec<_> = lanes.iter().map(|lane| lane.destination.0).collect();
    let slots: Vec<_> = lanes.iter().map(|lane| lane.slots).collect();
    let leases: Vec<_> = lanes.iter().map(|lane| lane.lease.as_secs_f64()).collect();
    let statement = transaction.prepare_cached(CLAIM).await?;
    let total = i64::try_from(total).unwrap_or(i64::MAX);
    let rows = transaction.query(&statement, &[&worker.0, &destinations, &slots, &leases, &total]).await?;
    let (claimed, ended): (Vec<_>, Vec<_>) =
        rows.iter().partition(|row| row.get::<_, Option<i32>>(3).is_some());
    let gone: Vec<_> = ended.iter().map(|row| row.get(0)).collect();
    release(transaction, &gone).await?;
    claimed
        .into_iter()
        .map(|row| {
            Ok(Attempt {
                notification: NotificationId(row.try_get(0)?),
                tenant: TenantId(row.try_get(1)?),
                destination: DestinationId(row.try_get(2)?),
                number: row.try_get(3)?,
                age: Duration::from_secs_f64(row.try_get::<_, f64>(4)?.max(0.0)),
                held: Duration::from_secs_f64(row.try_get::<_, f64>(5)?.max(0.0)),
                body: row.try_get(6)?,
            })
        })
        .collect()
}
