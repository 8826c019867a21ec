//! Millions of readings, compared by their totals: published and stored, stored and rolled up, device by device.

use std::collections::HashMap;

use super::debt::Debt;
use super::ground::Ground;
use super::processes::Toll;
use crate::audit::verify::{Check, verify};
use crate::cli::readings::{SERIES, device_name};
use crate::db::pool;

const TOTALS: &str = include_str!("../../../sql/queries/prove/reading_totals.sql");
const BY_DEVICE: &str = include_str!("../../../sql/queries/prove/readings_by_device.sql");

/// Compares what is stored with the first `published` of the readings; then asks `verify`.
///
/// # Errors
/// If the database does not answer.
pub async fn check(ground: &Ground, published: usize, debt: Debt, toll: Toll) -> anyhow::Result<Vec<Check>> {
    // So much in so little time, that the planner has not heard of it.
    ground.owner.batch_execute("ANALYZE readings, readings_1m").await?;
    let totals = ground.owner.query_one(TOTALS, &[]).await?;
    let [stored, apart, rolled_up, rejected] = std::array::from_fn(|column| totals.get::<_, i64>(column));
    let by_device = ground.owner.query(BY_DEVICE, &[]).await?;
    let by_device: HashMap<String, i64> = by_device.iter().map(|row| (row.get(0), row.get(1))).collect();
    let mut checks = vec![
        equal("readings published = stored", published as i64, stored),
        none("readings doubled", stored - apart),
        equal("readings stored = in the rollups", stored, rolled_up),
        none("readings rejected", rejected),
        none("devices with another number of readings", differing(published, &by_device)),
        none("messages left on the stream", debt.messages),
        none("batches left to judge", debt.flushes),
        none("processes that ended by themselves", toll.ended_by_themselves),
        none("processes that did not stop well when asked to", toll.ended_badly),
    ];
    let mut owner = pool::connect_owner(&ground.config.database).await?;
    checks.extend(verify(&mut owner).await?);
    Ok(checks)
}

/// A row whose two numbers must be equal.
pub fn equal(name: &'static str, expected: i64, found: i64) -> Check {
    Check { name, expected, found, ok: expected == found }
}

fn none(name: &'static str, found: i64) -> Check {
    equal(name, 0, found)
}

/// Devices that have more or fewer than their share, and devices that nobody has.
fn differing(published: usize, by_device: &HashMap<String, i64>) -> i64 {
    let expected: HashMap<String, i64> = (0..SERIES.min(published))
        .map(|device| (device_name(device), ((published - device).div_ceil(SERIES)) as i64))
        .collect();
    let strangers = by_device.keys().filter(|device| !expected.contains_key(*device)).count();
    let wrong = expected.iter().filter(|(device, count)| by_device.get(*device) != Some(*count)).count();
    (strangers + wrong) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_with_too_few_too_many_or_none_to_have_differs() {
        let counts = |published: usize| {
            let mut counts = HashMap::new();
            for number in 0..published {
                *counts.entry(device_name(number)).or_insert(0_i64) += 1;
            }
            counts
        };
        for published in [0, 3, SERIES, SERIES + 1, 3 * SERIES - 1] {
            assert_eq!(differing(published, &counts(published)), 0, "{published}");
        }
        // One has too few, and the other too many; the third is unknown.
        assert_eq!(differing(SERIES, &counts(SERIES - 1)), 1);
        assert_eq!(differing(SERIES, &counts(SERIES + 2)), 2);
        assert_eq!(differing(2, &counts(3)), 1);
    }
}
