//! One part of a batch, one transaction: the readings, the packed batch that detection owes a look, and the rejects.
//!
//! Invariant: of all readings of one `(series, ts)` exactly one is stored, the first; and what is packed for detection is
//! exactly what this transaction stored. COPY goes first because it is cheapest; a part that meets, or may meet, a
//! repeat is written with `ON CONFLICT DO NOTHING` and asks what was really inserted.

use std::collections::{BTreeSet, HashMap};
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use deadpool_postgres::{Object, Transaction};
use futures_util::SinkExt;
use futures_util::future::join;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::copy;
use super::part::{Part, key};
use super::reject::{Reason, Reject};
use crate::db::error::DatabaseError;
use crate::db::partitions;
use crate::db::pool::Pool;
use crate::model::batch::pack;
use crate::model::ids::{SeriesId, TenantId};
use crate::model::reading::{Reading, UnixMicros};
use crate::telemetry::metrics::{ByPhase, Metrics, Phase};

const COPY_READINGS: &str = "COPY readings (series_id, ts, value) FROM STDIN (FORMAT binary)";
const INSERT_FEW: &str = include_str!("../../sql/queries/ingest/insert_few.sql");
const INSERT_READINGS: &str = include_str!("../../sql/queries/ingest/insert_readings.sql");
const STORED_VALUES: &str = include_str!("../../sql/queries/ingest/stored_values.sql");
const INSERT_FLUSH: &str = include_str!("../../sql/queries/ingest/insert_flush.sql");
const INSERT_REJECTS: &str = include_str!("../../sql/queries/ingest/insert_rejects.sql");
const TENANTS_OF_SERIES: &str = include_str!("../../sql/queries/ingest/tenants_of_series.sql");
const INSERT_REFUSED: &str = include_str!("../../sql/queries/ingest/insert_refused_readings.sql");

/// Below this many rows one INSERT is cheaper than the round trips of COPY (measured).
const COPY_FROM_ROWS: usize = 50;

const MICROS_OF_A_DAY: i64 = 86_400_000_000;

/// What a flush did.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Flushed {
    /// Readings stored.
    pub stored: usize,
    /// Readings that were there before, with the same value.
    pub repeated: usize,
    /// Readings for which another value was there: kept with the rejects.
    pub conflicting: usize,
    /// Readings that the database refused: kept with the rejects.
    pub refused: usize,
    /// The series of what was repeated or conflicting, each once.
    pub repeating: Vec<SeriesId>,
}

impl Flushed {
    fn and(mut self, other: Self) -> Self {
        self.stored += other.stored;
        self.repeated += other.repeated;
        self.conflicting += other.conflicting;
        self.refused += other.refused;
        self.repeating.extend(other.repeating);
        self
    }
}

/// Writes parts of batches, several at once; remembers for which days there are partitions.
#[derive(Debug)]
pub struct Flush {
    pool: Pool,
    /// Of the subject that readings come on.
    subject_prefix: String,
    days: Mutex<BTreeSet<Date>>,
}

/// Readings, each `(series, ts)` once, in that order; and those of the batch whose key came before, in the same order.
#[derive(Clone, Copy)]
struct Sorted<'a> {
    first: &'a [Reading],
    again: &'a [Reading],
}

impl Sorted<'_> {
    fn halves(&self) -> [Self; 2] {
        let (left, right) = self.first.split_at(self.first.len() / 2);
        let at = self.again.partition_point(|reading| key(reading) < key(&right[0]));
        let (left_again, right_again) = self.again.split_at(at);
        [Self { first: left, again: left_again }, Self { first: right, again: right_again }]
    }
}

/// A reading that is not stored, and why.
struct Refused {
    reading: Reading,
    reason: Reason,
    detail: String,
}

impl Flush {
    /// Writes through `pool`, of the worker role.
    pub fn new(pool: Pool, subject_prefix: &str) -> Self {
        Self { pool, subject_prefix: subject_prefix.to_owned(), days: Mutex::default() }
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// If it does not.
    pub async fn ping(&self) -> Result<(), DatabaseError> {
        self.pool.ping().await
    }

    /// Stores a part.
    ///
    /// # Errors
    /// If nothing was stored, or if nobody knows: a repeated call with `may_repeat` finds out.
    pub async fn store(&self, part: &Part, metrics: &Metrics) -> Result<Flushed, DatabaseError> {
        let start = Instant::now();
        let mut client = self.pool.get().await?;
        observe(metrics, Phase::connection, start);
        self.ensure_days(&client, &part.readings).await?;
        let sorted = Sorted { first: &part.readings, again: &part.again };
        self.store_whole(&mut client, sorted, &part.rejects, part.may_repeat, metrics).await
    }

    /// Whose these series are.
    ///
    /// # Errors
    /// If the database is away.
    pub async fn tenants_of(&self, series: &[SeriesId]) -> Result<Vec<TenantId>, DatabaseError> {
        let ids: Vec<i32> = series.iter().map(|series| series.0).collect();
        let rows = self.pool.get().await?.query(TENANTS_OF_SERIES, &[&ids]).await?;
        Ok(rows.iter().map(|row| TenantId(row.get(0))).collect())
    }

    async fn store_whole(
        &self,
        client: &mut Object,
        sorted: Sorted<'_>,
        rejects: &[Reject],
        may_repeat: bool,
        metrics: &Metrics,
    ) -> Result<Flushed, DatabaseError> {
        let plain = !may_repeat && sorted.again.is_empty() && rejects.is_empty() && !sorted.first.is_empty();
        let first = if plain && sorted.first.len() < COPY_FROM_ROWS {
            insert_few(client, sorted.first, metrics).await
        } else if plain {
            copy_in(client, sorted.first, metrics).await
        } else {
            write(client, &self.subject_prefix, sorted, rejects, None, metrics).await
        };
        match first {
            Err(error) if error.is_unique_violation() => {
                metrics.flushes_redone.inc();
                write(client, &self.subject_prefix, sorted, rejects, None, metrics).await
            }
            Err(error) if error.is_missing_partition() => {
                // Dropped behind our back: what we remember of them is worth nothing.
                self.days().clear();
                self.ensure_days(client, sorted.first).await?;
                write(client, &self.subject_prefix, sorted, rejects, None, metrics).await
            }
            Err(error) if error.is_data_error() => {
                // Some row is not to be stored: halve until it stands alone, refuse it, store the others.
                match sorted.first {
                    [] => Err(error),
                    [reading] => {
                        let (reason, detail) = (Reason::RefusedByDatabase, error.to_string());
                        let refused = Refused { reading: *reading, reason, detail };
                        let without = Sorted { first: &[], ..sorted };
                        let flushed =
                            write(client, &self.subject_prefix, without, rejects, Some(refused), metrics)
                                .await?;
                        Ok(flushed.and(Flushed { refused: 1, ..Flushed::default() }))
                    }
                    _ => {
                        let [left, right] = sorted.halves();
                        let left = Box::pin(self.store_whole(client, left, &[], true, metrics)).await?;
                        let right = Box::pin(self.store_whole(client, right, rejects, true, metrics)).await?;
                        Ok(left.and(right))
                    }
                }
            }
            other => other,
        }
    }

    async fn ensure_days(&self, client: &Object, sorted: &[Reading]) -> Result<(), DatabaseError> {
        let mut days = BTreeSet::new();
        let mut known = None;
        for reading in sorted {
            let number = reading.ts.0.div_euclid(MICROS_OF_A_DAY);
            if known != Some(number) {
                known = Some(number);
                days.insert(day(reading.ts));
            }
        }
        let missing: Vec<Date> = days.difference(&self.days()).copied().collect();
        if !missing.is_empty() {
            partitions::ensure(&***client, &["readings", "readings_1m"], &missing).await?;
            self.days().extend(missing);
        }
        Ok(())
    }

    fn days(&self) -> std::sync::MutexGuard<'_, BTreeSet<Date>> {
        self.days.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Few readings: one statement, that is its own transaction.
async fn insert_few(
    client: &Object,
    sorted: &[Reading],
    metrics: &Metrics,
) -> Result<Flushed, DatabaseError> {
    let start = Instant::now();
    let (series, times, values) = columns(sorted);
    let statement = client.prepare_cached(INSERT_FEW).await?;
    let count = sorted.len() as i32;
    client.execute(&statement, &[&series, &times, &values, &count, &pack(sorted)]).await?;
    observe(metrics, Phase::write, start);
    Ok(Flushed { stored: sorted.len(), ..Flushed::default() })
}

/// Many readings: COPY, and the batch beside it. A repeat is an error, and nothing is stored.
async fn copy_in(
    client: &mut Object,
    sorted: &[Reading],
    metrics: &Metrics,
) -> Result<Flushed, DatabaseError> {
    let start = Instant::now();
    let transaction = client.transaction().await?;
    let (copy, flush) =
        join(transaction.prepare_cached(COPY_READINGS), transaction.prepare_cached(INSERT_FLUSH)).await;
    let (copy, flush) = (copy?, flush?);
    let (count, packed) = (sorted.len() as i32, pack(sorted));
    // Sent together: each answer that is waited for costs a round trip.
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&count, &packed];
    let (flushed, sink) = join(transaction.execute(&flush, &parameters), transaction.copy_in(&copy)).await;
    flushed?;
    let mut sink = pin!(sink?);
    sink.send(copy::encode(sorted)).await?;
    observe(metrics, Phase::write, start);
    let start = Instant::now();
    // What the COPY did not take is not committed: PostgreSQL rolls a failed transaction back when it is told to commit.
    let (copied, committed) = join(sink.finish(), transaction.commit()).await;
    copied?;
    committed?;
    observe(metrics, Phase::commit, start);
    Ok(Flushed { stored: sorted.len(), ..Flushed::default() })
}

/// Whatever may be stored already, and rejects. What it finds to be conflicting is kept with `refused`.
async fn write(
    client: &mut Object,
    subject_prefix: &str,
    sorted: Sorted<'_>,
    rejects: &[Reject],
    refused: Option<Refused>,
    metrics: &Metrics,
) -> Result<Flushed, DatabaseError> {
    let start = Instant::now();
    let transaction = client.transaction().await?;
    let stored =
        if sorted.first.is_empty() { Vec::new() } else { insert(&transaction, sorted.first).await? };
    let mut not_stored = Vec::new();
    if stored.len() < sorted.first.len() {
        let new: BTreeSet<_> = stored.iter().map(key).collect();
        not_stored.extend(sorted.first.iter().filter(|reading| !new.contains(&key(reading))));
    }
    not_stored.extend(sorted.again);
    let mut refused = Vec::from_iter(refused);
    let mut flushed = Flushed { stored: stored.len(), ..Flushed::default() };
    if !not_stored.is_empty() {
        let conflicting = conflicts(&transaction, &not_stored).await?;
        flushed.conflicting = conflicting.len();
        flushed.repeated = not_stored.len() - conflicting.len();
        flushed.repeating = not_stored.iter().map(|reading| reading.series).collect();
        flushed.repeating.sort_unstable();
        flushed.repeating.dedup();
        refused.extend(conflicting);
    }
    if !stored.is_empty() {
        let statement = transaction.prepare_cached(INSERT_FLUSH).await?;
        transaction.execute(&statement, &[&(stored.len() as i32), &pack(&stored)]).await?;
    }
    if !rejects.is_empty() {
        insert_rejects(&transaction, rejects).await?;
    }
    if !refused.is_empty() {
        insert_refused(&transaction, subject_prefix, &refused).await?;
    }
    observe(metrics, Phase::write, start);
    let start = Instant::now();
    transaction.commit().await?;
    observe(metrics, Phase::commit, start);
    Ok(flushed)
}

async fn insert(transaction: &Transaction<'_>, sorted: &[Reading]) -> Result<Vec<Reading>, DatabaseError> {
    let (series, times, values) = columns(sorted);
    let statement = transaction.prepare_cached(INSERT_READINGS).await?;
    let rows = transaction.query(&statement, &[&series, &times, &values]).await?;
    let mut stored: Vec<Reading> = rows.iter().map(reading).collect();
    stored.sort_by_key(key);
    Ok(stored)
}

/// Those readings for which another value is stored. The first that was stored wins, not the first of the batch.
async fn conflicts(
    transaction: &Transaction<'_>,
    not_stored: &[Reading],
) -> Result<Vec<Refused>, DatabaseError> {
    let (series, times, _) = columns(not_stored);
    let statement = transaction.prepare_cached(STORED_VALUES).await?;
    let rows = transaction.query(&statement, &[&series, &times]).await?;
    let there: HashMap<_, _> =
        rows.iter().map(reading).map(|reading| (key(&reading), reading.value)).collect();
    let conflict = |reading: &Reading| {
        let detail = match there.get(&key(reading)) {
            Some(value) if *value == reading.value => return None,
            Some(value) => format!("stored before: {value}"),
            None => "refused before: another value".to_owned(),
        };
        Some(Refused { reading: *reading, reason: Reason::ConflictingValue, detail })
    };
    Ok(not_stored.iter().filter_map(conflict).collect())
}

async fn insert_rejects(transaction: &Transaction<'_>, rejects: &[Reject]) -> Result<(), DatabaseError> {
    let tenants: Vec<_> = rejects.iter().map(|reject| reject.tenant.map(|tenant| tenant.0)).collect();
    let subjects: Vec<_> = rejects.iter().map(|reject| reject.subject.as_str()).collect();
    let reasons: Vec<_> = rejects.iter().map(|reject| reject.reason.as_str()).collect();
    let details: Vec<_> = rejects.iter().map(|reject| reject.detail.as_str()).collect();
    let payloads: Vec<_> = rejects.iter().map(|reject| reject.payload.as_slice()).collect();
    let statement = transaction.prepare_cached(INSERT_REJECTS).await?;
    transaction.execute(&statement, &[&tenants, &subjects, &reasons, &details, &payloads]).await?;
    Ok(())
}

async fn insert_refused(
    transaction: &Transaction<'_>,
    subject_prefix: &str,
    refused: &[Refused],
) -> Result<(), DatabaseError> {
    let readings: Vec<_> = refused.iter().map(|refused| refused.reading).collect();
    let reasons: Vec<_> = refused.iter().map(|refused| refused.reason.as_str()).collect();
    let details: Vec<_> = refused.iter().map(|refused| refused.detail.as_str()).collect();
    let (series, times, values) = columns(&readings);
    let statement = transaction.prepare_cached(INSERT_REFUSED).await?;
    transaction.execute(&statement, &[&series, &times, &values, &reasons, &details, &subject_prefix]).await?;
    Ok(())
}

fn columns(readings: &[Reading]) -> (Vec<i32>, Vec<Timestamp>, Vec<f64>) {
    let series = readings.iter().map(|reading| reading.series.0).collect();
    let times = readings.iter().map(|reading| reading.ts.to_timestamp()).collect();
    let values = readings.iter().map(|reading| reading.value).collect();
    (series, times, values)
}

fn reading(row: &tokio_postgres::Row) -> Reading {
    let ts: Timestamp = row.get(1);
    Reading { series: SeriesId(row.get(0)), ts: UnixMicros::from(ts), value: row.get(2) }
}

fn day(ts: UnixMicros) -> Date {
    ts.to_timestamp().to_zoned(TimeZone::UTC).date()
}

fn observe(metrics: &Metrics, phase: Phase, start: Instant) {
    metrics.flush_seconds.get_or_create(&ByPhase { phase }).observe(start.elapsed().as_secs_f64());
}
