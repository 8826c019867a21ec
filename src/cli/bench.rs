//! `watchbell bench`: our path and its limit, measured side by side on private servers.
//!
//! A measurement says nothing alone on a shared machine: each round runs all contenders one after the other, ratios are
//! taken within a round, and the median of the rounds is the figure, with its spread.

mod contest;
mod cpu;
mod delivery;
mod detect;
mod drain;
mod extent;
mod figure;
mod ground;
mod ingest;
mod load;
mod machine;
mod outbox;
mod owing;
mod series;

use std::process::ExitCode;

use serde_json::json;

use self::figure::Figure;
use self::ground::Ground;
use self::machine::Machine;

/// What is measured.
#[derive(Debug, clap::Subcommand)]
pub enum BenchCommand {
    /// From the stream into the table, beside bare COPY, bare pulling and the classic design
    Ingest(ingest::IngestArgs),
    /// What judging costs, what rules take from ingestion, and how soon a breach is an alert
    Detect(detect::DetectArgs),
    /// What claiming and completing cost, beside reading, deleting and recording the same rows with nothing claimed
    Outbox(outbox::OutboxArgs),
    /// How many notifications reach a receiver, how soon, and what a dead one does to the others
    Delivery(delivery::DeliveryArgs),
}

/// Measures and prints. That a figure falls short is a finding, and no failure.
///
/// # Errors
/// If it could not be measured: servers can't be had, or what was stored is not what was published.
pub async fn run(command: BenchCommand) -> anyhow::Result<ExitCode> {
    // The only TLS provider; a second call finds it there.
    let _ = rustls::crypto::ring::default_provider().install_default();
    if cfg!(debug_assertions) {
        eprintln!("this is a debug build: its figures say nothing");
    }
    eprintln!("starting private servers ..");
    let (as_json, (machine, figures)) = match command {
        BenchCommand::Ingest(args) => {
            (args.extent.json, measured(&[], async |ground| ingest::measure(ground, &args).await).await?)
        }
        BenchCommand::Detect(args) => {
            let settings = detect::POSTGRES_SETTINGS;
            (
                args.extent.json,
                measured(&settings, async |ground| detect::measure(ground, &args).await).await?,
            )
        }
        BenchCommand::Outbox(args) => {
            (args.extent.json, measured(&[], async |ground| outbox::measure(ground, &args).await).await?)
        }
        BenchCommand::Delivery(args) => {
            let settings = delivery::POSTGRES_SETTINGS;
            (
                args.extent.json,
                measured(&settings, async |ground| delivery::measure(ground, &args).await).await?,
            )
        }
    };
    report(&machine, &figures, as_json);
    Ok(ExitCode::SUCCESS)
}

/// On servers of its own, which end with it.
async fn measured(
    settings: &[&str],
    measure: impl AsyncFnOnce(&Ground) -> anyhow::Result<Vec<Figure>>,
) -> anyhow::Result<(Machine, Vec<Figure>)> {
    let ground = Ground::prepare(settings).await?;
    let measured = tokio::select! {
        measured = async { anyhow::Ok((ground.machine().await?, measure(&ground).await?)) } => measured,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    ground.end().await?;
    measured
}

fn report(machine: &Machine, figures: &[Figure], as_json: bool) {
    if as_json {
        println!("{}", json!({ "machine": machine, "figures": figures }));
        return;
    }
    println!("{machine}\n");
    print!("{}", figure::table(figures));
}
