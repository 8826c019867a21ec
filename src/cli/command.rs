//! The command line: what can be said, and who does it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use super::{
    alerts, bench, deliveries, dev_exec, dev_up, devices, keys, migrate, prove, publish, redrive, rules,
    serve, silences, simulate, tenants, verify,
};
use crate::config::{Config, ConfigError};
use crate::telemetry::logs;

/// Exit code of a configuration that can't be used, as of a command line that can't.
const BAD_CONFIGURATION: u8 = 2;

/// Takes sensor readings in, finds what is wrong in them, and makes sure the people on call are told.
#[derive(Debug, Parser)]
#[command(name = "watchbell", version, about)]
pub struct CommandLine {
    /// Settings in TOML; config/default.toml explains every key
    #[arg(long, global = true, value_name = "FILE", env = "WATCHBELL_CONFIG")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the service
    Serve(serve::ServeArgs),
    /// Apply the migrations that the database lacks
    Migrate(migrate::MigrateArgs),
    /// Make, list and revoke API keys
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// List tenants, and set how many devices and series they may have
    #[command(subcommand)]
    Tenants(tenants::TenantsCommand),
    /// Look at what is wrong, take it on, or say that it is over
    #[command(subcommand)]
    Alerts(alerts::AlertsCommand),
    /// Do not be told of some alerts for a while
    #[command(subcommand)]
    Silences(silences::SilencesCommand),
    /// List, show, make, change, archive and test rules
    #[command(subcommand)]
    Rules(rules::RulesCommand),
    /// List devices, and tag them
    #[command(subcommand)]
    Devices(devices::DevicesCommand),
    /// Look at what was sent to whom, and what is owed
    #[command(subcommand)]
    Deliveries(deliveries::DeliveriesCommand),
    /// Send a dead notification again
    Redrive(redrive::RedriveArgs),
    /// Check what the database promises: nothing missing, nothing overdue, rollups = raw
    Verify(verify::VerifyArgs),
    /// Publish a recording: a file of readings
    Publish(publish::PublishArgs),
    /// Publish readings of made-up devices, with faults in them
    Simulate(simulate::SimulateArgs),
    /// Kill the service again and again, and check that it kept its promises
    Prove(prove::ProveArgs),
    /// Measure the service beside its limits, on private servers
    #[command(subcommand)]
    Bench(bench::BenchCommand),
    /// Private servers, for trying things and for tests
    #[command(subcommand)]
    Dev(DevCommand),
}

#[derive(Debug, Subcommand)]
enum DevCommand {
    /// Start private servers, the service, a simulator and a demo receiver; Ctrl-C stops them, data are kept
    Up,
    /// Run a command with throw-away servers in DATABASE_URL and NATS_URL
    Exec {
        /// The command and its arguments
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
}

/// Does what the command line says. What went wrong is one line on standard error.
pub async fn run(line: CommandLine) -> ExitCode {
    match dispatch(line).await {
        Ok(code) => code,
        Err(error) if error.is::<ConfigError>() => {
            eprintln!("watchbell: {error}");
            ExitCode::from(BAD_CONFIGURATION)
        }
        Err(error) => {
            eprintln!("watchbell: {}", format!("{error:#}").replace('\n', " "));
            ExitCode::FAILURE
        }
    }
}

async fn dispatch(line: CommandLine) -> anyhow::Result<ExitCode> {
    let command = match line.command {
        // These have servers of their own: what is configured is not for them.
        Command::Dev(DevCommand::Exec { command }) => return dev_exec::run(command).await,
        Command::Dev(DevCommand::Up) => return dev_up::run(line.config.as_deref()).await,
        Command::Prove(args) => return prove::run(&args).await,
        Command::Bench(command) => return bench::run(command).await,
        command => command,
    };
    let config = Config::load(line.config.as_deref())?;
    let quiet = matches!(command, Command::Publish(_)) && config.log.filter == "info";
    // What it says itself is what there is to see.
    let filter = if quiet { "warn" } else { &config.log.filter };
    logs::start(config.log.format, filter)?;
    match command {
        Command::Serve(args) => serve::run(&config, &args).await,
        Command::Migrate(args) => migrate::run(&config, &args).await,
        Command::Keys(command) => keys::run(&config, command).await.map(|()| ExitCode::SUCCESS),
        Command::Tenants(command) => tenants::run(&config, command).await.map(|()| ExitCode::SUCCESS),
        Command::Rules(command) => rules::run(&config, command).await.map(|()| ExitCode::SUCCESS),
        Command::Devices(command) => devices::run(&config, command).await.map(|()| ExitCode::SUCCESS),
        Command::Alerts(command) => alerts::run(&config, command).await.map(|()| ExitCode::SUCCESS),
        Command::Silences(command) => silences::run(&config, command).await.map(|()| ExitCode::SUCCESS),
        Command::Deliveries(command) => deliveries::run(&config, command).await.map(|()| ExitCode::SUCCESS),
        Command::Redrive(args) => redrive::run(&config, &args).await.map(|()| ExitCode::SUCCESS),
        Command::Verify(args) => verify::run(&config, &args).await,
        Command::Publish(args) => publish::run(&config, &args).await,
        Command::Simulate(args) => simulate::run(&config, &args).await.map(|()| ExitCode::SUCCESS),
        Command::Dev(_) | Command::Prove(_) | Command::Bench(_) => unreachable!("handled above"),
    }
}
