//! `watchbell bench delivery`: how many notifications reach a receiver, how soon, and what a dead one does to the others.

mod courier;
mod first_byte;
mod neighbours;
mod posting;
mod sink;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::figure::Figure;
use super::ground::Ground;

/// That the commit of a notification can be asked for afterwards.
pub const POSTGRES_SETTINGS: [&str; 1] = ["track_commit_timestamp=on"];

/// How many times as many rows are due to a dead destination as are posted: 100,000 unless told otherwise.
const DEAD_ROWS: usize = 5;

/// How long, and what.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The servers are private and throw-away; nothing that DATABASE_URL or NATS_URL names is touched. \
Compare figures of one run only, and use a release build. The exit code says whether it was measured, not what came out."
)]
pub struct DeliveryArgs {
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// A look in a minute or two: two rounds, a fifth of the rows
    #[arg(long)]
    quick: bool,
    /// Rounds, each with every contender; the median counts
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..=100))]
    rounds: u8,
    /// Only some of it, separated by commas
    #[arg(long, value_delimiter = ',', value_name = "PARTS")]
    only: Vec<Part>,
    /// Notifications to post in a run; five times as many are due to the dead destination
    #[arg(long, default_value_t = 20_000, value_name = "N", value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    rows: u32,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// How many a second reach a receiver, beside the same client with no database
    Posting,
    /// From commit to the first byte of the request
    FirstByte,
    /// What healthy destinations feel of a dead one
    Neighbours,
}

/// Measures.
///
/// # Errors
/// If something was lost or sent twice, or the database refuses.
pub async fn measure(ground: &Ground, args: &DeliveryArgs) -> anyhow::Result<Vec<Figure>> {
    let wanted = |part| args.only.is_empty() || args.only.contains(&part);
    let rounds = if args.quick { args.rounds.min(2) } else { args.rounds };
    let rows = args.rows as usize / if args.quick { 5 } else { 1 };
    let mut config = ground.config.clone();
    // The sink is no public address.
    config.deliver.egress_allow = vec![IpAddr::V4(Ipv4Addr::LOCALHOST).into()];
    let mut figures = Vec::new();
    if wanted(Part::Posting) {
        figures.extend(posting::measure(ground, &config, rounds, rows).await?);
    }
    if wanted(Part::FirstByte) {
        figures.extend(first_byte::measure(ground, &config, if args.quick { 200 } else { 1_000 }).await?);
    }
    if wanted(Part::Neighbours) {
        let length = Duration::from_secs(if args.quick { 3 } else { 10 });
        figures.extend(neighbours::measure(ground, &config, rounds, rows * DEAD_ROWS, length).await?);
    }
    Ok(figures)
}
