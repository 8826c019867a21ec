//! Swaps batches out of the buffer, stores them, and only then acknowledges their messages.
//!
//! A batch that fails twice goes back to the stream. While the database is away the gate is closed: nothing is pulled,
//! so the backlog stays in the stream and memory stays flat.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::AckKind;
use async_nats::jetstream::message::Acker;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::buffer::{Batch, Buffer};
use super::flush::{Flush, Flushed};
use super::housekeeping::Seen;
use super::reject::Reason;
use crate::db::error::DatabaseError;
use crate::telemetry::metrics::{ByPhase, ByReason, Metrics, Phase};

/// Before the one retry of a failed flush.
const RETRY_AFTER: Duration = Duration::from_millis(100);
/// After this the broker sends what we gave back again.
const REDELIVER_AFTER: Duration = Duration::from_secs(1);

/// Stores what the buffer holds, one batch at a time.
pub struct Flusher {
    /// Where batches grow.
    pub buffer: Arc<Buffer>,
    /// Writes them.
    pub flush: Flush,
    /// Series that were seen, for `last_seen`.
    pub seen: Arc<Seen>,
    /// False while nothing must be pulled.
    pub gate: watch::Sender<bool>,
    /// Rung after each commit: detection owes a look.
    pub flushed: Arc<Notify>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// The consumer's own; a third of it passes between two signs of life.
    pub ack_wait: Duration,
}

impl Flusher {
    /// Runs until the buffer is closed and empty, or, once `cancel` is cancelled, the database fails.
    pub async fn run(mut self, cancel: CancellationToken) {
        while let Some(batch) = self.buffer.take().await {
            if let Err(error) = self.flush_with_retry(&batch).await {
                self.metrics.flushes_failed.inc();
                tracing::error!(
                    %error, readings = batch.readings.len(), messages = batch.ackers.len(),
                    "flush failed twice, the stream keeps it"
                );
                give_back(&batch.ackers).await;
                self.wait_for_database(&cancel).await;
            }
        }
    }

    async fn flush_with_retry(&mut self, batch: &Batch) -> Result<(), DatabaseError> {
        if let Some(since) = batch.since {
            self.observe(Phase::buffer, since);
        }
        let first = self.store(batch, batch.may_repeat).await;
        let flushed = match first {
            Ok(flushed) => flushed,
            Err(error) => {
                tracing::warn!(%error, "flush failed, trying once more");
                tokio::time::sleep(RETRY_AFTER).await;
                // The first try may have committed without our hearing of it.
                self.store(batch, true).await?
            }
        };
        self.count(batch, flushed);
        self.flushed.notify_one();
        let start = Instant::now();
        for acker in &batch.ackers {
            // A lost acknowledgement is a redelivery, and that is a repeat.
            if let Err(error) = acker.ack().await {
                tracing::debug!(%error, "failed to acknowledge a message");
            }
        }
        self.observe(Phase::ack, start);
        Ok(())
    }

    /// Stores a batch; tells the broker again and again that work goes on, if it takes long.
    async fn store(&mut self, batch: &Batch, may_repeat: bool) -> Result<Flushed, DatabaseError> {
        let mut alive = tokio::time::interval(self.ack_wait / 3);
        alive.tick().await;
        let store = self.flush.store(&batch.readings, &batch.rejects, may_repeat, &self.metrics);
        tokio::pin!(store);
        loop {
            tokio::select! {
                stored = &mut store => return stored,
                _ = alive.tick() => send_all(&batch.ackers, AckKind::Progress).await,
            }
        }
    }

    fn count(&self, batch: &Batch, flushed: Flushed) {
        self.seen.note(batch.readings.iter().map(|reading| reading.series));
        self.metrics.readings_stored.inc_by(flushed.stored as u64);
        self.metrics.readings_repeated.inc_by(flushed.repeated as u64);
        for (reason, count) in
            [(Reason::ConflictingValue, flushed.conflicting), (Reason::RefusedByDatabase, flushed.refused)]
        {
            if count > 0 {
                let reason = ByReason { reason: reason.as_str() };
                self.metrics.readings_rejected.get_or_create(&reason).inc_by(count as u64);
            }
        }
    }

    async fn wait_for_database(&self, cancel: &CancellationToken) {
        self.gate.send_replace(false);
        let mut pause = RETRY_AFTER;
        while !cancel.is_cancelled() && self.flush.ping().await.is_err() {
            give_back(&self.buffer.take_now().ackers).await;
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(Duration::from_secs(1)),
                () = cancel.cancelled() => {}
            }
        }
        self.gate.send_replace(true);
        tracing::info!("the database answers, going on");
    }

    fn observe(&self, phase: Phase, start: Instant) {
        self.metrics.flush_seconds.get_or_create(&ByPhase { phase }).observe(start.elapsed().as_secs_f64());
    }
}

/// The broker keeps them and sends them again. If it does not hear this, it does so when `ack_wait` is over.
pub async fn give_back(ackers: &[Acker]) {
    send_all(ackers, AckKind::Nak(Some(REDELIVER_AFTER))).await;
}

async fn send_all(ackers: &[Acker], kind: AckKind) {
    for acker in ackers {
        if let Err(error) = acker.ack_with(kind).await {
            tracing::debug!(%error, "failed to send a message's state to the broker");
        }
    }
}
