//! `watchbell prove`: the promises, tested by killing things.
//!
//! The service runs as real processes on servers of the proof's own, under load, while it is killed and paused at random
//! moments and the receiver answers at random (`faults`), while it is killed in the middle of millions of readings
//! (`flood`), or while its database is away (`outage`). Then what is owed is paid, and the tables must say what the
//! proof itself published and received. One seed decides all chance; only the machine's own timing differs from run to run.

mod debt;
mod evidence;
mod faults;
mod flood;
mod ground;
mod invariants;
mod load;
mod outage;
mod processes;
mod proof;
mod random;
mod receiver;
mod recompute;
mod schedule;
mod totals;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;

use self::flood::Flood;
use self::outage::Outage;
use self::proof::show_logs;
use super::readings;
use crate::dev::scratch::Scratch;
use crate::dev::state::StateDir;
use crate::dev::token::random_hex;

const SECONDS: u64 = 60;
const READINGS: usize = 2_000_000;
const KILLS: usize = 10;
const RATE: usize = 5_000;

/// What is done to the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Scenario {
    /// Kill and pause two processes at random while the receiver misbehaves
    Faults,
    /// Publish millions of readings and kill the service in the middle of its batches
    Flood,
    /// Stop PostgreSQL under load and look at the service's memory
    Outage,
}

/// How long, and by which dice.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The servers are private and throw-away; nothing that DATABASE_URL or NATS_URL names is touched. \
`flood` and `outage` run the service with the settings it comes with, but for its servers, the size of its stream and, \
in `flood`, an ack_wait of 3 seconds instead of 30. The exit code is 1 if an invariant is broken."
)]
pub struct ProveArgs {
    /// What is done to the service
    #[arg(long, value_enum, default_value_t = Scenario::Faults)]
    scenario: Scenario,
    /// faults, outage: how long it lasts; 60 unless told otherwise
    #[arg(long, value_parser = clap::value_parser!(u64).range(5..))]
    seconds: Option<u64>,
    /// The same in minutes
    #[arg(long, conflicts_with = "seconds", value_parser = clap::value_parser!(u64).range(1..))]
    minutes: Option<u64>,
    /// flood: readings to publish; 2000000 unless told otherwise
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=readings::MOST as u64))]
    readings: Option<u64>,
    /// flood: how often the service is killed; 10 unless told otherwise
    #[arg(long, value_parser = clap::value_parser!(u64).range(..=10_000))]
    kills: Option<u64>,
    /// outage: readings a second; 5000 unless told otherwise
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
    /// Repeats the schedule of the run that printed it
    #[arg(long)]
    seed: Option<u64>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the proof and prints its table.
///
/// # Errors
/// If arguments are not for this scenario, or the proof itself can't go on.
pub async fn run(args: &ProveArgs) -> anyhow::Result<ExitCode> {
    args.check()?;
    let seed = match args.seed {
        Some(seed) => seed,
        None => u64::from(u32::from_str_radix(&random_hex(4)?, 16)?),
    };
    let length =
        Duration::from_secs(args.minutes.map_or(args.seconds.unwrap_or(SECONDS), |minutes| minutes * 60));
    let logs = Scratch::create(&StateDir::open()?)?;
    let proof = match args.scenario {
        Scenario::Faults => faults::run(logs.path(), seed, length).await?,
        Scenario::Flood => args.flood().run(logs.path(), seed).await?,
        Scenario::Outage => {
            let outage = Outage { length, rate: args.rate.map_or(RATE, |rate| rate as usize) };
            if outage.readings() > readings::MOST {
                bail!(
                    "that would be more than {} readings: ask for less time or a lower rate",
                    readings::MOST
                );
            }
            outage.run(logs.path(), seed).await?
        }
    };
    if !proof.holds() {
        show_logs(logs.path(), args.scenario.name(), seed);
    }
    if args.json {
        proof.print_json(seed, args.scenario.name());
    } else {
        proof.print(seed);
    }
    Ok(if proof.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl ProveArgs {
    /// An argument that would do nothing is a mistake.
    fn check(&self) -> anyhow::Result<()> {
        let given = [
            ("--seconds", self.seconds.is_some(), self.scenario != Scenario::Flood),
            ("--minutes", self.minutes.is_some(), self.scenario != Scenario::Flood),
            ("--readings", self.readings.is_some(), self.scenario == Scenario::Flood),
            ("--kills", self.kills.is_some(), self.scenario == Scenario::Flood),
            ("--rate", self.rate.is_some(), self.scenario == Scenario::Outage),
        ];
        match given.iter().find(|(_, is_given, has_effect)| *is_given && !has_effect) {
            Some((name, ..)) => bail!("{name} is not for the scenario {}", self.scenario.name()),
            None => Ok(()),
        }
    }

    fn flood(&self) -> Flood {
        Flood {
            readings: self.readings.map_or(READINGS, |readings| readings as usize),
            kills: self.kills.map_or(KILLS, |kills| kills as usize),
        }
    }
}

impl Scenario {
    fn name(self) -> &'static str {
        match self {
            Self::Faults => "faults",
            Self::Flood => "flood",
            Self::Outage => "outage",
        }
    }
}
