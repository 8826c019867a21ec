//! The worker's sign of life, and the rescue of those who gave none.
//!
//! Invariant: the id that is published is one that nobody took for dead when it was last renewed. A worker rescues others
//! only after it has itself been alive for a whole time to live without a gap: when the database was away for everybody,
//! everybody gets the time to come back, under its own id, before anybody is taken for dead.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::db::error::DatabaseError;
use crate::db::pool::Pool;
use crate::model::ids::WorkerId;
use crate::outbox::{heartbeat, rescue};
use crate::telemetry::metrics::Metrics;

/// Renews one worker's heartbeat for as long as it runs.
pub struct Heartbeat {
    pool: Pool,
    time_to_live: Duration,
    host: String,
    published: watch::Sender<Option<WorkerId>>,
    alive_since: Option<Instant>,
    renewed_at: Option<Instant>,
    owed: Arc<Notify>,
    metrics: Arc<Metrics>,
}

impl Heartbeat {
    /// A worker that nobody knows yet. It rings `owed` when it has rescued something.
    pub fn new(pool: Pool, time_to_live: Duration, owed: Arc<Notify>, metrics: Arc<Metrics>) -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
        Self {
            pool,
            time_to_live,
            host,
            published: watch::Sender::new(None),
            alive_since: None,
            renewed_at: None,
            owed,
            metrics,
        }
    }

    /// The id under which rows may be claimed; `None` while there is none.
    pub fn id(&self) -> watch::Receiver<Option<WorkerId>> {
        self.published.subscribe()
    }

    /// Beats until cancelled; then says that it ends.
    pub async fn run(mut self, cancel: CancellationToken) {
        loop {
            if let Err(error) = self.step().await {
                tracing::warn!(%error, "heartbeat failed");
            }
            tokio::select! {
                () = tokio::time::sleep(self.time_to_live / 5) => {}
                () = cancel.cancelled() => break,
            }
        }
        if let Err(error) = self.retire().await {
            tracing::warn!(%error, "failed to say that the worker ends, it expires");
        }
    }

    /// Renews, or begins anew under another id; then rescues from the dead. Returns how many attempts were rescued.
    ///
    /// # Errors
    /// If the database is away.
    pub async fn step(&mut self) -> Result<u64, DatabaseError> {
        let mut client = self.pool.get().await?;
        let current = *self.published.borrow();
        let renewed = match current {
            Some(id) => heartbeat::renew(&client, id, self.time_to_live).await?.then_some(id),
            None => None,
        };
        let id = match renewed {
            Some(id) => id,
            None => {
                let id = WorkerId::new();
                heartbeat::register(&client, id, &self.host, self.time_to_live).await?;
                if let Some(former) = current {
                    tracing::warn!(worker_id = %id, %former, "taken for dead by another worker, going on under a new id");
                }
                self.published.send_replace(Some(id));
                self.alive_since = Some(Instant::now());
                id
            }
        };
        let now = Instant::now();
        // Half a life: workers beat at different times, so that when all were cut off together one may be late, and taken for
        // dead, by the time that another is not late yet.
        if self.renewed_at.is_none_or(|at| now.duration_since(at) >= self.time_to_live / 2) {
            self.alive_since = Some(now);
        }
        self.renewed_at = Some(now);
        if self.alive_since.is_none_or(|since| since.elapsed() < self.time_to_live) {
            return Ok(0);
        }
        let rescued = rescue::rescue(&mut client, id).await?;
        if rescued > 0 {
            tracing::warn!(attempts = rescued, "rescued what a dead worker had in flight");
            self.metrics.deliveries_rescued.inc_by(rescued);
            self.owed.notify_one();
        }
        Ok(rescued)
    }

    async fn retire(&self) -> Result<(), DatabaseError> {
        let current = *self.published.borrow();
        if let Some(id) = current {
            heartbeat::retire(&self.pool.get().await?, id).await?;
        }
        Ok(())
    }
}
