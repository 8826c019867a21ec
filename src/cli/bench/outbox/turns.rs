//! Our own path: turns as the worker takes them, where every request is answered at once with an acceptance.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::BATCH;
use crate::cli::bench::owing::ANSWER;
use crate::db::pool::Pool;
use crate::model::delivery::{Attempt, Completion, Outcome, Record};
use crate::model::ids::WorkerId;
use crate::outbox::claim::Lane;
use crate::outbox::floors::Floors;
use crate::outbox::{heartbeat, turn};

/// As the worker does.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// Longer than a run.
const TIME_TO_LIVE: Duration = Duration::from_secs(3600);

/// A worker that takes turns until nothing is due: what it claimed before is completed, the next rows are claimed.
///
/// # Errors
/// If the database refuses.
pub async fn take(pool: Pool, mut lanes: Vec<Lane>) -> anyhow::Result<()> {
    let worker = WorkerId::new();
    heartbeat::register(&pool.get().await?, worker, "bench", TIME_TO_LIVE).await?;
    let mut ended: Vec<Completion> = Vec::new();
    let mut swept_at = Instant::now();
    loop {
        if swept_at.elapsed() >= SWEEP_EVERY {
            lanes.iter_mut().for_each(|lane| lane.floors = Floors::NONE);
            swept_at = Instant::now();
        }
        let completions: Vec<&Completion> = ended.iter().collect();
        let taken = turn::take(pool.get().await?, worker, &completions, &mut lanes, BATCH).await?;
        if taken.attempts.is_empty() {
            return Ok(());
        }
        ended = taken.attempts.into_iter().map(delivered).collect();
        // Another destination first at every claim, as the worker has it.
        lanes.rotate_left(1);
    }
}

fn delivered(attempt: Attempt) -> Completion {
    let Attempt { notification, tenant, destination, number, body, .. } = attempt;
    let record = record(&body);
    Completion { notification, tenant, destination, number, outcome: Outcome::Delivered, record }
}

/// Of a request that was answered at once.
pub fn record(body: &str) -> Record {
    Record {
        started_at: Timestamp::now(),
        finished_at: Timestamp::now(),
        status_code: Some(200),
        error: None,
        warning: None,
        answer: Some(ANSWER.to_owned()),
        body_sha256: Sha256::digest(body.as_bytes()).into(),
        external_id: None,
    }
}
