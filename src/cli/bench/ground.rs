//! Where a benchmark takes place: a durable PostgreSQL and a NATS of its own, a tenant, and the service as a process.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use async_nats::jetstream::Context;
use tokio_postgres::Client;

use super::cpu;
use super::machine::Machine;
use crate::api::key_store;
use crate::cli::proc::memory_mb;
use crate::config::Config;
use crate::db::{migrations, partitions, pool};
use crate::dev::nats::PrivateNats;
use crate::dev::postgres::PrivatePostgres;
use crate::dev::process::{ServerCommand, ServerProcess, Signal};
use crate::dev::provision;
use crate::dev::scratch::Scratch;
use crate::dev::state::StateDir;
use crate::dev::token::random_hex;
use crate::dev::user::{ServerUser, my_uid};
use crate::ingest::{broker, stream};
use crate::model::ids::TenantId;
use crate::model::tenant::TenantName;

/// The tenant of all readings.
pub const TENANT: &str = "bench";

/// As an operator would set them for a machine of this size; WAL segments are recycled and not made anew in the middle.
const POSTGRES_SETTINGS: [&str; 4] =
    ["shared_buffers=512MB", "min_wal_size=2GB", "max_wal_size=4GB", "checkpoint_timeout=15min"];
const STREAM_BYTES: &str = "8589934592";
const STOP_DEADLINE: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(3);
/// Longer than any measurement takes: beyond it something hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where it takes place.
pub struct Ground {
    postgres: PrivatePostgres,
    nats: PrivateNats,
    logs: Scratch,
    environment: Vec<(String, String)>,
    /// The settings of the service: the defaults but for the servers.
    pub config: Config,
    /// A connection as the owner of the database.
    pub owner: Client,
    /// The connection that publishes.
    pub client: async_nats::Client,
    /// Of all readings.
    pub tenant: TenantId,
}

/// Processor time in microseconds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cpu {
    /// PostgreSQL with all its processes.
    pub postgresql: u64,
    /// The broker.
    pub nats_server: u64,
    /// The service, or this process where it is the client.
    pub client: u64,
}

impl Cpu {
    /// What was used since.
    pub fn since(self, before: Self) -> Self {
        Self {
            postgresql: self.postgresql - before.postgresql,
            nats_server: self.nats_server - before.nats_server,
            client: self.client - before.client,
        }
    }
}

impl Ground {
    /// Starts the servers, PostgreSQL with these settings more, migrates, makes the tenant.
    ///
    /// # Errors
    /// If servers can't be had.
    pub async fn prepare(settings: &[&str]) -> anyhow::Result<Self> {
        let state = StateDir::open()?;
        provision::postgres::find_or_install().await?;
        provision::nats::find_or_install(&state).await?;
        let settings = POSTGRES_SETTINGS.iter().chain(settings).map(|&setting| setting.to_owned()).collect();
        let postgres = PrivatePostgres::throw_away_durable(&state, settings).await?;
        let nats = PrivateNats::throw_away(&state).await?;
        let secrets_key = random_hex(32)?;
        let environment: Vec<(String, String)> = [
            ("DATABASE_URL", postgres.url()),
            ("NATS_URL", nats.url()),
            ("WATCHBELL__INGEST__STREAM_MAX_BYTES", STREAM_BYTES),
            ("WATCHBELL__SECRETS__KEY", &secrets_key),
            ("WATCHBELL__API__LISTEN", "127.0.0.1:0"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        let config = Config::from_sources(None, environment.iter().cloned().collect::<HashMap<_, _>>())?;
        let mut owner = pool::connect_owner(&config.database).await?;
        migrations::migrate(&mut owner).await?;
        partitions::ensure_ahead(&owner).await?;
        let tenant = key_store::ensure_tenant(&owner, &TenantName::parse(TENANT)?, "bench").await?;
        let client = broker::connect(&config).await?;
        let ground = Self {
            postgres,
            nats,
            logs: Scratch::create(&state)?,
            environment,
            config,
            owner,
            client,
            tenant,
        };
        stream::ensure(&ground.jetstream(), &ground.config.ingest).await?;
        Ok(ground)
    }

    /// What it is measured on.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn machine(&self) -> anyhow::Result<Machine> {
        let version: String = self.owner.query_one("SHOW server_version", &[]).await?.get(0);
        Ok(Machine::of_this(version, self.client.server_info().version))
    }

    /// The broker's streams.
    pub fn jetstream(&self) -> Context {
        async_nats::jetstream::new(self.client.clone())
    }

    /// Processor time up to now; `client` is the service, or `None` for this process.
    pub fn cpu(&self, client: Option<&Service>) -> Cpu {
        let of = |pid: Option<u32>| pid.map_or(0, cpu::of_tree);
        Cpu {
            postgresql: of(self.postgres.pid()),
            nats_server: of(self.nats.pid()),
            // This process is the parent of all others: only its own threads count.
            client: client
                .map_or_else(|| cpu::of_one(std::process::id()), |service| of(Some(service.0.pid()))),
        }
    }

    /// Takes away what a contender has stored and left, so that the next finds the same.
    ///
    /// # Errors
    /// If a server refuses.
    pub async fn clear(&self) -> anyhow::Result<()> {
        self.jetstream().get_stream(&self.config.ingest.stream).await?.purge().await?;
        let clear = "TRUNCATE readings, readings_1m, flushes, rejected_readings; CHECKPOINT";
        Ok(self.owner.batch_execute(clear).await?)
    }

    /// Messages that the stream holds.
    ///
    /// # Errors
    /// If the broker does not answer.
    pub async fn messages(&self) -> anyhow::Result<u64> {
        let mut stream = self.jetstream().get_stream(&self.config.ingest.stream).await?;
        Ok(stream.info().await?.state.messages)
    }

    /// Waits until the stream holds so many.
    ///
    /// # Errors
    /// If that takes too long.
    pub async fn wait_for_messages(&self, messages: u64) -> anyhow::Result<()> {
        let mut stream = self.jetstream().get_stream(&self.config.ingest.stream).await?;
        let waited = async {
            self.client.flush().await?;
            while stream.info().await?.state.messages != messages {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(PATIENCE, waited)
            .await
            .with_context(|| format!("the stream never held {messages} messages"))?
    }

    /// Waits until nothing is owed a look by detection.
    ///
    /// # Errors
    /// If that takes too long.
    pub async fn wait_until_judged(&self) -> anyhow::Result<()> {
        let waited = async {
            while self.count("flushes").await? > 0 {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(PATIENCE, waited).await.context("detection never caught up")?
    }

    /// Rows of a table.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn count(&self, table: &str) -> anyhow::Result<i64> {
        Ok(self.owner.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await?.get(0))
    }

    /// A contender that lost or doubled something has not been measured.
    ///
    /// # Errors
    /// If a table has not so many rows.
    pub async fn check(&self, table: &str, expected: usize) -> anyhow::Result<()> {
        let found = self.count(table).await?;
        if usize::try_from(found)? != expected {
            bail!("{expected} rows must be in {table}, and {found} are");
        }
        Ok(())
    }

    /// Runs the service, in a process of its own, with the settings that it comes with; these roles of it, separated by
    /// commas, or all.
    ///
    /// # Errors
    /// If it can't be started.
    pub fn serve(&self, roles: Option<&str>) -> anyhow::Result<Service> {
        let roles = roles.map(|roles| ["--roles".into(), roles.into()]);
        let process = ServerProcess::start(ServerCommand {
            name: "watchbell",
            program: std::env::current_exe().context("failed to find this program")?,
            arguments: [OsString::from("serve")].into_iter().chain(roles.into_iter().flatten()).collect(),
            environment: self.environment.clone(),
            user: ServerUser::Myself { uid: my_uid()? },
            log: self.log(),
            stop: Signal::Term,
            abort: Signal::Kill,
        })?;
        Ok(Service(process))
    }

    fn log(&self) -> PathBuf {
        Path::new(self.logs.path()).join("service.log")
    }

    /// Stops the servers; their data go.
    ///
    /// # Errors
    /// If they don't stop.
    pub async fn end(self) -> anyhow::Result<()> {
        drop(self.owner);
        let (postgres, nats) = tokio::join!(self.postgres.stop(), self.nats.stop());
        postgres.and(nats)
    }
}

/// The service at work.
pub struct Service(ServerProcess);

impl Service {
    /// Halts it where it is, as it is.
    ///
    /// # Errors
    /// If it has ended.
    pub fn pause(&self) -> anyhow::Result<()> {
        self.0.signal(Signal::Stop)
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// If it has ended.
    pub fn go_on(&self) -> anyhow::Result<()> {
        self.0.signal(Signal::Cont)
    }

    /// The most memory that it ever held, in MB (10⁶ bytes).
    pub fn peak_memory_mb(&self) -> f64 {
        memory_mb(self.0.pid(), "VmHWM")
    }

    /// Asks it to end, and waits.
    ///
    /// # Errors
    /// If it ends badly.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.0.signal(Signal::Term)?;
        let status =
            tokio::time::timeout(STOP_DEADLINE, self.0.wait()).await.context("the service did not end")?;
        if !status.success() {
            bail!("the service ended badly ({status}):\n{}", self.0.log_tail());
        }
        Ok(())
    }
}
