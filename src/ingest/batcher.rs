//! Makes readings of messages: decode → validate → resolve. What is refused becomes a reject, and blocks nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::buffer::Batch;
use super::decode::{as_sent, decode_each};
use super::incoming::Incoming;
use super::quota::OverQuota;
use super::reject::{Reason, Refusal, Reject};
use super::repeaters::Repeaters;
use super::resolve::{Resolved, Resolver};
use super::validate::{NamedReading, Window, validate};
use crate::config;
use crate::db::error::DatabaseError;
use crate::model::ids::TenantId;
use crate::model::reading::{Reading, UnixMicros};
use crate::telemetry::metrics::{ByReason, Metrics};

/// Rejects kept of one message; the others are only counted.
const REJECTS_KEPT: usize = 20;

/// One task owns it: what it knows of series is asked once a reading, without a lock.
pub struct Batcher {
    /// Knows tenants and series.
    pub resolver: Resolver,
    /// Whose readings are stored apart.
    pub repeaters: Arc<Repeaters>,
    /// The accepted window and the subject's prefix.
    pub ingest: config::Ingest,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

impl Batcher {
    /// The readings of all messages, in their order, and what was refused of them. `now`: when they came.
    ///
    /// # Errors
    /// If a tenant or a series has to be looked up and the database is away.
    pub async fn make(&mut self, incoming: &[Incoming], now: UnixMicros) -> Result<Batch, DatabaseError> {
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
