//! Flood: millions of readings as fast as they are taken, and a process that is killed in the middle of its batches.
//!
//! The stream's backlog is bounded, so that the kills, which are spread evenly over the readings published, are as well
//! spread over those stored. One process: what it held when it died nobody else has, and must come again. Some messages
//! are published twice, under an id each, so that the broker can't tell.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::debt::wait_until_paid;
use super::ground::{Ground, Place};
use super::processes::Processes;
use super::proof::Proof;
use super::random::Random;
use super::totals;
use crate::cli::publish::send::{Message, Sender};
use crate::cli::readings::Readings;

/// The defaults, but for how long a killed process's messages wait for it: 30 s else, in which nothing would be to see.
const TUNING: [(&str, &str); 2] =
    [("WATCHBELL__INGEST__STREAM_MAX_BYTES", "1073741824"), ("WATCHBELL__INGEST__ACK_WAIT_SECONDS", "3")];
const ARRAY: usize = 100;
/// Of so many messages so many are single readings: then nine readings in ten come in arrays.
const SINGLES: (usize, usize) = (100, 109);
/// The share of messages that are published twice.
const TWICE: f64 = 0.005;
/// Messages published and not yet acknowledged by the broker.
const OUTSTANDING: usize = 500;
/// Messages on the stream, at the most; fewer where kills lie closer together.
const BACKLOG: usize = 10_000;
/// Messages published between two looks at the backlog.
const LOOK_AFTER: usize = 100;
const LOOK_EVERY: Duration = Duration::from_millis(5);
const LINE_EVERY: Duration = Duration::from_secs(5);
/// The broker stores, and the service takes, something within this.
const PATIENCE: Duration = Duration::from_secs(120);
/// A batch is under way for about so long.
const BATCH: Duration = Duration::from_millis(40);

/// How much, and how many kills.
#[derive(Debug, Clone, Copy)]
pub struct Flood {
    /// Readings to publish.
    pub readings: usize,
    /// Kills.
    pub kills: usize,
}

impl Flood {
    /// Publishes, kills, waits, and looks at what is there.
    ///
    /// # Errors
    /// If the proof itself can't go on.
    pub async fn run(self, logs: &Path, seed: u64) -> anyhow::Result<Proof> {
        eprintln!("seed {seed}, {} readings, {} kills", self.readings, self.kills);
        let ground = Ground::prepare(Place::Lent, &TUNING).await?;
        let outcome = self.prove(&ground, logs, seed).await;
        let cleared = ground.clear().await;
        let proof = outcome?;
        cleared?;
        Ok(proof)
    }

    async fn prove(self, ground: &Ground, logs: &Path, seed: u64) -> anyhow::Result<Proof> {
        let mut processes = Processes::start(ground.environment.clone(), logs, 1)?;
        let start = Instant::now();
        let (published, under_way) = self.suffer(ground, &mut processes, seed).await?;
        let debt = wait_until_paid(ground, &mut processes).await?;
        let elapsed = start.elapsed();
        let traffic = ground.traffic().await?;
        processes.stop().await?;
        let mut checks = totals::check(ground, self.readings, debt, processes.toll).await?;
        checks.push(totals::equal("kills", self.kills as i64, processes.toll.kills));
        let count = |name: &str, value: i64| (name.to_owned(), value);
        let counts = [
            count("messages published", published.messages as i64),
            count("messages published twice on purpose", published.twice as i64),
            count("messages under way when it was killed", under_way as i64),
            count("messages delivered again", traffic.delivered.saturating_sub(traffic.stored) as i64),
            count("kills", processes.toll.kills),
            count("readings", self.readings as i64),
            count("readings a second, until judged", (self.readings as f64 / elapsed.as_secs_f64()) as i64),
            count("seconds", elapsed.as_secs() as i64),
        ];
        Ok(Proof { seconds: elapsed.as_secs(), counts: counts.into(), checks })
    }

    /// Publishes everything and kills on the way. Returns also how many messages the killed had under way.
    async fn suffer(
        self,
        ground: &Ground,
        processes: &mut Processes,
        seed: u64,
    ) -> anyhow::Result<(Published, u64)> {
        let done = Arc::new(AtomicUsize::new(0));
        let publisher = Publisher {
            sender: Sender::new(ground.broker.clone(), ground.subject.clone(), PATIENCE, OUTSTANDING),
            random: Random::new(seed, "flood"),
            backlog: self.backlog(),
            done: Arc::clone(&done),
        };
        let mut random = Random::new(seed, "kills");
        let mut kills = self.schedule(&mut random).into_iter().peekable();
        let mut under_way = 0;
        let mut publish = std::pin::pin!(publisher.publish(ground, self.readings));
        let mut published = None;
        let (mut ticks, mut line) = (tokio::time::interval(LOOK_EVERY), Instant::now());
        while published.is_none() || kills.peek().is_some() {
            tokio::select! {
                _ = ticks.tick() => {}
                ended = &mut publish, if published.is_none() => published = Some(ended?),
            }
            processes.tend()?;
            let so_far = done.load(Ordering::Relaxed);
            if kills.next_if(|at| *at <= so_far).is_some() {
                let delay = BATCH.mul_f64(random.unit());
                under_way += tokio::select! {
                    caught = catch(ground, delay, published.is_some()) => caught?,
                    // Publishing goes on meanwhile; when it has ended, the rest is still to be stored.
                    ended = &mut publish, if published.is_none() => {
                        published = Some(ended?);
                        catch(ground, delay, true).await?
                    }
                };
                processes.kill(0).await?;
            }
            if line.elapsed() >= LINE_EVERY {
                line = Instant::now();
                eprintln!("{so_far} of {} readings · kills {}", self.readings, processes.toll.kills);
            }
        }
        Ok((published.context("nothing was published")?, under_way))
    }

    /// After how many readings published it is killed: once in each of so many equal stretches, not near its ends.
    fn schedule(self, random: &mut Random) -> Vec<usize> {
        let stretch = self.readings as f64 / self.kills.max(1) as f64;
        (0..self.kills).map(|kill| ((kill as f64 + random.between(0.25, 0.75)) * stretch) as usize).collect()
    }

    /// Less than what lies between two kills: so what is killed has stored something.
    fn backlog(self) -> usize {
        let readings_a_message = SINGLES.1 as f64 / 1_000.0;
        let stretch = (self.readings / self.kills.max(1)) as f64 * readings_a_message;
        ((stretch * 0.4) as usize).clamp(1, BACKLOG)
    }
}

/// Waits for messages under way and then so long, and says how many are. Where nothing more is published (`over`) and the
/// stream is empty there will be none.
async fn catch(ground: &Ground, delay: Duration, over: bool) -> anyhow::Result<u64> {
    let start = Instant::now();
    loop {
        let traffic = ground.traffic().await?;
        if traffic.under_way > 0 {
            tokio::time::sleep(delay).await;
            return Ok(ground.traffic().await?.under_way);
        }
        if over && traffic.left == 0 {
            return Ok(0);
        }
        if start.elapsed() >= PATIENCE {
            bail!("the service takes nothing off the stream: {traffic:?}");
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What was published.
#[derive(Debug, Clone, Copy, Default)]
struct Published {
    messages: usize,
    twice: usize,
}

struct Publisher {
    sender: Sender,
    random: Random,
    backlog: usize,
    done: Arc<AtomicUsize>,
}

impl Publisher {
    /// Publishes the first `count` readings; those published twice count once.
    async fn publish(mut self, ground: &Ground, count: usize) -> anyhow::Result<Published> {
        let readings = Readings::recent();
        let mut published = Published::default();
        let mut first = 0;
        while first < count {
            let each = if self.random.below(SINGLES.1) < SINGLES.0 { 1 } else { ARRAY };
            let end = (first + each).min(count);
            let body = readings.message(first..end).into();
            let message = Message { body, readings: (end - first) as u64, ..Message::default() };
            if self.random.chance(TWICE) {
                published.twice += 1;
                published.messages += 1;
                self.sender.send(message.clone()).await?;
            }
            self.sender.send(message).await?;
            published.messages += 1;
            first = end;
            self.done.store(first, Ordering::Relaxed);
            if published.messages % LOOK_AFTER == 0 {
                self.wait_for_room(ground).await?;
            }
        }
        self.sender.finish().await?;
        Ok(published)
    }

    async fn wait_for_room(&self, ground: &Ground) -> anyhow::Result<()> {
        let start = Instant::now();
        while ground.messages_left().await? > self.backlog as u64 {
            if start.elapsed() >= PATIENCE {
                bail!("the service takes nothing off the stream");
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kills_are_spread_over_the_readings_and_further_apart_than_the_backlog() {
        let flood = Flood { readings: 2_000_000, kills: 10 };
        let kills = flood.schedule(&mut Random::new(7, "kills"));
        assert_eq!(kills, flood.schedule(&mut Random::new(7, "kills")));
        assert_eq!(kills.len(), 10);
        assert!(kills.iter().enumerate().all(|(place, at)| at / 200_000 == place), "{kills:?}");
        assert!(kills.windows(2).all(|pair| pair[1] - pair[0] > 100_000), "{kills:?}");
        assert_eq!(flood.backlog(), 8_720);
        assert!(Flood { readings: 10, kills: 0 }.schedule(&mut Random::new(7, "kills")).is_empty());
    }
}
