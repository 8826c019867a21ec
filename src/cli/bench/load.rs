//! Fills the stream with readings: as fast as it goes, or so many a second.

use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::ground::{Ground, TENANT};
use crate::cli::readings::{Readings, SERIES, write_json};
use crate::model::reading::UnixMicros;

/// Messages published before the broker must have stored them all: nobody is answered, and a broker drops what exceeds its
/// queue (nats-server 2.11 and newer: `max_buffered_msgs`, 10,000 unless told otherwise).
const UNSTORED: u64 = 5_000;
/// Readings published together, where it is so many a second.
const TICK: Duration = Duration::from_millis(1);

/// Publishes the readings of a range, `each` a message, and waits until the broker has stored them.
///
/// # Errors
/// If it does not.
pub async fn publish(
    ground: &Ground,
    readings: Readings,
    range: Range<usize>,
    each: usize,
) -> anyhow::Result<u64> {
    let subject = format!("{}.{TENANT}", ground.config.ingest.subject_prefix);
    let before = ground.messages().await?;
    let mut messages = 0;
    for first in range.clone().step_by(each) {
        let message = readings.message(first..(first + each).min(range.end));
        ground.client.publish(subject.clone(), message.into()).await.context("failed to publish")?;
        messages += 1;
        if messages % UNSTORED == 0 {
            ground.wait_for_messages(before + messages).await?;
        }
    }
    ground.wait_for_messages(before + messages).await?;
    Ok(messages)
}

/// A reading that was published by itself.
#[derive(Debug, Clone, Copy)]
pub struct Published {
    /// Its own time.
    pub ts: UnixMicros,
    /// Just before it was given to the broker.
    pub at: Instant,
}

/// Publishes `total` single readings of now, `rate` a second, the series in turn; `value` gives a reading's value by its
/// number. They are on the stream in the order in which they are returned.
///
/// # Errors
/// If the broker is gone.
pub async fn publish_steadily(
    ground: &Ground,
    rate: usize,
    total: usize,
    value: impl Fn(usize) -> f64,
) -> anyhow::Result<Vec<Published>> {
    let subject = format!("{}.{TENANT}", ground.config.ingest.subject_prefix);
    let mut published = Vec::with_capacity(total);
    let mut ticks = tokio::time::interval(TICK);
    let start = Instant::now();
    while published.len() < total {
        ticks.tick().await;
        let due = (start.elapsed().as_secs_f64() * rate as f64) as usize;
        while published.len() < due.min(total) {
            let number = published.len();
            let mut message = String::with_capacity(100);
            let ts = UnixMicros::from(jiff::Timestamp::now());
            write_json(number % SERIES, value(number), ts.0, &mut message);
            published.push(Published { ts, at: Instant::now() });
            ground.client.publish(subject.clone(), message.into()).await?;
        }
    }
    ground.client.flush().await?;
    Ok(published)
}
