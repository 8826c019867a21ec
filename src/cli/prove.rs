//! `watchbell prove`: the promises, tested by killing things.
//!
//! The service runs as two real processes on servers of the proof's own, under load, while they are killed and paused at
//! random moments and the receiver answers at random. Then the faults end, what is owed is paid, and the tables must say
//! what the proof itself published and received. One seed decides all chance; only the machine's own timing differs from
//! run to run.

mod evidence;
mod ground;
mod invariants;
mod load;
mod processes;
mod random;
mod receiver;
mod recompute;
mod schedule;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use self::evidence::{Debt, Evidence};
use self::ground::Ground;
use self::load::{Account, Load};
use self::processes::Processes;
use self::receiver::Mood;
use self::schedule::{PROCESSES, schedule};
use crate::audit::verify::{Check, verify};
use crate::dev::scratch::Scratch;
use crate::dev::state::StateDir;
use crate::dev::token::random_hex;

const LOOK_EVERY: Duration = Duration::from_millis(50);
const LINE_EVERY: Duration = Duration::from_secs(5);
/// What is owed when the faults end must be paid within this.
const PAY_DEADLINE: Duration = Duration::from_secs(180);
const LOG_LINES: usize = 30;

/// How long, and by which dice.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The servers are private and throw-away; nothing that DATABASE_URL or NATS_URL names is touched. \
The exit code is 1 if an invariant is broken."
)]
pub struct ProveArgs {
    /// Seconds of load and faults
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(5..))]
    seconds: u64,
    /// Minutes of load and faults, instead of seconds
    #[arg(long, conflicts_with = "seconds", value_parser = clap::value_parser!(u64).range(1..))]
    minutes: Option<u64>,
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
/// If the proof itself can't go on.
pub async fn run(args: &ProveArgs) -> anyhow::Result<ExitCode> {
    let seed = match args.seed {
        Some(seed) => seed,
        None => u64::from(u32::from_str_radix(&random_hex(4)?, 16)?),
    };
    let length = Duration::from_secs(args.minutes.map_or(args.seconds, |minutes| minutes * 60));
    eprintln!("seed {seed}, {} s of load and faults", length.as_secs());
    let state = StateDir::open()?;
    let logs = Scratch::create(&state)?;
    let ground = Ground::prepare().await?;
    let outcome = prove(&ground, logs.path(), seed, length).await;
    let cleared = ground.clear().await;
    let proof = outcome?;
    cleared?;
    let holds = proof.checks.iter().all(|check| check.ok);
    if !holds {
        show_logs(logs.path(), seed);
    }
    if args.json {
        println!(
            "{}",
            json!({
                "seed": seed, "seconds": length.as_secs(), "counts": proof.counts, "invariants": proof.checks,
            })
        );
    } else {
        proof.print(seed);
    }
    Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What came out.
struct Proof {
    counts: BTreeMap<String, i64>,
    checks: Vec<Check>,
}

async fn prove(ground: &Ground, logs: &Path, seed: u64, length: Duration) -> anyhow::Result<Proof> {
    let mut processes = Processes::start(ground.environment.clone(), logs)?;
    let account = suffer(ground, &mut processes, seed, length).await?;
    processes.end_faults()?;
    ground.hub.clear_answers();
    let debt = wait_until_paid(ground, &mut processes).await?;
    processes.stop().await?;
    let evidence = Evidence::collect(ground, debt).await?;
    let mut checks = invariants::check(&account, &evidence, &ground.rules, processes.toll);
    let mut owner = crate::db::pool::connect_owner(&ground.config.database).await?;
    checks.extend(verify(&mut owner).await?);
    Ok(Proof { counts: counts(&account, &evidence, &processes), checks })
}

/// Load, faults and a moody receiver, for so long.
async fn suffer(
    ground: &Ground,
    processes: &mut Processes,
    seed: u64,
    length: Duration,
) -> anyhow::Result<Account> {
    let cancel = CancellationToken::new();
    let _cancelled_with_us = cancel.clone().drop_guard();
    let jetstream = async_nats::jetstream::new(ground.broker.clone());
    let load = Load::new(jetstream, ground.subject.clone(), ground.name.clone(), seed);
    let mut publishing = tokio::spawn(load.run(cancel.clone()));
    let mut mood = Mood::new(seed);
    let mut events = schedule(seed, length).into_iter().peekable();
    let start = Instant::now();
    let mut line = Instant::now();
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    while start.elapsed() < length {
        tokio::select! {
            _ = ticks.tick() => {}
            ended = &mut publishing => {
                ended.context("the load panicked")??;
                bail!("the load ended too early");
            }
        }
        mood.keep_up(&ground.hub);
        processes.tend()?;
        while let Some(event) = events.next_if(|event| event.at <= start.elapsed()) {
            processes.suffer(event).await?;
        }
        if line.elapsed() >= LINE_EVERY {
            line = Instant::now();
            let (seconds, toll) = (start.elapsed().as_secs(), processes.toll);
            let posts = ground.hub.total();
            eprintln!("{seconds} s · kills {} · pauses {} · POSTs {posts}", toll.kills, toll.pauses);
        }
    }
    cancel.cancel();
    publishing.await.context("the load panicked")?
}

async fn wait_until_paid(ground: &Ground, processes: &mut Processes) -> anyhow::Result<Debt> {
    let start = Instant::now();
    let mut line = Instant::now();
    loop {
        processes.tend()?;
        let debt = Debt::look(ground).await?;
        if debt.is_paid() || start.elapsed() >= PAY_DEADLINE {
            return Ok(debt);
        }
        if line.elapsed() >= LINE_EVERY {
            line = Instant::now();
            let Debt { messages, flushes, owed } = debt;
            eprintln!("no more faults · messages {messages} · batches {flushes} · owed {owed}");
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn counts(account: &Account, evidence: &Evidence, processes: &Processes) -> BTreeMap<String, i64> {
    let count = |name: &str, value: i64| (name.to_owned(), value);
    let posts = evidence.answers.values().sum();
    let mut counts: BTreeMap<_, _> = [
        count("kills", processes.toll.kills),
        count("pauses", processes.toll.pauses),
        count("take-overs of detection", (evidence.epoch - 1).max(0)),
        count("messages published", account.messages as i64),
        count("messages published twice on purpose", account.repeated as i64),
        count("readings without a time", account.clockless.len() as i64),
        count("alerts", evidence.alerts.len() as i64),
        count("POSTs", posts),
        count("POSTs repeated after acceptance", invariants::repeats(evidence)),
    ]
    .into();
    counts.extend(evidence.answers.iter().map(|(answer, n)| (format!("POSTs answered {answer}"), *n)));
    counts.extend(evidence.attempts.iter().map(|(outcome, n)| (format!("attempts {outcome}"), *n)));
    counts
}

impl Proof {
    fn print(&self, seed: u64) {
        println!("seed {seed}");
        for (name, count) in &self.counts {
            println!("{name:<50} {count:>8}");
        }
        println!("\n{:<50} {:>8} {:>8}", "", "expected", "found");
        for check in &self.checks {
            let mark = if check.ok { "ok" } else { "BROKEN" };
            println!("{:<50} {:>8} {:>8}  {mark}", check.name, check.expected, check.found);
        }
    }
}

/// The end of what the processes warned of, and a copy of all that they said.
fn show_logs(logs: &Path, seed: u64) {
    for place in 0..PROCESSES {
        let text = std::fs::read_to_string(processes::log_file(logs, place)).unwrap_or_default();
        // A refused attempt is no trouble here, and there are hundreds.
        let lines: Vec<&str> = text.lines().filter(|line| !line.contains(" INFO ")).collect();
        for line in &lines[lines.len().saturating_sub(LOG_LINES)..] {
            eprintln!("process {place}: {line}");
        }
        let copy = std::env::temp_dir().join(format!("watchbell-prove-{seed}-{place}.log"));
        if std::fs::write(&copy, &text).is_ok() {
            eprintln!("all of it is in {}", copy.display());
        }
    }
}
