//! The connection to the broker.

use anyhow::Context;
use async_nats::jetstream::publish::PublishAck;
use async_nats::{Client, ConnectOptions};
use secrecy::ExposeSecret;
use url::Url;

use crate::config::Config;

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
    options
        .connect(servers)
        .await
        .map_err(|error| anyhow::anyhow!("failed to connect to the broker at nats.url: {}", error.kind()))
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

/// Whether the broker stored a message. What nats-server 2.9 says when it refuses one names a stream and the number 0, and
/// the client takes that for an acknowledgement; numbers begin with 1.
pub fn is_stored(ack: &PublishAck) -> bool {
    ack.sequence > 0
}

/// What stands in a URL is percent-encoded.
fn decoded(part: &str) -> String {
    percent_encoding::percent_decode_str(part).decode_utf8_lossy().into_owned()
}
