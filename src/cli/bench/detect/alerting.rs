//! From the commit of a reading to that of the alert that it is, under a steady load.
//!
//! PostgreSQL keeps the time of each commit (`track_commit_timestamp`), so both ends are on one clock and nothing is added by
//! looking. It takes that time just before it writes the commit to the disk: the reading's write is in the figure, the
//! alert's is not.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;

use super::{ROLES, rules};
use crate::cli::bench::figure::{Better, Figure, percentile};
use crate::cli::bench::ground::Ground;
use crate::cli::bench::load::{publish, publish_steadily};
use crate::cli::readings::{Readings, SERIES};
use crate::model::reading::UnixMicros;

const RULES: usize = 1_000;
/// Readings a second: one of each series.
const RATE: usize = SERIES;
/// Breaches a second.
const BREACHES: usize = 20;
/// Readings between two breaches, more or less.
const APART: usize = RATE / BREACHES;
/// Before the clock runs: plans are made, connections opened.
const WARM_UP: Duration = Duration::from_secs(2);

const LATENCIES: &str = include_str!("../../../../sql/queries/bench/alert_latencies.sql");

/// Measures for so long.
///
/// # Errors
/// If a reading was lost, or there is not one alert a breach.
pub async fn measure(ground: &Ground, length: Duration) -> anyhow::Result<[Figure; 2]> {
    ground.clear().await?;
    rules::replace(ground, RULES).await?;
    let service = ground.serve(Some(ROLES))?;
    // All series are met before.
    publish(ground, Readings::recent(), 0..SERIES, 100).await?;
    ground.wait_for_messages(0).await?;
    ground.wait_until_judged().await?;

    eprintln!("alerts at {RATE} readings and {BREACHES} breaches a second ..");
    let total = (RATE as f64 * (WARM_UP + length).as_secs_f64()) as usize;
    // Not the values of hours ago again: a series would be stuck.
    let normal = |number| Readings::value(SERIES + number);
    let value = |number| if is_breach(number) { rules::TOO_HIGH } else { normal(number) };
    let published = publish_steadily(ground, RATE, total, value).await?;
    ground.wait_for_messages(0).await?;
    ground.wait_until_judged().await?;
    let peak_memory_mb = service.peak_memory_mb();
    service.stop().await?;
    ground.check("readings", SERIES + total).await?;
    let breaches = (0..total).filter(|number| is_breach(*number)).count();
    ground.check("alerts", breaches).await?;

    let (first, last) = published.first().zip(published.last()).context("nothing was published")?;
    let warm = UnixMicros(first.ts.0 + WARM_UP.as_micros() as i64);
    let counted =
        published.iter().enumerate().filter(|(number, one)| is_breach(*number) && one.ts >= warm).count();
    let rows = ground.owner.query(LATENCIES, &[&warm.to_timestamp()]).await?;
    let millis: Vec<f64> = rows.iter().map(|row| row.get(0)).collect();
    anyhow::ensure!(
        millis.len() == counted,
        "{counted} readings were breaches and {} alerts name one of them",
        millis.len()
    );
    let rate = total as f64 / last.at.duration_since(first.at).as_secs_f64();
    ground.clear().await?;
    let [p50, p99] = [0.5, 0.99].map(|share| percentile(&millis, share));
    eprintln!("  p50 {p50:.1} ms, p99 {p99:.1} ms");
    let figure = |name: &str, value: f64| {
        let mut figure = Figure::of_rounds(name, &[value], "ms", Better::Lower);
        figure.detail = json!({
            "alerts": millis.len(),
            "shortest_ms": percentile(&millis, 0.0),
            "longest_ms": percentile(&millis, 1.0),
            "readings_per_second": rate.round(),
            "breaches_per_second": BREACHES,
            "series": SERIES,
            "rules": RULES,
            "peak_memory_mb": peak_memory_mb,
        });
        figure
    };
    Ok([
        figure("alert_latency_p50", p50).wanted(25.0, 5.0),
        figure("alert_latency_p99", p99).wanted(100.0, 30.0),
    ])
}

/// Whether a reading is to be a breach: one in each 250, at no steady beat, of devices that take turns. No device has two
/// within a hundred seconds, so each is an alert of its own.
fn is_breach(number: usize) -> bool {
    let (second, device) = (number / SERIES, number % SERIES);
    // Of the kinds of rules, which alternate every five devices, the first are broken by one reading.
    let (block, place) = (device / APART, device % APART);
    let (span, width) = (rules::KINDS * rules::EACH, rules::BROKEN_BY_ONE * rules::EACH);
    let choices = APART / span * width;
    // 37 and 13 have no factor in common with the hundred choices: each is taken once before any is again.
    place % span < width && place / span * width + place % span == (second * 37 + block * 13) % choices
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_breach_is_of_another_device_that_one_reading_breaks() {
        let numbers: Vec<usize> = (0..22 * RATE).filter(|number| is_breach(*number)).collect();
        assert_eq!(numbers.len(), 22 * BREACHES);
        let devices: HashSet<usize> = numbers.iter().map(|number| number % SERIES).collect();
        assert_eq!(devices.len(), numbers.len());
        assert!(devices.iter().all(|device| rules::kind(*device / rules::EACH) < rules::BROKEN_BY_ONE));
        let gaps: HashSet<usize> = numbers.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps.len() > 5, "no steady beat: {gaps:?}");
    }
}
