//! The readings of the proof, and the account of what was published.
//!
//! Invariant: the account names exactly what the broker has said it stored; a message whose acknowledgement failed is sent
//! again under its own `Nats-Msg-Id` until it is. Seven messages in ten are arrays, some readings come late, some messages
//! are published twice on purpose, and some readings bring no time: those have a value each that no other reading has, by
//! which they are told apart.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::bail;
use async_nats::jetstream::Context;
use async_nats::jetstream::message::PublishMessage;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::random::Random;

/// Readings a second, about.
const RATE: f64 = 300.0;
const TICK: Duration = Duration::from_millis(25);
const DEVICES: usize = 6;
const ACK_TIMEOUT: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(60);
/// Messages among which a repeat is drawn.
const REMEMBERED: usize = 200;
/// How late a late reading is, at the most.
const LATE: f64 = 30e6;

/// What readings with a time measure.
pub const METRICS: [&str; 2] = ["temperature", "pressure"];

/// What was published, and so must be stored once.
#[derive(Debug, Default)]
pub struct Account {
    /// `(device, metric, Unix time in microseconds)` and the value.
    pub timed: HashMap<(String, &'static str, i64), f64>,
    /// `(device, value)` of the readings without a time, whose values no other has.
    pub clockless: Vec<(String, f64)>,
    /// Messages, repeats included.
    pub messages: u64,
    /// Messages that were published a second time.
    pub repeated: u64,
}

impl Account {
    /// How many readings there must be.
    pub fn readings(&self) -> usize {
        self.timed.len() + self.clockless.len()
    }
}

/// Publishes on one subject.
pub struct Load {
    broker: Context,
    subject: String,
    run: String,
    random: Random,
    latest: HashMap<(usize, &'static str), i64>,
    recent: Vec<String>,
    serial: f64,
    account: Account,
}

impl Load {
    /// A load whose contents the seed decides, but for the times.
    pub fn new(broker: Context, subject: String, run: String, seed: u64) -> Self {
        Self {
            broker,
            subject,
            run,
            random: Random::new(seed, "load"),
            latest: HashMap::new(),
            recent: Vec::new(),
            serial: 0.0,
            account: Account::default(),
        }
    }

    /// Publishes until cancelled.
    ///
    /// # Errors
    /// If the broker stores nothing any more.
    pub async fn run(mut self, cancel: CancellationToken) -> anyhow::Result<Account> {
        let mut ticks = tokio::time::interval(TICK);
        let start = Instant::now();
        while !cancel.is_cancelled() {
            ticks.tick().await;
            while (self.account.readings() as f64) < start.elapsed().as_secs_f64() * RATE {
                self.publish_one().await?;
            }
        }
        Ok(self.account)
    }

    async fn publish_one(&mut self) -> anyhow::Result<()> {
        if self.random.chance(0.05) && !self.recent.is_empty() {
            let message = self.recent[self.random.below(self.recent.len())].clone();
            self.account.repeated += 1;
            return self.publish(message).await;
        }
        let size = if self.random.chance(0.7) { 2 + self.random.below(9) } else { 1 };
        if self.random.chance(0.3) {
            // Each is known to be stored before the next is sent, so no two have the same store time.
            return self.publish_clockless(size.min(4)).await;
        }
        let readings: Vec<Value> = (0..size).map(|_| self.timed()).collect();
        let message = as_message(readings);
        if self.recent.len() == REMEMBERED {
            let place = self.random.below(REMEMBERED);
            self.recent.swap_remove(place);
        }
        self.recent.push(message.clone());
        self.publish(message).await
    }

    fn timed(&mut self) -> Value {
        let device = self.random.below(DEVICES);
        let hot = self.random.chance(0.6);
        let (metric, value) = match (hot, self.random.chance(0.03)) {
            (true, false) => (METRICS[0], self.random.between(55.0, 65.0)),
            (true, true) => (METRICS[0], self.random.between(81.0, 99.0)),
            (false, false) => (METRICS[1], self.random.between(2.5, 3.5)),
            (false, true) => (METRICS[1], self.random.between(0.1, 0.9)),
        };
        let name = format!("pump-{device}");
        let now = Timestamp::now().as_microsecond();
        let is_late = self.random.chance(0.05);
        let lateness = self.random.between(0.0, LATE) as i64;
        let latest = self.latest.entry((device, metric)).or_insert(0);
        let mut ts = if is_late { now - lateness } else { now.max(*latest + 1) };
        *latest = ts.max(*latest);
        while self.account.timed.contains_key(&(name.clone(), metric, ts)) {
            ts += 1;
        }
        let at = Timestamp::from_microsecond(ts).unwrap_or(Timestamp::MAX);
        let reading = json!({ "device": name, "metric": metric, "value": value, "ts": at });
        self.account.timed.insert((name, metric, ts), value);
        reading
    }

    async fn publish_clockless(&mut self, size: usize) -> anyhow::Result<()> {
        let device = format!("beacon-{}", self.random.below(DEVICES));
        let mut readings = Vec::new();
        for _ in 0..size {
            self.serial += 1.0;
            let value = if self.random.chance(0.03) { -self.serial } else { self.serial };
            readings.push(json!({ "device": device, "metric": "beat", "value": value }));
            self.account.clockless.push((device.clone(), value));
        }
        self.publish(as_message(readings)).await
    }

    async fn publish(&mut self, message: String) -> anyhow::Result<()> {
        self.account.messages += 1;
        let id = format!("{}-{}", self.run, self.account.messages);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let publish = PublishMessage::build().payload(message.clone().into()).message_id(&id);
            let stored = async { self.broker.send_publish(self.subject.clone(), publish).await?.await };
            match timeout(ACK_TIMEOUT, stored).await {
                Ok(Ok(ack)) if crate::ingest::broker::is_stored(&ack) => return Ok(()),
                Ok(Err(error)) if Instant::now() >= deadline => bail!("the broker stores nothing: {error}"),
                Err(_) if Instant::now() >= deadline => bail!("the broker stores nothing: no answer"),
                _ => tokio::time::sleep(TICK).await,
            }
        }
    }
}

fn as_message(readings: Vec<Value>) -> String {
    match &readings[..] {
        [one] => one.to_string(),
        _ => Value::Array(readings).to_string(),
    }
}
