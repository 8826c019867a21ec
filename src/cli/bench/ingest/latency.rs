//! From publishing a reading until it is committed, at a steady rate.
//!
//! The clock of a reading runs from the moment before it is published until the broker is told that it is committed: the
//! acknowledgements can be listened to. So it is never too short: the commit lies before its acknowledgement.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures_util::StreamExt;

use crate::cli::bench::figure::percentile;
use crate::cli::bench::ground::Ground;
use crate::cli::bench::load::publish_steadily;
use crate::ingest::incoming::Delivery;

/// Before the clock runs: series are met, plans are made.
const WARM_UP: Duration = Duration::from_secs(2);
/// Without an acknowledgement for so long, one is missing.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long readings took, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct Latency {
    /// Half of them took no longer.
    pub p50: f64,
    /// 99 of 100 took no longer.
    pub p99: f64,
    /// None took longer.
    pub max: f64,
    /// Of the service, in MB.
    pub peak_memory_mb: f64,
}

/// Publishes single readings at `rate` a second for `length`.
///
/// # Errors
/// If one of them is never committed.
pub async fn run(ground: &Ground, rate: usize, length: Duration) -> anyhow::Result<Latency> {
    let service = ground.serve(None)?;
    let ingest = &ground.config.ingest;
    let mut stream = ground.jetstream().get_stream(&ingest.stream).await?;
    let first_sequence = stream.info().await?.state.last_sequence + 1;
    let mut acknowledged =
        ground.client.subscribe(format!("$JS.ACK.{}.{}.>", ingest.stream, ingest.consumer)).await?;
    ground.client.flush().await?;

    let total = (rate as f64 * (WARM_UP + length).as_secs_f64()) as usize;
    let listening = tokio::spawn(async move {
        let mut at = vec![None; total];
        let mut missing = total;
        while missing > 0 {
            let ack = tokio::time::timeout(PATIENCE, acknowledged.next()).await;
            let ack = ack.context("a reading was never acknowledged")?.context("the broker is gone")?;
            let now = Instant::now();
            let is_stored = ack.payload.as_ref() == b"+ACK";
            let place = Delivery::parse(&ack.subject)
                .and_then(|delivery| delivery.sequence.checked_sub(first_sequence));
            if let Some(place) = place.and_then(|place| usize::try_from(place).ok()).filter(|_| is_stored)
                && let Some(slot @ None) = at.get_mut(place)
            {
                *slot = Some(now);
                missing -= 1;
            }
        }
        anyhow::Ok(at)
    });
    let published = publish_steadily(ground, rate, total, |_| 20.5).await?;
    let acknowledged = listening.await??;
    let peak_memory_mb = service.peak_memory_mb();
    ground.wait_until_judged().await?;
    ground.check("readings", total).await?;
    service.stop().await?;
    ground.clear().await?;

    let warm = published.first().map(|first| first.at + WARM_UP).context("nothing was published")?;
    let both = published.iter().zip(&acknowledged).filter(|(published, _)| published.at >= warm);
    let mut millis: Vec<f64> = both
        .filter_map(|(published, acknowledged)| {
            Some(acknowledged.as_ref()?.duration_since(published.at).as_secs_f64() * 1e3)
        })
        .collect();
    millis.sort_by(f64::total_cmp);
    Ok(Latency {
        p50: percentile(&millis, 0.5),
        p99: percentile(&millis, 0.99),
        max: percentile(&millis, 1.0),
        peak_memory_mb,
    })
}
