//! `watchbell migrate`: brings the database's schema up to this program's.

use std::process::ExitCode;

use crate::config::Config;
use crate::db::{migrations, pool};

/// What to do about missing migrations.
#[derive(Debug, clap::Args)]
pub struct MigrateArgs {
    /// Change nothing; exit with 1 if migrations are missing
    #[arg(long)]
    check: bool,
}

/// Applies or lists what is missing.
///
/// # Errors
/// If the database is away, or a migration fails.
pub async fn run(config: &Config, args: &MigrateArgs) -> anyhow::Result<ExitCode> {
    config.require_database()?;
    let mut client = pool::connect_owner(&config.database).await?;
    if args.check {
        let pending = migrations::pending(&client).await?;
        for name in &pending {
            println!("missing: {name}");
        }
        if pending.is_empty() {
            println!("nothing is missing");
        }
        return Ok(if pending.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let applied = migrations::migrate(&mut client).await?;
    for name in &applied {
        println!("applied: {name}");
    }
    if applied.is_empty() {
        println!("nothing was missing");
    }
    Ok(ExitCode::SUCCESS)
}
