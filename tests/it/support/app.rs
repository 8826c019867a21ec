//! The whole service for one test: a database, a stream and a hub of its own, a tenant with a rule, and the stages that the
//! test asks for, in this process or in one of their own.

use std::collections::HashMap;

use async_nats::jetstream;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tokio_postgres::Client;
use url::Url;
use uuid::Uuid;
use watchbell::api::key_store::{self, NewKey};
use watchbell::api::scope::{Scope, Scopes};
use watchbell::config::Config;
use watchbell::deliver::secrets::SecretKey;
use watchbell::dev::hub::server::{Hub, HubOptions};
use watchbell::model::ids::{DestinationId, TenantId};
use watchbell::model::tenant::TenantName;
use watchbell::runtime::{self, Roles, Running};

use super::database::TestDatabase;
use super::process::Process;
use super::proxy::Proxy;
use super::wait::until;

pub const HUB_KEY: &str = "the-hubs-own-key";
pub const SECRETS_KEY: &str = "5ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ec2e70000";

/// A service that can be started, stopped and killed as often as a test likes.
pub struct TestApp {
    pub database: TestDatabase,
    pub hub: Hub,
    pub broker: jetstream::Context,
    client: async_nats::Client,
    pub broker_version: String,
    pub tenant: TenantId,
    pub destination: DestinationId,
    pub api_key: String,
    /// Of the tenant `acme`.
    pub subject: String,
    /// The settings, as a process gets them.
    pub environment: HashMap<String, String>,
    pub running: Option<Running>,
}

impl TestApp {
    /// A tenant `acme` whose rule `hot` (`temperature` above 80, critical, cooldown 15 minutes) tells the hub. Nothing runs.
    /// Retries are quick; `settings` are `("ingest.batch_size", "10")`.
    pub async fn new(settings: &[(&str, &str)]) -> Self {
        Self::on(TestDatabase::new().await, settings).await
    }

    /// The same on a database of the test's own.
    pub async fn on(database: TestDatabase, settings: &[(&str, &str)]) -> Self {
        let hub = Hub::start(HubOptions {
            api_key: HUB_KEY.to_owned(),
            rate_per_minute: None,
            ..HubOptions::default()
        })
        .await
        .unwrap();
        let run = Uuid::now_v7().simple().to_string();
        let nats_url = std::env::var("NATS_URL").expect("NATS_URL names the broker for the tests");
        let mut environment: HashMap<String, String> = [
            ("DATABASE_URL", database.config.database.url.expose_secret()),
            ("NATS_URL", &nats_url),
            ("WATCHBELL__INGEST__STREAM", &format!("S_{run}")),
            ("WATCHBELL__INGEST__SUBJECT_PREFIX", &format!("t_{run}.readings")),
            ("WATCHBELL__DELIVER__ALERTS_STREAM", &format!("A_{run}")),
            ("WATCHBELL__DELIVER__ALERTS_SUBJECT_PREFIX", &format!("t_{run}.alerts")),
            ("WATCHBELL__INGEST__STREAM_MAX_BYTES", "268435456"),
            ("WATCHBELL__INGEST__BATCH_INTERVAL_MS", "20"),
            ("WATCHBELL__INGEST__TENANT_CACHE_SECONDS", "1"),
            ("WATCHBELL__SECRETS__KEY", SECRETS_KEY),
            ("WATCHBELL__DELIVER__EGRESS_ALLOW", "127.0.0.1/32"),
            ("WATCHBELL__DELIVER__RETRY__FIRST_DELAY_MS", "20"),
            ("WATCHBELL__DELIVER__WORKER_TTL_SECONDS", "2"),
            ("WATCHBELL__DETECT__LEASE_SECONDS", "2"),
            ("WATCHBELL__DETECT__COMMIT_INTERVAL_MS", "100"),
            // A notice an alert, however many open at once: what becomes one notice has tests of its own.
            ("WATCHBELL__DETECT__GROUP_ABOVE", "100000"),
            ("WATCHBELL__API__LISTEN", "127.0.0.1:0"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        for (key, value) in settings {
            environment
                .insert(format!("WATCHBELL__{}", key.replace('.', "__").to_uppercase()), (*value).to_owned());
        }
        let client = async_nats::connect(nats_url).await.unwrap();
        let broker_version = client.server_info().version;
        let broker = jetstream::new(client.clone());
        let tenant = key_store::ensure_tenant(&database.owner, &TenantName::parse("acme").unwrap(), "test")
            .await
            .unwrap();
        let scopes = Scopes::new([Scope::Admin]);
        let new = NewKey { tenant, name: "test", scopes: &scopes, expires_in_days: None, actor: "test" };
        let key = key_store::create_key(&database.owner, &new).await.unwrap().key;
        let mut app = Self {
            database,
            broker,
            client,
            broker_version,
            tenant,
            destination: DestinationId::new(),
            api_key: key.secret().expose_secret().to_owned(),
            subject: format!("t_{run}.readings.acme"),
            environment,
            running: None,
            hub,
        };
        app.destination = app.add_hub("hub", &format!("http://{}", app.hub.address()), json!({})).await;
        let condition = json!({ "kind": "above_threshold", "threshold": 80.0 });
        app.add_rule("hot", "temperature", condition, 900, &[app.destination]).await;
        app
    }

    /// Puts a proxy between the database and the services that are started from now on; the test itself goes past it.
    pub async fn put_a_proxy_before_the_database(&mut self) -> Proxy {
        let mut url = Url::parse(&self.environment["DATABASE_URL"]).unwrap();
        let proxy = Proxy::start(url.socket_addrs(|| Some(5432)).unwrap()[0]).await;
        url.set_port(Some(proxy.address.port())).unwrap();
        url.set_host(Some(&proxy.address.ip().to_string())).unwrap();
        self.environment.insert("DATABASE_URL".to_owned(), url.to_string());
        proxy
    }

    /// The test's own connection to the broker.
    pub fn client(&self) -> async_nats::Client {
        self.client.clone()
    }

    /// The settings as the service reads them.
    pub fn config(&self) -> Config {
        Config::from_sources(None, self.environment.clone()).unwrap()
    }

    pub fn owner(&self) -> &Client {
        &self.database.owner
    }

    /// A destination of kind `hub` with the key that the test's hub asks for.
    pub async fn add_hub(&self, name: &str, url: &str, policy: Value) -> DestinationId {
        self.add_destination(name, "hub", json!({ "url": url }), Some(HUB_KEY), policy).await
    }

    pub async fn add_destination(
        &self,
        name: &str,
        kind: &str,
        settings: Value,
        secret: Option<&str>,
        policy: Value,
    ) -> DestinationId {
        let id = DestinationId::new();
        let sealed = secret.map(|secret| seal(id, secret));
        self.owner()
            .execute(
                "INSERT INTO destinations (destination_id, tenant_id, name, kind, settings, secret, policy)
                 VALUES ($1, $2, $3, $4, $5, $6, $7)",
                &[&id.0, &self.tenant.0, &name, &kind, &settings, &sealed, &policy],
            )
            .await
            .unwrap();
        id
    }

    /// Lets the rule `hot` tell these destinations.
    pub async fn route(&self, destinations: &[DestinationId]) {
        let ids: Vec<Uuid> = destinations.iter().map(|destination| destination.0).collect();
        self.owner()
            .execute("UPDATE rules SET destination_ids = $1 WHERE name = 'hot'", &[&ids])
            .await
            .unwrap();
    }

    pub async fn add_rule(
        &self,
        name: &str,
        metric: &str,
        condition: Value,
        cooldown_seconds: i32,
        destinations: &[DestinationId],
    ) -> Uuid {
        let id = Uuid::now_v7();
        let destinations: Vec<Uuid> = destinations.iter().map(|destination| destination.0).collect();
        self.owner()
            .execute(
                "INSERT INTO rules (rule_id, tenant_id, name, metric, condition, severity, cooldown_seconds, destination_ids)
                 VALUES ($1, $2, $3, $4, $5, 'critical', $6, $7)",
                &[&id, &self.tenant.0, &name, &metric, &condition, &cooldown_seconds, &destinations],
            )
            .await
            .unwrap();
        id
    }

    /// Runs these stages in this process.
    pub async fn start(&mut self, roles: Roles) {
        let running = runtime::start(&self.config(), roles).await.unwrap();
        self.running = Some(running);
    }

    /// Stops them politely.
    pub async fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.shut_down().await;
        }
    }

    /// Runs these stages (`"ingest,detect"`) in a process of their own.
    pub fn spawn(&self, roles: &str) -> Process {
        Process::serve(&self.environment, roles)
    }

    /// Publishes to the tenant's subject, and returns when the broker has stored it. The stream must be there: start the
    /// role `ingest` once, or call [`Self::make_stream`].
    pub async fn publish(&self, message: impl ToString) {
        let stored = self.broker.publish(self.subject.clone(), message.to_string().into()).await.unwrap();
        stored.await.unwrap();
    }

    /// Makes the stream without starting anything.
    pub async fn make_stream(&self) {
        watchbell::ingest::stream::ensure(&self.broker, &self.config().ingest).await.unwrap();
    }

    /// The one number that a query returns.
    pub async fn count(&self, query: &str) -> i64 {
        self.owner().query_one(query, &[]).await.unwrap().get(0)
    }

    /// Waits until a query that returns one number returns this one.
    pub async fn wait_for_count(&self, query: &str, expected: i64) {
        let what = format!("{query} = {expected}");
        until(&what, async || (self.count(query).await == expected).then_some(())).await;
    }

    /// Waits until a query that returns one number returns more than this.
    pub async fn wait_for_more(&self, query: &str, than: i64) {
        let what = format!("{query} > {than}");
        until(&what, async || (self.count(query).await > than).then_some(())).await;
    }

    /// Waits until a process of ours has made the stream.
    pub async fn wait_for_stream(&self) {
        let name = self.config().ingest.stream;
        until("the stream", async || self.broker.get_stream(&name).await.ok().map(drop)).await;
    }

    /// What the API answers to this key, as JSON.
    pub async fn get(&self, path: &str) -> Value {
        let address =
            self.running.as_ref().and_then(|running| running.api_address).expect("the role api runs");
        let request =
            reqwest::Client::new().get(format!("http://{address}{path}")).header("X-API-Key", &self.api_key);
        let text = request.send().await.unwrap().text().await.unwrap();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }
}

/// A destination's secret as the database keeps it.
pub fn seal(destination: DestinationId, secret: &str) -> Vec<u8> {
    let key = SecretKey::parse(&SECRETS_KEY.into()).unwrap().unwrap();
    key.seal(destination, &secret.into()).unwrap()
}

/// A reading of `temperature` of `pump-1`, `seconds` ago.
pub fn temperature(value: f64, seconds_ago: i64) -> Value {
    reading("pump-1", "temperature", value, seconds_ago)
}

pub fn reading(device: &str, metric: &str, value: f64, seconds_ago: i64) -> Value {
    let ts = jiff::Timestamp::now() - jiff::SignedDuration::from_secs(seconds_ago);
    json!({ "device": device, "metric": metric, "value": value, "unit": "°C", "ts": ts })
}
