//! What lies in the tables and is no longer owed: dead rows that nobody may remove, and a history.

use tokio_postgres::Client;
use uuid::Uuid;

use crate::cli::bench::ground::Ground;
use crate::cli::bench::owing::{ANSWER, notification};
use crate::db::pool;
use crate::model::ids::DestinationId;

const INSERT_DEAD_ROWS: &str = include_str!("../../../../sql/queries/bench/insert_dead_rows.sql");
const INSERT_DELIVERED: &str = include_str!("../../../../sql/queries/bench/insert_delivered.sql");

/// A transaction that began before anything was owed, and is not over: a report, a dump, a forgotten session.
pub struct OldSnapshot(Client);

impl OldSnapshot {
    /// Begins one.
    ///
    /// # Errors
    /// If the database refuses.
    pub async fn hold(ground: &Ground) -> anyhow::Result<Self> {
        let client = pool::connect_owner(&ground.config.database).await?;
        // Its snapshot is taken with the first query.
        client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM tenants").await?;
        Ok(Self(client))
    }

    /// Ends it.
    ///
    /// # Errors
    /// If it was ended by somebody else: what was measured was something else.
    pub async fn end(self) -> anyhow::Result<()> {
        Ok(self.0.batch_execute("SELECT count(*) FROM tenants; COMMIT").await?)
    }
}

/// Rows that were owed to these and are gone: they were due before all others.
///
/// # Errors
/// If the database refuses.
pub async fn dead_rows(ground: &Ground, to: &[DestinationId], count: usize) -> anyhow::Result<()> {
    let to: Vec<Uuid> = to.iter().map(|id| id.0).collect();
    let count = i32::try_from(count)?;
    ground.owner.execute(INSERT_DEAD_ROWS, &[&to, &ground.tenant.0, &count]).await?;
    Ok(ground.owner.batch_execute("DELETE FROM outbox").await?)
}

/// Notifications that were delivered to these a while ago.
///
/// # Errors
/// If the database refuses.
pub async fn history(ground: &Ground, to: &[DestinationId], count: usize) -> anyhow::Result<()> {
    let plain: Vec<Uuid> = to.iter().map(|id| id.0).collect();
    let body = to.first().map_or(String::new(), |id| notification(ground.tenant, *id, 0).body);
    let count = i32::try_from(count)?;
    ground.owner.execute(INSERT_DELIVERED, &[&plain, &ground.tenant.0, &count, &body, &ANSWER]).await?;
    // What was written must not be written out while the clock runs.
    Ok(ground.owner.batch_execute("CHECKPOINT").await?)
}
