//! `watchbell bench detect`: what judging costs, what rules take from ingestion, and how soon a breach is an alert.

mod alerting;
mod judging;
mod path;
mod rules;
mod toll;

use std::time::Duration;

use super::extent::{Extent, PRIVATE};
use super::figure::Figure;
use super::ground::Ground;
use crate::cli::readings::SERIES;

/// That the commit of a reading and that of its alert can be asked for afterwards.
pub const POSTGRES_SETTINGS: [&str; 1] = ["track_commit_timestamp=on"];
/// What the service does while it is measured: nobody is told, and nobody asks.
const ROLES: &str = "ingest,detect";

/// Of all series' readings, where it is measured what each costs: more would not say more.
const MOST_SECONDS: usize = 100;
/// With fewer there is little between two ticks of the kernel's clock.
const FEWEST_SECONDS: usize = 10;

/// How long, and what.
#[derive(Debug, clap::Args)]
#[command(after_help = PRIVATE)]
pub struct DetectArgs {
    #[command(flatten)]
    pub extent: Extent<Part>,
    /// Readings to ingest with each number of rules; fewer of them to see what one costs
    #[arg(long, default_value_t = 1_200_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1_000..=20_000_000))]
    readings: u32,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// Processor time a judgement, and where a reading's goes
    Judging,
    /// How fast readings are stored with no rules, with 1,000 and with 10,000
    Ingest,
    /// From a reading's commit to that of its alert
    Latency,
}

/// Measures.
///
/// # Errors
/// If something was lost, alerts are missing or too many, or a server refuses.
pub async fn measure(ground: &Ground, args: &DetectArgs) -> anyhow::Result<Vec<Figure>> {
    let extent = &args.extent;
    let wanted = |part| extent.has(part);
    let rounds = extent.rounds();
    let readings = extent.share_of(args.readings);
    let mut figures = Vec::new();
    if wanted(Part::Judging) {
        let seconds = (readings / SERIES).clamp(FEWEST_SECONDS, MOST_SECONDS);
        let costs = path::measure(ground, seconds).await?;
        let judging = tokio::task::spawn_blocking(move || judging::measure(rounds, seconds)).await??;
        figures.push(judging.explained("microseconds_a_reading", costs));
    }
    if wanted(Part::Ingest) {
        figures.extend(toll::measure(ground, rounds, readings).await?);
    }
    if wanted(Part::Latency) {
        let length = Duration::from_secs(if extent.quick { 5 } else { 20 });
        figures.extend(alerting::measure(ground, length).await?);
    }
    Ok(figures)
}
