//! `watchbell verify`: whether the database says that the promises were kept.

use std::process::ExitCode;

use crate::audit::episodes::Episodes;
use crate::audit::verify::{Findings, examine};
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
    let findings = examine(&mut client).await?;
    if args.json {
        println!("{}", serde_json::to_string(&findings)?);
    } else {
        print(&findings);
    }
    Ok(if findings.checks.iter().all(|check| check.ok) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(findings: &Findings) {
    println!("{:<52} {:>8} {:>8}", "", "expected", "found");
    for check in &findings.checks {
        let mark = if check.ok { "ok" } else { "BROKEN" };
        println!("{:<52} {:>8} {:>8}  {mark}", check.name, check.expected, check.found);
        if check.name == Episodes::CHECK {
            for (name, count) in findings.episodes.accounts() {
                println!("{:<61} {count:>8}", format!("  {name}"));
            }
        }
    }
}
