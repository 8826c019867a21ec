//! Builds the parts and owns their life: start order, stop order, and what happens when one fails.
//!
//! Invariants: stages start from the receiver's end and stop from the sensor's end, so that nothing is handed to a stage
//! that is gone; a stage that ends by itself is a failure of the process, which a supervisor restarts.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use secrecy::ExposeSecret;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::readings::Intake;
use crate::api::server::serve;
use crate::api::state::{ApiState, BrokerCheck};
use crate::config::{Config, Source};
use crate::console;
use crate::db::pool::{Pool, Role as DatabaseRole};
use crate::db::{migrations, partitions};
use crate::deliver::attempt::Channels;
use crate::deliver::egress::EgressGuard;
use crate::deliver::heartbeat::Heartbeat;
use crate::deliver::publish::ensure_stream;
use crate::deliver::secrets::SecretKey;
use crate::deliver::send::Sender;
use crate::deliver::worker::Worker;
use crate::detect::detector::Detector;
use crate::ingest::acknowledge::Acknowledger;
use crate::ingest::batcher::Batcher;
use crate::ingest::broker;
use crate::ingest::buffer::Buffer;
use crate::ingest::consumer::Consumer;
use crate::ingest::flush::Flush;
use crate::ingest::flusher::Flusher;
use crate::ingest::housekeeping::{Housekeeping, Seen};
use crate::ingest::plain::Subscription;
use crate::ingest::repeaters::Repeaters;
use crate::ingest::resolve::Resolver;
use crate::ingest::retention::Retention;
use crate::ingest::stream;
use crate::ingest::watermark::Watermark;
use crate::outbox::retention::Retention as HistoryRetention;
use crate::outbox::vacuum::{self, Vacuum};
use crate::telemetry::metrics::Metrics;

/// A stage has this long to end what is under way.
const STAGE_DEADLINE: Duration = Duration::from_secs(20);
/// Partitions are made ahead, and those that were kept long enough dropped, this often.
const PARTITIONS_EVERY: Duration = Duration::from_secs(3600);
/// And this soon again when it failed.
const PARTITIONS_RETRY: Duration = Duration::from_secs(10);

/// A stage of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Role {
    /// From the stream into the table.
    Ingest,
    /// From readings to alerts.
    Detect,
    /// From owed notifications to receivers.
    Deliver,
    /// HTTP for programs and people.
    Api,
}

/// The stages that a process runs.
#[derive(Debug, Clone)]
pub struct Roles(BTreeSet<Role>);

impl Roles {
    /// Every stage.
    pub fn all() -> Self {
        Self::of(&[Role::Ingest, Role::Detect, Role::Deliver, Role::Api])
    }

    /// These stages.
    pub fn of(roles: &[Role]) -> Self {
        Self(roles.iter().copied().collect())
    }

    fn has(&self, role: Role) -> bool {
        self.0.contains(&role)
    }
}

/// A service that runs.
#[derive(Debug)]
pub struct Running {
    /// What it counts.
    pub metrics: Arc<Metrics>,
    /// Where it listens, if it has the role `api`.
    pub api_address: Option<SocketAddr>,
    /// In the order in which they stop.
    stages: Vec<Stage>,
    failed: CancellationToken,
}

#[derive(Debug)]
struct Stage {
    name: &'static str,
    cancel: CancellationToken,
    tasks: TaskTracker,
    failed: CancellationToken,
}

impl Stage {
    fn new(name: &'static str, failed: &CancellationToken) -> Self {
        Self { name, cancel: CancellationToken::new(), tasks: TaskTracker::new(), failed: failed.clone() }
    }

    /// Runs a task of the stage. When it ends before the stage is told to stop, by a panic too, the process has failed.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let (name, cancel, failed) = (self.name, self.cancel.clone(), self.failed.clone());
        let guarded = tokio::spawn(task);
        self.tasks.spawn(async move {
            let ended = guarded.await;
            if !cancel.is_cancelled() {
                let panic = ended.err().map(|error| error.to_string());
                tracing::error!(stage = name, panic, "a stage ended by itself, the process stops");
                failed.cancel();
            }
        });
    }

    async fn stop(self) {
        self.cancel.cancel();
        self.tasks.close();
        if tokio::time::timeout(STAGE_DEADLINE, self.tasks.wait()).await.is_err() {
            tracing::warn!(stage = self.name, "a stage did not end in time, it is cut off");
        }
    }
}

impl Running {
    /// Waits until a stage fails.
    pub async fn failed(&self) {
        self.failed.cancelled().await;
    }

    /// Stops from the sensor's end: what is pulled is stored, what is stored is judged, what is under way is delivered.
    pub async fn shut_down(self) {
        for stage in self.stages {
            stage.stop().await;
        }
    }
}

/// Starts these stages.
///
/// # Errors
/// If a server can't be reached, the schema is not this program's, or the stream is not what is asked for.
pub async fn start(config: &Config, roles: Roles) -> anyhow::Result<Running> {
    // The only TLS provider; a second call finds it there.
    let _ = rustls::crypto::ring::default_provider().install_default();
    config.require_database()?;
    let metrics = Metrics::new();
    let failed = CancellationToken::new();
    let flushed = Arc::new(Notify::new());
    let owed = Arc::new(Notify::new());
    let broker = if roles.has(Role::Ingest) { Some(broker::connect(config).await?) } else { None };
    prepare_schema(config).await?;
    // What can fail comes before anything runs: a start that fails leaves no request half sent.
    let stream = match &broker {
        Some(broker) if config.ingest.source == Source::Jetstream => {
            Some(stream::ensure(&async_nats::jetstream::new(broker.clone()), &config.ingest).await?)
        }
        _ => None,
    };
    let subscription = match &broker {
        Some(broker) if config.ingest.source == Source::Core => {
            let (prefix, group) = (&config.ingest.subject_prefix, &config.ingest.consumer);
            Some(Subscription::open(broker, prefix, group).await.context("failed to subscribe")?)
        }
        _ => None,
    };
    let listener = if roles.has(Role::Api) { Some(bind(config).await?) } else { None };
    let key = SecretKey::parse(&config.secrets.key).context("secrets.key")?;

    // Who only publishes can do without the broker for now.
    let publisher = match &broker {
        Some(broker) => Some(broker.clone()),
        None if config.nats.url.expose_secret().is_empty() => None,
        None if roles.has(Role::Deliver) || roles.has(Role::Api) => {
            Some(broker::connect_eventually(config).await?)
        }
        None => None,
    };

    let mut stages = vec![maintenance(config, &failed)?];
    let mut api_address = None;
    if let Some(listener) = listener {
        api_address = Some(listener.local_addr()?);
        stages.push(start_api(config, listener, publisher.clone(), &metrics, &failed)?);
    }
    if roles.has(Role::Deliver) {
        stages.extend(start_deliver(config, publisher, key, &owed, &metrics, &failed)?);
    }
    if roles.has(Role::Detect) {
        let stage = Stage::new("detect", &failed);
        let pool = Pool::new(&config.database, DatabaseRole::Worker, config.database.detect_connections)?;
        let detector = Detector::new(pool, config, Arc::clone(&owed), Arc::clone(&metrics));
        stage.spawn(detector.run(Arc::clone(&flushed), stage.cancel.clone()));
        stages.push(stage);
    }
    if let Some(broker) = broker {
        stages.extend(start_ingest(config, broker, stream, subscription, &flushed, &metrics, &failed)?);
    }
    stages.reverse();
    tracing::info!(roles = ?roles.0, listen = ?api_address, "watchbell runs");
    Ok(Running { metrics, api_address, stages, failed })
}

/// The schema must be this program's; partitions of today must be there before anything needs them.
async fn prepare_schema(config: &Config) -> anyhow::Result<()> {
    // As whoever the URL names: the other roles are made by the first migration.
    let pool = Pool::new(&config.database, DatabaseRole::Owner, 1)?;
    let client = pool.get().await.context("failed to reach PostgreSQL at database.url")?;
    let pending = migrations::pending(&**client).await?;
    if !pending.is_empty() {
        bail!("the database lacks {}; run `watchbell migrate`", pending.join(", "));
    }
    drop(client);
    let pool = Pool::new(&config.database, DatabaseRole::Worker, 1)?;
    let client = pool.get().await.context("failed to reach PostgreSQL as the worker role")?;
    partitions::ensure_ahead(&**client).await?;
    Ok(())
}

fn maintenance(config: &Config, failed: &CancellationToken) -> anyhow::Result<Stage> {
    let stage = Stage::new("maintenance", failed);
    let pool = Pool::new(&config.database, DatabaseRole::Worker, 1)?;
    let retention = Retention::new(pool.clone(), config.ingest.clone());
    let history = HistoryRetention::new(pool.clone(), config.deliver.clone());
    let cancel = stage.cancel.clone();
    stage.spawn(async move {
        // At once: a service that never lives for an hour drops what is due all the same.
        let mut wait = Duration::ZERO;
        loop {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = cancel.cancelled() => return,
            }
            let made = async { partitions::ensure_ahead(&**pool.get().await?).await };
            wait = match made.await {
                Ok(()) => PARTITIONS_EVERY,
                Err(error) => {
                    tracing::warn!(%error, "failed to make partitions ahead, trying again");
                    PARTITIONS_RETRY
                }
            };
            if let Err(error) = history.once().await {
                tracing::warn!(%error, "failed to drop the history that was kept long enough, trying again in an hour");
            }
            if let Err(error) = retention.once().await {
                tracing::warn!(%error, "failed to drop the days that were kept long enough, trying again in an hour");
            }
        }
    });
    Ok(stage)
}

async fn bind(config: &Config) -> anyhow::Result<TcpListener> {
    let listen = config.api.listen;
    TcpListener::bind(listen)
        .await
        .with_context(|| format!("failed to listen on {listen}: another program may have it; set api.listen"))
}

fn start_api(
    config: &Config,
    listener: TcpListener,
    broker: Option<async_nats::Client>,
    metrics: &Arc<Metrics>,
    failed: &CancellationToken,
) -> anyhow::Result<Stage> {
    let stage = Stage::new("api", failed);
    let pool = Pool::new(&config.database, DatabaseRole::Api, config.database.api_connections)?;
    let intake =
        broker.clone().map(|client| Arc::new(Intake::new(async_nats::jetstream::new(client), config)));
    let broker = broker.map(|client| {
        let connected = move || client.connection_state() == async_nats::connection::State::Connected;
        Arc::new(connected) as BrokerCheck
    });
    let router = console::server::router(ApiState {
        pool,
        metrics: Arc::clone(metrics),
        broker,
        intake,
        public_url: config.api.public_url.clone(),
    });
    let cancel = stage.cancel.clone();
    stage.spawn(async move {
        if let Err(error) = serve(listener, router, cancel).await {
            tracing::error!(%error, "the HTTP server failed");
        }
    });
    Ok(stage)
}

/// The heartbeat is a stage of its own, that stops after the worker: it must beat while the last requests end.
fn start_deliver(
    config: &Config,
    broker: Option<async_nats::Client>,
    key: Option<SecretKey>,
    owed: &Arc<Notify>,
    metrics: &Arc<Metrics>,
    failed: &CancellationToken,
) -> anyhow::Result<[Stage; 2]> {
    let beating = Stage::new("heartbeat", failed);
    let delivering = Stage::new("deliver", failed);
    let settings = config.deliver.clone();
    let pool = Pool::new(&config.database, DatabaseRole::Worker, config.database.deliver_connections)?;
    let time_to_live = Duration::from_secs(settings.worker_ttl_seconds);
    // Whatever the worker's connections wait for, it is alive.
    let own = Pool::new(&config.database, DatabaseRole::Worker, 1)?;
    let heartbeat = Heartbeat::new(own, time_to_live, Arc::clone(owed), Arc::clone(metrics));
    let id = heartbeat.id();
    let http = Sender::new(EgressGuard::new(settings.egress_allow.clone()))?;
    let broker = broker.map(|broker| {
        let jetstream = async_nats::jetstream::new(broker);
        let (stream_keeper, stream_settings) = (jetstream.clone(), settings.clone());
        tokio::spawn(async move { ensure_stream(&stream_keeper, &stream_settings).await });
        (jetstream, Arc::from(settings.alerts_subject_prefix.as_str()))
    });
    let channels = Channels { http, broker };
    let worker = Worker::new(pool, settings, key, channels, id, Arc::clone(metrics));
    beating.spawn(heartbeat.run(beating.cancel.clone()));
    delivering.spawn(worker.run(Arc::clone(owed), delivering.cancel.clone()));
    // The worker's role owns no table.
    let owner = Pool::new(&config.database, DatabaseRole::Owner, 1)?;
    delivering.spawn(Vacuum::new(owner, vacuum::EVERY).run(delivering.cancel.clone()));
    Ok([beating, delivering])
}

/// Storing is a stage of its own, that stops after pulling: the buffer is emptied in between.
fn start_ingest(
    config: &Config,
    broker: async_nats::Client,
    stream: Option<stream::Handle>,
    subscription: Option<Subscription>,
    flushed: &Arc<Notify>,
    metrics: &Arc<Metrics>,
    failed: &CancellationToken,
) -> anyhow::Result<[Stage; 2]> {
    let storing = Stage::new("store", failed);
    let pulling = Stage::new("ingest", failed);
    let ingest = config.ingest.clone();
    let pool = Pool::new(&config.database, DatabaseRole::Worker, config.database.ingest_connections)?;
    let interval = Duration::from_millis(ingest.batch_interval_ms);
    let buffer = Arc::new(Buffer::new(ingest.batch_size, interval, ingest.batch_max));
    let seen = Arc::new(Seen::default());
    let gate = watch::Sender::new(true);
    let acknowledger = Acknowledger::new(broker.clone());
    let repeaters = Arc::new(Repeaters::default());
    let batcher = Batcher {
        resolver: Resolver::new(pool.clone(), &ingest, Arc::clone(metrics)),
        repeaters: Arc::clone(&repeaters),
        ingest: ingest.clone(),
        metrics: Arc::clone(metrics),
    };
    let consumer = Consumer {
        client: broker.clone(),
        subscription,
        acknowledger: acknowledger.clone(),
        batcher,
        buffer: Arc::clone(&buffer),
        gate: gate.subscribe(),
        ingest: ingest.clone(),
        metrics: Arc::clone(metrics),
    };
    let flusher = Flusher {
        buffer,
        flush: Flush::new(pool.clone(), &ingest.subject_prefix),
        writers: ingest.writers,
        on_flush_failure: ingest.on_flush_failure,
        acknowledger,
        repeaters,
        seen: Arc::clone(&seen),
        gate,
        flushed: Arc::clone(flushed),
        metrics: Arc::clone(metrics),
        ack_wait: Duration::from_secs(ingest.ack_wait_seconds),
    };
    if let Some(stream) = stream.clone() {
        let name = ingest.stream.clone();
        // Its own connection: it says how far ingestion is, also when ingestion uses all of its own.
        let pool = Pool::new(&config.database, DatabaseRole::Worker, 1)?;
        storing.spawn(Watermark { pool, stream, name }.run(storing.cancel.clone()));
    }
    let housekeeping = Housekeeping { pool, stream, seen, ingest, metrics: Arc::clone(metrics) };
    pulling.spawn(consumer.run(pulling.cancel.clone()));
    let cancel = storing.cancel.clone();
    storing.spawn(async move {
        // It ends when the consumer, which stops first, has closed the buffer and the buffer is empty.
        flusher.run(cancel.clone()).await;
        if let Err(error) = broker.flush().await {
            tracing::debug!(%error, "failed to send the last acknowledgements, those messages come again");
        }
        cancel.cancelled().await;
    });
    storing.spawn(housekeeping.run(storing.cancel.clone()));
    Ok([storing, pulling])
}
