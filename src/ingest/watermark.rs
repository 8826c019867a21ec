//! Ingestion's word: everything that the broker accepted before some time is stored. Detection tells a device that is silent
//! from our own lag by it; without it nobody is silent.

use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::stream;
use crate::db::error::DatabaseError;
use crate::db::pool::Pool;

const NOW: &str = "SELECT clock_timestamp()";
const RAISE: &str = include_str!("../../sql/queries/ingest/raise_watermark.sql");

/// As often as detection looks.
const EVERY: Duration = Duration::from_secs(1);

/// Leaves word of what is stored, for all who read the stream together: the broker knows what any of them has not
/// acknowledged.
pub struct Watermark {
    /// Of the worker role.
    pub pool: Pool,
    /// The stream.
    pub stream: stream::Handle,
    /// Its name.
    pub name: String,
}

impl Watermark {
    /// Runs until cancelled.
    pub async fn run(mut self, cancel: CancellationToken) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = cancel.cancelled() => return,
            }
            // Before the broker is asked: what comes meanwhile is not in its answer.
            let now = match self.now().await {
                Ok(now) => now,
                Err(error) => {
                    tracing::debug!(%error, "failed to ask the database for the time");
                    continue;
                }
            };
            let heard_until = match self.stream.oldest().await {
                Ok(oldest) => oldest.map_or(now, |oldest| oldest.min(now)),
                Err(error) => {
                    tracing::debug!(%error, "failed to ask the stream for its oldest message");
                    continue;
                }
            };
            if let Err(error) = self.raise(heard_until).await {
                tracing::debug!(%error, "failed to leave word of what is stored");
            }
        }
    }

    /// On the database's clock, as is the time at which readings arrive.
    async fn now(&self) -> Result<Timestamp, DatabaseError> {
        Ok(self.pool.get().await?.query_one(NOW, &[]).await?.get(0))
    }

    async fn raise(&self, heard_until: Timestamp) -> Result<(), DatabaseError> {
        let client = self.pool.get().await?;
        let statement = client.prepare_cached(RAISE).await?;
        client.execute(&statement, &[&self.name, &heard_until]).await?;
        Ok(())
    }
}
