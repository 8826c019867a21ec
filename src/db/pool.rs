//! Connections: a pool a stage, each acting as one database role.
//!
//! Invariant: a connection that comes out of a pool has its role and its timeouts set. All roles share one URL; each
//! connection becomes its role with `SET ROLE` when it is made.

use std::time::Duration;

use deadpool_postgres::{
    Hook, HookError, Manager, ManagerConfig, Object, QueueMode, RecyclingMethod, Runtime,
};
use secrecy::{ExposeSecret, SecretString};
use tokio_postgres::NoTls;
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::error::DatabaseError;
use crate::config;

/// The three roles of the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Whoever the URL names: owns the tables, migrates, makes tenants and keys.
    Owner,
    /// Moves the data of all tenants; can't change history.
    Worker,
    /// Answers programs and people, one tenant at a time, behind row-level security.
    Api,
}

impl Role {
    fn set_role(self) -> &'static str {
        match self {
            Self::Owner => "",
            Self::Worker => "SET ROLE watchbell_worker;",
            Self::Api => "SET ROLE watchbell_api;",
        }
    }
}

/// A pool of connections that act as one role.
#[derive(Debug, Clone)]
pub struct Pool(deadpool_postgres::Pool);

impl Pool {
    /// A pool of at most `size` connections; none is opened yet.
    ///
    /// # Errors
    /// If the URL can't be used, or no TLS roots are found when it asks for TLS.
    pub fn new(database: &config::Database, role: Role, size: usize) -> anyhow::Result<Self> {
        let mut settings = client_config(&database.url)?;
        let connect_timeout = Duration::from_secs(database.connect_timeout_seconds);
        settings.connect_timeout(connect_timeout).application_name("watchbell");
        // A server that vanished without a word is noticed in half a minute at the latest.
        settings.keepalives_idle(Duration::from_secs(10));
        settings.keepalives_interval(Duration::from_secs(5)).keepalives_retries(3);
        settings.tcp_user_timeout(Duration::from_secs(30));
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = if wants_tls(&settings) {
            Manager::from_config(settings, tls_connector()?, recycling)
        } else {
            Manager::from_config(settings, NoTls, recycling)
        };
        // Plans flip as the live tables swing between empty and a million rows: the settings for it, measured.
        let session = format!(
            "{} SET statement_timeout = '{}s'; SET idle_in_transaction_session_timeout = '5s'; SET jit = off;{}",
            role.set_role(),
            database.statement_timeout_seconds,
            match role {
                Role::Worker => " SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off;",
                // Filters that may be absent: a plan that does not know which are given can't use an index.
                Role::Api => " SET plan_cache_mode = force_custom_plan;",
                Role::Owner => "",
            }
        );
        let prepare = Hook::async_fn(move |client: &mut deadpool_postgres::ClientWrapper, _| {
            let session = session.clone();
            Box::pin(async move { client.batch_execute(&session).await.map_err(HookError::Backend) })
        });
        let pool = deadpool_postgres::Pool::builder(manager)
            .max_size(size)
            // The one that was used last: its server process has in its caches what the next will ask for.
            .queue_mode(QueueMode::Lifo)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(connect_timeout))
            .create_timeout(Some(connect_timeout * 2))
            .post_create(prepare)
            .build()?;
        Ok(Self(pool))
    }

    /// A connection, when one is free.
    ///
    /// # Errors
    /// If none can be made or none is free in time.
    pub async fn get(&self) -> Result<Object, DatabaseError> {
        Ok(self.0.get().await?)
    }

    /// Whether the server answers.
    ///
    /// # Errors
    /// If it does not.
    pub async fn ping(&self) -> Result<(), DatabaseError> {
        Ok(self.get().await?.batch_execute("SELECT 1").await?)
    }
}

/// One connection as the owner, outside any pool; it ends when the client is dropped.
///
/// # Errors
/// If the server can't be reached or refuses.
pub async fn connect_owner(database: &config::Database) -> anyhow::Result<tokio_postgres::Client> {
    let mut settings = client_config(&database.url)?;
    settings
        .connect_timeout(Duration::from_secs(database.connect_timeout_seconds))
        .application_name("watchbell");
    async fn drive<S, T>(connection: tokio_postgres::Connection<S, T>)
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
        T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    {
        // How it ended shows in the client's own errors.
        let _ = connection.await;
    }
    if wants_tls(&settings) {
        let (client, connection) = settings.connect(tls_connector()?).await?;
        tokio::spawn(drive(connection));
        Ok(client)
    } else {
        let (client, connection) = settings.connect(NoTls).await?;
        tokio::spawn(drive(connection));
        Ok(client)
    }
}

fn client_config(url: &SecretString) -> anyhow::Result<tokio_postgres::Config> {
    // The parser's own error may repeat a part of the URL, and so of a password.
    url.expose_secret().parse().map_err(|_| anyhow::anyhow!("database.url is not a PostgreSQL URL"))
}

fn wants_tls(settings: &tokio_postgres::Config) -> bool {
    !matches!(settings.get_ssl_mode(), SslMode::Disable | SslMode::Prefer)
}

fn tls_connector() -> anyhow::Result<MakeRustlsConnect> {
    use rustls_platform_verifier::ConfigVerifierExt;
    Ok(MakeRustlsConnect::new(rustls::ClientConfig::with_platform_verifier()?))
}
