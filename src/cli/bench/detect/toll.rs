//! What rules take from ingestion: the same readings with no rules, with 1,000 and with 10,000, interleaved.

use serde_json::{Value, json};

use super::{ROLES, rules};
use crate::cli::bench::contest::{self, Run};
use crate::cli::bench::drain;
use crate::cli::bench::figure::{Better, Figure};
use crate::cli::bench::ground::Ground;

/// Rules, of five series each.
const RULES: [usize; 3] = [0, 1_000, 10_000];
/// What a message holds.
const ARRAY: usize = 100;

/// Measures, a round after the other.
///
/// # Errors
/// If something was lost, or a rule fired.
pub async fn measure(ground: &Ground, rounds: u8, readings: usize) -> anyhow::Result<Vec<Figure>> {
    rules::replace(ground, 0).await?;
    // Files grow, WAL segments are made, series are met: the first to be measured would pay for all others.
    drain::run(ground, Some(ROLES), ARRAY, readings).await?;
    let mut runs = RULES.map(|_| Vec::new());
    for round in 0..usize::from(rounds) {
        for place in 0..RULES.len() {
            // Each goes first in turn: what one leaves behind meets another each time.
            let which = (place + round) % RULES.len();
            rules::replace(ground, RULES[which]).await?;
            let run = drain::run(ground, Some(ROLES), ARRAY, readings).await?;
            ground.check("alerts", 0).await?;
            eprintln!(
                "round {}: {} rules, {:.0} readings/s, all judged {:.2} s after the last was stored",
                round + 1,
                RULES[which],
                run.rate,
                lag(&run),
            );
            runs[which].push(run);
        }
    }
    let [none, some, many] = &runs;
    let mut figures = vec![over(1_000, some, none).wanted(0.90, 0.97), over(10_000, many, none)];
    figures.extend(RULES.iter().zip(&runs).flat_map(|(rules, runs)| alone(*rules, runs)));
    Ok(figures)
}

/// The rate with so many rules as a share of that without, round by round.
fn over(rules: usize, with: &[Run], without: &[Run]) -> Figure {
    let ratios: Vec<f64> = with.iter().zip(without).map(|(with, without)| with.rate / without.rate).collect();
    let whole = |runs: &[Run]| Value::from_iter(runs.iter().map(|run| run.rate.round()));
    let lags = |runs: &[Run]| Value::from_iter(runs.iter().map(lag));
    Figure::of_rounds(format!("ingest_with_{rules}_rules_over_none"), &ratios, "ratio", Better::Higher)
        .explained("readings_per_second", json!({ "with": whole(with), "without": whole(without) }))
        .explained("seconds_until_all_were_judged", json!({ "with": lags(with), "without": lags(without) }))
}

fn alone(rules: usize, runs: &[Run]) -> [Figure; 4] {
    let of = |what: &str, unit, better, value: fn(&Run) -> f64| {
        let values: Vec<f64> = runs.iter().map(value).collect();
        Figure::of_rounds(format!("{what}_with_{rules}_rules"), &values, unit, better)
    };
    [
        of("ingest_rate", "1/s", Better::Higher, |run| run.rate),
        of("ingest_cpu", "µs", Better::Lower, |run| run.cpu.iter().sum())
            .explained("by_process", contest::cpu_json(runs)),
        of("judged_after", "s", Better::Lower, lag),
        of("peak_memory", "MB", Better::Lower, |run| run.peak_memory_mb.unwrap_or_default()),
    ]
}

/// Seconds from the last reading's being stored until all were judged.
fn lag(run: &Run) -> f64 {
    run.detection_lag.unwrap_or_default().as_secs_f64()
}
