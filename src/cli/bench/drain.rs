//! The service itself, as it is run: it drains a stream that was filled while it was halted.
//!
//! It meets its 5,000 series before the clock runs. Halted by SIGSTOP past the end of its last pull request, so that the
//! broker sends it nothing; the clock runs from SIGCONT until the stream is empty, that is until the last reading is
//! committed and acknowledged.

use std::time::{Duration, Instant};

use super::contest::{Outcome, Run};
use super::ground::Ground;
use super::load::publish;
use crate::cli::readings::{Readings, SERIES};
use crate::ingest::pull;

/// Drains `count` readings that come `each` a message; `roles` as `serve` takes them, all unless given.
///
/// # Errors
/// If it stored anything else than what was published.
pub async fn run(ground: &Ground, roles: Option<&str>, each: usize, count: usize) -> Outcome {
    let readings = Readings::recent();
    let service = ground.serve(roles)?;
    publish(ground, readings, 0..SERIES, 100).await?;
    ground.wait_for_messages(0).await?;
    ground.wait_until_judged().await?;
    service.pause()?;
    tokio::time::sleep(pull::EXPIRES + Duration::from_millis(100)).await;
    publish(ground, readings, SERIES..SERIES + count, each).await?;

    let (before, start) = (ground.cpu(Some(&service)), Instant::now());
    service.go_on()?;
    ground.wait_for_messages(0).await?;
    let mut run = Run::new(count, start.elapsed(), ground.cpu(Some(&service)).since(before));
    let stored = Instant::now();
    ground.wait_until_judged().await?;
    run.detection_lag = Some(stored.elapsed());
    run.peak_memory_mb = Some(service.peak_memory_mb());
    ground.check("readings", SERIES + count).await?;
    service.stop().await?;
    ground.clear().await?;
    Ok(run)
}
