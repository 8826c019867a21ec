//! Takes messages, makes readings of them, and puts whole messages into the buffer.
//!
//! Invariant: a message leaves here into the buffer or back to the stream; none is dropped unless it came by plain NATS, and
//! none is acknowledged here. Messages go into the buffer in the order in which the broker sent them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::{Client, Message};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::acknowledge::{Acknowledger, Word};
use super::buffer::{Batch, Buffer};
use super::decode::{as_sent, decode_each};
use super::incoming::Incoming;
use super::plain::Subscription;
use super::pull::{Pull, PullError};
use super::quota::OverQuota;
use super::reject::{Reason, Refusal, Reject};
use super::repeaters::Repeaters;
use super::resolve::{Resolved, Resolver};
use super::stream;
use super::validate::{NamedReading, Window, validate};
use crate::config;
use crate::db::error::DatabaseError;
use crate::model::ids::TenantId;
use crate::model::reading::{Reading, UnixMicros};
use crate::telemetry::metrics::{ByReason, Metrics};

/// After a failed pull, or while the database does not answer.
const PAUSE: Duration = Duration::from_millis(250);
/// When we stop and the broker has sent nothing for this long, nothing is on its way.
const QUIET: Duration = Duration::from_millis(100);
/// Pulls in a row that failed or found nothing, after which stream and consumer are looked at, and made again if they are
/// gone: an old broker does not say that they are.
const FRUITLESS_BEFORE_ENSURE: u32 = 10;
/// Bytes of messages that are decoded together: some five thousand readings.
const HANDLED_BYTES: usize = 512 * 1024;
/// Rejects kept of one message; the others are only counted.
const REJECTS_KEPT: usize = 20;

/// Fills the buffer from the stream.
pub struct Consumer {
    /// The connection.
    pub client: Client,
    /// With plain NATS: what comes in.
    pub subscription: Option<Subscription>,
    /// Knows tenants and series.
    pub resolver: Resolver,
    /// Where batches grow.
    pub buffer: Arc<Buffer>,
    /// Gives back what can't be looked up.
    pub acknowledger: Acknowledger,
    /// Whose readings are stored apart.
    pub repeaters: Arc<Repeaters>,
    /// False while nothing must be pulled.
    pub gate: watch::Receiver<bool>,
    /// The accepted window and the subject's prefix.
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
            let kept = match self.make_readings(&incoming, now).await {
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
        loop {
            let messages = pull.rest(QUIET).await?;
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
        let made = self.make_readings(&incoming, now).await;
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

    /// The readings of all messages and what was refused of them.
    async fn make_readings(
        &mut self,
        incoming: &[Incoming],
        now: UnixMicros,
    ) -> Result<Batch, DatabaseError> {
        let tenants = self.tenants(incoming).await?;
        // A clock of ours that is behind must not make what the broker stored look as if it came from the future.
        let stored = incoming.iter().map(|one| one.stored_at).max();
        let now = now.max(stored.unwrap_or(UnixMicros(i64::MIN)));
        let window = Window::around(now, self.ingest.accepted_days, self.ingest.future_tolerance_seconds);
        let repeaters = self.repeaters.of_late(std::time::Instant::now());
        let (mut named, mut named_again) = (Vec::with_capacity(incoming.len()), Vec::new());
        // Where the readings of each message end in the two.
        let (mut ends, mut ends_again) = (Vec::with_capacity(incoming.len()), Vec::new());
        let mut rejects = Vec::new();
        for one in incoming {
            match tenants.get(&*one.subject) {
                Some(Ok(tenant)) => {
                    let may_repeat = one.redelivered || repeaters.contains(tenant);
                    let named = if may_repeat { &mut named_again } else { &mut named };
                    self.elements(one, *tenant, window, named, &mut rejects);
                }
                Some(Err(refusal)) => {
                    self.count_rejects(refusal.reason.as_str(), 1);
                    rejects.push(refusal.clone().of(None, &one.subject, &one.payload));
                }
                None => {}
            }
            ends.push(named.len());
            ends_again.push(named_again.len());
        }
        let (readings, over) = self.readings(&named).await?;
        let (repeats, over_again) = self.readings(&named_again).await?;
        self.reject_over_quota(incoming, &named, &ends, &over, &mut rejects);
        self.reject_over_quota(incoming, &named_again, &ends_again, &over_again, &mut rejects);
        Ok(Batch { readings, repeats, rejects, ..Batch::default() })
    }

    /// The tenant of each subject.
    async fn tenants<'a>(
        &self,
        incoming: &'a [Incoming],
    ) -> Result<BTreeMap<&'a str, Result<TenantId, Refusal>>, DatabaseError> {
        let mut subjects: Vec<&Incoming> = Vec::new();
        for one in incoming {
            // Most messages have the subject of the one before them.
            if subjects.last().is_none_or(|last| last.subject != one.subject) {
                subjects.push(one);
            }
        }
        subjects.sort_unstable_by(|a, b| a.subject.cmp(&b.subject));
        subjects.dedup_by(|a, b| a.subject == b.subject);
        let names: Vec<_> = subjects.iter().map(|one| one.tenant(&self.ingest.subject_prefix)).collect();
        let valid: Vec<_> = names.iter().filter_map(|name| name.clone().ok()).collect();
        let mut known = self.resolver.tenants(&valid).await?.into_iter();
        let tenants = names.into_iter().map(|name| {
            let name = name?;
            let tenant = known.next().flatten();
            tenant.ok_or_else(|| Refusal::new(Reason::UnknownTenant, format!("there is no tenant `{name}`")))
        });
        Ok(subjects.iter().map(|one| &*one.subject).zip(tenants).collect())
    }

    /// The readings that may be stored, and the places of those that may not.
    async fn readings(
        &mut self,
        named: &[(TenantId, NamedReading<'_>)],
    ) -> Result<(Vec<Reading>, Vec<(usize, OverQuota)>), DatabaseError> {
        let Resolved { series, over_quota } = self.resolver.series(named).await?;
        let readings = named.iter().zip(series).filter_map(|((_, reading), series)| {
            Some(Reading { series: series?, ts: reading.ts, value: reading.value })
        });
        Ok((readings.collect(), over_quota))
    }

    /// `ends`: where the readings of each message end in `named`.
    fn reject_over_quota(
        &self,
        incoming: &[Incoming],
        named: &[(TenantId, NamedReading<'_>)],
        ends: &[usize],
        over_quota: &[(usize, OverQuota)],
        rejects: &mut Vec<Reject>,
    ) {
        let mut kept: BTreeMap<usize, usize> = BTreeMap::new();
        for (place, over) in over_quota {
            self.count_rejects(Reason::Quota.as_str(), 1);
            let message = ends.partition_point(|end| end <= place);
            let kept = kept.entry(message).or_default();
            if *kept < REJECTS_KEPT {
                *kept += 1;
                let (tenant, reading) = &named[*place];
                let subject = &incoming[message].subject;
                let payload = reading.to_json();
                rejects.push(Refusal::from(*over).of(Some(*tenant), subject, payload.as_bytes()));
            }
        }
    }

    fn elements<'a>(
        &self,
        one: &'a Incoming,
        tenant: TenantId,
        window: Window,
        named: &mut Vec<(TenantId, NamedReading<'a>)>,
        rejects: &mut Vec<Reject>,
    ) {
        let (mut refused, mut counts) = (Vec::new(), BTreeMap::new());
        let before = named.len();
        let whole = decode_each(&one.payload, |index, element| {
            let fallback = UnixMicros(one.stored_at.0 + index as i64);
            match element.and_then(|raw| validate(raw, fallback, window)) {
                Ok(reading) => named.push((tenant, reading)),
                Err(refusal) => {
                    *counts.entry(refusal.reason.as_str()).or_insert(0) += 1;
                    if refused.len() < REJECTS_KEPT {
                        refused.push((index, refusal));
                    }
                }
            }
        });
        if let Err(refusal) = whole {
            named.truncate(before);
            counts = BTreeMap::from([(refusal.reason.as_str(), 1)]);
            refused = vec![(0, refusal)];
        }
        for (reason, count) in counts {
            self.count_rejects(reason, count);
        }
        if !refused.is_empty() {
            let sent = as_sent(&one.payload);
            rejects.extend(refused.into_iter().map(|(index, refusal)| {
                let sent = sent.get(index).copied().unwrap_or(&one.payload);
                refusal.of(Some(tenant), &one.subject, sent)
            }));
        }
    }

    fn count_rejects(&self, reason: &'static str, count: u64) {
        self.metrics.readings_rejected.get_or_create(&ByReason { reason }).inc_by(count);
    }
}
