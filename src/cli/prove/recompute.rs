//! Which alerts there may and must be, computed plainly from the stored readings. Pure, and nothing of `detect` is used.
//!
//! A breach is a reading beyond the threshold. An alert begins with one, and is over with the first clear reading after it;
//! one that is late begins and is over with its breach. Each breach lies within an alert, or within a cooldown behind one. In
//! which order the readings arrived is not known any more, and a clear reading that came late ends nothing: so alerts may
//! be longer than the readings alone say, but no two of a rule on a series lie over each other, and none is open when the
//! latest reading is clear.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

/// A rule of the proof.
#[derive(Debug, Clone, Copy)]
pub struct PlainRule {
    /// Which.
    pub id: Uuid,
    /// What it watches.
    pub metric: &'static str,
    /// True: above the threshold is a breach; false: below it.
    pub above: bool,
    /// In the unit of the metric.
    pub threshold: f64,
    /// In microseconds.
    pub cooldown: i64,
}

/// A reading as it is stored.
#[derive(Debug, Clone)]
pub struct StoredReading {
    /// Of which series.
    pub series: i32,
    /// What was measured.
    pub metric: String,
    /// Unix time in microseconds.
    pub ts: i64,
    /// What was measured.
    pub value: f64,
}

/// An alert as it is stored.
#[derive(Debug, Clone, Copy)]
pub struct StoredAlert {
    /// Of which rule.
    pub rule: Uuid,
    /// On which series.
    pub series: i32,
    /// The breach, Unix time in microseconds.
    pub breached_at: i64,
    /// The first clear reading after it, in the same unit; `None` while it burns.
    pub ended_at: Option<i64>,
    /// The reading came after a later one, or was judged late.
    pub late: bool,
    /// A notification says that it is open, alone or with others.
    pub opening_told: bool,
    /// A notification says that it is over.
    pub end_told: bool,
}

/// What differs.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// Breaches that lie in no alert, nor in a cooldown behind one.
    pub untold: i64,
    /// Alerts that begin with what is no breach.
    pub unfounded: i64,
    /// Alerts that lie over another of their rule and series.
    pub doubled: i64,
    /// Alerts that are over with what is no clear reading, or open though the latest reading is clear.
    pub ill_ended: i64,
}

/// Compares what is stored with what must be.
pub fn compare(rules: &[PlainRule], readings: &[StoredReading], alerts: &[StoredAlert]) -> Compared {
    let mut compared = Compared::default();
    for rule in rules {
        // By series and time: whether it is a breach.
        let mut judged: BTreeMap<i32, BTreeMap<i64, bool>> = BTreeMap::new();
        for reading in readings.iter().filter(|reading| reading.metric == rule.metric) {
            let breach =
                if rule.above { reading.value > rule.threshold } else { reading.value < rule.threshold };
            judged.entry(reading.series).or_default().insert(reading.ts, breach);
        }
        let mut stored: BTreeMap<i32, BTreeMap<i64, StoredAlert>> = BTreeMap::new();
        for alert in alerts.iter().filter(|alert| alert.rule == rule.id) {
            let before = stored.entry(alert.series).or_default().insert(alert.breached_at, *alert);
            compared.doubled += i64::from(before.is_some());
        }
        let series: BTreeSet<i32> = judged.keys().chain(stored.keys()).copied().collect();
        for series in series {
            let judged = judged.remove(&series).unwrap_or_default();
            let alerts = stored.remove(&series).unwrap_or_default();
            compare_series(rule, &judged, &alerts, &mut compared);
        }
    }
    compared
}

fn compare_series(
    rule: &PlainRule,
    judged: &BTreeMap<i64, bool>,
    alerts: &BTreeMap<i64, StoredAlert>,
    compared: &mut Compared,
) {
    let is_breach = |ts: i64| judged.get(&ts) == Some(&true);
    let latest_is_clear = judged.last_key_value().is_some_and(|(_, breach)| !breach);
    let mut covered_to = i64::MIN;
    for (&from, alert) in alerts {
        compared.unfounded += i64::from(!is_breach(from));
        compared.doubled += i64::from(from < covered_to);
        let ended_well = match alert.ended_at {
            None => !latest_is_clear,
            Some(ended_at) if alert.late && ended_at == from => true,
            Some(ended_at) => ended_at > from && judged.get(&ended_at) == Some(&false),
        };
        compared.ill_ended += i64::from(!ended_well);
        covered_to = alert.ended_at.unwrap_or(i64::MAX).max(covered_to);
    }
    // Those before it that cover it begin before it, and all but the last of them are over when the last begins.
    let covers = |ts: i64| {
        alerts.range(..=ts).next_back().is_some_and(|(from, alert)| {
            let end = alert.ended_at.unwrap_or(i64::MAX).max(from + 1);
            ts < end.saturating_add(rule.cooldown)
        })
    };
    let breaches = judged.iter().filter(|(_, breach)| **breach);
    compared.untold += breaches.filter(|(ts, _)| !covers(**ts)).count() as i64;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(cooldown: i64, values: &[(i64, f64)], told: &[(i64, Option<i64>, bool)]) -> Compared {
        let rule = PlainRule { id: Uuid::nil(), metric: "t", above: true, threshold: 80.0, cooldown };
        let readings: Vec<_> = values
            .iter()
            .map(|(ts, value)| StoredReading { series: 1, metric: "t".to_owned(), ts: *ts, value: *value })
            .collect();
        let alert = |(breached_at, ended_at, late): &(i64, Option<i64>, bool)| StoredAlert {
            rule: rule.id,
            series: 1,
            breached_at: *breached_at,
            ended_at: *ended_at,
            late: *late,
            opening_told: true,
            end_told: true,
        };
        let alerts: Vec<_> = told.iter().map(alert).collect();
        compare(&[rule], &readings, &alerts)
    }

    const VALUES: [(i64, f64); 6] = [(0, 90.0), (5, 70.0), (10, 90.0), (20, 90.0), (30, 70.0), (40, 90.0)];

    #[test]
    fn each_breach_lies_in_an_alert_that_begins_with_one_and_is_over_with_a_clear_reading() {
        let whole = [(0, Some(5), false), (10, Some(30), false), (40, None, false)];
        assert_eq!(run(0, &VALUES, &whole), Compared::default());
        assert_eq!(run(0, &VALUES, &whole[..2]), Compared { untold: 1, ..Compared::default() });
        let ill = |told: &[(i64, Option<i64>, bool)]| run(0, &VALUES, told);
        let lacking = ill(&[(0, Some(5), false), (20, Some(30), false), (40, None, false)]);
        assert_eq!(lacking, Compared { untold: 1, ..Compared::default() });
        let unfounded = ill(&[(0, Some(5), false), (5, Some(30), false), (40, None, false)]);
        assert_eq!(unfounded, Compared { unfounded: 1, ..Compared::default() });
        let doubled =
            ill(&[(0, Some(5), false), (10, Some(30), false), (20, Some(30), false), (40, None, false)]);
        assert_eq!(doubled, Compared { doubled: 1, ..Compared::default() });
        let ill_ended =
            ill(&[(0, Some(5), false), (10, Some(20), false), (20, Some(30), false), (40, None, false)]);
        assert_eq!(ill_ended, Compared { ill_ended: 1, ..Compared::default() });
    }

    #[test]
    fn an_alert_that_is_late_is_over_at_once_and_a_clear_reading_that_came_late_ends_nothing() {
        let late = [(0, Some(0), true), (10, Some(30), false), (40, None, false)];
        assert_eq!(run(0, &VALUES, &late), Compared::default());
        let long = [(0, Some(30), false), (40, None, false)];
        assert_eq!(run(0, &VALUES, &long), Compared::default());
        let on_time = [(0, Some(0), false), (10, Some(30), false), (40, None, false)];
        assert_eq!(run(0, &VALUES, &on_time).ill_ended, 1);
    }

    #[test]
    fn a_cooldown_covers_what_comes_within_it() {
        assert_eq!(run(20, &VALUES, &[(0, Some(30), false)]), Compared::default());
        assert_eq!(run(20, &VALUES, &[(0, Some(5), false), (40, None, false)]), Compared::default());
        assert_eq!(run(5, &VALUES, &[(0, Some(30), false)]).untold, 1);
    }

    #[test]
    fn an_alert_that_is_open_when_the_latest_reading_is_clear_ended_ill() {
        assert_eq!(run(0, &VALUES[..2], &[(0, None, false)]).ill_ended, 1);
    }
}
