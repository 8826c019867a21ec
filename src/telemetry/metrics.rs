//! Metrics: counted where things happen, shown at `/metrics` in the OpenMetrics text format.
//!
//! One [`Metrics`] a process, shared by all stages; its fields are the metrics, and the registry holds the same ones.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// Labels a count by the reason of a rejection.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ByReason {
    /// As in `rejected_readings.reason`.
    pub reason: &'static str,
}

/// Labels a count by the outcome of an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ByOutcome {
    /// As in `delivery_attempts.outcome`.
    pub outcome: &'static str,
}

/// Labels a count of destinations by whether they can be used.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ByState {
    /// `active`, `paused`, `broken`, `held` or `parked`.
    pub state: &'static str,
}

/// Labels a count by what became of an episode.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ByDisposition {
    /// As in `alert_events.disposition`.
    pub disposition: &'static str,
}

/// Labels a duration by a phase of the flush.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ByPhase {
    /// The phase.
    pub phase: Phase,
}

/// The phases of a flush, from the first reading in the buffer to the acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Phase {
    /// Waiting in the buffer.
    #[expect(non_camel_case_types, reason = "the label's value")]
    buffer,
    /// Sorting and splitting.
    #[expect(non_camel_case_types, reason = "the label's value")]
    sort,
    /// Getting a connection.
    #[expect(non_camel_case_types, reason = "the label's value")]
    connection,
    /// Writing the readings and the batch.
    #[expect(non_camel_case_types, reason = "the label's value")]
    write,
    /// Committing.
    #[expect(non_camel_case_types, reason = "the label's value")]
    commit,
    /// Acknowledging.
    #[expect(non_camel_case_types, reason = "the label's value")]
    ack,
}

/// All metrics of a process.
pub struct Metrics {
    registry: Registry,
    /// Readings committed.
    pub readings_stored: Counter,
    /// Readings that were stored before, with the same value.
    pub readings_repeated: Counter,
    /// Inputs that were not readings.
    pub readings_rejected: Family<ByReason, Counter>,
    /// Readings whose series was in memory.
    pub series_cache_hits: Counter,
    /// Readings whose series was asked for in the database.
    pub series_cache_misses: Counter,
    /// Flushes that failed twice and went back to the stream.
    pub flushes_failed: Counter,
    /// Readings that could not be stored and were dropped, because `ingest.on_flush_failure` says so.
    pub readings_dropped: Counter,
    /// Messages of plain NATS for which there was no room.
    pub messages_dropped: Counter,
    /// Readings that one transaction stores.
    pub part_readings: Histogram,
    /// Messages that the stream holds behind the last one that was taken.
    pub stream_lag: Gauge,
    /// Transactions that met a repeat and were done again, reading by reading.
    pub flushes_redone: Counter,
    /// Readings that came over HTTP and are stored by the broker.
    pub readings_posted: Counter,
    /// Readings that came over HTTP and were refused.
    pub posted_refused: Family<ByReason, Counter>,
    /// Bytes of memory that the process holds; looked up when it is shown.
    pub resident_memory: Gauge,
    /// Time of each phase of a flush.
    pub flush_seconds: Family<ByPhase, Histogram>,
    /// Readings judged by detection.
    pub readings_judged: Counter,
    /// Breaches that came late and that an alert had told already.
    pub late_breaches_covered: Counter,
    /// Alerts committed.
    pub alerts_opened: Counter,
    /// Alerts that resolved by themselves.
    pub alerts_resolved: Counter,
    /// Episodes that fired.
    pub episodes_fired: Counter,
    /// The same, by what became of them: their sum is that of `episodes_fired`.
    pub episodes: Family<ByDisposition, Counter>,
    /// 1 while this process is the active detector.
    pub detector_active: Gauge,
    /// Rules that can't be judged.
    pub rules_faulted: Gauge,
    /// Rules that are judged and tell nobody.
    pub rules_unrouted: Gauge,
    /// Series that detection has in memory.
    pub detect_series: Gauge,
    /// Minutes of windows that detection has in memory.
    pub detect_window_minutes: Gauge,
    /// Series that detection forgot because there was no room.
    pub detect_series_forgotten: Counter,
    /// Attempts on record, by outcome.
    pub delivery_attempts: Family<ByOutcome, Counter>,
    /// Attempts whose worker died, or whose claim was committed and not answered, found by this process.
    pub deliveries_rescued: Counter,
    /// Destinations by whether they can be used.
    pub destinations: Family<ByState, Gauge>,
    /// Requests under way.
    pub deliveries_in_flight: Gauge,
    /// From the alert's being owed to the receiver's acceptance.
    pub delivery_seconds: Histogram,
    /// Share of bytes that the stream may hold which it holds, 0 to 1.
    pub stream_fullness: Gauge<f64, AtomicU64>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// Metrics that all stand at zero.
    pub fn new() -> Arc<Self> {
        let mut registry = Registry::with_prefix("watchbell");
        let mut metrics = Self {
            readings_stored: Counter::default(),
            readings_repeated: Counter::default(),
            readings_rejected: Family::default(),
            series_cache_hits: Counter::default(),
            series_cache_misses: Counter::default(),
            flushes_failed: Counter::default(),
            readings_dropped: Counter::default(),
            messages_dropped: Counter::default(),
            flushes_redone: Counter::default(),
            resident_memory: Gauge::default(),
            readings_posted: Counter::default(),
            posted_refused: Family::default(),
            part_readings: Histogram::new(exponential_buckets(1.0, 2.0, 16)),
            stream_lag: Gauge::default(),
            flush_seconds: Family::new_with_constructor(|| {
                Histogram::new(exponential_buckets(0.0002, 2.0, 16))
            }),
            readings_judged: Counter::default(),
            late_breaches_covered: Counter::default(),
            alerts_opened: Counter::default(),
            alerts_resolved: Counter::default(),
            episodes_fired: Counter::default(),
            episodes: Family::default(),
            detector_active: Gauge::default(),
            rules_faulted: Gauge::default(),
            rules_unrouted: Gauge::default(),
            detect_series: Gauge::default(),
            detect_window_minutes: Gauge::default(),
            detect_series_forgotten: Counter::default(),
            delivery_attempts: Family::default(),
            deliveries_rescued: Counter::default(),
            destinations: Family::default(),
            deliveries_in_flight: Gauge::default(),
            delivery_seconds: Histogram::new(exponential_buckets(0.001, 2.5, 16)),
            stream_fullness: Gauge::default(),
            registry: Registry::default(),
        };
        let r = &mut registry;
        r.register("readings_stored", "Readings committed", metrics.readings_stored.clone());
        r.register(
            "readings_repeated",
            "Readings that were stored before",
            metrics.readings_repeated.clone(),
        );
        r.register("readings_rejected", "Inputs that were not readings", metrics.readings_rejected.clone());
        r.register(
            "series_cache_hits",
            "Readings whose series was in memory",
            metrics.series_cache_hits.clone(),
        );
        r.register(
            "series_cache_misses",
            "Readings whose series was not in memory",
            metrics.series_cache_misses.clone(),
        );
        r.register("flushes_failed", "Flushes that went back to the stream", metrics.flushes_failed.clone());
        r.register(
            "flushes_redone",
            "Transactions that met a repeat and were done again",
            metrics.flushes_redone.clone(),
        );
        r.register(
            "readings_dropped",
            "Readings that could not be stored, with on_flush_failure = drop",
            metrics.readings_dropped.clone(),
        );
        r.register(
            "messages_dropped",
            "Messages of plain NATS for which there was no room",
            metrics.messages_dropped.clone(),
        );
        r.register("readings_posted", "Readings taken over HTTP", metrics.readings_posted.clone());
        r.register("posted_refused", "Readings refused over HTTP", metrics.posted_refused.clone());
        r.register_with_unit(
            "resident_memory",
            "Memory that this process holds",
            Unit::Bytes,
            metrics.resident_memory.clone(),
        );
        r.register("part_readings", "Readings that one transaction stores", metrics.part_readings.clone());
        r.register(
            "stream_lag_messages",
            "Messages of the stream that were not taken yet",
            metrics.stream_lag.clone(),
        );
        r.register_with_unit(
            "flush",
            "Time of a flush by phase",
            Unit::Seconds,
            metrics.flush_seconds.clone(),
        );
        r.register("readings_judged", "Readings judged by detection", metrics.readings_judged.clone());
        r.register(
            "late_breaches_covered",
            "Breaches that came late and that an alert had told",
            metrics.late_breaches_covered.clone(),
        );
        r.register("alerts_opened", "Alerts committed", metrics.alerts_opened.clone());
        r.register("alerts_resolved", "Alerts that resolved by themselves", metrics.alerts_resolved.clone());
        r.register("episodes_fired", "Episodes that fired", metrics.episodes_fired.clone());
        r.register("episodes", "Episodes that fired, by what became of them", metrics.episodes.clone());
        r.register("detector_active", "1 in the process that detects", metrics.detector_active.clone());
        r.register("rules_faulted", "Rules that can't be judged", metrics.rules_faulted.clone());
        r.register("rules_unrouted", "Rules that tell nobody", metrics.rules_unrouted.clone());
        r.register("detect_series", "Series in memory", metrics.detect_series.clone());
        r.register(
            "detect_window_minutes",
            "Minutes of windows in memory",
            metrics.detect_window_minutes.clone(),
        );
        r.register(
            "detect_series_forgotten",
            "Series forgotten for want of room, read again when heard",
            metrics.detect_series_forgotten.clone(),
        );
        r.register("delivery_attempts", "Attempts on record", metrics.delivery_attempts.clone());
        r.register(
            "deliveries_rescued",
            "Attempts cut short by a crash or a broken connection",
            metrics.deliveries_rescued.clone(),
        );
        r.register("destinations", "Destinations by whether they can be used", metrics.destinations.clone());
        r.register("deliveries_in_flight", "Requests under way", metrics.deliveries_in_flight.clone());
        r.register_with_unit(
            "delivery",
            "Owed until accepted",
            Unit::Seconds,
            metrics.delivery_seconds.clone(),
        );
        r.register("stream_fullness_ratio", "Bytes held of bytes allowed", metrics.stream_fullness.clone());
        metrics.registry = registry;
        Arc::new(metrics)
    }

    /// The OpenMetrics text.
    ///
    /// # Errors
    /// If formatting fails.
    pub fn render(&self) -> Result<String, fmt::Error> {
        self.resident_memory.set(resident_bytes().unwrap_or_default());
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// `VmRSS` of /proc/self/status, in kB there (proc(5)); `None` where there is no such file.
fn resident_bytes() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.split_whitespace().next()?.parse::<i64>().ok()? * 1024)
}
