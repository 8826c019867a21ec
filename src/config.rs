//! The settings: `config/default.toml`, overlaid by a file, overlaid by the environment; validated once.
//!
//! Invariant: a [`Config`] that exists can be run with. Every error is one line that names the key and where its value
//! came from.

mod sections;
mod validate;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use config::{Environment, File, FileFormat, Value, ValueKind};
use secrecy::{ExposeSecret, SecretString};

pub use self::sections::{
    Api, Config, Database, Deliver, Detect, Ingest, Log, Nats, OnFlushFailure, PublicUrl, Secrets, Source,
};

/// The defaults, with every key explained.
pub const DEFAULTS: &str = include_str!("../config/default.toml");

const DEFAULTS_NAME: &str = "config/default.toml";
const PREFIX: &str = "WATCHBELL";

/// A setting that can't be used.
#[derive(Debug, thiserror::Error)]
#[error("bad configuration: `{key}` {problem} ({origin})")]
pub struct ConfigError {
    key: String,
    problem: String,
    origin: String,
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
