//! The end of readings and rollups: whole days are dropped, which costs nothing however many rows they have.
//!
//! Invariant: no day is dropped that a reading of the accepted window could still be stored in, and no day of rollups that
//! a batch not judged yet could reach into (`drop_expired_partition` in the schema holds it). Ingestion waits at most half a
//! second for a drop: one that does not get its lock by then is tried again an hour later.

use jiff::civil::Date;

use crate::config;
use crate::db::error::DatabaseError;
use crate::db::partitions;
use crate::db::pool::Pool;

/// Drops what has been kept long enough.
pub struct Retention {
    pool: Pool,
    ingest: config::Ingest,
}

impl Retention {
    /// Works through `pool`, of the worker role.
    pub fn new(pool: Pool, ingest: config::Ingest) -> Self {
        Self { pool, ingest }
    }

    /// Drops every day that is due, each in a transaction of its own; returns tables and days.
    ///
    /// # Errors
    /// If the database is away or refuses. A lock that was not to be had is no error: what is due stays due.
    pub async fn once(&self) -> Result<Vec<(&'static str, Date)>, DatabaseError> {
        let client = self.pool.get().await?;
        let mut dropped = Vec::new();
        for (table, keep_days) in
            [("readings", self.ingest.readings_keep_days), ("readings_1m", self.ingest.rollups_keep_days)]
        {
            if keep_days == 0 {
                continue;
            }
            loop {
                let accepted_days = self.ingest.accepted_days;
                match partitions::drop_expired(&**client, table, keep_days, accepted_days).await {
                    Ok(Some(day)) => {
                        tracing::info!(table, %day, keep_days, "dropped a day that was kept long enough");
                        dropped.push((table, day));
                    }
                    Ok(None) => break,
                    Err(error) if error.is_lock_timeout() => {
                        tracing::info!(
                            table,
                            "a day is due to be dropped and in use, trying again in an hour"
                        );
                        break;
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(dropped)
    }
}
