//! `watchbell serve`: the service, until SIGTERM or SIGINT.

use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use crate::config::Config;
use crate::runtime::{self, Role, Roles};

/// What to run.
#[derive(Debug, clap::Args)]
pub struct ServeArgs {
    /// The stages that this process runs
    #[arg(long, value_enum, value_delimiter = ',', default_value = "ingest,detect,deliver,api")]
    roles: Vec<Role>,
}

/// Serves until a signal, then lets what is under way end. A stage that failed ends it with an exit code of 1.
///
/// # Errors
/// If it can't start.
pub async fn run(config: &Config, args: &ServeArgs) -> anyhow::Result<ExitCode> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let running = runtime::start(config, Roles::of(&args.roles)).await?;
    let failed = tokio::select! {
        _ = terminate.recv() => false,
        _ = interrupt.recv() => false,
        () = running.failed() => true,
    };
    tracing::info!("stopping: what is under way may end");
    tokio::select! {
        () = running.shut_down() => {}
        // A second signal: whoever sends it does not want to wait.
        _ = terminate.recv() => failed_to_wait(),
        _ = interrupt.recv() => failed_to_wait(),
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn failed_to_wait() {
    tracing::warn!("told to stop twice: what is under way is cut off, and will be found as unknown");
}
