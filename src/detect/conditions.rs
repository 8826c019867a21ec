//! Whether a reading breaks a condition, and what decided it. Pure.

use super::window::{Window, minute_of};
use crate::model::condition::{Check, Deviation};
use crate::model::evidence::Evidence;
use crate::model::reading::UnixMicros;

/// Readings closer to each other than this, in seconds, count as so far apart: two that come in the same instant would
/// change infinitely fast.
const SHORTEST_STEP: f64 = 1.0;

/// What a reading is.
#[derive(Debug, Clone, PartialEq)]
pub enum Judgement {
    /// A breach, and this decided it.
    Breach(Evidence),
    /// None, and not clear either: between the threshold and the one that clears it.
    Between,
    /// Clear.
    Clear,
    /// The condition has nothing to say of it: too little is known.
    Unknown,
}

/// A reading and what the condition may look at beside it.
#[derive(Debug)]
pub struct Look<'a> {
    /// When the sensor took it.
    pub ts: UnixMicros,
    /// In the unit of the series.
    pub value: f64,
    /// The reading of the series before it.
    pub previous: Option<(UnixMicros, f64)>,
    /// The series' minutes, without this reading, if a condition needs them.
    pub window: Option<&'a mut Window>,
}

/// Judges a reading that came in its order. One that is late is judged by conditions of one point only: those look at
/// nothing else.
pub fn judge(check: &Check, look: &mut Look<'_>) -> Judgement {
    let value = look.value;
    match check {
        Check::AboveThreshold { threshold, clear } => {
            sort(value > *threshold, value <= clear.unwrap_or(*threshold), || Evidence::AboveThreshold {
                threshold: *threshold,
            })
        }
        Check::BelowThreshold { threshold, clear } => {
            sort(value < *threshold, value >= clear.unwrap_or(*threshold), || Evidence::BelowThreshold {
                threshold: *threshold,
            })
        }
        Check::OutsideRange { lowest, highest, clear_margin } => {
            let margin = clear_margin.unwrap_or(0.0);
            let is_clear = value >= lowest + margin && value <= highest - margin;
            sort(value < *lowest || value > *highest, is_clear, || Evidence::OutsideRange {
                lowest: *lowest,
                highest: *highest,
                above: value > *highest,
            })
        }
        Check::DeviationFromMean(deviation) => deviates(deviation, look),
        Check::RateOfChange { limit, per_seconds, clear } => changes(*limit, *per_seconds, *clear, look),
        Check::Stuck { window_minutes, tolerance, clear } => {
            is_stuck(*window_minutes, *tolerance, *clear, look)
        }
        Check::NoData { clear_seconds, .. } => is_heard(*clear_seconds, look),
    }
}

/// Since when the series has been silent for too long, if it was at `now`, on its own clock. `heard`: when it brought the last
/// reading.
pub fn silence(check: &Check, heard: UnixMicros, now: UnixMicros) -> Option<(UnixMicros, Evidence)> {
    let Check::NoData { interval_seconds, .. } = check else { return None };
    let since = UnixMicros(heard.0.saturating_add(i64::from(*interval_seconds) * 1_000_000));
    (now > since).then_some((since, Evidence::NoData { interval_seconds: *interval_seconds }))
}

fn sort(is_breach: bool, is_clear: bool, evidence: impl FnOnce() -> Evidence) -> Judgement {
    match (is_breach, is_clear) {
        (true, _) => Judgement::Breach(evidence()),
        (false, true) => Judgement::Clear,
        (false, false) => Judgement::Between,
    }
}

fn deviates(deviation: &Deviation, look: &mut Look<'_>) -> Judgement {
    let statistics = look
        .window
        .as_mut()
        .and_then(|window| window.statistics(minute_of(look.ts), deviation.window_minutes))
        .filter(|statistics| statistics.n >= deviation.min_buckets);
    let Some(statistics) = statistics else { return Judgement::Unknown };
    // The last term is for a series that is constant at zero: it keeps the division legal.
    let floor = deviation
        .min_sigma
        .unwrap_or(Deviation::RELATIVE_FLOOR * statistics.mean.abs())
        .max(f64::MIN_POSITIVE);
    let sigma = statistics.sigma.max(floor);
    let z = (look.value - statistics.mean) / sigma;
    sort(z.abs() > deviation.k, z.abs() <= deviation.clear_k.unwrap_or(deviation.k), || {
        Evidence::DeviationFromMean {
            mean: statistics.mean,
            sigma,
            // JSON has no infinity.
            z: z.clamp(f64::MIN, f64::MAX),
            k: deviation.k,
            n: statistics.n,
            window_minutes: deviation.window_minutes,
        }
    })
}

fn changes(limit: f64, per_seconds: u32, clear: Option<f64>, look: &Look<'_>) -> Judgement {
    let Some((previous_ts, previous_value)) = look.previous else { return Judgement::Unknown };
    let seconds = ((look.ts.0 - previous_ts.0) as f64 / 1e6).max(SHORTEST_STEP);
    let rate = (look.value - previous_value) / seconds * f64::from(per_seconds);
    sort(rate.abs() > limit, rate.abs() <= clear.unwrap_or(limit), || Evidence::RateOfChange {
        rate: rate.clamp(f64::MIN, f64::MAX),
        limit,
        per_seconds,
        previous_value,
        previous_seconds: seconds,
    })
}

fn is_stuck(window_minutes: i32, tolerance: f64, clear: Option<f64>, look: &mut Look<'_>) -> Judgement {
    let minute = minute_of(look.ts);
    let Some(window) = look.window.as_mut() else { return Judgement::Unknown };
    let Some(before) = window.extremes(minute, window_minutes) else { return Judgement::Unknown };
    let (low, high) = window.minute_so_far(minute).unwrap_or((look.value, look.value));
    let lowest = before.lowest.min(low).min(look.value);
    let highest = before.highest.max(high).max(look.value);
    let distance = highest - lowest;
    sort(distance <= tolerance, distance > clear.unwrap_or(tolerance), || Evidence::Stuck {
        lowest,
        highest,
        tolerance,
        n: before.n + 1,
        window_minutes,
    })
}

/// A reading came, which ends a silence; unless two must come soon after each other for that.
fn is_heard(clear_seconds: Option<u32>, look: &Look<'_>) -> Judgement {
    let (Some(clear), Some((previous, _))) = (clear_seconds, look.previous) else { return Judgement::Clear };
    let soon = look.ts.0 - previous.0 <= i64::from(clear) * 1_000_000;
    if soon { Judgement::Clear } else { Judgement::Between }
}

#[cfg(test)]
mod tests;
