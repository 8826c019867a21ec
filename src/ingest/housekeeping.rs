//! What ingestion does once a minute: `last_seen` of devices, the end of old rejects, how full the stream is.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::stream;
use crate::config;
use crate::db::error::DatabaseError;
use crate::db::pool::Pool;
use crate::model::ids::SeriesId;
use crate::telemetry::metrics::Metrics;

const TOUCH_DEVICES: &str = include_str!("../../sql/queries/ingest/touch_devices.sql");
const PURGE_REJECTS: &str = include_str!("../../sql/queries/ingest/purge_rejects.sql");

const EVERY: Duration = Duration::from_secs(60);
/// The share of the stream's limit from which it is an alarm.
const FULLNESS_ALARM: f64 = 0.8;

/// The series that brought something since the last look. Bounded by the number of series.
#[derive(Debug, Default)]
pub struct Seen(Mutex<HashSet<i32>>);

impl Seen {
    /// Notes series.
    pub fn note(&self, series: impl Iterator<Item = SeriesId>) {
        self.lock().extend(series.map(|series| series.0));
    }

    fn take(&self) -> Vec<i32> {
        std::mem::take(&mut *self.lock()).into_iter().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<i32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Once a minute, and once more at the end.
pub struct Housekeeping {
    /// Of the worker role.
    pub pool: Pool,
    /// For the stream's state, if readings come from one.
    pub stream: Option<stream::Handle>,
    /// Filled by the flusher.
    pub seen: Arc<Seen>,
    /// How long rejects are kept.
    pub ingest: config::Ingest,
    /// Shows the stream's fullness.
    pub metrics: Arc<Metrics>,
}

impl Housekeeping {
    /// Runs until cancelled.
    pub async fn run(mut self, cancel: CancellationToken) {
        loop {
            let stopping = tokio::select! {
                () = tokio::time::sleep(EVERY) => false,
                () = cancel.cancelled() => true,
            };
            if let Err(error) = self.once().await {
                tracing::warn!(%error, "housekeeping failed, it is tried again in a minute");
            }
            if stopping {
                return;
            }
            let Some(stream) = &mut self.stream else { continue };
            match stream.fullness().await {
                Ok(fullness) => {
                    self.metrics.stream_fullness.set(fullness);
                    if fullness >= FULLNESS_ALARM {
                        tracing::warn!(fullness, stream = %self.ingest.stream, "the stream is filling up");
                    }
                }
                Err(error) => tracing::warn!(%error, "failed to ask for the state of the stream"),
            }
        }
    }

    /// One round against the database.
    ///
    /// # Errors
    /// If the database is away; what was seen is kept for the next round.
    pub async fn once(&self) -> Result<(), DatabaseError> {
        let seen = self.seen.take();
        let round = async {
            let client = self.pool.get().await?;
            if !seen.is_empty() {
                client.execute(TOUCH_DEVICES, &[&seen]).await?;
            }
            let keep_days = i64::from(self.ingest.rejected_keep_days);
            client.execute(PURGE_REJECTS, &[&keep_days, &self.ingest.rejected_keep_rows]).await?;
            Ok(())
        };
        let result = round.await;
        if result.is_err() {
            self.seen.note(seen.into_iter().map(SeriesId));
        }
        result
    }
}
