//! Many readings: published, counted, and held against what the database says in the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinHandle;
use watchbell::audit::verify::verify;
use watchbell::db::pool;

use super::app::TestApp;
use super::wait::until;

/// Publishes under way at once.
const PIPELINE: usize = 200;

/// Readings of `temperature`, all different: `device-<n>`, a millisecond apart from `start`.
pub fn readings(devices: usize, start: jiff::Timestamp, from: usize, count: usize) -> Vec<Value> {
    (from..from + count)
        .map(|number| {
            let ts = start + jiff::SignedDuration::from_millis(i64::try_from(number).unwrap());
            json!({ "device": format!("device-{}", number % devices), "metric": "temperature",
                    "value": f64::from(u32::try_from(number % 80).unwrap()) / 2.0, "ts": ts })
        })
        .collect()
}

impl TestApp {
    /// Publishes all of these; returns when the broker has stored the last.
    pub async fn publish_all(&self, messages: impl IntoIterator<Item = String>) {
        let mut under_way = Vec::new();
        for message in messages {
            under_way.push(self.broker.publish(self.subject.clone(), message.into()).await.unwrap());
            if under_way.len() >= PIPELINE {
                for stored in under_way.drain(..) {
                    stored.await.unwrap();
                }
            }
        }
        for stored in under_way {
            stored.await.unwrap();
        }
    }

    /// Publishes messages of `readings_each` readings, so many a second, until told to stop. Each is `remark_bytes` longer
    /// than it need be: whoever kept messages in memory would show it.
    pub fn start_load(
        &self,
        messages_per_second: u32,
        readings_each: usize,
        devices: usize,
        remark_bytes: usize,
    ) -> Load {
        let published = Arc::new(AtomicU64::new(0));
        let (count, broker, subject) = (Arc::clone(&published), self.broker.clone(), self.subject.clone());
        let stop = tokio_util::sync::CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let start = jiff::Timestamp::now() - jiff::SignedDuration::from_secs(600);
            let mut ticks = tokio::time::interval(Duration::from_millis(50));
            let mut next = 0;
            while !stopped.is_cancelled() {
                ticks.tick().await;
                let mut under_way = Vec::new();
                for _ in 0..messages_per_second / 20 {
                    let mut array = readings(devices, start, next, readings_each);
                    array[0]["remark"] = json!("x".repeat(remark_bytes));
                    let message = Value::from(array);
                    next += readings_each;
                    under_way
                        .push(broker.publish(subject.clone(), message.to_string().into()).await.unwrap());
                }
                for stored in under_way {
                    stored.await.unwrap();
                    count.fetch_add(readings_each as u64, Ordering::Relaxed);
                }
            }
        });
        Load { published, stop, task }
    }

    /// Messages that the stream holds: not acknowledged yet, since what is acknowledged leaves it.
    pub async fn messages_in_stream(&self) -> u64 {
        let name = self.config().ingest.stream;
        self.broker.get_stream(name).await.unwrap().cached_info().state.messages
    }

    /// Waits until everything published is acknowledged, and nothing is owed a look any more.
    pub async fn wait_until_judged(&self) {
        self.wait_for_empty_stream().await;
        self.wait_for_count("SELECT count(*) FROM flushes", 0).await;
    }

    /// Waits until everything published is acknowledged.
    pub async fn wait_for_empty_stream(&self) {
        until("the stream to be empty", async || (self.messages_in_stream().await == 0).then_some(())).await;
    }

    /// Each of so many readings is stored once and counted once, nothing was refused, and the books are right.
    pub async fn assert_nothing_lost_or_doubled(&self, published: i64) {
        assert_eq!(self.count("SELECT count(*) FROM readings").await, published, "stored");
        assert_eq!(self.count("SELECT sum(count)::bigint FROM readings_1m").await, published, "judged");
        assert_eq!(self.count("SELECT count(*) FROM rejected_readings").await, 0, "rejected");
        self.assert_verified().await;
    }

    /// `watchbell verify` finds nothing.
    pub async fn assert_verified(&self) {
        let mut owner = pool::connect_owner(&self.database.config.database).await.unwrap();
        let broken: Vec<_> =
            verify(&mut owner).await.unwrap().into_iter().filter(|check| !check.ok).collect();
        assert!(broken.is_empty(), "{broken:?}");
    }
}

/// A publisher at work.
pub struct Load {
    published: Arc<AtomicU64>,
    stop: tokio_util::sync::CancellationToken,
    task: JoinHandle<()>,
}

impl Load {
    /// Readings that the broker accepted so far.
    pub fn published(&self) -> i64 {
        i64::try_from(self.published.load(Ordering::Relaxed)).unwrap()
    }

    /// Stops; returns how many readings the broker accepted.
    pub async fn stop(self) -> i64 {
        self.stop.cancel();
        self.task.await.unwrap();
        i64::try_from(self.published.load(Ordering::Relaxed)).unwrap()
    }
}
