//! A delivery worker in the test's own hands: it takes a turn when it is told to, and at no other time.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use watchbell::config::Config;
use watchbell::db::pool::{Pool, Role};
use watchbell::deliver::attempt::Channels;
use watchbell::deliver::egress::EgressGuard;
use watchbell::deliver::heartbeat::Heartbeat;
use watchbell::deliver::secrets::SecretKey;
use watchbell::deliver::send::Sender;
use watchbell::deliver::worker::{Step, Worker};
use watchbell::telemetry::metrics::Metrics;

use super::app::TestApp;
use super::wait::until;

/// A worker and its heartbeat. Dropping it is its death: what it had in flight stays in flight.
pub struct Courier {
    pub worker: Worker,
    pub heartbeat: Heartbeat,
}

impl Courier {
    /// Alive, and its heartbeat beats only when the test steps it.
    pub async fn new(config: &Config) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let settings = config.deliver.clone();
        let pool = Pool::new(&config.database, Role::Worker, 4).unwrap();
        let metrics = Metrics::new();
        let time_to_live = Duration::from_secs(settings.worker_ttl_seconds);
        let owed = Arc::new(Notify::new());
        let mut heartbeat = Heartbeat::new(pool.clone(), time_to_live, owed, Arc::clone(&metrics));
        let key = SecretKey::parse(&config.secrets.key).unwrap();
        let http = Sender::new(EgressGuard::new(settings.egress_allow.clone())).unwrap();
        let channels = Channels { http, broker: None };
        let worker = Worker::new(pool, settings, key, channels, heartbeat.id(), metrics);
        heartbeat.step().await.unwrap();
        Self { worker, heartbeat }
    }

    /// The id under which it claims.
    pub fn id(&self) -> String {
        self.heartbeat.id().borrow().unwrap().to_string()
    }

    /// Takes turns until the one number that a query returns is this one.
    pub async fn step_until(&mut self, app: &TestApp, query: &str, expected: i64) {
        let what = format!("{query} = {expected}");
        until(&what, async || {
            self.worker.step().await.unwrap();
            (app.count(query).await == expected).then_some(())
        })
        .await;
    }

    /// Lets it take turns by itself, until the test ends; returns its bell.
    pub fn run(self) -> Arc<Notify> {
        let bell = Arc::new(Notify::new());
        tokio::spawn(self.heartbeat.run(CancellationToken::new()));
        tokio::spawn(self.worker.run(Arc::clone(&bell), CancellationToken::new()));
        bell
    }

    /// Takes one turn that claims; fails if nothing is due.
    pub async fn claim(&mut self) {
        assert!(matches!(self.worker.step().await.unwrap(), Step::Worked(_)), "nothing was due");
    }

    /// Takes turns although nothing should be due: a worker that would send something would send it now.
    pub async fn find_nothing_due(&mut self) {
        for _ in 0..20 {
            assert_eq!(self.worker.step().await.unwrap(), Step::Idle);
        }
    }
}
