//! The limit of storing: sorted COPY into the same table, and nothing else.

use std::pin::pin;
use std::time::Instant;

use futures_util::SinkExt;
use futures_util::future::try_join_all;

use crate::cli::bench::contest::{Outcome, Run};
use crate::cli::bench::ground::Ground;
use crate::cli::readings::Readings;
use crate::db::pool::{Pool, Role};
use crate::ingest::copy;
use crate::model::ids::SeriesId;

const COPY: &str = "COPY readings (series_id, ts, value) FROM STDIN (FORMAT binary)";

/// Stores `count` readings in batches of `batch`, one transaction each, over so many connections.
///
/// # Errors
/// If the database refuses.
pub async fn run(
    ground: &Ground,
    series: &[SeriesId],
    connections: usize,
    batch: usize,
    count: usize,
) -> Outcome {
    let readings = Readings::recent();
    let pool = Pool::new(&ground.config.database, Role::Worker, connections)?;
    let mut clients = Vec::new();
    for _ in 0..connections {
        clients.push(pool.get().await?);
    }
    let (before, start) = (ground.cpu(None), Instant::now());
    let lanes = clients.into_iter().enumerate().map(|(lane, client)| async move {
        let statement = client.prepare(COPY).await?;
        for first in (lane * batch..count).step_by(batch * connections) {
            let numbers = first..(first + batch).min(count);
            let mut sorted: Vec<_> = numbers.map(|number| readings.reading(number, series)).collect();
            sorted.sort_by_key(|reading| (reading.series, reading.ts));
            // A COPY that is not part of a transaction is one.
            let mut sink = pin!(client.copy_in(&statement).await?);
            sink.send(copy::encode(&sorted)).await?;
            sink.finish().await?;
        }
        anyhow::Ok(())
    });
    try_join_all(lanes).await?;
    let run = Run::new(count, start.elapsed(), ground.cpu(None).since(before));
    ground.check("readings", count).await?;
    ground.clear().await?;
    Ok(run)
}
