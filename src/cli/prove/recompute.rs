//! Which alerts there must be, computed plainly from the stored readings. Pure, and nothing of `detect` is used.
//!
//! A breach is a reading beyond the threshold. Without a cooldown every breach is an alert, in whatever order the readings
//! arrived. With one, a rule is silent for a while after each alert, in the readings' own time. Where readings arrived in
//! their order that decides every alert; where one came late there may be more of them, but each breach has an alert that
//! is not older than the cooldown.

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
    /// The reading came after a later one.
    pub late: bool,
}

/// What differs.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// Alerts that there must be of rules without a cooldown.
    pub expected: i64,
    /// Alerts that there are of them.
    pub found: i64,
    /// Alerts that are there and must not be, or the other way round: without a cooldown, and with one where no alert was
    /// late.
    pub differing: i64,
    /// Breaches for which there is no alert that is not older than the cooldown.
    pub untold: i64,
    /// Alerts of what is no breach.
    pub unfounded: i64,
}

/// Compares what is stored with what must be.
pub fn compare(rules: &[PlainRule], readings: &[StoredReading], alerts: &[StoredAlert]) -> Compared {
    let mut compared = Compared::default();
    for rule in rules {
        let mut breaches: BTreeMap<i32, BTreeSet<i64>> = BTreeMap::new();
        for reading in readings.iter().filter(|reading| reading.metric == rule.metric) {
            let breach =
                if rule.above { reading.value > rule.threshold } else { reading.value < rule.threshold };
            if breach {
                breaches.entry(reading.series).or_default().insert(reading.ts);
            }
        }
        let mut told: BTreeMap<i32, (BTreeSet<i64>, bool)> = BTreeMap::new();
        for alert in alerts.iter().filter(|alert| alert.rule == rule.id) {
            let (times, late) = told.entry(alert.series).or_default();
            times.insert(alert.breached_at);
            *late |= alert.late;
        }
        let series: BTreeSet<i32> = breaches.keys().chain(told.keys()).copied().collect();
        for series in series {
            let breaches = breaches.remove(&series).unwrap_or_default();
            let (told, late) = told.remove(&series).unwrap_or_default();
            compare_series(rule, &breaches, &told, late, &mut compared);
        }
    }
    compared
}

fn compare_series(
    rule: &PlainRule,
    breaches: &BTreeSet<i64>,
    told: &BTreeSet<i64>,
    late: bool,
    compared: &mut Compared,
) {
    compared.unfounded += told.difference(breaches).count() as i64;
    let covered = |ts: &i64| told.range(ts - rule.cooldown.max(1) + 1..=*ts).next().is_some();
    compared.untold += breaches.iter().filter(|ts| !covered(ts)).count() as i64;
    let expected = in_order(breaches, rule.cooldown);
    if rule.cooldown == 0 {
        compared.expected += expected.len() as i64;
        compared.found += told.len() as i64;
    }
    if rule.cooldown == 0 || !late {
        compared.differing += expected.symmetric_difference(told).count() as i64;
    }
}

/// The breaches that fire when they come in their order.
fn in_order(breaches: &BTreeSet<i64>, cooldown: i64) -> BTreeSet<i64> {
    let mut fired = BTreeSet::new();
    let mut silent_until = i64::MIN;
    for &ts in breaches {
        if ts >= silent_until {
            fired.insert(ts);
            silent_until = ts + cooldown;
        }
    }
    fired
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(cooldown: i64, values: &[(i64, f64)], told: &[(i64, bool)]) -> Compared {
        let rule = PlainRule { id: Uuid::nil(), metric: "t", above: true, threshold: 80.0, cooldown };
        let readings: Vec<_> = values
            .iter()
            .map(|(ts, value)| StoredReading { series: 1, metric: "t".to_owned(), ts: *ts, value: *value })
            .collect();
        let alerts: Vec<_> = told
            .iter()
            .map(|(ts, late)| StoredAlert { rule: rule.id, series: 1, breached_at: *ts, late: *late })
            .collect();
        compare(&[rule], &readings, &alerts)
    }

    const VALUES: [(i64, f64); 4] = [(0, 90.0), (5, 70.0), (10, 90.0), (30, 90.0)];

    #[test]
    fn without_a_cooldown_every_breach_is_an_alert() {
        let whole = run(0, &VALUES, &[(0, false), (10, true), (30, false)]);
        assert_eq!(whole, Compared { expected: 3, found: 3, ..Compared::default() });
        let lacking = run(0, &VALUES, &[(0, false), (30, false)]);
        assert_eq!(lacking, Compared { expected: 3, found: 2, differing: 1, untold: 1, unfounded: 0 });
        let wrong = run(0, &VALUES, &[(0, false), (5, false), (10, false), (30, false)]);
        assert_eq!(wrong, Compared { expected: 3, found: 4, differing: 1, untold: 0, unfounded: 1 });
    }

    #[test]
    fn with_a_cooldown_the_order_decides_unless_something_was_late() {
        assert_eq!(run(20, &VALUES, &[(0, false), (30, false)]), Compared::default());
        assert_eq!(run(20, &VALUES, &[(0, false), (10, false), (30, false)]).differing, 1);
        // 10 was judged first, then 0.
        assert_eq!(run(20, &VALUES, &[(10, false), (0, true), (30, false)]), Compared::default());
        assert_eq!(run(20, &VALUES, &[(10, false), (30, true)]).untold, 1);
        assert_eq!(run(20, &VALUES, &[(0, false)]).untold, 1);
    }
}
