//! `watchbell bench ingest`: from the stream into the table.

mod bare_pull;
mod classic;
mod latency;
mod raw_copy;
mod rules;

use std::time::Duration;

use serde_json::json;

use self::bare_pull::By;
use self::latency::Latency;
use super::contest::{self, Run};
use super::drain;
use super::extent::{Extent, PRIVATE};
use super::figure::{Better, Figure};
use super::ground::Ground;
use super::series;
use crate::model::ids::SeriesId;

/// Messages, or connections and batches, that are tried for a limit: the best of a round counts.
const COPIES: [(usize, usize); 4] = [(1, 5_000), (1, 20_000), (2, 5_000), (2, 20_000)];
const PULLS: [By; 3] = [By::Fetch(1_000), By::Fetch(5_000), By::Pull];
const RATES: [usize; 3] = [100, 5_000, 50_000];
/// What a message holds where it is an array.
const ARRAY: usize = 100;

/// How long, and what.
#[derive(Debug, clap::Args)]
#[command(after_help = PRIVATE)]
pub struct IngestArgs {
    #[command(flatten)]
    pub extent: Extent<Contender>,
    /// Readings for the arrays; the others get shares of it
    #[arg(long, default_value_t = 1_200_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1_000..=20_000_000))]
    readings: u32,
}

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Contender {
    /// Sorted COPY into the same table: the limit of storing
    RawCopy,
    /// Pulling and acknowledging, nothing else: the limit of taking
    BarePull,
    /// Batches of 100 or 500 ms, names in every row
    Classic,
    /// The service, from arrays of 100 readings
    Arrays,
    /// The service, from single readings
    Singles,
    /// From publishing to the commit, at three rates
    Latency,
}

const CONTEST: [Contender; 5] =
    [Contender::RawCopy, Contender::BarePull, Contender::Classic, Contender::Arrays, Contender::Singles];

/// The runs of each contender, a round each.
#[derive(Debug, Default)]
struct Rounds {
    raw_copy: Vec<Run>,
    bare_pull: Vec<Run>,
    classic: Vec<Run>,
    arrays: Vec<Run>,
    singles: Vec<Run>,
}

/// Measures.
///
/// # Errors
/// If a contender loses something, or a server refuses.
pub async fn measure(ground: &Ground, args: &IngestArgs) -> anyhow::Result<Vec<Figure>> {
    rules::insert(ground).await?;
    let series = series::register(ground).await?;
    let extent = &args.extent;
    let wanted = |contender| extent.has(contender);
    let readings = extent.share_of(args.readings);
    let count = extent.rounds();
    let mut rounds = Rounds::default();
    for round in 0..usize::from(count) {
        for place in 0..CONTEST.len() {
            // Each goes first once: what one leaves behind, in caches and in the table files, meets another each time.
            let contender = CONTEST[(place + round) % CONTEST.len()];
            if wanted(contender) {
                rounds.contend(ground, contender, &series, readings, round + 1).await?;
            }
        }
    }
    let mut figures = rounds.figures();
    let mut peaks: Vec<f64> =
        rounds.arrays.iter().chain(&rounds.singles).filter_map(|run| run.peak_memory_mb).collect();
    if wanted(Contender::Latency) {
        let length = Duration::from_secs(if extent.quick { 3 } else { 10 });
        for rate in RATES {
            eprintln!("latency at {rate} readings a second ..");
            let latency = latency::run(ground, rate, length).await?;
            eprintln!("  p50 {:.1} ms, p99 {:.1} ms", latency.p50, latency.p99);
            figures.extend(latency_figures(rate, &latency));
            peaks.push(latency.peak_memory_mb);
        }
    }
    if let Some(peak) = peaks.iter().copied().reduce(f64::max) {
        figures.push(Figure::of_rounds("peak_memory", &[peak], "MB", Better::Lower).wanted(128.0, 80.0));
    }
    Ok(figures)
}

impl Rounds {
    async fn contend(
        &mut self,
        ground: &Ground,
        contender: Contender,
        series: &[SeriesId],
        readings: usize,
        round: usize,
    ) -> anyhow::Result<()> {
        let (runs, run) = match contender {
            Contender::RawCopy => {
                let mut runs = Vec::new();
                for (connections, batch) in COPIES {
                    runs.push(raw_copy::run(ground, series, connections, batch, readings / 2).await?);
                }
                (&mut self.raw_copy, best(runs))
            }
            Contender::BarePull => {
                let mut runs = Vec::new();
                for by in PULLS {
                    runs.push(bare_pull::run(ground, by, readings / 4).await?);
                }
                (&mut self.bare_pull, best(runs))
            }
            Contender::Classic => (&mut self.classic, Some(classic::run(ground, readings / 20).await?)),
            Contender::Arrays => (&mut self.arrays, Some(drain::run(ground, None, ARRAY, readings).await?)),
            Contender::Singles => (&mut self.singles, Some(drain::run(ground, None, 1, readings / 4).await?)),
            Contender::Latency => return Ok(()),
        };
        if let Some(run) = run {
            let [postgresql, nats_server, client] = run.cpu;
            eprintln!(
                "round {round}: {contender:?} {:.0} readings/s, {postgresql:.2} + {nats_server:.2} + {client:.2} µs",
                run.rate
            );
            runs.push(run);
        }
        Ok(())
    }

    fn figures(&self) -> Vec<Figure> {
        let mut figures = Vec::new();
        let ratios = [
            ("arrays_over_raw_copy", &self.arrays, &self.raw_copy, 0.50, 0.75),
            ("singles_over_bare_pull", &self.singles, &self.bare_pull, 0.50, 0.65),
            ("singles_over_classic", &self.singles, &self.classic, 2.5, 4.0),
        ];
        for (name, ours, theirs, must, reach) in ratios {
            let ratios: Vec<f64> =
                ours.iter().zip(theirs).map(|(ours, theirs)| ours.rate / theirs.rate).collect();
            if !ratios.is_empty() {
                figures.push(Figure::of_rounds(name, &ratios, "ratio", Better::Higher).wanted(must, reach));
            }
        }
        let contenders = [
            ("raw_copy", &self.raw_copy),
            ("bare_pull", &self.bare_pull),
            ("classic", &self.classic),
            ("arrays", &self.arrays),
            ("singles", &self.singles),
        ];
        for (name, runs) in contenders.into_iter().filter(|(_, runs)| !runs.is_empty()) {
            let rates: Vec<f64> = runs.iter().map(|run| run.rate).collect();
            figures.push(Figure::of_rounds(format!("{name}_rate"), &rates, "1/s", Better::Higher));
            let whole: Vec<f64> = runs.iter().map(|run| run.cpu.iter().sum()).collect();
            let cpu = Figure::of_rounds(format!("{name}_cpu"), &whole, "µs", Better::Lower);
            figures.push(cpu.explained("by_process", contest::cpu_json(runs)));
        }
        let lags: Vec<f64> = self
            .arrays
            .iter()
            .chain(&self.singles)
            .filter_map(|run| Some(run.detection_lag?.as_secs_f64()))
            .collect();
        if !lags.is_empty() {
            figures.push(Figure::of_rounds("detection_lag_at_the_end", &lags, "s", Better::Lower));
        }
        figures
    }
}

fn latency_figures(rate: usize, latency: &Latency) -> [Figure; 2] {
    let figure = |name: &str, value: f64| {
        let mut figure =
            Figure::of_rounds(format!("publish_to_committed_{rate}_{name}"), &[value], "ms", Better::Lower);
        figure.detail = json!({ "readings_per_second": rate, "longest_ms": latency.max });
        figure
    };
    let (p50, p99) = (figure("p50", latency.p50), figure("p99", latency.p99));
    if rate == 5_000 { [p50.wanted(5.0, 3.0), p99.wanted(60.0, 25.0)] } else { [p50, p99] }
}

fn best(runs: Vec<Run>) -> Option<Run> {
    runs.into_iter().reduce(|best, run| if run.rate > best.rate { run } else { best })
}
