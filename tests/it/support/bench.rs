//! A detector on a bench: readings are committed as ingestion commits them, and the test steps it.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;
use watchbell::db::pool::{Pool, Role};
use watchbell::detect::detector::{Detector, Step};
use watchbell::ingest::flush::Flush;
use watchbell::ingest::part::Part;
use watchbell::model::ids::SeriesId;
use watchbell::model::reading::{Reading, UnixMicros};
use watchbell::telemetry::metrics::Metrics;

use super::app::TestApp;
use super::wait::until;

/// One series, `temperature` of `pump-1` unless told otherwise, and a detector.
pub struct DetectorBench {
    pub app: TestApp,
    pub series: SeriesId,
    pub start: Timestamp,
    flush: Flush,
    detector: Detector,
}

impl DetectorBench {
    /// Times of the test are minutes after `minutes_ago`.
    pub async fn new(app: TestApp, minutes_ago: i64) -> Self {
        let series = Self::register(&app, "temperature").await;
        let pool = Pool::new(&app.config().database, Role::Worker, 2).unwrap();
        let start = Timestamp::now() - SignedDuration::from_mins(minutes_ago);
        let detector = Self::detector(&app, &pool);
        Self { series, start, flush: Flush::new(pool, "readings"), detector, app }
    }

    /// The `temperature` of so many further devices.
    pub async fn add_series(&self, count: i32) -> Vec<SeriesId> {
        let query = "WITH d AS (INSERT INTO devices (tenant_id, external_id)
                       SELECT $1, gen_random_uuid()::text FROM generate_series(1, $2) RETURNING device_id)
             INSERT INTO series (tenant_id, device_id, metric) SELECT $1, device_id, 'temperature' FROM d
             RETURNING series_id";
        let rows = self.app.owner().query(query, &[&self.app.tenant.0, &count]).await.unwrap();
        rows.iter().map(|row| SeriesId(row.get(0))).collect()
    }

    async fn register(app: &TestApp, metric: &str) -> SeriesId {
        let row = app
            .owner()
            .query_one(
                "WITH d AS (INSERT INTO devices (tenant_id, external_id) VALUES ($1, 'pump-1') RETURNING device_id)
                 INSERT INTO series (tenant_id, device_id, metric) SELECT $1, device_id, $2 FROM d RETURNING series_id",
                &[&app.tenant.0, &metric],
            )
            .await
            .unwrap();
        SeriesId(row.get(0))
    }

    fn detector(app: &TestApp, pool: &Pool) -> Detector {
        let mut config = app.config();
        config.detect.commit_interval_ms = 0;
        Detector::new(pool.clone(), &config, Arc::new(Notify::new()), Metrics::new())
    }

    pub fn at(&self, minute: f64) -> UnixMicros {
        let start = UnixMicros::from(self.start).minute();
        UnixMicros(start.0 + (minute * 60e6) as i64)
    }

    /// Commits these `(minute, value)`, in one batch.
    pub async fn commit(&mut self, readings: &[(f64, f64)]) {
        let readings: Vec<Reading> = readings
            .iter()
            .map(|(minute, value)| Reading { series: self.series, ts: self.at(*minute), value: *value })
            .collect();
        self.flush.store(&Part::new(readings, Vec::new(), false), &Metrics::new()).await.unwrap();
    }

    /// Commits the same `(minute, value)` for each of these series, in one batch.
    pub async fn commit_of_each(&mut self, series: &[SeriesId], readings: &[(f64, f64)]) {
        let reading = |series: &SeriesId, (minute, value): &(f64, f64)| Reading {
            series: *series,
            ts: self.at(*minute),
            value: *value,
        };
        let readings = series.iter().flat_map(|series| readings.iter().map(move |of| reading(series, of)));
        let readings: Vec<Reading> = readings.collect();
        self.flush.store(&Part::new(readings, Vec::new(), false), &Metrics::new()).await.unwrap();
    }

    /// Commits and judges them, and settles.
    pub async fn judge(&mut self, readings: &[(f64, f64)]) {
        self.commit(readings).await;
        self.settle().await;
    }

    /// Steps until nothing is owed.
    pub async fn settle(&mut self) {
        while self.app.count("SELECT count(*) FROM flushes").await > 0 {
            assert_ne!(self.step().await, Step::StandingBy);
        }
    }

    /// The same with a detector that may fail and try again.
    pub async fn settle_through_errors(&mut self) {
        until("nothing to be owed", async || {
            let _ = self.detector.step().await;
            (self.app.count("SELECT count(*) FROM flushes").await == 0).then_some(())
        })
        .await;
    }

    /// One step of the detector.
    pub async fn step(&mut self) -> Step {
        self.detector.step().await.unwrap()
    }

    /// As after a crash: another detector, without memory, takes over.
    pub async fn restart(&mut self) {
        self.detector.stop().await.unwrap();
        let pool = Pool::new(&self.app.config().database, Role::Worker, 2).unwrap();
        self.detector = Self::detector(&self.app, &pool);
    }

    /// The minutes of the alerts, with what is said of them.
    pub async fn alerts(&self) -> Vec<(f64, bool, i64)> {
        let rows = self
            .app
            .owner()
            .query(
                "SELECT breached_at, historical, (SELECT count(*) FROM notifications n WHERE n.alert_id = a.alert_id)
                 FROM alerts a ORDER BY breached_at",
                &[],
            )
            .await
            .unwrap();
        let minute = |at: Timestamp| (UnixMicros::from(at).0 - self.at(0.0).0) as f64 / 60e6;
        rows.iter().map(|row| (minute(row.get(0)), row.get(1), row.get(2))).collect()
    }
}
