//! `watchbell verify`: whether the database says that the promises were kept.

use std::process::ExitCode;

use serde_json::json;

use crate::audit::verify::verify;
use crate::config::Config;
use crate::db::pool;

/// How to print it.
#[derive(Debug, clap::Args)]
pub struct VerifyArgs {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Prints every check; the exit code is 1 if one fails.
///
/// # Errors
/// If the database is away.
pub async fn run(config: &Config, args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    config.require_database()?;
    let mut client = pool::connect_owner(&config.database).await?;
    let checks = verify(&mut client).await?;
    if args.json {
        println!("{}", json!({ "checks": checks }));
    } else {
        println!("{:<50} {:>8} {:>8}", "", "expected", "found");
        for check in &checks {
            let mark = if check.ok { "ok" } else { "BROKEN" };
            println!("{:<50} {:>8} {:>8}  {mark}", check.name, check.expected, check.found);
        }
    }
    Ok(if checks.iter().all(|check| check.ok) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
