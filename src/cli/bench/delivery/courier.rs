//! The worker at work in this process, as the service runs it, with the bell that detection rings.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::db::pool::{Pool, Role};
use crate::deliver::attempt::Channels;
use crate::deliver::egress::EgressGuard;
use crate::deliver::heartbeat::Heartbeat;
use crate::deliver::secrets::SecretKey;
use crate::deliver::send::Sender;
use crate::deliver::worker::Worker;
use crate::telemetry::metrics::{ByOutcome, Metrics};

const LOOK_EVERY: Duration = Duration::from_micros(500);
/// Longer than any measurement takes: beyond it something hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// A worker with its heartbeat.
pub struct Courier {
    /// Rung when something was committed that is owed.
    pub owed: Arc<Notify>,
    metrics: Arc<Metrics>,
    worker: (CancellationToken, JoinHandle<()>),
    heartbeat: (CancellationToken, JoinHandle<()>),
}

impl Courier {
    /// Starts it: it is alive, and claims from now on.
    ///
    /// # Errors
    /// If the database is away.
    pub async fn start(config: &Config) -> anyhow::Result<Self> {
        let settings = config.deliver.clone();
        let pool = Pool::new(&config.database, Role::Worker, config.database.deliver_connections)?;
        let (owed, metrics) = (Arc::new(Notify::new()), Metrics::new());
        let time_to_live = Duration::from_secs(settings.worker_ttl_seconds);
        let mut heartbeat =
            Heartbeat::new(pool.clone(), time_to_live, Arc::clone(&owed), Arc::clone(&metrics));
        heartbeat.step().await?;
        let key = SecretKey::parse(&config.secrets.key)?;
        let channels = Channels { http: sender(config)?, broker: None };
        let worker = Worker::new(pool, settings, key, channels, heartbeat.id(), Arc::clone(&metrics));
        let (working, beating) = (CancellationToken::new(), CancellationToken::new());
        let worker = tokio::spawn(worker.run(Arc::clone(&owed), working.clone()));
        let heartbeat = tokio::spawn(heartbeat.run(beating.clone()));
        Ok(Self { owed, metrics, worker: (working, worker), heartbeat: (beating, heartbeat) })
    }

    /// Waits until so many are on record as delivered.
    ///
    /// # Errors
    /// If that takes too long.
    pub async fn wait_for(&self, delivered: usize) -> anyhow::Result<()> {
        let on_record =
            self.metrics.delivery_attempts.get_or_create_owned(&ByOutcome { outcome: "delivered" });
        let waited = async {
            while on_record.get() < delivered as u64 {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::time::timeout(PATIENCE, waited)
            .await
            .with_context(|| format!("{} of {delivered} were delivered", on_record.get()))
    }

    /// Ends it as the service does: what is under way is put on the record.
    ///
    /// # Errors
    /// If it panicked.
    pub async fn stop(self) -> anyhow::Result<()> {
        for (cancel, task) in [self.worker, self.heartbeat] {
            cancel.cancel();
            task.await?;
        }
        Ok(())
    }

    /// Ends it where it is, as a crash does: for one whose requests would not end soon.
    pub fn abort(self) {
        for (_, task) in [self.worker, self.heartbeat] {
            task.abort();
        }
    }
}

/// The client that it sends with.
///
/// # Errors
/// If no TLS roots are found.
pub fn sender(config: &Config) -> anyhow::Result<Sender> {
    Sender::new(EgressGuard::new(config.deliver.egress_allow.clone()))
}
