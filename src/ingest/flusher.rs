//! Swaps batches out of the buffer, stores them, and only then acknowledges their messages.
//!
//! One batch is stored at a time, its parts side by side; the next one grows meanwhile, and the acknowledgements of the
//! last one are sent meanwhile. What fails twice goes back to the stream, or is dropped, as `on_flush_failure` says. While
//! the database is away the gate is closed: nothing is pulled, so the backlog stays in the stream and memory stays flat.

use std::sync::Arc;
use std::time::Duration;

use async_nats::Subject;
use futures_util::future::join_all;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::acknowledge::{Acknowledger, Word};
use super::buffer::Buffer;
use super::flush::{Flush, Flushed};
use super::housekeeping::Seen;
use super::part::Part;
use super::reject::Reason;
use super::repeaters::Repeaters;
use crate::config::OnFlushFailure;
use crate::db::error::DatabaseError;
use crate::telemetry::metrics::{ByPhase, ByReason, Metrics, Phase};

/// Before the one retry of a failed flush.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// Stores what the buffer holds, one batch at a time.
pub struct Flusher {
    /// Where batches grow.
    pub buffer: Arc<Buffer>,
    /// Writes them.
    pub flush: Flush,
    /// Parts of a batch that are written side by side.
    pub writers: usize,
    /// What becomes of a batch that failed twice.
    pub on_flush_failure: OnFlushFailure,
    /// Tells the broker what became of messages.
    pub acknowledger: Acknowledger,
    /// Who repeats itself, for the consumer.
    pub repeaters: Arc<Repeaters>,
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
    pub async fn run(self, cancel: CancellationToken) {
        let mut acknowledging: Option<JoinHandle<()>> = None;
        while let Some(mut batch) = self.buffer.take().await {
            if let Some(since) = batch.since {
                self.observe(Phase::buffer, since);
            }
            let replies = std::mem::take(&mut batch.replies);
            let (readings, messages) = (batch.readings.len() + batch.repeats.len(), replies.len());
            let start = Instant::now();
            let mut parts = Part::of(batch, self.writers);
            self.observe(Phase::sort, start);
            let result = self.store_with_retry(&mut parts, &replies).await;
            // At most one batch's acknowledgements are on their way.
            if let Some(sent) = acknowledging.take() {
                let _ = sent.await;
            }
            match result {
                Ok(()) => acknowledging = Some(self.acknowledge(replies)),
                Err(error) if self.on_flush_failure == OnFlushFailure::Drop => {
                    self.metrics.flushes_failed.inc();
                    let dropped: usize =
                        parts.iter().map(|part| part.readings.len() + part.again.len()).sum();
                    self.metrics.readings_dropped.inc_by(dropped as u64);
                    tracing::error!(%error, readings = dropped, "flush failed twice, its readings are dropped");
                    acknowledging = Some(self.acknowledge(replies));
                }
                Err(error) => {
                    self.metrics.flushes_failed.inc();
                    tracing::error!(%error, readings, messages, "flush failed twice, the stream keeps it");
                    self.acknowledger.say(Word::Again, &replies).await;
                    self.wait_for_database(&cancel).await;
                }
            }
        }
        if let Some(sent) = acknowledging {
            let _ = sent.await;
        }
    }

    async fn store_with_retry(
        &self,
        parts: &mut Vec<Part>,
        replies: &[Subject],
    ) -> Result<(), DatabaseError> {
        if let Err(error) = self.store(parts, replies).await {
            tracing::warn!(%error, "flush failed, trying once more");
            tokio::time::sleep(RETRY_AFTER).await;
            for part in &mut *parts {
                // The first try may have committed without our hearing of it.
                part.may_repeat = true;
            }
            self.store(parts, replies).await?;
        }
        Ok(())
    }

    /// Stores parts side by side, and leaves those that could not be stored; tells the broker again and again that work goes
    /// on, if it takes long.
    async fn store(&self, parts: &mut Vec<Part>, replies: &[Subject]) -> Result<(), DatabaseError> {
        let mut alive = tokio::time::interval(self.ack_wait / 3);
        alive.tick().await;
        let mut results = {
            let store = join_all(parts.iter().map(|part| self.flush.store(part, &self.metrics)));
            tokio::pin!(store);
            loop {
                tokio::select! {
                    results = &mut store => break results,
                    _ = alive.tick() => self.acknowledger.say(Word::Working, replies).await,
                }
            }
        };
        for (part, result) in parts.iter().zip(&results) {
            if let Ok(flushed) = result {
                self.count(part, flushed);
                self.note_repeaters(part, flushed).await;
            }
        }
        let mut stored = results.iter().map(Result::is_ok);
        parts.retain(|_| stored.next() != Some(true));
        if parts.len() < results.len() {
            self.flushed.notify_one();
        }
        match results.iter().position(Result::is_err) {
            Some(failed) => results.swap_remove(failed).map(drop),
            None => Ok(()),
        }
    }

    fn acknowledge(&self, replies: Vec<Subject>) -> JoinHandle<()> {
        let (acknowledger, metrics) = (self.acknowledger.clone(), Arc::clone(&self.metrics));
        tokio::spawn(async move {
            let start = Instant::now();
            acknowledger.say(Word::Stored, &replies).await;
            observe(&metrics, Phase::ack, start);
        })
    }

    /// A message that was delivered again repeats itself for no fault of its tenant's.
    async fn note_repeaters(&self, part: &Part, flushed: &Flushed) {
        if part.may_repeat || flushed.repeating.is_empty() {
            return;
        }
        match self.flush.tenants_of(&flushed.repeating).await {
            Ok(tenants) => {
                tracing::debug!(
                    ?tenants,
                    "these tenants repeat themselves, they are stored apart for a while"
                );
                self.repeaters.note(tenants, std::time::Instant::now());
            }
            Err(error) => tracing::debug!(%error, "failed to find out who repeats itself"),
        }
    }

    fn count(&self, part: &Part, flushed: &Flushed) {
        self.seen.note(part.readings.chunk_by(|a, b| a.series == b.series).map(|run| run[0].series));
        self.metrics.part_readings.observe(part.readings.len() as f64);
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
            self.acknowledger.say(Word::Again, &self.buffer.take_now().replies).await;
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(Duration::from_secs(1)),
                () = cancel.cancelled() => {}
            }
        }
        self.gate.send_replace(true);
        tracing::info!("the database answers, going on");
    }

    fn observe(&self, phase: Phase, start: Instant) {
        observe(&self.metrics, phase, start);
    }
}

fn observe(metrics: &Metrics, phase: Phase, start: Instant) {
    metrics.flush_seconds.get_or_create(&ByPhase { phase }).observe(start.elapsed().as_secs_f64());
}
