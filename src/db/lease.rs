//! Leases: who is the one active holder of a name, until when, on the database's clock.
//!
//! Invariant: of all transactions that locked the row and saw their own epoch, at most one holder's can commit at any
//! epoch; a holder that was paused past its expiry finds a higher epoch and must stop. An advisory lock would only show
//! that a connection is open, not that anybody is alive behind it.

use std::time::Duration;

use tokio_postgres::GenericClient;
use uuid::Uuid;

use super::error::DatabaseError;

const ACQUIRE: &str = include_str!("../../sql/queries/db/acquire_lease.sql");
const RENEW: &str = include_str!("../../sql/queries/db/renew_lease.sql");
const RELEASE: &str = include_str!("../../sql/queries/db/release_lease.sql");

/// A lease that was held when it was last renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    name: &'static str,
    holder: Uuid,
    /// Rises at every take-over.
    pub epoch: i64,
    time_to_live: Duration,
}

impl Lease {
    /// Takes the lease if nobody holds it or its holder did not renew it in time. Returns at once if it is held, also
    /// if its row is locked by the holder's transaction.
    ///
    /// # Errors
    /// If the database is away.
    pub async fn acquire(
        client: &impl GenericClient,
        name: &'static str,
        holder: Uuid,
        time_to_live: Duration,
    ) -> Result<Option<Self>, DatabaseError> {
        let row = client.query_opt(ACQUIRE, &[&name, &holder, &time_to_live.as_secs_f64()]).await?;
        Ok(row.map(|row| Self { name, holder, epoch: row.get(0), time_to_live }))
    }

    /// Renews the lease and locks its row until the transaction ends: the fence. False if another took it over.
    ///
    /// # Errors
    /// If the database is away.
    pub async fn renew(&self, client: &impl GenericClient) -> Result<bool, DatabaseError> {
        let seconds = self.time_to_live.as_secs_f64();
        Ok(client.execute(RENEW, &[&self.name, &self.holder, &self.epoch, &seconds]).await? == 1)
    }

    /// Gives the lease back, so that another need not wait for it to expire.
    ///
    /// # Errors
    /// If the database is away.
    pub async fn release(&self, client: &impl GenericClient) -> Result<(), DatabaseError> {
        client.execute(RELEASE, &[&self.name, &self.holder, &self.epoch]).await?;
        Ok(())
    }
}
