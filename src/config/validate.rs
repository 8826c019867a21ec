//! Whether a value that can be read can be used. An error is the key and what is wrong with it.

use std::str::FromStr;

use secrecy::ExposeSecret;
use tracing_subscriber::EnvFilter;

use super::{Config, OnFlushFailure, Source};

/// Of counts and durations: beyond it arithmetic on times overflows (in microseconds: 31,000 years).
const HIGHEST: u64 = 1_000_000_000;
/// A hundred years.
const HIGHEST_DAYS: u32 = 36_525;

impl Config {
    pub(super) fn validate(&self) -> Result<(), (&'static str, String)> {
        let from_one = [
            ("database.connect_timeout_seconds", self.database.connect_timeout_seconds),
            ("database.statement_timeout_seconds", self.database.statement_timeout_seconds),
            ("database.ingest_connections", self.database.ingest_connections as u64),
            ("database.detect_connections", self.database.detect_connections as u64),
            ("database.deliver_connections", self.database.deliver_connections as u64),
            ("database.api_connections", self.database.api_connections as u64),
            ("ingest.ack_wait_seconds", self.ingest.ack_wait_seconds),
            ("ingest.batch_size", self.ingest.batch_size as u64),
            ("ingest.batch_max", self.ingest.batch_max as u64),
            ("ingest.writers", self.ingest.writers as u64),
            ("api.readings_body_max_bytes", self.api.readings_body_max_bytes as u64),
            ("api.readings_unpacked_max_bytes", self.api.readings_unpacked_max_bytes as u64),
            ("ingest.accepted_days", self.ingest.accepted_days.into()),
            ("ingest.series_cache_size", self.ingest.series_cache_size as u64),
            ("detect.lease_seconds", self.detect.lease_seconds),
            ("detect.commit_interval_ms", self.detect.commit_interval_ms),
            ("detect.readings_per_step", self.detect.readings_per_step as u64),
            ("detect.series_cache_size", self.detect.series_cache_size as u64),
            ("detect.window_cache_minutes", self.detect.window_cache_minutes as u64),
            ("deliver.concurrency", self.deliver.concurrency as u64),
            ("deliver.concurrency_per_destination", self.deliver.concurrency_per_destination as u64),
            ("deliver.request_timeout_seconds", self.deliver.request_timeout_seconds),
            ("deliver.workflow_timeout_seconds", self.deliver.workflow_timeout_seconds),
            ("deliver.worker_ttl_seconds", self.deliver.worker_ttl_seconds),
            ("deliver.hold_seconds", self.deliver.hold_seconds),
        ];
        if let Some((key, _)) = from_one.into_iter().find(|(_, value)| *value == 0) {
            return Err((key, "must be at least 1".to_owned()));
        }
        if let Some((key, _)) = from_one.into_iter().find(|(_, value)| *value > HIGHEST) {
            return Err((key, format!("must be at most {HIGHEST}")));
        }
        if self.ingest.accepted_days > HIGHEST_DAYS {
            return Err(("ingest.accepted_days", format!("must be at most {HIGHEST_DAYS}")));
        }
        for (key, days) in [
            ("deliver.dead_keep_days", self.deliver.dead_keep_days),
            ("deliver.history_keep_days", self.deliver.history_keep_days),
        ] {
            if days > HIGHEST_DAYS {
                return Err((key, format!("must be at most {HIGHEST_DAYS}")));
            }
        }
        for (key, days) in [
            ("ingest.readings_keep_days", self.ingest.readings_keep_days),
            ("ingest.rollups_keep_days", self.ingest.rollups_keep_days),
        ] {
            // What is accepted must have somewhere to go.
            if days != 0 && days <= self.ingest.accepted_days {
                return Err((key, "must be more than ingest.accepted_days, or 0 for ever".to_owned()));
            }
            if days > HIGHEST_DAYS {
                return Err((key, format!("must be at most {HIGHEST_DAYS}")));
            }
        }
        // The broker reads it as no limit.
        if self.ingest.stream_max_bytes < 1 {
            return Err(("ingest.stream_max_bytes", "must be at least 1".to_owned()));
        }
        for (key, name) in [
            ("ingest.stream", &self.ingest.stream),
            ("ingest.consumer", &self.ingest.consumer),
            ("deliver.alerts_stream", &self.deliver.alerts_stream),
        ] {
            if name.is_empty() || name.contains(['.', '*', '>', ' ', '/', '\\']) {
                return Err((key, "must be a name without dots, spaces, slashes and wildcards".to_owned()));
            }
        }
        for (key, prefix) in [
            ("ingest.subject_prefix", &self.ingest.subject_prefix),
            ("deliver.alerts_subject_prefix", &self.deliver.alerts_subject_prefix),
        ] {
            if prefix.split('.').any(|token| token.is_empty() || token.contains(['*', '>', ' '])) {
                return Err((key, "must be subject tokens without wildcards".to_owned()));
            }
        }
        if self.ingest.source == Source::Core && self.ingest.on_flush_failure == OnFlushFailure::Redeliver {
            return Err((
                "ingest.on_flush_failure",
                "must be `drop` with ingest.source = `core`: nobody keeps what could be sent again"
                    .to_owned(),
            ));
        }
        if self.ingest.batch_interval_ms > HIGHEST {
            return Err(("ingest.batch_interval_ms", format!("must be at most {HIGHEST}")));
        }
        if self.ingest.batch_max < self.ingest.batch_size {
            return Err(("ingest.batch_max", "must be at least ingest.batch_size".to_owned()));
        }
        if self.ingest.max_ack_pending < 3 * self.ingest.batch_max as i64 {
            return Err((
                "ingest.max_ack_pending",
                "must be at least three times ingest.batch_max".to_owned(),
            ));
        }
        if self.deliver.request_timeout_seconds >= self.deliver.lease_seconds {
            return Err((
                "deliver.lease_seconds",
                "must be more than deliver.request_timeout_seconds".to_owned(),
            ));
        }
        if self.deliver.breaker_failures > 1000 {
            return Err(("deliver.breaker_failures", "must be at most 1000, or 0 for never".to_owned()));
        }
        if let Some((field, problem)) = self.deliver.retry.problem() {
            let key = match field {
                "first_delay_ms" => "deliver.retry.first_delay_ms",
                "max_delay_ms" => "deliver.retry.max_delay_ms",
                "horizon_seconds" => "deliver.retry.horizon_seconds",
                "factor" => "deliver.retry.factor",
                _ => "deliver.retry.jitter",
            };
            return Err((key, problem.to_owned()));
        }
        let url = self.database.url.expose_secret();
        if !url.is_empty() && url.parse::<tokio_postgres::Config>().is_err() {
            return Err((
                "database.url",
                "is not a PostgreSQL URL (postgres://user@host/database)".to_owned(),
            ));
        }
        if !self.api.public_url.is_usable() {
            return Err((
                "api.public_url",
                "must be where people reach this service, such as https://watchbell.example, or empty"
                    .to_owned(),
            ));
        }
        let servers = self.nats.url.expose_secret();
        if !servers.is_empty() && servers.split(',').any(|server| !is_broker_url(server.trim())) {
            return Err(("nats.url", "is not a NATS URL (nats://host:port, tls://host:port)".to_owned()));
        }
        if let Err(error) = EnvFilter::builder().parse(&self.log.filter) {
            return Err(("log.filter", format!("is no filter of log lines: {error}")));
        }
        Ok(())
    }

    pub(super) fn validate_key(&self) -> Result<(), (&'static str, String)> {
        let key = self.secrets.key.expose_secret();
        if key.is_empty() || (key.len() == 64 && key.bytes().all(|digit| digit.is_ascii_hexdigit())) {
            return Ok(());
        }
        let name = if self.secrets.key_file.is_empty() { "secrets.key" } else { "secrets.key_file" };
        Err((name, "must hold 64 hexadecimal digits".to_owned()))
    }
}

fn is_broker_url(server: &str) -> bool {
    async_nats::ServerAddr::from_str(server).is_ok_and(|address| {
        matches!(address.scheme(), "nats" | "tls" | "ws" | "wss") && !address.host().is_empty()
    })
}
