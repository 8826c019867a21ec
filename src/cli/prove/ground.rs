//! Where a proof takes place: a database and a stream of its own, a tenant with rules, and a hub to page.
//!
//! The servers are private and throw-away: those that `watchbell dev exec` started, if it did, or some of our own; always
//! our own for a proof that stops one. What `DATABASE_URL` names otherwise is never touched.

use std::collections::HashMap;

use anyhow::{Context as _, anyhow};
use async_nats::jetstream::consumer::PullConsumer;
use secrecy::SecretString;
use serde_json::json;
use tokio_postgres::Client;
use url::Url;
use uuid::Uuid;

use super::recompute::PlainRule;
use crate::api::key_store;
use crate::cli::dev_exec::Servers;
use crate::config::Config;
use crate::db::{migrations, pool};
use crate::deliver::secrets::SecretKey;
use crate::dev::hub::server::{Hub, HubOptions};
use crate::dev::postgres::PrivatePostgres;
use crate::dev::token::random_hex;
use crate::ingest::{broker, stream};
use crate::model::condition::Check;
use crate::model::ids::DestinationId;
use crate::model::tenant::TenantName;

const INSERT_DESTINATION: &str = include_str!("../../../sql/queries/prove/insert_destination.sql");
const INSERT_RULE: &str = include_str!("../../../sql/queries/prove/insert_rule.sql");

const TENANT: &str = "proof";
const HUB_KEY: &str = "the-key-of-the-hub-of-the-proof";
/// Calls of the hub that are kept: all, or the proof proves nothing.
const CALLS_KEPT: usize = 2_000_000;
/// Seconds of event time.
const COOLDOWN_SECONDS: i32 = 2;

/// What the broker has counted, in messages.
#[derive(Debug, Clone, Copy)]
pub struct Traffic {
    /// On the stream now.
    pub left: u64,
    /// Ever stored.
    pub stored: u64,
    /// Ever handed to the service, redeliveries included.
    pub delivered: u64,
    /// Handed to the service and not acknowledged.
    pub under_way: u64,
}

/// Whose servers they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Those that were lent to us, or our own if none were.
    Lent,
    /// Our own: they may be stopped.
    Own,
}

/// Where the proof takes place.
pub struct Ground {
    servers: Option<Servers>,
    database: String,
    server_config: Config,
    /// The receiver.
    pub hub: Hub,
    /// The settings of the service.
    pub config: Config,
    /// The same as variables of an environment.
    pub environment: Vec<(String, String)>,
    /// A connection as the owner of the database.
    pub owner: Client,
    /// The broker.
    pub broker: async_nats::Client,
    /// The run's own name.
    pub name: String,
    /// Where readings go.
    pub subject: String,
    /// What is watched; every rule tells the hub.
    pub rules: Vec<PlainRule>,
}

impl Ground {
    /// Makes everything, up to a stream that nobody reads yet. `tuning` are settings of the service as variables of an
    /// environment; the others, but for where its servers are, are the defaults.
    ///
    /// # Errors
    /// If servers can't be had, or refuse.
    pub async fn prepare(place: Place, tuning: &[(&str, &str)]) -> anyhow::Result<Self> {
        // The only TLS provider; a second call finds it there.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let lent = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let (servers, database_url, nats_url) =
            match (lent("WATCHBELL_PRIVATE_SERVERS"), lent("DATABASE_URL"), lent("NATS_URL")) {
                (Some(_), Some(database), Some(nats)) if place == Place::Lent => (None, database, nats),
                _ => {
                    let servers = Servers::start().await?;
                    let urls = (servers.postgres.url().to_owned(), servers.nats.url().to_owned());
                    (Some(servers), urls.0, urls.1)
                }
            };
        let name = format!("prove_{}", random_hex(6)?);
        let server_config = settings([("DATABASE_URL".to_owned(), database_url.clone())])?;
        let server = pool::connect_owner(&server_config.database).await?;
        server
            .batch_execute(&format!("CREATE DATABASE {name}"))
            .await
            .context("failed to make a database")?;
        let mut url = Url::parse(&database_url).context("DATABASE_URL")?;
        url.set_path(&name);

        let secrets_key = random_hex(32)?;
        let environment = environment(url.as_str(), &nats_url, &name, &secrets_key, tuning);
        let config = settings(environment.clone())?;
        let mut owner = pool::connect_owner(&config.database).await?;
        migrations::migrate(&mut owner).await?;
        let hub = Hub::start(HubOptions {
            api_key: HUB_KEY.to_owned(),
            rate_per_minute: None,
            keep: CALLS_KEPT,
            ..HubOptions::default()
        })
        .await?;
        let hub_url = format!("http://{}", hub.address());
        let rules = seed(&owner, &secrets_key, &hub_url).await?;
        let broker = broker::connect(&config).await?;
        stream::ensure(&async_nats::jetstream::new(broker.clone()), &config.ingest).await?;
        Ok(Self {
            servers,
            database: name.clone(),
            server_config,
            subject: format!("{}.{TENANT}", config.ingest.subject_prefix),
            hub,
            config,
            environment,
            owner,
            broker,
            name,
            rules,
        })
    }

    /// Messages that the stream still holds.
    ///
    /// # Errors
    /// If the broker does not answer.
    pub async fn messages_left(&self) -> anyhow::Result<u64> {
        let jetstream = async_nats::jetstream::new(self.broker.clone());
        let mut stream = jetstream.get_stream(&self.config.ingest.stream).await?;
        Ok(stream.info().await?.state.messages)
    }

    /// The stream's and its consumer's own counts.
    ///
    /// # Errors
    /// If the broker does not answer.
    pub async fn traffic(&self) -> anyhow::Result<Traffic> {
        let jetstream = async_nats::jetstream::new(self.broker.clone());
        let ingest = &self.config.ingest;
        let mut stream = jetstream.get_stream(&ingest.stream).await?;
        let state = stream.info().await?.state.clone();
        let mut consumer: PullConsumer =
            stream.get_consumer(&ingest.consumer).await.map_err(|error| anyhow!(error))?;
        let consumer = consumer.info().await?;
        Ok(Traffic {
            left: state.messages,
            stored: state.last_sequence,
            delivered: consumer.delivered.consumer_sequence,
            under_way: consumer.num_ack_pending as u64,
        })
    }

    /// Our own PostgreSQL, to be stopped and started.
    ///
    /// # Errors
    /// If it is not ours.
    pub fn postgres(&mut self) -> anyhow::Result<&mut PrivatePostgres> {
        self.servers.as_mut().map(|servers| &mut servers.postgres).context("the servers are lent")
    }

    /// Connects to the database again, after it was away.
    ///
    /// # Errors
    /// If it still is.
    pub async fn reconnect(&mut self) -> anyhow::Result<()> {
        self.owner = pool::connect_owner(&self.config.database).await?;
        Ok(())
    }

    /// Takes it all away again.
    ///
    /// # Errors
    /// If the servers don't stop.
    pub async fn clear(self) -> anyhow::Result<()> {
        self.hub.stop().await;
        drop(self.owner);
        match self.servers {
            Some(servers) => servers.stop().await,
            None => {
                let jetstream = async_nats::jetstream::new(self.broker);
                jetstream.delete_stream(&self.config.ingest.stream).await?;
                let server = pool::connect_owner(&self.server_config.database).await?;
                let drop = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.database);
                Ok(server.batch_execute(&drop).await?)
            }
        }
    }
}

fn settings(environment: impl IntoIterator<Item = (String, String)>) -> anyhow::Result<Config> {
    Ok(Config::from_sources(None, environment.into_iter().collect::<HashMap<_, _>>())?)
}

fn environment(
    database: &str,
    nats: &str,
    name: &str,
    secrets_key: &str,
    tuning: &[(&str, &str)],
) -> Vec<(String, String)> {
    let stream = name.to_uppercase();
    let prefix = format!("{name}.readings");
    let fixed = [
        ("DATABASE_URL", database),
        ("NATS_URL", nats),
        ("WATCHBELL__INGEST__STREAM", &stream),
        ("WATCHBELL__INGEST__SUBJECT_PREFIX", &prefix),
        ("WATCHBELL__DELIVER__EGRESS_ALLOW", "127.0.0.1/32"),
        ("WATCHBELL__SECRETS__KEY", secrets_key),
        ("WATCHBELL__API__LISTEN", "127.0.0.1:0"),
    ];
    fixed.iter().chain(tuning).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// A tenant whose rules tell one hub. Two have no cooldown: each of their breaches is an alert.
async fn seed(owner: &Client, secrets_key: &str, hub_url: &str) -> anyhow::Result<Vec<PlainRule>> {
    let tenant = key_store::ensure_tenant(owner, &TenantName::parse(TENANT)?, "prove").await?;
    let key = SecretKey::parse(&SecretString::from(secrets_key))?.context("the proof has no key")?;
    let destination = DestinationId::new();
    let sealed = key.seal(destination, &SecretString::from(HUB_KEY))?;
    let settings = json!({ "url": hub_url });
    owner.execute(INSERT_DESTINATION, &[&destination.0, &tenant.0, &settings, &sealed]).await?;
    let rules = [("hot", "temperature", true, 80.0, 0), ("lost", "pressure", false, 1.0, COOLDOWN_SECONDS)];
    let rules = rules.into_iter().chain([("silent", "beat", false, 0.0, 0)]);
    let mut plain = Vec::new();
    for (name, metric, above, threshold, cooldown_seconds) in rules {
        let condition = if above {
            Check::AboveThreshold { threshold, clear: None }
        } else {
            Check::BelowThreshold { threshold, clear: None }
        };
        let id = Uuid::now_v7();
        let condition = serde_json::to_value(&condition)?;
        let destinations = [destination.0];
        owner
            .execute(
                INSERT_RULE,
                &[&id, &tenant.0, &name, &metric, &condition, &cooldown_seconds, &destinations.as_slice()],
            )
            .await?;
        plain.push(PlainRule {
            id,
            metric,
            above,
            threshold,
            cooldown: i64::from(cooldown_seconds) * 1_000_000,
        });
    }
    Ok(plain)
}
