//! The sections of `config/default.toml`, as types.

use std::net::SocketAddr;

use ipnet::IpNet;
use secrecy::SecretString;
use serde::Deserialize;

use crate::telemetry::logs::LogFormat;

macro_rules! section {
    ($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Deserialize)]
        #[expect(missing_docs, reason = "each key is explained in config/default.toml")]
        pub struct $name { $(pub $field: $type),* }
    };
}

section! {
    /// All settings; the sections of `config/default.toml`.
    Config { database: Database, nats: Nats, ingest: Ingest, detect: Detect, deliver: Deliver, secrets: Secrets, api: Api, log: Log }
}
section! {
    /// PostgreSQL.
    Database {
        url: SecretString,
        connect_timeout_seconds: u64,
        statement_timeout_seconds: u64,
        ingest_connections: usize,
        detect_connections: usize,
        deliver_connections: usize,
        api_connections: usize,
    }
}
section! {
    /// The broker.
    Nats { url: SecretString, credentials_file: String }
}
section! {
    /// From the stream into the table.
    Ingest {
        source: Source,
        on_flush_failure: OnFlushFailure,
        stream: String,
        consumer: String,
        subject_prefix: String,
        stream_max_bytes: i64,
        max_ack_pending: i64,
        ack_wait_seconds: u64,
        batch_size: usize,
        batch_interval_ms: u64,
        batch_max: usize,
        writers: usize,
        accepted_days: u32,
        future_tolerance_seconds: u32,
        tenant_cache_seconds: u64,
        series_cache_size: usize,
        rejected_keep_days: u32,
        rejected_keep_rows: i64,
        readings_keep_days: u32,
        rollups_keep_days: u32,
    }
}
section! {
    /// From readings to alerts.
    Detect {
        lease_seconds: u64,
        commit_interval_ms: u64,
        readings_per_step: usize,
        notify_max_age_seconds: u64,
    }
}
section! {
    /// From owed notifications to receivers.
    Deliver {
        concurrency: usize,
        concurrency_per_destination: usize,
        lease_seconds: u64,
        request_timeout_seconds: u64,
        workflow_timeout_seconds: u64,
        worker_ttl_seconds: u64,
        hold_seconds: u64,
        alerts_stream: String,
        alerts_subject_prefix: String,
        egress_allow: Vec<IpNet>,
        retry: crate::retry::RetryPolicy,
    }
}
section! {
    /// The key that seals the secrets of destinations.
    Secrets { key: SecretString, key_file: String }
}
section! {
    /// HTTP for programs and people.
    Api { listen: SocketAddr, readings_body_max_bytes: usize, readings_unpacked_max_bytes: usize }
}
section! {
    /// Logs.
    Log { format: LogFormat, filter: String }
}

/// Where readings come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A stream: what the broker accepted is stored once.
    Jetstream,
    /// Plain NATS: what is published while nobody listens is lost.
    Core,
}

/// What becomes of a batch that could not be stored twice in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFlushFailure {
    /// It goes back to the stream.
    Redeliver,
    /// It is counted, and lost.
    Drop,
}
