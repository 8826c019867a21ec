//! What one judgement costs: a reading against a rule, in memory and on one thread, without a database.
//!
//! 5,000 series with ten rules each, of every kind, and windows that hold an hour. Nothing fires, as in nearly all of a
//! service's life. All that judging a flush takes is counted: finding the series, merging the rollup, feeding the window.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::rules;
use crate::cli::bench::cpu;
use crate::cli::bench::figure::{Better, Figure, median};
use crate::cli::readings::{METRIC, Readings, SERIES, device_name};
use crate::detect::judge::Judged;
use crate::detect::memory::{Memory, Series};
use crate::detect::owed::OwedFlush;
use crate::detect::scene::Moment;
use crate::detect::watch::Watch;
use crate::detect::window::{Bucket, Window, minute_of};
use crate::model::condition::Condition;
use crate::model::ids::{RuleId, SeriesId, TenantId};
use crate::model::reading::{Reading, UnixMicros};
use crate::model::rule::{Rule, Severity};
use crate::model::selector::{DevicePattern, Selector, Tags};

/// Seconds of all series in one flush, as in a backlog.
const SECONDS_A_FLUSH: usize = 4;
/// Minutes that the windows hold.
pub const MINUTES: i32 = 60;
/// In microseconds: what fired before is told to nobody. Nothing fires.
const A_DAY: i64 = 86_400_000_000;
const TENANT: TenantId = TenantId(1);

/// Measures, over `seconds` of the readings' own time a round.
///
/// # Errors
/// If something fired, or the kernel does not tell what a thread used.
pub fn measure(rounds: u8, seconds: usize) -> anyhow::Result<Figure> {
    let flushes = flushes(Readings::recent(), &Vec::from_iter((0..SERIES as i32).map(SeriesId)), 0..seconds);
    let every_kind: Vec<usize> = (0..rules::KINDS).collect();
    let mut each = Vec::new();
    let mut without = Vec::new();
    for _ in 0..rounds {
        without.push(a_reading(&[], &flushes)?);
        each.push(a_reading(&every_kind, &flushes)? / rules::KINDS as f64);
    }
    let without = median(&without);
    let mut by_condition = Map::new();
    for kind in every_kind {
        let name = rules::condition(kind)["kind"].as_str().unwrap_or_default().to_owned();
        // Of two of one name the first, which is the plainer.
        if !by_condition.contains_key(&name) {
            let alone = (a_reading(&[kind; rules::KINDS], &flushes)? - without) / rules::KINDS as f64;
            by_condition.insert(name, round(alone));
        }
    }
    let judged = flushes.iter().map(|flush| flush.readings.len()).sum::<usize>() * rules::KINDS;
    let figure = Figure::of_rounds("microseconds_a_judgement", &each, "µs", Better::Lower);
    eprintln!("a judgement {:.3} µs", figure.value);
    Ok(figure
        .explained("series", SERIES)
        .explained("rules_a_series", rules::KINDS)
        .explained("judgements_a_round", judged)
        .explained("a_reading_without_rules", round(without))
        .explained("by_condition", by_condition))
}

/// Microseconds of processor time that judging one of these readings takes, with rules of these kinds on every series.
fn a_reading(kinds: &[usize], flushes: &[OwedFlush]) -> anyhow::Result<f64> {
    let mut memory = memory(kinds, flushes)?;
    let moment = Moment::at(Timestamp::now(), A_DAY);
    let mut judged = Judged::default();
    let spent = spent(|| judge_all(&mut judged, &mut memory, flushes, moment))?;
    anyhow::ensure!(judged.effects.alerts.is_empty(), "{} alerts, of none", judged.effects.alerts.len());
    Ok(spent.as_secs_f64() * 1e6 / judged.readings as f64)
}

/// Judges these, one after the other.
///
/// # Errors
/// If a rule panics.
pub fn judge_all(
    judged: &mut Judged,
    memory: &mut Memory,
    flushes: &[OwedFlush],
    moment: Moment,
) -> anyhow::Result<()> {
    for flush in flushes {
        judged.judge(memory, flush, moment).map_err(|fault| anyhow::anyhow!("a rule failed: {fault:?}"))?;
    }
    Ok(())
}

/// Processor time of this thread in it.
///
/// # Errors
/// Its own, or if the kernel does not tell.
pub fn spent(work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<Duration> {
    let used = || cpu::of_this_thread().context("the kernel does not tell what a thread used");
    let before = used()?;
    work()?;
    Ok(used()? - before)
}

/// The readings of these seconds as detection takes them.
pub fn flushes(readings: Readings, series: &[SeriesId], seconds: std::ops::Range<usize>) -> Vec<OwedFlush> {
    let arrived = UnixMicros::from(Timestamp::now());
    let flush = |(id, first): (usize, usize)| {
        let last = (first + SECONDS_A_FLUSH).min(seconds.end);
        let numbers = first * SERIES..last * SERIES;
        let mut readings: Vec<Reading> = numbers.map(|number| readings.reading(number, series)).collect();
        readings.sort_unstable_by_key(|reading| (reading.series, reading.ts));
        OwedFlush { id: id as i64, arrived, readings }
    };
    seconds.clone().step_by(SECONDS_A_FLUSH).enumerate().map(flush).collect()
}

/// As loaded from a database that holds the hour before.
fn memory(kinds: &[usize], flushes: &[OwedFlush]) -> anyhow::Result<Memory> {
    let mut memory = Memory::default();
    let first = flushes.iter().filter_map(|flush| flush.readings.first()).map(|reading| reading.ts).min();
    let first = minute_of(first.context("there is nothing to judge")?);
    let arrived = UnixMicros::from(Timestamp::now());
    let mut watching: Vec<Arc<Rule>> = Vec::new();
    for number in 0..SERIES {
        if number % rules::EACH == 0 {
            watching = kinds.iter().map(|kind| rule(*kind)).collect::<anyhow::Result<_>>()?;
        }
        let level = Readings::value(number);
        let before = |minute: i32| Bucket {
            minute,
            count: 60,
            mean: level + f64::from(minute % 5) / 10.0,
            lowest: level,
            highest: level + 0.4,
        };
        let series = Series {
            tenant: TENANT,
            device: device_name(number),
            tags: Tags::new(),
            metric: METRIC.to_owned(),
            unit: Some("°C".to_owned()),
            watches: watching.iter().map(|rule| Watch { rule: Arc::clone(rule), state: None }).collect(),
            last: None,
            arrived,
            was_heard: true,
            window: (!kinds.is_empty()).then(|| Window::new(MINUTES, (first - MINUTES..first).map(before))),
            is_unsettled: false,
        };
        memory.series.insert(SeriesId(number as i32), series);
    }
    Ok(memory)
}

fn rule(kind: usize) -> anyhow::Result<Arc<Rule>> {
    let condition = Condition::from_json(rules::condition(kind)).map_err(anyhow::Error::msg)?;
    Ok(Arc::new(Rule {
        id: RuleId::new(),
        version: 1,
        tenant: TENANT,
        name: "rule".into(),
        metric: METRIC.to_owned(),
        devices: Selector { ids: None, pattern: DevicePattern::new("*"), tags: Tags::new() },
        condition,
        severity: Severity::Warning,
        escalations: Vec::new(),
        cooldown_micros: 900_000_000,
        resolve_after_micros: 300_000_000,
        reminder_micros: None,
        labels: Tags::new(),
        runbook_url: None,
        destinations: Vec::new(),
    }))
}

/// To the nanosecond.
fn round(micros: f64) -> Value {
    ((micros * 1e3).round() / 1e3).into()
}
