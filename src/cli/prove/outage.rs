//! Outage: PostgreSQL is stopped under load, for minutes. The backlog must lie in the stream and not in memory.

use std::path::Path;
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::debt::wait_until_paid;
use super::ground::{Ground, Place};
use super::processes::Processes;
use super::proof::Proof;
use super::totals;
use crate::audit::verify::Check;
use crate::cli::proc::memory_mb;
use crate::cli::publish::send::{Message, Sender};
use crate::cli::readings::Readings;

/// Under load, before the outage; a shorter outage has no longer one before it.
const BEFORE: Duration = Duration::from_secs(10);
const ARRAY: usize = 10;
/// On the stream a reading takes less than this, in bytes.
const READING_BYTES: usize = 200;
/// So that a slow machine's stream does not fill up either.
const SPARE_BYTES: usize = 1 << 30;
/// Messages published and not yet acknowledged by the broker.
const OUTSTANDING: usize = 500;
const TICK: Duration = Duration::from_millis(10);
const SAMPLE_EVERY: Duration = Duration::from_secs(1);
const LINE_EVERY: Duration = Duration::from_secs(5);
/// The broker stores something within this.
const PATIENCE: Duration = Duration::from_secs(60);
/// What the service may hold more than before, in MB (10⁶ bytes): a batch or two, and what it has pulled.
const GROWTH_MB: i64 = 32;

/// How long, and under which load.
#[derive(Debug, Clone, Copy)]
pub struct Outage {
    /// How long PostgreSQL is away.
    pub length: Duration,
    /// Readings a second.
    pub rate: usize,
}

/// Megabytes of the service's memory, sampled.
#[derive(Debug, Default, Clone, Copy)]
struct Memory {
    last: f64,
    most: f64,
}

impl Outage {
    /// How many readings are published, about.
    pub fn readings(self) -> usize {
        ((self.before() + self.length).as_secs_f64() * self.rate as f64) as usize
    }

    fn before(self) -> Duration {
        BEFORE.min(self.length)
    }

    /// Publishes, stops PostgreSQL, starts it again, waits, and looks at what is there.
    ///
    /// # Errors
    /// If the proof itself can't go on.
    pub async fn run(self, logs: &Path, seed: u64) -> anyhow::Result<Proof> {
        let seconds = self.length.as_secs();
        eprintln!("seed {seed}, {seconds} s without PostgreSQL, {} readings a second", self.rate);
        let stream_bytes = (SPARE_BYTES + self.readings() * READING_BYTES).to_string();
        let tuning = [("WATCHBELL__INGEST__STREAM_MAX_BYTES", stream_bytes.as_str())];
        let mut ground = Ground::prepare(Place::Own, &tuning).await?;
        let outcome = self.prove(&mut ground, logs).await;
        let cleared = ground.clear().await;
        let proof = outcome?;
        cleared?;
        Ok(proof)
    }

    async fn prove(self, ground: &mut Ground, logs: &Path) -> anyhow::Result<Proof> {
        let mut processes = Processes::start(ground.environment.clone(), logs, 1)?;
        let cancel = CancellationToken::new();
        let _cancelled_with_us = cancel.clone().drop_guard();
        let sender = Sender::new(ground.broker.clone(), ground.subject.clone(), PATIENCE, OUTSTANDING);
        let publishing = tokio::spawn(publish(sender, self.rate, cancel.clone()));

        let before = watch(ground, &mut processes, self.before(), "before the outage").await?;
        ground.postgres()?.take_down().await?;
        let during = watch(ground, &mut processes, self.length, "no PostgreSQL").await?;
        let backlog = ground.messages_left().await?;
        ground.postgres()?.restart().await?;
        let restarted = Instant::now();
        cancel.cancel();
        let published = publishing.await??;
        ground.reconnect().await?;
        let debt = wait_until_paid(ground, &mut processes).await?;
        let caught_up = restarted.elapsed();
        let most = memory_mb(processes.pid(0), "VmHWM");
        processes.stop().await?;

        let grown = (during.most - before.last).max(0.0).ceil() as i64;
        let mut checks = totals::check(ground, published, debt, processes.toll).await?;
        checks.extend([
            Check {
                name: "messages on the stream after the outage, at least",
                expected: 1,
                found: backlog as i64,
                ok: backlog > 0,
            },
            Check {
                name: "memory grown in the outage, MB, at most",
                expected: GROWTH_MB,
                found: grown,
                ok: grown <= GROWTH_MB,
            },
        ]);
        let count = |name: &str, value: i64| (name.to_owned(), value);
        let counts = [
            count("readings", published as i64),
            count("seconds without PostgreSQL", self.length.as_secs() as i64),
            count("seconds until all was stored and judged", caught_up.as_secs() as i64),
            count("memory before the outage, MB", before.last as i64),
            count("memory in the outage, the most, MB", during.most as i64),
            count("memory ever, the most, MB", most as i64),
        ];
        Ok(Proof { seconds: self.length.as_secs(), counts: counts.into(), checks })
    }
}

/// Looks at the service's memory every second, for so long.
async fn watch(
    ground: &Ground,
    processes: &mut Processes,
    length: Duration,
    phase: &str,
) -> anyhow::Result<Memory> {
    let mut memory = Memory::default();
    let (start, mut line) = (Instant::now(), Instant::now());
    while start.elapsed() < length {
        tokio::time::sleep(SAMPLE_EVERY.min(length.saturating_sub(start.elapsed()))).await;
        processes.tend()?;
        memory.last = memory_mb(processes.pid(0), "VmRSS");
        memory.most = memory.most.max(memory.last);
        if line.elapsed() >= LINE_EVERY {
            line = Instant::now();
            let (seconds, left) = (start.elapsed().as_secs(), ground.messages_left().await?);
            eprintln!("{phase}: {seconds} s · messages {left} · memory {:.0} MB", memory.last);
        }
    }
    Ok(memory)
}

/// Publishes so many readings a second until cancelled, and says how many the broker has stored.
async fn publish(mut sender: Sender, rate: usize, cancel: CancellationToken) -> anyhow::Result<usize> {
    let readings = Readings::recent();
    let start = Instant::now();
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut published = 0;
    while !cancel.is_cancelled() {
        ticks.tick().await;
        let due = (start.elapsed().as_secs_f64() * rate as f64) as usize;
        while published + ARRAY <= due && !cancel.is_cancelled() {
            let body = readings.message(published..published + ARRAY).into();
            sender.send(Message { body, readings: ARRAY as u64, ..Message::default() }).await?;
            published += ARRAY;
        }
    }
    sender.finish().await?;
    Ok(published)
}
