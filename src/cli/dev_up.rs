//! `watchbell dev up`: everything with a demo in it, on private servers.
//!
//! Invariant: it stops what it started and nothing else, whatever ends it; it touches no server and no port that was
//! there. Its data stay, with `fsync` on.

use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use secrecy::ExposeSecret;
use tokio::signal::unix::{SignalKind, signal};
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

use super::dev_demo::{self, DemoSecrets};
use super::simulate::{self, SimulateArgs};
use crate::config::Config;
use crate::db::{migrations, pool};
use crate::dev::hub::server::{Hub, HubOptions};
use crate::dev::nats::{NatsOptions, PrivateNats};
use crate::dev::port;
use crate::dev::postgres::{PostgresOptions, PrivatePostgres};
use crate::dev::state::StateDir;
use crate::ingest::broker;
use crate::model::tenant::TenantName;
use crate::runtime::{self, Roles, Running};
use crate::telemetry::logs;
use crate::telemetry::metrics::{ByOutcome, Metrics};

const COUNT_BEFORE: &str = include_str!("../../sql/queries/demo/count_before.sql");
const COUNT_OWED: &str = include_str!("../../sql/queries/demo/count_owed.sql");

/// The hub answers 503 to its first calls, so that a retry is there to see.
const FIRST_503: usize = 3;
/// Where the API listens if the port is free.
const API_PORT: u16 = 8080;

/// Starts everything, shows a line a second, and stops on Ctrl-C.
///
/// # Errors
/// If something can't be started; what was started before it is stopped.
pub async fn run(file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stopped = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    tokio::pin!(stopped);
    let state = StateDir::open()?;
    let _lock = state.lock()?;
    let mut servers = Servers::default();
    let outcome = tokio::select! {
        outcome = show(&mut servers, &state, file) => outcome,
        () = &mut stopped => {
            eprintln!("\nstopping");
            Ok(())
        }
    };
    servers.stop().await;
    outcome.map(|()| ExitCode::SUCCESS)
}

/// What was started, to be stopped in the other order.
#[derive(Default)]
struct Servers {
    postgres: Option<PrivatePostgres>,
    nats: Option<PrivateNats>,
    hub: Option<Hub>,
    running: Option<Running>,
    simulator: CancellationToken,
}

impl Servers {
    async fn stop(self) {
        self.simulator.cancel();
        if let Some(running) = self.running {
            running.shut_down().await;
        }
        if let Some(hub) = self.hub {
            hub.stop().await;
        }
        if let Some(nats) = self.nats
            && let Err(error) = nats.stop().await
        {
            eprintln!("failed to stop nats-server: {error:#}");
        }
        if let Some(postgres) = self.postgres
            && let Err(error) = postgres.stop().await
        {
            eprintln!("failed to stop PostgreSQL: {error:#}");
        }
    }
}

async fn show(servers: &mut Servers, state: &StateDir, file: Option<&Path>) -> anyhow::Result<()> {
    let postgres = servers.postgres.insert(PrivatePostgres::start(postgres_options(state)?).await?);
    let nats = servers.nats.insert(PrivateNats::start(nats_options(state).await?).await?);
    let secrets_path = state.path().join("demo.json");
    let mut secrets = DemoSecrets::load_or_make(&secrets_path)?;
    let hub = servers.hub.insert(
        Hub::start(HubOptions {
            api_key: secrets.hub_key.clone(),
            first_503: FIRST_503,
            ..HubOptions::default()
        })
        .await?,
    );

    let config = config(file, postgres.url(), nats.url(), &secrets)?;
    logs::start(config.log.format, &config.log.filter)?;
    let mut client = pool::connect_owner(&config.database).await?;
    migrations::migrate(&mut client).await?;
    let key = dev_demo::seed(&mut client, &mut secrets, &secrets_path, &format!("http://{}", hub.address()))
        .await?;

    let running = servers.running.insert(runtime::start(&config, Roles::all()).await?);
    let address = running.api_address.context("the API does not listen")?;
    let simulator = servers.simulator.clone();
    let (client_of_simulator, prefix) =
        (broker::connect(&config).await?, config.ingest.subject_prefix.clone());
    let args = SimulateArgs {
        tenant: TenantName::parse(dev_demo::TENANT)?,
        devices: 5,
        rate: 10,
        fault_every: 60,
        malformed_every: 300,
        messages: None,
    };
    tokio::spawn(async move {
        if let Err(error) = simulate::publish(client_of_simulator, &prefix, &args, &simulator).await {
            eprintln!("the simulator stopped: {error:#}");
        }
    });
    let environment = state.path().join("env");
    dev_demo::write_private(&environment, &exports(&config))?;
    let key = key.expose_secret();
    println!(
        "\nWatchbell runs. Its API is at http://{address}, the key of the tenant `demo` is\n  {key}\n\
         A page for people: http://{address}/ (any user name, the key as password). To try:\n\
         \n  curl -s -H 'X-API-Key: {key}' 'http://{address}/api/alerts?limit=3'\
         \n  curl -s -H 'X-API-Key: {key}' 'http://{address}/api/deliveries?limit=3'\
         \n  curl -s http://{address}/readyz\n\
         \nSimulated pumps run hot or lose pressure now and then. The demo receiver answers 503 to its first {FIRST_503} calls.\n\
         For the other commands, in another shell: . {}\n\
         Ctrl-C stops everything; the data stay in {}\n",
        environment.display(),
        state.path().display()
    );
    live_view(&client, running, &running.metrics).await
}

fn postgres_options(state: &StateDir) -> anyhow::Result<PostgresOptions> {
    Ok(PostgresOptions { data_dir: state.subdirectory("postgres")?, durable: true, settings: Vec::new() })
}

async fn nats_options(state: &StateDir) -> anyhow::Result<NatsOptions> {
    let program = crate::dev::provision::nats::find_or_install(state).await?;
    Ok(NatsOptions { store_dir: state.subdirectory("nats")?, program, configuration: String::new() })
}

/// The user's own settings, except for what makes it private.
fn config(file: Option<&Path>, database: &str, nats: &str, secrets: &DemoSecrets) -> anyhow::Result<Config> {
    let mut environment: HashMap<String, String> = std::env::vars().collect();
    let port = if port::is_free(API_PORT) { API_PORT } else { port::free()? };
    // Quiet by default: the live line is what there is to see.
    environment.entry("WATCHBELL__LOG__FILTER".to_owned()).or_insert_with(|| "error".to_owned());
    environment.entry("WATCHBELL__API__LISTEN".to_owned()).or_insert_with(|| format!("127.0.0.1:{port}"));
    for (name, value) in [
        ("DATABASE_URL", database),
        ("NATS_URL", nats),
        ("WATCHBELL__SECRETS__KEY", &secrets.secrets_key),
        ("WATCHBELL__SECRETS__KEY_FILE", ""),
        // The demo receiver listens on this machine.
        ("WATCHBELL__DELIVER__EGRESS_ALLOW", "127.0.0.1/32"),
    ] {
        environment.insert(name.to_owned(), value.to_owned());
    }
    for name in ["WATCHBELL__DATABASE__URL", "WATCHBELL__NATS__URL"] {
        environment.remove(name);
    }
    Ok(Config::from_sources(file, environment)?)
}

/// What a shell needs to use the demo's servers.
fn exports(config: &Config) -> String {
    let (database, nats) = (config.database.url.expose_secret(), config.nats.url.expose_secret());
    format!("export DATABASE_URL='{database}'\nexport NATS_URL='{nats}'\n")
}

/// One line a second: over itself on a terminal, one below the other elsewhere.
async fn live_view(client: &Client, running: &Running, metrics: &Arc<Metrics>) -> anyhow::Result<()> {
    let before = client.query_one(COUNT_BEFORE, &[]).await?;
    let (readings, alerts, delivered): (i64, i64, i64) = (before.get(0), before.get(1), before.get(2));
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    let over_itself = std::io::stdout().is_terminal();
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = running.failed() => anyhow::bail!("a stage of the service failed, see above"),
        }
        let owed = client.query_one(COUNT_OWED, &[]).await?;
        let (retrying, dead): (i64, i64) = (owed.get(0), owed.get(1));
        let outcome = ByOutcome { outcome: "delivered" };
        let line = format!(
            "readings stored {} · alerts {} · delivered {} · retrying {retrying} · dead {dead}",
            readings as u64 + metrics.readings_stored.get(),
            alerts as u64 + metrics.alerts_opened.get(),
            delivered as u64 + metrics.delivery_attempts.get_or_create(&outcome).get(),
        );
        let mut out = std::io::stdout();
        if over_itself {
            write!(out, "\r\x1b[K{line}")?;
        } else {
            writeln!(out, "{line}")?;
        }
        out.flush()?;
    }
}
