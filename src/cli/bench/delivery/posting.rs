//! As many as can be delivered to a receiver that accepts at once: by the worker, and by its client with no database.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::courier::{Courier, sender};
use super::sink::{Manner, Sink};
use crate::cli::bench::contest::{self, Run};
use crate::cli::bench::figure::{Better, Figure};
use crate::cli::bench::ground::Ground;
use crate::cli::bench::owing::{self, HUB_KEY, notification};
use crate::config::Config;
use crate::db::pool::{Pool, Role};
use crate::deliver::destinations::hub;
use crate::model::ids::DestinationId;

const TIMEOUT: Duration = Duration::from_secs(10);

/// Measures, a round after the other.
///
/// # Errors
/// If something was lost or sent twice.
pub async fn measure(
    ground: &Ground,
    config: &Config,
    rounds: u8,
    rows: usize,
) -> anyhow::Result<Vec<Figure>> {
    let (mut ours, mut limit) = (Vec::new(), Vec::new());
    // Files grow and WAL segments are made.
    worker(ground, config, rows).await?;
    for round in 0..rounds {
        // Each goes first in turn.
        if round % 2 == 0 {
            limit.push(bare_client(ground, config, rows).await?);
            ours.push(worker(ground, config, rows).await?);
        } else {
            ours.push(worker(ground, config, rows).await?);
            limit.push(bare_client(ground, config, rows).await?);
        }
        if let (Some(ours), Some(limit)) = (ours.last(), limit.last()) {
            let [postgresql, _, client] = ours.cpu;
            eprintln!(
                "round {}: bare client {:.0}/s, worker {:.0}/s, {postgresql:.0} + {client:.0} µs",
                round + 1,
                limit.rate,
                ours.rate
            );
        }
    }
    owing::clear(ground).await?;
    let ratios: Vec<f64> = ours.iter().zip(&limit).map(|(ours, limit)| ours.rate / limit.rate).collect();
    let mut figures = vec![
        Figure::of_rounds("posted_over_bare_client", &ratios, "ratio", Better::Higher).wanted(0.60, 0.80),
    ];
    for (name, runs) in [("bare_client", &limit), ("posted", &ours)] {
        let rates: Vec<f64> = runs.iter().map(|run| run.rate).collect();
        let whole: Vec<f64> = runs.iter().map(|run| run.cpu.iter().sum()).collect();
        figures.push(Figure::of_rounds(format!("{name}_rate"), &rates, "1/s", Better::Higher));
        figures.push(
            Figure::of_rounds(format!("{name}_cpu"), &whole, "µs", Better::Lower)
                .explained("by_process", contest::cpu_json(runs)),
        );
    }
    Ok(figures)
}

/// So many rows, owed before the clock runs, to as many hubs as the worker's slots are for.
async fn worker(ground: &Ground, config: &Config, rows: usize) -> anyhow::Result<Run> {
    owing::clear(ground).await?;
    let sink = Sink::start(Manner::Accepts)?;
    let hubs = config.deliver.concurrency / config.deliver.concurrency_per_destination;
    let hubs = owing::hubs(ground, &vec![sink.url(); hubs.max(1)]).await?;
    let pool = Pool::new(&ground.config.database, Role::Worker, 1)?;
    owing::owe(ground, &pool, &hubs, rows).await?;
    let (before, start) = (ground.cpu(None), Instant::now());
    let courier = Courier::start(config).await?;
    courier.wait_for(rows).await?;
    let run = Run::new(rows, start.elapsed(), ground.cpu(None).since(before));
    courier.stop().await?;
    ground.check("outbox", 0).await?;
    ground.check("delivery_attempts", rows).await?;
    anyhow::ensure!(sink.requests() == rows, "{rows} were owed and {} were sent", sink.requests());
    Ok(run)
}

/// The same requests by as many tasks as the worker has slots, each with its next as soon as it has an answer.
async fn bare_client(ground: &Ground, config: &Config, rows: usize) -> anyhow::Result<Run> {
    let sink = Sink::start(Manner::Accepts)?;
    let sender = sender(config)?;
    let target = hub::target(&sink.url(), Some(&HUB_KEY.into())).map_err(anyhow::Error::msg)?;
    let destination = DestinationId::new();
    let bodies: Vec<String> =
        (0..rows).map(|number| notification(ground.tenant, destination, number).body).collect();
    let (bodies, next) = (Arc::new(bodies), Arc::new(AtomicUsize::new(0)));
    let (before, start) = (ground.cpu(None), Instant::now());
    let mut tasks = JoinSet::new();
    for _ in 0..config.deliver.concurrency {
        let (sender, target) = (sender.clone(), target.clone());
        let (bodies, next) = (Arc::clone(&bodies), Arc::clone(&next));
        tasks.spawn(async move {
            while let Some(body) = bodies.get(next.fetch_add(1, Ordering::Relaxed)) {
                let deadline = tokio::time::Instant::now() + TIMEOUT;
                let answer = sender.send(target.request(body.clone().into_bytes(), deadline)).await?;
                anyhow::ensure!(answer.status == 200, "the sink answered {}", answer.status);
            }
            anyhow::Ok(())
        });
    }
    tasks.join_all().await.into_iter().collect::<anyhow::Result<()>>()?;
    let run = Run::new(rows, start.elapsed(), ground.cpu(None).since(before));
    anyhow::ensure!(sink.requests() == rows, "{rows} were to be sent and {} were", sink.requests());
    Ok(run)
}
