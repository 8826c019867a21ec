//! One batch, one transaction: the readings, the packed batch that detection owes a look, and the rejects.
//!
//! Invariant: of all readings of one `(series, ts)` exactly one is stored, the first; and what is packed for detection is
//! exactly what this transaction stored. COPY goes first because it is cheapest; a batch that meets, or may meet, a
//! repeat is written with `ON CONFLICT DO NOTHING` and asks what was really inserted.

use std::collections::{BTreeSet, HashMap};
use std::pin::pin;
use std::time::Instant;

use deadpool_postgres::Object;
use futures_util::SinkExt;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::copy;
use super::reject::{Reason, Reject};
use crate::db::error::DatabaseError;
use crate::db::partitions;
use crate::db::pool::Pool;
use crate::model::batch::pack;
use crate::model::ids::SeriesId;
use crate::model::reading::{Reading, UnixMicros};
use crate::telemetry::metrics::{ByPhase, Metrics, Phase};

const COPY_READINGS: &str = "COPY readings (series_id, ts, value) FROM STDIN (FORMAT binary)";
const INSERT_READINGS: &str = include_str!("../../sql/queries/ingest/insert_readings.sql");
const STORED_VALUES: &str = include_str!("../../sql/queries/ingest/stored_values.sql");
const INSERT_FLUSH: &str = include_str!("../../sql/queries/ingest/insert_flush.sql");
const INSERT_REJECTS: &str = include_str!("../../sql/queries/ingest/insert_rejects.sql");
const INSERT_REFUSED: &str = include_str!("../../sql/queries/ingest/insert_refused_readings.sql");

/// Below this many rows one INSERT is cheaper than the round trips of COPY (measured).
const COPY_FROM_ROWS: usize = 50;

/// What a flush did.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Flushed {
    /// Readings stored.
    pub stored: usize,
    /// Readings that were there before, with the same value.
    pub repeated: usize,
    /// Readings for which another value was there, or that the database refused: kept with the rejects.
    pub refused: usize,
}

/// Writes batches; remembers for which days there are partitions.
#[derive(Debug)]
pub struct Flush {
    pool: Pool,
    days: BTreeSet<Date>,
}

/// A reading that is not stored, and why.
struct Refused {
    reading: Reading,
    reason: Reason,
    detail: String,
}

impl Flush {
    /// Writes through `pool`, of the worker role.
    pub fn new(pool: Pool) -> Self {
        Self { pool, days: BTreeSet::new() }
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// If it does not.
    pub async fn ping(&self) -> Result<(), DatabaseError> {
        self.pool.ping().await
    }

    /// Stores a batch. `may_repeat`: some of it may be stored already.
    ///
    /// # Errors
    /// If nothing was stored, or if nobody knows: a repeated call finds out.
    pub async fn store(
        &mut self,
        readings: &[Reading],
        rejects: &[Reject],
        may_repeat: bool,
        metrics: &Metrics,
    ) -> Result<Flushed, DatabaseError> {
        let mut sorted = readings.to_vec();
        // Stable: of two readings with one key the one that came first stays first.
        sorted.sort_by_key(|reading| (reading.series, reading.ts));
        let mut refused = Vec::new();
        let repeated = drop_repeats(&mut sorted, &mut refused);
        let start = Instant::now();
        let mut client = self.pool.get().await?;
        observe(metrics, Phase::connection, start);
        self.ensure_days(&client, &sorted).await?;
        let mut flushed =
            self.store_whole(&mut client, &sorted, rejects, &mut refused, may_repeat, metrics).await?;
        flushed.repeated += repeated;
        flushed.refused += refused.len();
        Ok(flushed)
    }

    async fn store_whole(
        &mut self,
        client: &mut Object,
        sorted: &[Reading],
        rejects: &[Reject],
        refused: &mut Vec<Refused>,
        may_repeat: bool,
        metrics: &Metrics,
    ) -> Result<Flushed, DatabaseError> {
        let copy = !may_repeat && sorted.len() >= COPY_FROM_ROWS;
        let first = write(client, sorted, rejects, refused, copy, metrics).await;
        match first {
            Err(error) if error.is_unique_violation() => {
                write(client, sorted, rejects, refused, false, metrics).await
            }
            Err(error) if error.is_missing_partition() => {
                // Dropped behind our back: what we remember of them is worth nothing.
                self.days.clear();
                self.ensure_days(client, sorted).await?;
                write(client, sorted, rejects, refused, false, metrics).await
            }
            Err(error) if error.is_data_error() => {
                // Some row is not to be stored: halve until it stands alone, refuse it, store the others.
                match sorted {
                    [] => Err(error),
                    [reading] => {
                        let detail = error.to_string();
                        refused.push(Refused {
                            reading: *reading,
                            reason: Reason::RefusedByDatabase,
                            detail,
                        });
                        write(client, &[], rejects, refused, false, metrics).await
                    }
                    _ => {
                        let (left, right) = sorted.split_at(sorted.len() / 2);
                        let mut refused_left = Vec::new();
                        let left =
                            Box::pin(self.store_whole(client, left, &[], &mut refused_left, true, metrics))
                                .await?;
                        let right =
                            Box::pin(self.store_whole(client, right, rejects, refused, true, metrics))
                                .await?;
                        Ok(Flushed {
                            stored: left.stored + right.stored,
                            repeated: left.repeated + right.repeated,
                            refused: left.refused + right.refused + refused_left.len(),
                        })
                    }
                }
            }
            other => other,
        }
    }

    async fn ensure_days(&mut self, client: &Object, sorted: &[Reading]) -> Result<(), DatabaseError> {
        let days: BTreeSet<Date> = sorted.iter().map(|reading| day(reading.ts)).collect();
        let missing: Vec<Date> = days.difference(&self.days).copied().collect();
        if !missing.is_empty() {
            partitions::ensure(&***client, &["readings", "readings_1m"], &missing).await?;
            self.days.extend(missing);
        }
        Ok(())
    }
}

/// The transaction. What it finds to be conflicting is added to `refused`, once it is committed.
async fn write(
    client: &mut Object,
    sorted: &[Reading],
    rejects: &[Reject],
    refused: &mut Vec<Refused>,
    copy: bool,
    metrics: &Metrics,
) -> Result<Flushed, DatabaseError> {
    let start = Instant::now();
    let transaction = client.transaction().await?;
    let mut conflicting = Vec::new();
    let mut repeated = 0;
    let stored = if copy {
        let mut sink = pin!(transaction.copy_in(COPY_READINGS).await?);
        sink.send(copy::encode(sorted)).await?;
        sink.finish().await?;
        sorted.to_vec()
    } else if sorted.is_empty() {
        Vec::new()
    } else {
        let stored = insert(&transaction, sorted).await?;
        if stored.len() < sorted.len() {
            repeated = compare_with_stored(&transaction, sorted, &stored, &mut conflicting).await?;
        }
        stored
    };
    if !stored.is_empty() {
        let statement = transaction.prepare_cached(INSERT_FLUSH).await?;
        transaction.execute(&statement, &[&(stored.len() as i32), &pack(&stored)]).await?;
    }
    if !rejects.is_empty() {
        insert_rejects(&transaction, rejects).await?;
    }
    if !refused.is_empty() || !conflicting.is_empty() {
        insert_refused(&transaction, refused.iter().chain(&conflicting)).await?;
    }
    observe(metrics, Phase::write, start);
    let start = Instant::now();
    transaction.commit().await?;
    observe(metrics, Phase::commit, start);
    refused.extend(conflicting);
    Ok(Flushed { stored: stored.len(), repeated, refused: 0 })
}

async fn insert(
    transaction: &deadpool_postgres::Transaction<'_>,
    sorted: &[Reading],
) -> Result<Vec<Reading>, DatabaseError> {
    let (series, times, values) = columns(sorted);
    let statement = transaction.prepare_cached(INSERT_READINGS).await?;
    let rows = transaction.query(&statement, &[&series, &times, &values]).await?;
    let mut stored: Vec<Reading> = rows.iter().map(reading).collect();
    stored.sort_by_key(|reading| (reading.series, reading.ts));
    Ok(stored)
}

/// Counts the readings that were there before with the same value; pushes those with another one.
async fn compare_with_stored(
    transaction: &deadpool_postgres::Transaction<'_>,
    sorted: &[Reading],
    stored: &[Reading],
    conflicting: &mut Vec<Refused>,
) -> Result<usize, DatabaseError> {
    let new: BTreeSet<_> = stored.iter().map(|reading| (reading.series, reading.ts)).collect();
    let old: Vec<Reading> =
        sorted.iter().filter(|reading| !new.contains(&(reading.series, reading.ts))).copied().collect();
    let (series, times, _) = columns(&old);
    let statement = transaction.prepare_cached(STORED_VALUES).await?;
    let rows = transaction.query(&statement, &[&series, &times]).await?;
    let there: HashMap<_, _> =
        rows.iter().map(reading).map(|reading| ((reading.series, reading.ts), reading.value)).collect();
    let mut repeated = 0;
    for reading in old {
        match there.get(&(reading.series, reading.ts)) {
            Some(value) if *value != reading.value => conflicting.push(conflict(reading, *value)),
            _ => repeated += 1,
        }
    }
    Ok(repeated)
}

/// Keeps the first of several readings with one key; returns how many equal ones it dropped.
fn drop_repeats(sorted: &mut Vec<Reading>, refused: &mut Vec<Refused>) -> usize {
    let mut repeated = 0;
    sorted.dedup_by(|later, first| {
        let same_key = (later.series, later.ts) == (first.series, first.ts);
        if same_key && later.value == first.value {
            repeated += 1;
        } else if same_key {
            refused.push(conflict(*later, first.value));
        }
        same_key
    });
    repeated
}

fn conflict(reading: Reading, stored: f64) -> Refused {
    Refused { reading, reason: Reason::ConflictingValue, detail: format!("stored before: {stored}") }
}

async fn insert_rejects(
    transaction: &deadpool_postgres::Transaction<'_>,
    rejects: &[Reject],
) -> Result<(), DatabaseError> {
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
    transaction: &deadpool_postgres::Transaction<'_>,
    refused: impl Iterator<Item = &Refused> + Clone,
) -> Result<(), DatabaseError> {
    let readings: Vec<_> = refused.clone().map(|refused| refused.reading).collect();
    let reasons: Vec<_> = refused.clone().map(|refused| refused.reason.as_str()).collect();
    let details: Vec<_> = refused.map(|refused| refused.detail.as_str()).collect();
    let (series, times, values) = columns(&readings);
    let statement = transaction.prepare_cached(INSERT_REFUSED).await?;
    transaction.execute(&statement, &[&series, &times, &values, &reasons, &details]).await?;
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
