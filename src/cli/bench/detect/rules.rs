//! Rules of every kind, over 5,000 series, that nothing breaks unless it is meant to.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::cli::bench::ground::Ground;
use crate::cli::readings::{METRIC, SERIES, device_name};

const INSERT_RULES: &str = include_str!("../../../../sql/queries/bench/insert_rules.sql");
const INSERT_DESTINATION: &str = include_str!("../../../../sql/queries/prove/insert_destination.sql");

/// What is judged differently.
pub const KINDS: usize = 10;
/// Devices of a rule.
pub const EACH: usize = 5;
/// Beyond what the first [`BROKEN_BY_ONE`] kinds allow, and not beyond what any other does.
pub const TOO_HIGH: f64 = 5_000.0;
/// The first kinds, which one reading that is too high breaks.
pub const BROKEN_BY_ONE: usize = 4;
/// Longer than the readings of a benchmark go back: nothing is silent.
const A_DAY: u32 = 86_400;

/// A condition that [`crate::cli::readings::Readings`] do not break, of one of [`KINDS`].
pub fn condition(kind: usize) -> Value {
    match kind {
        0 => json!({ "kind": "above_threshold", "threshold": 1_000.0 }),
        1 => json!({ "kind": "above_threshold", "threshold": 1_000.0, "clear": 900.0 }),
        2 => json!({ "kind": "outside_range", "lowest": -1_000.0, "highest": 1_000.0 }),
        3 => json!({ "kind": "outside_range", "lowest": -1_000.0, "highest": 1_000.0, "clear_margin": 10.0 }),
        4 => {
            json!({ "kind": "below_threshold", "threshold": -1_000.0, "m_of_n": { "m": 3, "n": 5 }, "for_seconds": 60 })
        }
        5 => json!({ "kind": "deviation_from_mean", "window_minutes": 60 }),
        6 => json!({ "kind": "deviation_from_mean", "window_minutes": 60, "k": 7.0, "min_buckets": 2 }),
        7 => json!({ "kind": "rate_of_change", "limit": 1e9 }),
        8 => json!({ "kind": "stuck", "window_minutes": 60 }),
        _ => json!({ "kind": "no_data", "interval_seconds": A_DAY }),
    }
}

/// The kind of a rule's condition. The rules of one series are of different kinds, and as many are of each.
pub fn kind(rule: usize) -> usize {
    (rule + rule / (SERIES / EACH)) % KINDS
}

/// Makes these rules the only ones: each watches five devices, the one after it the next five, all 5,000 in turn. Alerts
/// and what else was of the rules before them go. They tell one destination.
///
/// # Errors
/// If the database refuses.
pub async fn replace(ground: &Ground, count: usize) -> anyhow::Result<()> {
    let clear = "TRUNCATE rules, destinations, notifications CASCADE";
    ground.owner.batch_execute(clear).await?;
    let destination = Uuid::now_v7();
    // The discard port: nobody delivers while it is measured.
    let settings = json!({ "url": "http://127.0.0.1:9" });
    let secret: Option<&[u8]> = None;
    ground.owner.execute(INSERT_DESTINATION, &[&destination, &ground.tenant.0, &settings, &secret]).await?;
    let ids: Vec<Uuid> = (0..count).map(|_| Uuid::now_v7()).collect();
    let names: Vec<String> = (0..count).map(|rule| format!("rule {rule}")).collect();
    let devices = |rule: usize| Value::from_iter((0..EACH).map(|place| device_name(rule * EACH + place)));
    let devices: Vec<Value> = (0..count).map(devices).collect();
    let conditions: Vec<Value> = (0..count).map(|rule| condition(kind(rule))).collect();
    let told = [destination];
    ground
        .owner
        .execute(
            INSERT_RULES,
            &[&ids, &ground.tenant.0, &names, &METRIC, &devices, &conditions, &told.as_slice()],
        )
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::model::condition::Condition;

    #[test]
    fn the_rules_of_one_series_are_of_every_kind() {
        let of_one_series: BTreeSet<usize> =
            (0..10_000).filter(|rule| rule * EACH % SERIES == 4_995).map(kind).collect();
        assert_eq!(of_one_series.len(), KINDS);
    }

    #[test]
    fn every_condition_can_be_read() {
        for kind in 0..KINDS {
            assert!(Condition::from_json(condition(kind)).is_ok(), "{kind}");
        }
    }
}
