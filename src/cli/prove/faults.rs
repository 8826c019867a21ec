//! Faults: two processes, killed and paused at random moments, and a receiver that answers at random.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio_util::sync::CancellationToken;

use super::debt::wait_until_paid;
use super::evidence::Evidence;
use super::ground::{Ground, Place};
use super::invariants;
use super::load::{Account, Load};
use super::processes::Processes;
use super::proof::Proof;
use super::receiver::Mood;
use super::schedule::{PROCESSES, schedule};
use crate::audit::verify::verify;

const LOOK_EVERY: Duration = Duration::from_millis(50);
const LINE_EVERY: Duration = Duration::from_secs(5);
/// Quick leases and retries, so that a minute holds many of them.
const TUNING: [(&str, &str); 11] = [
    ("WATCHBELL__INGEST__STREAM_MAX_BYTES", "268435456"),
    ("WATCHBELL__INGEST__BATCH_INTERVAL_MS", "50"),
    ("WATCHBELL__INGEST__ACK_WAIT_SECONDS", "3"),
    ("WATCHBELL__DETECT__LEASE_SECONDS", "2"),
    ("WATCHBELL__DETECT__COMMIT_INTERVAL_MS", "300"),
    ("WATCHBELL__DELIVER__LEASE_SECONDS", "4"),
    ("WATCHBELL__DELIVER__REQUEST_TIMEOUT_SECONDS", "2"),
    ("WATCHBELL__DELIVER__WORKER_TTL_SECONDS", "2"),
    ("WATCHBELL__DELIVER__RETRY__FIRST_DELAY_MS", "100"),
    ("WATCHBELL__DELIVER__RETRY__FACTOR", "1.5"),
    ("WATCHBELL__DELIVER__RETRY__MAX_DELAY_MS", "2000"),
];

/// Suffers for so long, and looks at what is there then.
///
/// # Errors
/// If the proof itself can't go on.
pub async fn run(logs: &Path, seed: u64, length: Duration) -> anyhow::Result<Proof> {
    eprintln!("seed {seed}, {} s of load and faults", length.as_secs());
    let ground = Ground::prepare(Place::Lent, &TUNING).await?;
    let outcome = prove(&ground, logs, seed, length).await;
    let cleared = ground.clear().await;
    let proof = outcome?;
    cleared?;
    Ok(proof)
}

async fn prove(ground: &Ground, logs: &Path, seed: u64, length: Duration) -> anyhow::Result<Proof> {
    let mut processes = Processes::start(ground.environment.clone(), logs, PROCESSES)?;
    let account = suffer(ground, &mut processes, seed, length).await?;
    processes.end_faults()?;
    ground.hub.clear_answers();
    let debt = wait_until_paid(ground, &mut processes).await?;
    processes.stop().await?;
    let evidence = Evidence::collect(ground, debt).await?;
    let mut checks = invariants::check(&account, &evidence, &ground.rules, processes.toll);
    let mut owner = crate::db::pool::connect_owner(&ground.config.database).await?;
    checks.extend(verify(&mut owner).await?);
    Ok(Proof { seconds: length.as_secs(), counts: counts(&account, &evidence, &processes), checks })
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
