//! The connection to the broker.

use anyhow::Context;
use async_nats::{Client, ConnectOptions};
use secrecy::ExposeSecret;
use url::Url;

use super::plain;
use crate::config::{Config, Source};

/// Connects to `nats.url`, with the credentials in it or in `nats.credentials_file`. It reconnects by itself.
///
/// # Errors
/// If the URL can't be used, or no server answers.
pub async fn connect(config: &Config) -> anyhow::Result<Client> {
    connect_with(config, ConnectOptions::new()).await
}

/// The same, for those who can do without the broker for now: it connects as soon as a server answers.
///
/// # Errors
/// If the URL can't be used.
pub async fn connect_eventually(config: &Config) -> anyhow::Result<Client> {
    connect_with(config, ConnectOptions::new().retry_on_initial_connect()).await
}

async fn connect_with(config: &Config, options: ConnectOptions) -> anyhow::Result<Client> {
    let url = config.require_nats()?.expose_secret();
    let mut options = options.name("watchbell").event_callback(|event| async move {
        tracing::info!(%event, "broker connection");
    });
    // Of a stream no more is here than was asked for.
    if config.ingest.source == Source::Core {
        options = options.subscription_capacity(plain::MESSAGES);
    }
    if !config.nats.credentials_file.is_empty() {
        options =
            options.credentials_file(&config.nats.credentials_file).await.context("nats.credentials_file")?;
    }
    // The client itself does not look at a user and password in a URL. A list of servers may hold several URLs.
    let first = url.split(',').next().and_then(|first| Url::parse(first.trim()).ok());
    if let Some((user, password)) = first.as_ref().and_then(|url| Some((url.username(), url.password()?))) {
        options = options.user_and_password(decoded(user), decoded(password));
    } else if let Some(token) = first.as_ref().map(Url::username).filter(|token| !token.is_empty()) {
        options = options.token(decoded(token));
    }
    let servers: Vec<String> = url.split(',').map(|server| without_credentials(server.trim())).collect();
    // The broker's own error may repeat the URL, and so a password: only its kind is shown.
    let client = options
        .connect(servers)
        .await
        .map_err(|error| anyhow::anyhow!("failed to connect to the broker at nats.url: {}", error.kind()))?;
    let version = client.server_info().version;
    if drops_accepted(&version) {
        tracing::warn!(
            version,
            "this nats-server may drop readings that it accepted when the stream is full: use 2.10 or newer"
        );
    }
    Ok(client)
}

/// The client has them by its options; a URL that it holds it also logs.
fn without_credentials(server: &str) -> String {
    match server.rsplit_once('@') {
        Some((before, host)) => {
            let scheme = before.split_once("://").map_or("", |(scheme, _)| scheme);
            if scheme.is_empty() { host.to_owned() } else { format!("{scheme}://{host}") }
        }
        None => server.to_owned(),
    }
}

/// Whether a nats-server of this version was seen to drop what it had accepted: 2.9.10, Debian 12's own, does so now and then
/// when a stream is full, although `discard` is `new`.
pub fn drops_accepted(version: &str) -> bool {
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().ok());
    matches!((numbers.next(), numbers.next()), (Some(Some(major)), Some(Some(minor))) if (major, minor) < (2, 10))
}

/// What stands in a URL is percent-encoded.
fn decoded(part: &str) -> String {
    percent_encoding::percent_decode_str(part).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_brokers_are_known_by_their_version() {
        for (version, expected) in [
            ("2.9.10", true),
            ("1.4.0", true),
            ("2.10.0", false),
            ("2.15.1", false),
            ("3.0", false),
            ("", false),
        ] {
            assert_eq!(drops_accepted(version), expected, "{version}");
        }
    }
}
