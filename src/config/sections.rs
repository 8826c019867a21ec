//! The sections of `config/default.toml`, as types.

use std::fmt::Display;
use std::net::SocketAddr;

use ipnet::IpNet;
use secrecy::SecretString;
use serde::Deserialize;
use url::Url;

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
        series_cache_size: usize,
        window_cache_minutes: usize,
        notify_max_age_seconds: u64,
        group_above: usize,
    }
}
section! {
    /// From owed notifications to receivers.
    Deliver {
        dead_keep_days: u32,
        history_keep_days: u32,
        concurrency: usize,
        concurrency_per_destination: usize,
        lease_seconds: u64,
        request_timeout_seconds: u64,
        workflow_timeout_seconds: u64,
        worker_ttl_seconds: u64,
        hold_seconds: u64,
        breaker_failures: u32,
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
    Api { listen: SocketAddr, public_url: PublicUrl, readings_body_max_bytes: usize, readings_unpacked_max_bytes: usize }
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

/// Where people reach this service: an address of the web without query and fragment, or nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct PublicUrl(String);

impl PublicUrl {
    /// The page of an alert; `None` if nobody said where people reach us.
    pub fn alert(&self, id: impl Display) -> Option<String> {
        (!self.0.is_empty()).then(|| format!("{}/alerts/{id}", self.0.trim_end_matches('/')))
    }

    pub(super) fn is_usable(&self) -> bool {
        // What an address parser mends in silence (spaces, tabs) would be a broken link.
        let is_plain = self.0.chars().all(|c| c.is_ascii_graphic());
        let is_of_the_web = |url: Url| {
            matches!(url.scheme(), "http" | "https")
                && url.has_host()
                && url.query().is_none()
                && url.fragment().is_none()
                && url.username().is_empty()
                && url.password().is_none()
        };
        self.0.is_empty() || (is_plain && self.0.parse().is_ok_and(is_of_the_web))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_has_a_link_where_people_can_reach_us() {
        for (url, link) in [
            ("", None),
            ("https://watchbell.example", Some("https://watchbell.example/alerts/7")),
            ("http://10.0.0.1:8080/", Some("http://10.0.0.1:8080/alerts/7")),
            ("https://example.org/on/call/", Some("https://example.org/on/call/alerts/7")),
        ] {
            let url = PublicUrl(url.to_owned());
            assert!(url.is_usable(), "{url:?}");
            assert_eq!(url.alert(7).as_deref(), link);
        }
        for bad in [
            "watchbell.example",
            "ftp://watchbell.example",
            "https://",
            "https://watchbell.example/?a=b",
            "https://watchbell.example/#here",
            "https://somebody:secret@watchbell.example",
            "https://watchbell.example/a b",
            "javascript:alert(1)",
        ] {
            assert!(!PublicUrl(bad.to_owned()).is_usable(), "{bad}");
        }
    }
}
