//! The flushes that detection owes a look, in the order of their ids.

use deadpool_postgres::Object;
use jiff::Timestamp;
use tokio_postgres::GenericClient;

use crate::db::error::DatabaseError;
use crate::model::batch::unpack;
use crate::model::reading::{Reading, UnixMicros};

const TAKE: &str = include_str!("../../sql/queries/detect/owed_flushes.sql");
const RELEASE_QUARANTINED: &str = include_str!("../../sql/queries/detect/release_quarantined_flushes.sql");
const QUARANTINE: &str = include_str!("../../sql/queries/detect/quarantine_flush.sql");

/// So many flushes are taken at a time: what `owed_flushes.sql` says.
pub const MOST_FLUSHES: usize = 2000;

/// An owed batch.
#[derive(Debug)]
pub struct OwedFlush {
    /// Which.
    pub id: i64,
    /// When it was stored, on the database's clock.
    pub arrived: UnixMicros,
    /// Sorted by `(series, ts)`.
    pub readings: Vec<Reading>,
}

/// Owed flushes with ids above `floor`, without those in `judged`; about `limit` readings. One that can't be read is put
/// into quarantine, where it blocks nobody.
///
/// # Errors
/// If the database is away.
pub async fn take(
    client: &Object,
    floor: i64,
    judged: &[i64],
    limit: usize,
) -> Result<Vec<OwedFlush>, DatabaseError> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut flushes = Vec::new();
    let statement = client.prepare_cached(TAKE).await?;
    for row in client.query(&statement, &[&floor, &judged, &limit]).await? {
        let id = row.get(0);
        let arrived = row.get::<_, Timestamp>("flushed_at").into();
        match unpack(row.get("batch")) {
            Ok(readings) => flushes.push(OwedFlush { id, arrived, readings }),
            Err(error) => {
                quarantine(&***client, id, &error.to_string()).await?;
            }
        }
    }
    Ok(flushes)
}

/// Owes the flushes in quarantine again: another program, a newer one perhaps, may be able to judge them. How many.
///
/// # Errors
/// If the database is away.
pub async fn release_quarantined(client: &impl GenericClient) -> Result<u64, DatabaseError> {
    Ok(client.execute(RELEASE_QUARANTINED, &[]).await?)
}

/// Sets a flush aside that can't be judged: it is kept, with the reason, and is owed no more.
///
/// # Errors
/// If the database is away.
pub async fn quarantine(client: &impl GenericClient, flush: i64, reason: &str) -> Result<(), DatabaseError> {
    tracing::error!(flush_id = flush, reason, "flush can't be judged, it is put into quarantine");
    client.execute(QUARANTINE, &[&flush, &reason]).await?;
    Ok(())
}
