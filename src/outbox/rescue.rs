//! Rescuing: rows in flight at which nobody works are owed again, at once, and each attempt that did not come to an end is recorded as
//! `unknown`.

use deadpool_postgres::{Object, Transaction};
use uuid::Uuid;

use super::chain::release;
use crate::db::error::DatabaseError;
use crate::model::delivery::Fence;
use crate::model::ids::WorkerId;

const BURY_WORKERS: &str = include_str!("../../sql/queries/outbox/bury_workers.sql");
const LOCK_IN_FLIGHT: &str = include_str!("../../sql/queries/outbox/lock_in_flight.sql");
const LOCK_IN_ORDER: &str = include_str!("../../sql/queries/outbox/lock_in_order.sql");
const OWE_AGAIN: &str = include_str!("../../sql/queries/outbox/owe_again.sql");

/// Takes the rows of all workers but `this` that stopped renewing their heartbeats. Returns how many there were. Nothing but the
/// workers is looked at while all are alive.
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
    let statement = transaction.prepare_cached(LOCK_IN_FLIGHT).await?;
    let mut lost = Lost::default();
    for row in transaction.query(&statement, &[&dead]).await? {
        lost.add(row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    }
    lost.owe_again(transaction, true, "the worker died, and nobody knows whether it was sent").await
}

/// Takes the rows that a commit of this worker's claimed, if it was carried out: no answer came to it, and nothing was sent. Returns how
/// many there were.
///
/// # Errors
/// If the database is away; the same call may be repeated.
pub async fn rescue_unanswered(
    client: &mut Object,
    worker: WorkerId,
    claimed: &[Fence],
) -> Result<u64, DatabaseError> {
    let mut claimed = claimed.to_vec();
    claimed.sort_unstable();
    let mut lost = Lost::default();
    for (notification, attempt) in claimed {
        lost.add(notification.0, attempt, worker.0);
    }
    let transaction = client.transaction().await?;
    // Waits for that commit, if it is still being carried out; the next statement sees what came of it.
    let statement = transaction.prepare_cached(LOCK_IN_ORDER).await?;
    transaction.execute(&statement, &[&lost.notifications]).await?;
    lost.owe_again(transaction, false, "the answer to its claim was lost, and it was not sent").await
}

/// Attempts at which nobody works, column by column, in the order of the notifications.
#[derive(Debug, Default)]
struct Lost {
    notifications: Vec<Uuid>,
    attempts: Vec<i32>,
    workers: Vec<Uuid>,
}

impl Lost {
    fn add(&mut self, notification: Uuid, attempt: i32, worker: Uuid) {
        self.notifications.push(notification);
        self.attempts.push(attempt);
        self.workers.push(worker);
    }

    async fn owe_again(
        &self,
        transaction: Transaction<'_>,
        may_be_sent: bool,
        why: &str,
    ) -> Result<u64, DatabaseError> {
        let statement = transaction.prepare_cached(OWE_AGAIN).await?;
        let Self { notifications, attempts, workers } = self;
        let row = transaction
            .query_one(&statement, &[notifications, attempts, workers, &may_be_sent, &why])
            .await?;
        release(&transaction, &row.try_get::<_, Vec<Uuid>>(1)?).await?;
        transaction.commit().await?;
        Ok(row.try_get::<_, i64>(0)?.unsigned_abs())
    }
}
