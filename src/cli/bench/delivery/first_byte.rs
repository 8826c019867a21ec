//! From the commit of what is owed to the first byte of its request.
//!
//! PostgreSQL keeps the time of each commit (`track_commit_timestamp`), the sink notes when a request begins; both read the
//! machine's clock. PostgreSQL takes that time just before it writes the commit to the disk, so the write is in the figure;
//! the detail says how much is left without it.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use super::courier::Courier;
use super::sink::{Manner, Sink};
use crate::cli::bench::figure::{Better, Figure, percentile};
use crate::cli::bench::ground::Ground;
use crate::cli::bench::owing::{self, notification};
use crate::config::Config;
use crate::db::pool::{Pool, Role};
use crate::model::ids::DestinationId;
use crate::outbox::chain::Owed;
use crate::outbox::enqueue::enqueue;

const COMMIT_TIMES: &str = include_str!("../../../../sql/queries/bench/commit_times.sql");

/// Between one delivery's end and the next commit, and as much again by chance: no beat of the worker's is met.
const PAUSE: Duration = Duration::from_millis(10);
/// Before it counts: plans are made, connections opened.
const WARM_UP: usize = 50;

/// Owes one, as detection does: in a transaction, and then the bell. Returns its id, and when it was known to be committed.
///
/// # Errors
/// If the database refuses.
pub async fn owe_one(
    ground: &Ground,
    pool: &Pool,
    courier: &Courier,
    to: DestinationId,
) -> anyhow::Result<(Uuid, Timestamp)> {
    let owed = notification(ground.tenant, to, 0);
    let mut client = pool.get().await?;
    let transaction = client.transaction().await?;
    enqueue(&transaction, std::slice::from_ref(&owed), &Owed::default()).await?;
    transaction.commit().await?;
    courier.owed.notify_one();
    Ok((owed.id.0, Timestamp::now()))
}

/// Milliseconds from the commit of each of these to the first byte of its request, ascending.
///
/// # Errors
/// If one was not sent.
pub async fn waits(ground: &Ground, sink: &Sink, ids: &[Uuid]) -> anyhow::Result<Vec<f64>> {
    let first_bytes = sink.first_bytes();
    let rows = ground.owner.query(COMMIT_TIMES, &[&ids]).await?;
    let wait =
        |row: &tokio_postgres::Row| Some(millis(row.get(1), *first_bytes.get(&row.get::<_, Uuid>(0))?));
    let mut waits: Vec<f64> = rows.iter().filter_map(wait).collect();
    anyhow::ensure!(waits.len() == ids.len(), "{} were owed and {} were sent", ids.len(), waits.len());
    waits.sort_by(f64::total_cmp);
    Ok(waits)
}

/// Measures so many, one after the other, with nothing else to do.
///
/// # Errors
/// If one was not sent.
pub async fn measure(ground: &Ground, config: &Config, count: usize) -> anyhow::Result<[Figure; 2]> {
    eprintln!("{count} by themselves, from commit to first byte ..");
    owing::clear(ground).await?;
    let sink = Sink::start(Manner::Accepts)?;
    let hubs = owing::hubs(ground, &[sink.url()]).await?;
    let pool = Pool::new(&config.database, Role::Worker, 1)?;
    let courier = Courier::start(config).await?;
    let mut committed = Vec::with_capacity(count);
    for number in 0..WARM_UP + count {
        let one = owe_one(ground, &pool, &courier, hubs[0]).await?;
        courier.wait_for(number + 1).await?;
        let chance = Duration::from_micros(u64::from(one.0.as_bytes()[15]) * 40);
        tokio::time::sleep(PAUSE + chance).await;
        if number >= WARM_UP {
            committed.push(one);
        }
    }
    courier.stop().await?;
    let ids: Vec<Uuid> = committed.iter().map(|(id, _)| *id).collect();
    let waits = waits(ground, &sink, &ids).await?;
    let first_bytes = sink.first_bytes();
    let known = committed.iter().filter_map(|(id, at)| Some(millis(*at, *first_bytes.get(id)?)));
    let mut since_known: Vec<f64> = known.collect();
    since_known.sort_by(f64::total_cmp);
    owing::clear(ground).await?;
    let [p50, p99] = [0.5, 0.99].map(|share| percentile(&waits, share));
    eprintln!("  p50 {p50:.2} ms, p99 {p99:.2} ms");
    let figure = |name: &str, value: f64| {
        let mut figure = Figure::of_rounds(name, &[value], "ms", Better::Lower);
        figure.detail = json!({
            "notifications": waits.len(),
            "shortest_ms": percentile(&waits, 0.0),
            "longest_ms": percentile(&waits, 1.0),
            "since_the_commit_was_known_ms": since(&since_known),
        });
        figure
    };
    Ok([
        figure("commit_to_first_byte_p50", p50).wanted(3.0, 1.5),
        figure("commit_to_first_byte_p99", p99).wanted(15.0, 5.0),
    ])
}

/// Without the commit's own way to the disk and back to whoever asked for it.
fn since(millis: &[f64]) -> Value {
    json!({ "p50": percentile(millis, 0.5), "p99": percentile(millis, 0.99) })
}

fn millis(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64() * 1e3
}
