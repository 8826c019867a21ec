//! `watchbell bench`: our path and its limit, measured side by side on private servers.
//!
//! A measurement says nothing alone on a shared machine: each round runs all contenders one after the other, ratios are
//! taken within a round, and the median of the rounds is the figure, with its spread.

mod cpu;
mod figure;
mod ground;
mod ingest;
mod machine;

use std::process::ExitCode;

use serde_json::json;

use self::figure::Figure;
use self::machine::Machine;

/// What is measured.
#[derive(Debug, clap::Subcommand)]
pub enum BenchCommand {
    /// From the stream into the table, beside bare COPY, bare pulling and the classic design
    Ingest(ingest::IngestArgs),
}

/// Measures and prints. That a figure falls short is a finding, and no failure.
///
/// # Errors
/// If it could not be measured: servers can't be had, or what was stored is not what was published.
pub async fn run(command: BenchCommand) -> anyhow::Result<ExitCode> {
    let BenchCommand::Ingest(args) = command;
    // The only TLS provider; a second call finds it there.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (machine, figures) = ingest::run(&args).await?;
    report(&machine, &figures, args.json);
    Ok(ExitCode::SUCCESS)
}

fn report(machine: &Machine, figures: &[Figure], as_json: bool) {
    if as_json {
        println!("{}", json!({ "machine": machine, "figures": figures }));
        return;
    }
    println!("{machine}\n");
    print!("{}", figure::table(figures));
}
