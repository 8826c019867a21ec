//! What healthy destinations feel of a dead one: the time from commit to first byte under a steady load, with a pile of due
//! rows for a destination that refuses connections, for one that takes them and says nothing, and with no such pile.

use std::time::Duration;

use serde_json::Value;
use uuid::Uuid;

use super::courier::Courier;
use super::first_byte::{owe_one, waits};
use super::sink::{Manner, Sink};
use crate::cli::bench::figure::{Better, Figure, percentile};
use crate::cli::bench::ground::Ground;
use crate::cli::bench::owing;
use crate::config::Config;
use crate::db::pool::{Pool, Role};

/// Destinations that are well.
const HEALTHY: usize = 20;
/// Notifications a second to all of them.
const RATE: u64 = 100;
/// Before it counts.
const WARM_UP: Duration = Duration::from_secs(1);
/// The discard port: nobody listens.
const REFUSING: &str = "http://127.0.0.1:9";

/// What the dead destination does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Beside {
    Nobody,
    Refusing,
    Silent,
}

/// Measures, a round after the other.
///
/// # Errors
/// If something for a healthy destination was not sent.
pub async fn measure(
    ground: &Ground,
    config: &Config,
    rounds: u8,
    dead_rows: usize,
    length: Duration,
) -> anyhow::Result<Vec<Figure>> {
    const ALL: [Beside; 3] = [Beside::Nobody, Beside::Refusing, Beside::Silent];
    let mut p99s = ALL.map(|_| Vec::new());
    let mut p50s = ALL.map(|_| Vec::new());
    for round in 0..usize::from(rounds) {
        for place in 0..ALL.len() {
            // Each goes first in turn.
            let which = (place + round) % ALL.len();
            let waits = run(ground, config, ALL[which], dead_rows, length).await?;
            let [p50, p99] = [0.5, 0.99].map(|share| percentile(&waits, share));
            eprintln!("round {}: beside {:?}, p50 {p50:.1} ms, p99 {p99:.1} ms", round + 1, ALL[which]);
            p50s[which].push(p50);
            p99s[which].push(p99);
        }
    }
    owing::clear(ground).await?;
    let [alone, beside @ ..] = &p99s;
    let mut figures = Vec::new();
    for (name, beside) in ["refusing", "silent"].into_iter().zip(beside) {
        let ratios: Vec<f64> = beside.iter().zip(alone).map(|(beside, alone)| beside / alone).collect();
        let name = format!("healthy_p99_beside_{name}_over_none");
        figures.push(
            Figure::of_rounds(name, &ratios, "ratio", Better::Lower)
                .wanted(1.3, 1.1)
                .explained("due_rows", Value::from(dead_rows)),
        );
    }
    for (place, name) in ["none", "refusing", "silent"].into_iter().enumerate() {
        let figure = |share, of: &[f64]| {
            Figure::of_rounds(format!("healthy_{share}_beside_{name}"), of, "ms", Better::Lower)
        };
        figures.extend([figure("p50", &p50s[place]), figure("p99", &p99s[place])]);
    }
    Ok(figures)
}

/// The healthy ones' waits in milliseconds, ascending.
async fn run(
    ground: &Ground,
    config: &Config,
    beside: Beside,
    dead_rows: usize,
    length: Duration,
) -> anyhow::Result<Vec<f64>> {
    owing::clear(ground).await?;
    let (sink, silent) = (Sink::start(Manner::Accepts)?, Sink::start(Manner::IsSilent)?);
    // As many destinations in each case: one that nobody is owed to costs what it costs.
    let dead = if beside == Beside::Silent { silent.url() } else { REFUSING.to_owned() };
    let urls: Vec<String> = [dead].into_iter().chain(vec![sink.url(); HEALTHY]).collect();
    let hubs = owing::hubs(ground, &urls).await?;
    let pool = Pool::new(&config.database, Role::Worker, 1)?;
    if beside != Beside::Nobody {
        owing::owe(ground, &pool, &hubs[..1], dead_rows).await?;
    }
    let courier = Courier::start(config).await?;
    let every = Duration::from_secs(1) / RATE as u32;
    let warm_up = (WARM_UP.as_secs_f64() * RATE as f64) as usize;
    let total = warm_up + (length.as_secs_f64() * RATE as f64) as usize;
    let mut ids: Vec<Uuid> = Vec::with_capacity(total);
    let mut ticks = tokio::time::interval(every);
    while ids.len() < total {
        ticks.tick().await;
        let healthy = hubs[1 + ids.len() % HEALTHY];
        ids.push(owe_one(ground, &pool, &courier, healthy).await?.0);
    }
    tokio::select! {
        waited = courier.wait_for(total) => waited?,
        () = sink.wait_for(total) => {}
    }
    // Requests to a silent destination would not end for a while.
    courier.abort();
    waits(ground, &sink, &ids[warm_up..]).await
}
