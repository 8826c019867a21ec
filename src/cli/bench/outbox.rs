//! `watchbell bench outbox`: what claiming and completing cost, beside the least that any design must do with these tables.

mod burden;
mod no_claim;
mod turns;

use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use serde_json::{Value, json};

use self::burden::OldSnapshot;
use super::contest::{self, Run};
use super::extent::{Extent, PRIVATE};
use super::figure::{Better, Figure, median};
use super::ground::Ground;
use super::owing;
use crate::db::pool::{Pool, Role};
use crate::model::ids::{DestinationId, NotificationId};
use crate::outbox::claim::Lane;
use crate::outbox::floors::Floors;

/// Rows of a turn.
const BATCH: usize = 100;
/// Each has a tenth of a turn.
const DESTINATIONS: usize = 10;
/// Nothing is given up while it is measured.
const LEASE: Duration = Duration::from_secs(30);
/// How many times as many dead rows as are owed: 200,000 unless told otherwise.
const DEAD_ROWS: usize = 2;
/// How many times as many delivered notifications: 1,000,000.
const HISTORY: usize = 10;

/// How long, and what.
#[derive(Debug, clap::Args)]
#[command(after_help = PRIVATE)]
pub struct OutboxArgs {
    #[command(flatten)]
    pub extent: Extent<Contender>,
    /// Rows that are owed in a run; twice as many are dead, ten times as many delivered before
    #[arg(long, default_value_t = 100_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1_000..=1_000_000))]
    rows: u32,
}

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Contender {
    /// The rows read, deleted and put on the record, nothing claimed: the limit
    NoClaim,
    /// The same by two at once
    NoClaimByTwo,
    /// Our own claim and completion, every request accepted at once
    NoOp,
    /// The same by two workers at once
    NoOpByTwo,
    /// The same with an old snapshot held open, and dead rows that it keeps
    OldSnapshot,
    /// The same with a history
    History,
}

const CONTEST: [Contender; 6] = [
    Contender::NoClaim,
    Contender::NoOp,
    Contender::OldSnapshot,
    Contender::NoClaimByTwo,
    Contender::NoOpByTwo,
    Contender::History,
];

/// A run, and what it wrote ahead: bytes a row.
#[derive(Debug, Clone, Copy)]
struct Drained {
    run: Run,
    wal: f64,
}

/// Measures.
///
/// # Errors
/// If a row is lost or delivered twice, or the database refuses.
pub async fn measure(ground: &Ground, args: &OutboxArgs) -> anyhow::Result<Vec<Figure>> {
    let extent = &args.extent;
    let rows = extent.share_of(args.rows);
    let rounds = extent.rounds();
    let wanted = |contender| extent.has(contender);
    let mut runs = CONTEST.map(|contender| (contender, Vec::new()));
    // Files grow and WAL segments are made: the first to be measured would pay for all others.
    contend(ground, Contender::NoOp, rows).await?;
    for round in 0..usize::from(rounds) {
        for place in 0..CONTEST.len() {
            // Each goes first in turn: what one leaves behind meets another each time.
            let (contender, runs) = &mut runs[(place + round) % CONTEST.len()];
            if !wanted(*contender) {
                continue;
            }
            let drained = contend(ground, *contender, rows).await?;
            let [postgresql, _, client] = drained.run.cpu;
            eprintln!(
                "round {}: {contender:?} {:.0} rows/s, {postgresql:.1} + {client:.1} µs, {:.0} B of WAL a row",
                round + 1,
                drained.run.rate,
                drained.wal
            );
            runs.push(drained);
        }
    }
    owing::clear(ground).await?;
    Ok(figures(&runs))
}

/// One contender's run on tables that hold nothing but what it is to find there.
async fn contend(ground: &Ground, contender: Contender, rows: usize) -> anyhow::Result<Drained> {
    owing::clear(ground).await?;
    let urls = vec!["http://127.0.0.1:9".to_owned(); DESTINATIONS];
    let destinations = owing::hubs(ground, &urls).await?;
    let mut delivered_before = 0;
    if contender == Contender::History {
        delivered_before = rows * HISTORY;
        burden::history(ground, &destinations, delivered_before).await?;
    }
    let mut snapshot = None;
    if contender == Contender::OldSnapshot {
        snapshot = Some(OldSnapshot::hold(ground).await?);
        burden::dead_rows(ground, &destinations, rows * DEAD_ROWS).await?;
    }
    let workers = match contender {
        Contender::NoClaimByTwo | Contender::NoOpByTwo => 2,
        _ => 1,
    };
    // Plans are made when the tables are full, for each run anew.
    let pool = Pool::new(&ground.config.database, Role::Worker, workers + 1)?;
    let ids = owing::owe(ground, &pool, &destinations, rows).await?;
    let drained = drain(ground, &pool, contender, &destinations, &ids, workers).await?;
    ground.check("outbox", 0).await?;
    ground.check("delivery_attempts", delivered_before + rows).await?;
    if let Some(snapshot) = snapshot {
        snapshot.end().await?;
    }
    Ok(drained)
}

async fn drain(
    ground: &Ground,
    pool: &Pool,
    contender: Contender,
    destinations: &[DestinationId],
    ids: &[NotificationId],
    workers: usize,
) -> anyhow::Result<Drained> {
    let slots = i32::try_from(BATCH / DESTINATIONS)?;
    let lanes: Vec<Lane> = destinations
        .iter()
        .map(|destination| Lane {
            destination: *destination,
            slots,
            lease: LEASE,
            floors: Floors::NONE,
            is_dry: false,
        })
        .collect();
    let wal_before = wal(ground).await?;
    let (before, start) = (ground.cpu(None), Instant::now());
    match contender {
        Contender::NoClaim | Contender::NoClaimByTwo => {
            let shares = ids.chunks(ids.len().div_ceil(workers));
            try_join_all(shares.map(|share| no_claim::take(pool.clone(), share))).await?;
        }
        _ => {
            try_join_all((0..workers).map(|_| turns::take(pool.clone(), lanes.clone()))).await?;
        }
    }
    let elapsed = start.elapsed();
    let run = Run::new(ids.len(), elapsed, ground.cpu(None).since(before));
    Ok(Drained { run, wal: (wal(ground).await? - wal_before) / ids.len() as f64 })
}

/// Bytes written ahead so far.
async fn wal(ground: &Ground) -> anyhow::Result<f64> {
    let query = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::float8";
    Ok(ground.owner.query_one(query, &[]).await?.get(0))
}

fn figures(runs: &[(Contender, Vec<Drained>)]) -> Vec<Figure> {
    let of = |wanted: Contender| {
        runs.iter().find(|(contender, _)| *contender == wanted).map_or(&[][..], |(_, runs)| runs)
    };
    let (limit, ours) = (of(Contender::NoClaim), of(Contender::NoOp));
    let server = |drained: &Drained| drained.run.cpu[0];
    let ratios = |ours: &[Drained], theirs: &[Drained], value: fn(&Drained) -> f64| -> Vec<f64> {
        ours.iter().zip(theirs).map(|(ours, theirs)| value(ours) / value(theirs)).collect()
    };
    let rates = |name: &str, ours: &[Drained], limit: &[Drained]| {
        let ratios = ratios(ours, limit, |drained| drained.run.rate);
        Figure::of_rounds(name, &ratios, "ratio", Better::Higher)
    };
    let cost = |name: &str, ours: &[Drained], theirs: &[Drained]| {
        Figure::of_rounds(name, &ratios(ours, theirs, server), "ratio", Better::Lower)
    };
    let mut figures = vec![
        cost("server_cpu_over_no_claim", ours, limit).wanted(1.8, 1.4),
        rates("deliveries_over_no_claim", ours, limit).wanted(0.45, 0.70),
        rates("deliveries_over_no_claim_by_two", of(Contender::NoOpByTwo), of(Contender::NoClaimByTwo)),
        cost("server_cpu_with_old_snapshot_over_none", of(Contender::OldSnapshot), ours).wanted(1.3, 1.15),
        cost("server_cpu_with_history_over_none", of(Contender::History), ours).wanted(1.15, 1.0),
    ];
    for (name, contender) in [
        ("no_claim", Contender::NoClaim),
        ("no_op", Contender::NoOp),
        ("no_claim_by_two", Contender::NoClaimByTwo),
        ("no_op_by_two", Contender::NoOpByTwo),
        ("old_snapshot", Contender::OldSnapshot),
        ("history", Contender::History),
    ] {
        figures.extend(alone(name, of(contender)));
    }
    // Of what was not compared there are no rounds.
    figures.retain(|figure| figure.detail["rounds"] != json!([]));
    figures
}

fn alone(name: &str, drained: &[Drained]) -> [Figure; 2] {
    let rates: Vec<f64> = drained.iter().map(|drained| drained.run.rate).collect();
    let costs: Vec<f64> = drained.iter().map(|drained| drained.run.cpu[0]).collect();
    let runs: Vec<Run> = drained.iter().map(|drained| drained.run).collect();
    let wal = median(&drained.iter().map(|drained| drained.wal).collect::<Vec<_>>()).round();
    [
        Figure::of_rounds(format!("{name}_rate"), &rates, "1/s", Better::Higher),
        Figure::of_rounds(format!("{name}_server_cpu"), &costs, "µs", Better::Lower)
            .explained("by_process", contest::cpu_json(&runs))
            .explained("wal_bytes_a_row", Value::from(wal)),
    ]
}
