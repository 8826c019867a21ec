//! `watchbell bench delivery`: how many notifications reach a receiver, how soon, and what a dead one does to the others.

mod courier;
mod first_byte;
mod neighbours;
mod posting;
mod sink;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::extent::{Extent, PRIVATE};
use super::figure::Figure;
use super::ground::Ground;

/// That the commit of a notification can be asked for afterwards.
pub const POSTGRES_SETTINGS: [&str; 1] = ["track_commit_timestamp=on"];

/// How many times as many rows are due to a dead destination as are posted: 100,000 unless told otherwise.
const DEAD_ROWS: usize = 5;

/// How long, and what.
#[derive(Debug, clap::Args)]
#[command(after_help = PRIVATE)]
pub struct DeliveryArgs {
    #[command(flatten)]
    pub extent: Extent<Part>,
    /// Notifications to post in a run; five times as many are due to the dead destination
    #[arg(long, default_value_t = 20_000, value_name = "N", value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    rows: u32,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
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
    let extent = &args.extent;
    let wanted = |part| extent.has(part);
    let rounds = extent.rounds();
    let rows = extent.share_of(args.rows);
    let mut config = ground.config.clone();
    // The sink is no public address.
    config.deliver.egress_allow = vec![IpAddr::V4(Ipv4Addr::LOCALHOST).into()];
    let mut figures = Vec::new();
    if wanted(Part::Posting) {
        figures.extend(posting::measure(ground, &config, rounds, rows).await?);
    }
    if wanted(Part::FirstByte) {
        figures.extend(first_byte::measure(ground, &config, if extent.quick { 200 } else { 1_000 }).await?);
    }
    if wanted(Part::Neighbours) {
        let length = Duration::from_secs(if extent.quick { 3 } else { 10 });
        figures.extend(neighbours::measure(ground, &config, rounds, rows * DEAD_ROWS, length).await?);
    }
    Ok(figures)
}
