//! Where a reading's cost goes after it is stored: the detector at work on a real database, and its parts by themselves.
//!
//! Ten rules watch each series, and an hour of minutes is there before. Settled once a second, as under a steady load of 5,000
//! readings a second, each settlement merges 5,000 rollups for 5,000 readings; a backlog is settled 100,000 at a time.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::judging::{MINUTES, flushes, judge_all, spent};
use super::rules;
use crate::cli::bench::ground::{Cpu, Ground};
use crate::cli::bench::series;
use crate::cli::readings::{Readings, SERIES};
use crate::db::pool::{Pool, Role};
use crate::detect::detector::{Detector, Step};
use crate::detect::judge::Judged;
use crate::detect::load::Versions;
use crate::detect::memory::Memory;
use crate::detect::scene::Moment;
use crate::ingest::flush::Flush;
use crate::ingest::part::Part;
use crate::model::batch::{pack, unpack};
use crate::model::ids::SeriesId;
use crate::telemetry::metrics::Metrics;

const INSERT_MINUTES: &str = include_str!("../../../../sql/queries/bench/insert_minutes.sql");

/// Microseconds of processor time a reading.
///
/// # Errors
/// If the detector or the database fails.
pub async fn measure(ground: &Ground, seconds: usize) -> anyhow::Result<Value> {
    let series = series::register(ground).await?;
    rules::replace(ground, SERIES / rules::EACH * rules::KINDS).await?;
    let readings = Readings::recent();
    let begin = readings.reading(0, &series).ts.minute().to_timestamp();
    let ids: Vec<i32> = series.iter().map(|series| series.0).collect();
    let levels: Vec<f64> = (0..SERIES).map(Readings::value).collect();
    ground.owner.execute(INSERT_MINUTES, &[&ids, &levels, &MINUTES, &begin]).await?;
    ground.owner.batch_execute("VACUUM (ANALYZE) readings_1m").await?;
    let pool = Pool::new(&ground.config.database, Role::Worker, 2)?;
    let work = Work { ground, pool, series, readings };

    let parts = work.parts(seconds).await?;
    let steady = work.settled(SERIES, 0..seconds).await?;
    let behind = work.settled(ground.config.detect.readings_per_step, seconds..2 * seconds).await?;
    ground.check("alerts", 0).await?;
    ground.clear().await?;
    let [unpack, judging, rollup] = parts;
    let path = |[postgresql, detector]: [f64; 2]| {
        json!({
            "whole": round(postgresql + detector),
            "unpack": round(unpack),
            "judging": round(judging),
            "rollup": round(rollup),
            // Taking the flushes, and the transaction: rollups written, states, flushes deleted.
            "settle": round(postgresql + detector - unpack - judging - rollup),
            "by_process": { "postgresql": round(postgresql), "detector": round(detector) },
        })
    };
    let mut costs = path(steady);
    costs["in_a_backlog"] = path(behind);
    Ok(costs)
}

struct Work<'a> {
    ground: &'a Ground,
    pool: Pool,
    series: Vec<SeriesId>,
    readings: Readings,
}

impl Work<'_> {
    /// Unpacking, judging and merging rollups in memory, each alone, with what the database has loaded.
    async fn parts(&self, seconds: usize) -> anyhow::Result<[f64; 3]> {
        let client = self.pool.get().await?;
        // Only compared with others, and there are none.
        let versions = Versions { config: 0, alerts: 0 };
        let mut memory = Memory::load(&**client, versions).await?;
        memory.meet(&**client, self.series.iter().copied()).await?;
        let flushes = flushes(self.readings, &self.series, 0..seconds);
        tokio::task::spawn_blocking(move || {
            let packed: Vec<Vec<u8>> = flushes.iter().map(|flush| pack(&flush.readings)).collect();
            let mut read = 0;
            let unpacking = spent(|| {
                for bytes in &packed {
                    read += unpack(bytes)?.len();
                }
                Ok(())
            })?;
            let moment = Moment::at(Timestamp::now(), 0);
            let mut whole = Judged::default();
            let judging = spent(|| judge_all(&mut whole, &mut memory, &flushes, moment))?;
            // Without a series in memory there is no rule, and the rollup is merged all the same.
            let mut rollups = Judged::default();
            let merging = spent(|| judge_all(&mut rollups, &mut Memory::default(), &flushes, moment))?;
            let each = |spent: Duration| spent.as_secs_f64() * 1e6 / read as f64;
            Ok([each(unpacking), each(judging) - each(merging), each(merging)])
        })
        .await?
    }

    /// PostgreSQL's and the detector's part of taking, judging and settling a flush of each of these seconds, so many readings
    /// in a transaction.
    async fn settled(&self, at_once: usize, seconds: Range<usize>) -> anyhow::Result<[f64; 2]> {
        let mut config = self.ground.config.clone();
        config.detect.readings_per_step = at_once;
        config.detect.commit_interval_ms = 0;
        let metrics = Metrics::new();
        let mut detector =
            Detector::new(self.pool.clone(), &config, Arc::new(Notify::new()), Arc::clone(&metrics));
        let flush = Flush::new(self.pool.clone(), &config.ingest.subject_prefix);
        let mut cost = Cpu::default();
        // It takes the lease and meets all series before the clock runs.
        for range in [seconds.start..seconds.start + 1, seconds.start + 1..seconds.end] {
            for second in range {
                let numbers = second * SERIES..(second + 1) * SERIES;
                let readings = numbers.map(|number| self.readings.reading(number, &self.series)).collect();
                flush.store(&Part::new(readings, Vec::new(), false), &metrics).await?;
            }
            let before = self.ground.cpu(None);
            loop {
                match detector.step().await? {
                    Step::Worked(_) => {}
                    Step::Idle => break,
                    Step::StandingBy => bail!("another detector is at work"),
                }
            }
            cost = self.ground.cpu(None).since(before);
            self.ground.check("flushes", 0).await?;
        }
        detector.stop().await?;
        let judged = ((seconds.len() - 1) * SERIES) as f64;
        Ok([cost.postgresql as f64 / judged, cost.client as f64 / judged])
    }
}

/// To the nanosecond.
fn round(micros: f64) -> f64 {
    (micros * 1e3).round() / 1e3
}
