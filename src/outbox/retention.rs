//! The end of the history: whole days of notifications and their attempts are dropped; before that, a dead letter that nobody
//! sent again is `abandoned`.
//!
//! Invariant: no day is dropped that holds something owed, or dead and not abandoned (`drop_expired_history` in the schema
//! holds it). Whatever was told stays on the record for as long as its day does. Chains are forgotten after the last that was
//! told in them (`prune_chains` in the schema says why the order does not suffer).

use deadpool_postgres::Object;
use jiff::civil::Date;

use crate::config;
use crate::db::error::DatabaseError;
use crate::db::pool::Pool;

const ABANDON: &str = include_str!("../../sql/queries/outbox/abandon.sql");
const DROP_EXPIRED: &str = include_str!("../../sql/queries/outbox/drop_expired_history.sql");
const PRUNE_CHAINS: &str = include_str!("../../sql/queries/outbox/prune_chains.sql");

/// Rows that are abandoned or forgotten in one transaction: nobody waits long for a lock on one of them.
const ROWS_AT_ONCE: u16 = 1000;

/// Abandons and drops what has waited and been kept long enough.
pub struct Retention {
    pool: Pool,
    settings: config::Deliver,
}

/// What was done.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Expired {
    /// Dead letters that became abandoned.
    pub abandoned: u64,
    /// Days (UTC) that were dropped, the oldest first.
    pub dropped: Vec<Date>,
    /// Chains that were forgotten.
    pub chains: u64,
}

impl Retention {
    /// Works through `pool`, of the worker role.
    pub fn new(pool: Pool, settings: config::Deliver) -> Self {
        Self { pool, settings }
    }

    /// Does all that is due, each day in a transaction of its own.
    ///
    /// # Errors
    /// If the database is away or refuses. A lock that was not to be had is no error: what is due stays due.
    pub async fn once(&self) -> Result<Expired, DatabaseError> {
        // More than fits is more than anybody has.
        let days = |days: u32| i32::try_from(days).unwrap_or(i32::MAX);
        let client = self.pool.get().await?;
        let mut expired = Expired::default();
        if self.settings.dead_keep_days > 0 {
            expired.abandoned = abandon(&client, days(self.settings.dead_keep_days)).await?;
        }
        if self.settings.history_keep_days > 0 {
            expired.dropped = drop_days(&client, days(self.settings.history_keep_days)).await?;
        }
        expired.chains = prune_chains(&client).await?;
        Ok(expired)
    }
}

async fn abandon(client: &Object, days: i32) -> Result<u64, DatabaseError> {
    let mut abandoned = 0;
    loop {
        let some = client.execute(ABANDON, &[&days, &i64::from(ROWS_AT_ONCE)]).await?;
        abandoned += some;
        if some < u64::from(ROWS_AT_ONCE) {
            break;
        }
    }
    if abandoned > 0 {
        tracing::warn!(abandoned, "dead notifications that nobody sent again are abandoned");
    }
    Ok(abandoned)
}

async fn drop_days(client: &Object, keep_days: i32) -> Result<Vec<Date>, DatabaseError> {
    let mut dropped = Vec::new();
    loop {
        match client.query_one(DROP_EXPIRED, &[&keep_days]).await.map_err(DatabaseError::from) {
            Ok(row) => match row.get::<_, Option<Date>>(0) {
                Some(day) => {
                    tracing::info!(%day, "dropped a day of notifications that was kept long enough");
                    dropped.push(day);
                }
                None => return Ok(dropped),
            },
            Err(error) if error.is_lock_timeout() => {
                tracing::info!(
                    "a day of notifications is due to be dropped and in use, trying again in an hour"
                );
                return Ok(dropped);
            }
            Err(error) => return Err(error),
        }
    }
}

async fn prune_chains(client: &Object) -> Result<u64, DatabaseError> {
    let mut pruned = 0;
    loop {
        let row = client.query_one(PRUNE_CHAINS, &[&i32::from(ROWS_AT_ONCE)]).await?;
        let some = row.get::<_, i64>(0).unsigned_abs();
        pruned += some;
        if some < u64::from(ROWS_AT_ONCE) {
            return Ok(pruned);
        }
    }
}
