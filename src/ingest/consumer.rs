//! Takes messages, has readings made of them, and puts whole messages into the buffer.
//!
//! Invariant: a message leaves here into the buffer or back to the stream; none is dropped unless it came by plain NATS, and
//! none is acknowledged here. Messages go into the buffer in the order in which the broker sent them.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::{Client, Message};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::acknowledge::{Acknowledger, Word};
use super::batcher::Batcher;
use super::buffer::{Batch, Buffer};
use super::incoming::Incoming;
use super::plain::Subscription;
use super::pull::{Pull, PullError};
use super::stream;
use crate::config;
use crate::model::reading::UnixMicros;
use crate::telemetry::metrics::Metrics;

/// After a failed pull, or while the database does not answer.
const PAUSE: Duration = Duration::from_millis(250);
/// When we stop and plain NATS has sent nothing for this long, nothing is on its way.
const QUIET: Duration = Duration::from_millis(100);
/// When we stop and the broker has said nothing for this long, it is away.
const PATIENCE: Duration = Duration::from_secs(2);
/// Pulls in a row that failed or found nothing, after which stream and consumer are looked at, and made again if they are
/// gone: an old broker does not say that they are.
const FRUITLESS_BEFORE_ENSURE: u32 = 10;
/// Bytes of messages that are decoded together: some five thousand readings.
const HANDLED_BYTES: usize = 512 * 1024;

/// Fills the buffer from the stream.
pub struct Consumer {
    /// The connection.
    pub client: Client,
    /// With plain NATS: what comes in.
    pub subscription: Option<Subscription>,
    /// Makes readings of messages.
    pub batcher: Batcher,
    /// Where batches grow.
    pub buffer: Arc<Buffer>,
    /// Gives back what can't be looked up.
    pub acknowledger: Acknowledger,
    /// False while nothing must be pulled.
    pub gate: watch::Receiver<bool>,
    /// The names of stream and consumer.
    pub ingest: config::Ingest,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

impl Consumer {
    /// Runs until cancelled and nothing is on its way any more, then closes the buffer.
    pub async fn run(mut self, cancel: CancellationToken) {
        match self.subscription.take() {
            Some(subscription) => self.run_plain(subscription, &cancel).await,
            None => self.run_stream(&cancel).await,
        }
        self.buffer.close();
    }

    async fn run_plain(&mut self, mut subscription: Subscription, cancel: &CancellationToken) {
        loop {
            let messages = if cancel.is_cancelled() {
                tokio::time::timeout(QUIET, subscription.next()).await.unwrap_or_default()
            } else {
                tokio::select! {
                    messages = subscription.next() => messages,
                    () = cancel.cancelled() => continue,
                }
            };
            let Some(messages) = messages else { return };
            let now = UnixMicros::from(Timestamp::now());
            let count = messages.len();
            let incoming = subscription.with_times(messages, now);
            let kept = match self.batcher.make(&incoming, now).await {
                Ok(batch) => self.buffer.try_push(Batch { since: Some(Instant::now()), ..batch }),
                Err(error) => {
                    tracing::warn!(%error, "failed to look up series");
                    false
                }
            };
            if !kept {
                self.metrics.messages_dropped.inc_by(count as u64);
            }
        }
    }

    async fn run_stream(&mut self, cancel: &CancellationToken) {
        while !cancel.is_cancelled() {
            let open = tokio::select! {
                // The sender lives in the flusher; when it is gone the process is stopping.
                open = self.gate.wait_for(|open| *open) => open.is_ok(),
                () = cancel.cancelled() => false,
            };
            if !open {
                break;
            }
            if let Err(error) = self.pull(cancel).await {
                tracing::warn!(%error, "failed to pull from the stream, trying again");
                tokio::time::sleep(PAUSE).await;
                self.ensure_consumer().await;
            }
        }
    }

    /// Somebody may have deleted the consumer, or the whole stream.
    async fn ensure_consumer(&mut self) {
        let jetstream: Context = async_nats::jetstream::new(self.client.clone());
        if let Err(error) = stream::ensure(&jetstream, &self.ingest).await {
            tracing::error!(%error, "the stream can't be pulled from");
        }
    }

    /// Pulls until cancelled, or until the gate is closed. Once cancelled, what is on its way is still taken, and with the
    /// gate closed it is given back: nobody else would get it before its `ack_wait` is over.
    async fn pull(&mut self, cancel: &CancellationToken) -> Result<(), PullError> {
        let mut pull = Pull::open(&self.client, &self.ingest.stream, &self.ingest.consumer).await?;
        let mut gate = self.gate.clone();
        let mut fruitless = 0;
        loop {
            let messages = tokio::select! {
                biased;
                () = cancel.cancelled() => break,
                _ = gate.wait_for(|open| !open) => break,
                messages = pull.next() => messages?,
            };
            if messages.is_empty() {
                fruitless += 1;
                if fruitless >= FRUITLESS_BEFORE_ENSURE {
                    fruitless = 0;
                    self.metrics.stream_lag.set(0);
                    self.ensure_consumer().await;
                }
            } else {
                fruitless = 0;
                self.handle(messages).await;
            }
        }
        pull.end().await?;
        loop {
            let messages = pull.rest(PATIENCE).await;
            if messages.is_empty() {
                return Ok(());
            }
            if cancel.is_cancelled() {
                self.handle(messages).await;
            } else {
                let replies: Vec<_> = messages.into_iter().filter_map(|message| message.reply).collect();
                self.acknowledger.say(Word::Again, &replies).await;
            }
        }
    }

    /// Some messages at a time: what is being decoded is bounded, and the batch grows smoothly.
    async fn handle(&mut self, messages: Vec<Message>) {
        let mut messages = messages.into_iter().peekable();
        while messages.peek().is_some() {
            let (mut some, mut bytes) = (Vec::new(), 0);
            while let Some(message) = messages.next_if(|_| bytes < HANDLED_BYTES) {
                bytes += message.payload.len();
                some.push(message);
            }
            self.handle_some(some).await;
        }
    }

    async fn handle_some(&mut self, messages: Vec<Message>) {
        let since = Instant::now();
        let now = UnixMicros::from(Timestamp::now());
        let incoming: Vec<Incoming> =
            messages.into_iter().map(|message| Incoming::new(message, now)).collect();
        let made = self.batcher.make(&incoming, now).await;
        let last = incoming.last().map(|one| one.pending);
        let replies: Vec<_> = incoming.into_iter().filter_map(|one| one.reply).collect();
        match made {
            Ok(batch) => {
                self.buffer.push(Batch { replies, since: Some(since), ..batch }).await;
                self.metrics.stream_lag.set(last.unwrap_or_default() as i64);
            }
            Err(error) => {
                tracing::warn!(%error, messages = replies.len(), "failed to look up series, the stream keeps the messages");
                self.acknowledger.say(Word::Again, &replies).await;
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
