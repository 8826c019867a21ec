//! Pulls messages, makes readings of them, and puts whole messages into the buffer.
//!
//! Invariant: a message leaves here into the buffer or back to the stream; none is dropped, and none is acknowledged
//! here.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::message::{Acker, Message};
use futures_util::StreamExt;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::buffer::{Batch, Buffer};
use super::decode::{as_sent, decode};
use super::flusher::give_back;
use super::reject::{Reason, Refusal, Reject};
use super::resolve::Resolver;
use super::stream;
use super::validate::{NamedReading, Window, validate};
use crate::config;
use crate::db::error::DatabaseError;
use crate::model::ids::TenantId;
use crate::model::reading::{Reading, UnixMicros};
use crate::model::tenant::TenantName;
use crate::telemetry::metrics::{ByReason, Metrics};

/// Messages asked for at a time, and handled together when they are there together.
const PULL_MESSAGES: usize = 500;
/// Bytes asked for at a time; with the above it bounds what is in memory before the buffer.
const PULL_BYTES: usize = 8 * 1024 * 1024;
/// A pull that found nothing is asked again after this long.
const PULL_EXPIRES: Duration = Duration::from_secs(2);
/// After a failed pull, or while the database does not answer.
const PAUSE: Duration = Duration::from_millis(250);
/// When we stop and the broker has sent nothing for this long, nothing is on its way.
const QUIET: Duration = Duration::from_millis(100);
/// Pulls in a row that failed or found nothing, after which stream and consumer are looked at, and made again if they are
/// gone: an old broker does not say that they are.
const FRUITLESS_BEFORE_ENSURE: u32 = 5;
/// Rejects kept of one message; the others are only counted.
const REJECTS_KEPT: usize = 20;

/// Fills the buffer from the stream.
pub struct Consumer {
    /// For making stream and consumer again, when somebody deleted them.
    pub jetstream: Context,
    /// On the broker.
    pub consumer: PullConsumer,
    /// Knows tenants and series.
    pub resolver: Resolver,
    /// Where batches grow.
    pub buffer: Arc<Buffer>,
    /// False while nothing must be pulled.
    pub gate: watch::Receiver<bool>,
    /// The accepted window and the subject's prefix.
    pub ingest: config::Ingest,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

/// A message taken apart: where its acknowledgement goes, whose it is, and its bytes.
struct Incoming {
    message: async_nats::Message,
    acker: Acker,
    stored_at: UnixMicros,
    redelivered: bool,
    tenant: Result<TenantName, Refusal>,
}

impl Consumer {
    /// Runs until cancelled and nothing is on its way any more, then closes the buffer.
    pub async fn run(mut self, cancel: CancellationToken) {
        let mut fruitless = 0;
        while !cancel.is_cancelled() {
            let open = tokio::select! {
                // The sender lives in the flusher; when it is gone the process is stopping.
                open = self.gate.wait_for(|open| *open) => open.is_ok(),
                () = cancel.cancelled() => false,
            };
            if !open {
                break;
            }
            match self.pull(&cancel).await {
                Ok(0) => fruitless += 1,
                Ok(_) => fruitless = 0,
                Err(error) => {
                    tracing::warn!(%error, "failed to pull from the stream, trying again");
                    fruitless += 1;
                    tokio::time::sleep(PAUSE).await;
                }
            }
            if fruitless >= FRUITLESS_BEFORE_ENSURE {
                fruitless = 0;
                self.ensure_consumer().await;
            }
        }
        self.buffer.close();
    }

    /// Somebody may have deleted the consumer, or the whole stream.
    async fn ensure_consumer(&mut self) {
        match stream::ensure(&self.jetstream, &self.ingest).await {
            Ok((_, consumer)) => self.consumer = consumer,
            Err(error) => tracing::error!(%error, "the stream can't be pulled from"),
        }
    }

    /// One pull, until it is used up or found nothing more; returns how many messages it brought. Once cancelled, what is on its way is still taken: nobody else
    /// would get it before its `ack_wait` is over.
    async fn pull(&mut self, cancel: &CancellationToken) -> Result<usize, async_nats::Error> {
        let mut pulled = 0;
        let pull =
            self.consumer.batch().max_messages(PULL_MESSAGES).max_bytes(PULL_BYTES).expires(PULL_EXPIRES);
        let mut chunks = pull.messages().await?.ready_chunks(PULL_MESSAGES);
        loop {
            let chunk = if cancel.is_cancelled() {
                tokio::time::timeout(QUIET, chunks.next()).await.unwrap_or_default()
            } else {
                tokio::select! {
                    chunk = chunks.next() => chunk,
                    () = cancel.cancelled() => continue,
                }
            };
            let Some(chunk) = chunk else { return Ok(pulled) };
            let mut messages = Vec::with_capacity(chunk.len());
            let mut failed = None;
            for message in chunk {
                match message {
                    Ok(message) => messages.push(message),
                    Err(error) => failed = Some(error),
                }
            }
            pulled += messages.len();
            if !messages.is_empty() {
                self.handle(messages).await;
            }
            if let Some(error) = failed {
                return Err(error);
            }
        }
    }

    async fn handle(&mut self, messages: Vec<Message>) {
        let since = Instant::now();
        let incoming: Vec<Incoming> = messages.into_iter().map(|message| self.take_apart(message)).collect();
        match self.resolve(&incoming).await {
            Ok((readings, rejects)) => {
                let may_repeat = incoming.iter().any(|one| one.redelivered);
                let ackers = incoming.into_iter().map(|one| one.acker).collect();
                self.buffer.push(Batch { readings, rejects, ackers, may_repeat, since: Some(since) }).await;
            }
            Err(error) => {
                tracing::warn!(%error, messages = incoming.len(), "failed to look up series, the stream keeps the messages");
                let ackers: Vec<Acker> = incoming.into_iter().map(|one| one.acker).collect();
                give_back(&ackers).await;
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    fn take_apart(&self, message: Message) -> Incoming {
        let (stored_at, redelivered) = match message.info() {
            Ok(info) => {
                (UnixMicros((info.published.unix_timestamp_nanos() / 1_000) as i64), info.delivered > 1)
            }
            // Without it nobody knows whether it came before.
            Err(_) => (Timestamp::now().into(), true),
        };
        let tenant = self.tenant_of(&message.subject);
        let (message, acker) = message.split();
        Incoming { message, acker, stored_at, redelivered, tenant }
    }

    /// The tenant is the token after the prefix, so that the broker's permissions decide who publishes for whom.
    fn tenant_of(&self, subject: &str) -> Result<TenantName, Refusal> {
        let rest = subject.strip_prefix(&self.ingest.subject_prefix).and_then(|rest| rest.strip_prefix('.'));
        let token = rest.and_then(|rest| rest.split('.').next()).unwrap_or_default();
        TenantName::parse(token).map_err(|error| Refusal::new(Reason::UnknownTenant, error.to_string()))
    }

    /// The readings of all messages and what was refused of them.
    async fn resolve(&mut self, incoming: &[Incoming]) -> Result<(Vec<Reading>, Vec<Reject>), DatabaseError> {
        let mut names: Vec<TenantName> = incoming.iter().filter_map(|one| one.tenant.clone().ok()).collect();
        names.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        names.dedup();
        let tenants = self.resolver.tenants(&names).await?;
        let tenant_of = |name: &TenantName| {
            let known = names.iter().zip(&tenants).find(|(known, _)| *known == name);
            known
                .and_then(|(_, tenant)| *tenant)
                .ok_or_else(|| Refusal::new(Reason::UnknownTenant, format!("there is no tenant `{name}`")))
        };
        // A clock of ours that is behind must not make what the broker stored look as if it came from the future.
        let stored = incoming.iter().map(|one| one.stored_at).max();
        let now = UnixMicros::from(Timestamp::now()).max(stored.unwrap_or(UnixMicros(i64::MIN)));
        let window = Window::around(now, self.ingest.accepted_days, self.ingest.future_tolerance_seconds);
        let mut named = Vec::new();
        // Where the readings of each message end.
        let mut ends = Vec::with_capacity(incoming.len());
        let mut rejects = Vec::new();
        for one in incoming {
            match one.tenant.as_ref().map_err(Clone::clone).and_then(tenant_of) {
                Ok(tenant) => self.elements(one, tenant, window, &mut named, &mut rejects),
                Err(refusal) => {
                    self.count_rejects(refusal.reason, 1);
                    rejects.push(refusal.of(None, &one.message.subject, &one.message.payload));
                }
            }
            ends.push(named.len());
        }
        let resolved = self.resolver.series(&named).await?;
        if !resolved.over_quota.is_empty() {
            let mut kept = vec![0; incoming.len()];
            for (place, over) in &resolved.over_quota {
                self.count_rejects(Reason::Quota, 1);
                let message = ends.partition_point(|end| end <= place);
                if kept[message] < REJECTS_KEPT {
                    kept[message] += 1;
                    let (tenant, reading) = &named[*place];
                    let subject = &incoming[message].message.subject;
                    let reject =
                        Refusal::from(*over).of(Some(*tenant), subject, reading.to_json().as_bytes());
                    rejects.push(reject);
                }
            }
        }
        let readings = named
            .iter()
            .zip(resolved.series)
            .filter_map(|((_, reading), series)| {
                Some(Reading { series: series?, ts: reading.ts, value: reading.value })
            })
            .collect();
        Ok((readings, rejects))
    }

    fn elements<'a>(
        &self,
        one: &'a Incoming,
        tenant: TenantId,
        window: Window,
        named: &mut Vec<(TenantId, NamedReading<'a>)>,
        rejects: &mut Vec<Reject>,
    ) {
        let payload = &one.message.payload;
        let mut refused = Vec::new();
        for (index, element) in decode(payload).into_iter().enumerate() {
            let fallback = UnixMicros(one.stored_at.0 + index as i64);
            match element.and_then(|raw| validate(&raw, fallback, window)) {
                Ok(reading) => named.push((tenant, reading)),
                Err(refusal) => {
                    self.count_rejects(refusal.reason, 1);
                    if refused.len() < REJECTS_KEPT {
                        refused.push((index, refusal));
                    }
                }
            }
        }
        if !refused.is_empty() {
            let sent = as_sent(payload);
            rejects.extend(refused.into_iter().map(|(index, refusal)| {
                let sent = sent.get(index).copied().unwrap_or(payload);
                refusal.of(Some(tenant), &one.message.subject, sent)
            }));
        }
    }

    fn count_rejects(&self, reason: Reason, count: u64) {
        self.metrics.readings_rejected.get_or_create(&ByReason { reason: reason.as_str() }).inc_by(count);
    }
}
