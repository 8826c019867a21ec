//! The settings: `config/default.toml`, overlaid by a file, overlaid by the environment; validated once.
//!
//! Invariant: a [`Config`] that exists can be run with. Every error is one line that names the key and where its value
//! came from.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use config::{Environment, File, FileFormat, Value, ValueKind};
use ipnet::IpNet;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tracing_subscriber::EnvFilter;

use crate::telemetry::logs::LogFormat;

/// The defaults, with every key explained.
pub const DEFAULTS: &str = include_str!("../config/default.toml");

const DEFAULTS_NAME: &str = "config/default.toml";
const PREFIX: &str = "WATCHBELL";

/// Of counts and durations: beyond it arithmetic on times overflows (in microseconds: 31,000 years).
const HIGHEST: u64 = 1_000_000_000;
/// A hundred years.
const HIGHEST_DAYS: u32 = 36_525;

/// A setting that can't be used.
#[derive(Debug, thiserror::Error)]
#[error("bad configuration: `{key}` {problem} ({origin})")]
pub struct ConfigError {
    key: String,
    problem: String,
    origin: String,
}

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

impl Config {
    /// Reads defaults, the file if one is given, and the environment of this process.
    ///
    /// # Errors
    /// [`ConfigError`] for a file that can't be read, a key that nobody knows and a value that can't be used.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        // A variable that is no text can't be one of ours.
        let text =
            |(name, value): (OsString, OsString)| name.into_string().ok().zip(value.into_string().ok());
        Self::from_sources(file, std::env::vars_os().filter_map(text).collect())
    }

    /// As [`Self::load`], with an environment given by the caller.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn from_sources(
        file: Option<&Path>,
        environment: std::collections::HashMap<String, String>,
    ) -> Result<Self, ConfigError> {
        Self::merge(file, environment).map_err(|error| error.with_file(file))
    }

    fn merge(
        file: Option<&Path>,
        environment: std::collections::HashMap<String, String>,
    ) -> Result<Self, ConfigError> {
        let mut builder = config::Config::builder().add_source(File::from_str(DEFAULTS, FileFormat::Toml));
        if let Some(path) = file {
            builder = builder.add_source(File::from(path).format(FileFormat::Toml));
        }
        for (variable, key) in [("DATABASE_URL", "database.url"), ("NATS_URL", "nats.url")] {
            if let Some(url) = environment.get(variable).filter(|url| !url.is_empty()) {
                let value = Value::new(Some(&format!("environment variable {variable}")), url.clone());
                builder = builder
                    .set_default(key, value.clone())
                    .and_then(|b| b.set_override(key, value))
                    .map_err(|error| ConfigError::new(key, error, "environment"))?;
            }
        }
        let source = Environment::with_prefix(PREFIX)
            .prefix_separator("__")
            .separator("__")
            .list_separator(",")
            .with_list_parse_key("deliver.egress_allow")
            .try_parsing(true)
            .ignore_empty(true)
            .source(Some(
                environment.into_iter().filter(|(name, _)| name.starts_with("WATCHBELL__")).collect(),
            ));
        builder = builder.add_source(source);
        let merged = builder.build().map_err(|error| match file {
            Some(path) => ConfigError::new("--config", without_excerpt(&error), &path.display().to_string()),
            None => ConfigError::new("environment", error, "environment"),
        })?;
        refuse_unknown_keys(&merged.cache)?;
        let tree = merged.cache.clone();
        let mut config: Self = merged.try_deserialize().map_err(|error| type_error(&error, &tree))?;
        let invalid = |(key, problem)| ConfigError::new(key, problem, &origin_of(&tree, key));
        config.validate().map_err(invalid)?;
        config.read_key_file(&tree)?;
        config.validate_key().map_err(invalid)?;
        Ok(config)
    }

    fn validate(&self) -> Result<(), (&'static str, String)> {
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
        let servers = self.nats.url.expose_secret();
        if !servers.is_empty() && servers.split(',').any(|server| !is_broker_url(server.trim())) {
            return Err(("nats.url", "is not a NATS URL (nats://host:port, tls://host:port)".to_owned()));
        }
        if let Err(error) = EnvFilter::builder().parse(&self.log.filter) {
            return Err(("log.filter", format!("is no filter of log lines: {error}")));
        }
        Ok(())
    }

    fn validate_key(&self) -> Result<(), (&'static str, String)> {
        let key = self.secrets.key.expose_secret();
        if key.is_empty() || (key.len() == 64 && key.bytes().all(|digit| digit.is_ascii_hexdigit())) {
            return Ok(());
        }
        let name = if self.secrets.key_file.is_empty() { "secrets.key" } else { "secrets.key_file" };
        Err((name, "must hold 64 hexadecimal digits".to_owned()))
    }

    fn read_key_file(&mut self, tree: &Value) -> Result<(), ConfigError> {
        if self.secrets.key_file.is_empty() {
            return Ok(());
        }
        let path = PathBuf::from(&self.secrets.key_file);
        let key = std::fs::read_to_string(&path).map_err(|error| {
            let problem = format!("can't be read from {}: {error}", path.display());
            ConfigError::new("secrets.key_file", problem, &origin_of(tree, "secrets.key_file"))
        })?;
        self.secrets.key = key.trim().to_owned().into();
        Ok(())
    }

    /// The database's URL.
    ///
    /// # Errors
    /// [`ConfigError`] if nobody set one.
    pub fn require_database(&self) -> Result<&SecretString, ConfigError> {
        required(&self.database.url, "database.url", "DATABASE_URL")
    }

    /// The broker's URL.
    ///
    /// # Errors
    /// [`ConfigError`] if nobody set one.
    pub fn require_nats(&self) -> Result<&SecretString, ConfigError> {
        required(&self.nats.url, "nats.url", "NATS_URL")
    }
}

impl ConfigError {
    fn new(key: impl Into<String>, problem: impl ToString, origin: &str) -> Self {
        Self { key: key.into(), problem: problem.to_string().replace('\n', " "), origin: origin.to_owned() }
    }

    /// A value that comes from a file comes from the one that was given, under the name by which it was.
    fn with_file(mut self, file: Option<&Path>) -> Self {
        let is_file = !self.origin.starts_with("environment") && self.origin != DEFAULTS_NAME;
        if let Some(path) = file.filter(|_| is_file) {
            self.origin = path.display().to_string();
        }
        self
    }
}

/// What is wrong with a file, without the lines that an error shows of it: a password may stand there.
fn without_excerpt(error: &config::ConfigError) -> String {
    let text = error.to_string();
    let lines: Vec<&str> = text.lines().filter(|line| !line.contains('|')).map(str::trim).collect();
    lines.join(" ")
}

fn is_broker_url(server: &str) -> bool {
    async_nats::ServerAddr::from_str(server).is_ok_and(|address| {
        matches!(address.scheme(), "nats" | "tls" | "ws" | "wss") && !address.host().is_empty()
    })
}

fn required<'a>(url: &'a SecretString, key: &str, variable: &str) -> Result<&'a SecretString, ConfigError> {
    if url.expose_secret().is_empty() {
        let problem = format!("is not set: set it in the file given with --config, or {variable}");
        return Err(ConfigError::new(key, problem, DEFAULTS_NAME));
    }
    Ok(url)
}

/// Each key of the merged tree must stand in `config/default.toml`.
fn refuse_unknown_keys(merged: &Value) -> Result<(), ConfigError> {
    fn walk(path: &str, merged: &Value, known: &Value) -> Result<(), ConfigError> {
        let (ValueKind::Table(merged), ValueKind::Table(known)) = (&merged.kind, &known.kind) else {
            return Ok(());
        };
        for (name, value) in merged {
            let key = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            match known.get(name) {
                Some(known) => walk(&key, value, known)?,
                None => {
                    let origin = first_origin(value, &key);
                    return Err(ConfigError::new(
                        key,
                        "is no setting; config/default.toml lists them",
                        &origin,
                    ));
                }
            }
        }
        Ok(())
    }
    let known = config::Config::builder()
        .add_source(File::from_str(DEFAULTS, FileFormat::Toml))
        .build()
        .map_err(|error| ConfigError::new(DEFAULTS_NAME, error, "built in"))?;
    walk("", merged, &known.cache)
}

fn type_error(error: &config::ConfigError, tree: &Value) -> ConfigError {
    match error {
        config::ConfigError::Type { key: Some(key), expected, unexpected, .. } => {
            // What was found may be a secret in the wrong place: say what it should be, not what it is.
            let _ = unexpected;
            ConfigError::new(key.clone(), format!("must be {expected}"), &origin_of(tree, key))
        }
        config::ConfigError::At { error: inner, key: Some(key), .. } => {
            ConfigError::new(key.clone(), format!("can't be used: {inner}"), &origin_of(tree, key))
        }
        other => ConfigError::new("configuration", other, "file or environment"),
    }
}

fn origin_of(tree: &Value, key: &str) -> String {
    let mut value = tree;
    let key = key.split('[').next().unwrap_or(key);
    for part in key.split('.') {
        match &value.kind {
            ValueKind::Table(table) if table.contains_key(part) => value = &table[part],
            _ => return DEFAULTS_NAME.to_owned(),
        }
    }
    first_origin(value, key)
}

fn first_origin(value: &Value, key: &str) -> String {
    match (value.origin(), &value.kind) {
        (Some("the environment"), _) => {
            format!("environment variable {PREFIX}__{}", key.replace('.', "__").to_uppercase())
        }
        (Some(origin), _) => origin.to_owned(),
        (None, ValueKind::Table(table)) => table.iter().next().map_or_else(
            || "unknown".to_owned(),
            |(name, value)| first_origin(value, &format!("{key}.{name}")),
        ),
        (None, _) => DEFAULTS_NAME.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(environment: &[(&str, &str)]) -> Result<Config, String> {
        let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Config::from_sources(None, environment).map_err(|e| e.to_string())
    }

    #[test]
    fn the_defaults_are_complete_and_valid() {
        let config = load(&[]).unwrap();
        assert_eq!(config.ingest.batch_size, 100);
        assert_eq!(config.deliver.retry.horizon_seconds, 259_200);
        assert!(config.require_database().is_err());
    }

    #[test]
    fn the_environment_overrides_and_is_named_when_it_is_wrong() {
        let config = load(&[
            ("WATCHBELL__INGEST__BATCH_SIZE", "7"),
            ("WATCHBELL__DELIVER__EGRESS_ALLOW", "127.0.0.0/8,10.0.0.0/8"),
            ("DATABASE_URL", "postgres://u@h/d"),
        ])
        .unwrap();
        assert_eq!(config.ingest.batch_size, 7);
        assert_eq!(config.deliver.egress_allow.len(), 2);
        assert_eq!(config.database.url.expose_secret(), "postgres://u@h/d");
        for (name, value, expected) in [
            ("WATCHBELL__INGEST__BATCH_SIZE", "many", "`ingest.batch_size` must be"),
            ("WATCHBELL__INGEST__BATCH_SIZE", "0", "`ingest.batch_size` must be at least 1"),
            ("WATCHBELL__INGEST__BATCHSIZE", "5", "`ingest.batchsize` is no setting"),
            ("WATCHBELL__API__LISTEN", "here", "`api.listen`"),
            ("WATCHBELL__DELIVER__EGRESS_ALLOW", "here", "`deliver.egress_allow"),
        ] {
            let error = load(&[(name, value)]).unwrap_err();
            assert!(error.contains(expected), "{error}");
            assert!(error.contains(&format!("(environment variable {name})")), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
        let error = load(&[("DATABASE_URL", "nonsense")]).unwrap_err();
        assert!(
            error.contains("`database.url`") && error.contains("(environment variable DATABASE_URL)"),
            "{error}"
        );
    }

    #[test]
    fn a_file_overrides_single_keys_and_is_named_when_it_is_wrong() {
        let path = std::env::temp_dir().join(format!("watchbell-config-{}.toml", uuid::Uuid::now_v7()));
        std::fs::write(&path, "[ingest]\nbatch_size = 9\n").unwrap();
        assert_eq!(Config::from_sources(Some(&path), Default::default()).unwrap().ingest.batch_size, 9);
        std::fs::write(&path, "[ingest]\nbatch_max = \"x\"\n").unwrap();
        let error = Config::from_sources(Some(&path), Default::default()).unwrap_err().to_string();
        assert!(error.contains("`ingest.batch_max`") && error.contains(path.to_str().unwrap()), "{error}");
        std::fs::remove_file(&path).unwrap();
        let error = Config::from_sources(Some(&path), Default::default()).unwrap_err().to_string();
        assert!(error.contains(path.to_str().unwrap()), "{error}");
    }
}
