//! The table: what must hold after any schedule of faults, and what was found. Pure.

use std::collections::{HashMap, HashSet};

use super::evidence::{Evidence, Post};
use super::load::Account;
use super::processes::Toll;
use super::recompute::{Compared, PlainRule, StoredAlert, StoredReading, compare};
use crate::audit::verify::Check;

const DELIVERED: &str = "delivered";
/// Another one told it.
const SUPERSEDED: &str = "superseded";

/// All invariants but those of `verify`.
pub fn check(account: &Account, evidence: &Evidence, rules: &[PlainRule], toll: Toll) -> Vec<Check> {
    let mut checks = readings(account, evidence);
    let stored: Vec<StoredReading> = evidence.readings.iter().map(|reading| reading.stored.clone()).collect();
    checks.extend(alerts(&compare(rules, &stored, &evidence.alerts)));
    let (alerts, over) = (&evidence.alerts, |alert: &&StoredAlert| alert.ended_at.is_some());
    let untold = alerts.iter().filter(|alert| !alert.opening_told).count();
    let end_untold = alerts.iter().filter(over).filter(|alert| !alert.end_told).count();
    checks.extend([
        none("alerts that no notification tells", untold as i64),
        none("alerts that are over and no notification says so", end_untold as i64),
    ]);
    checks.extend(deliveries(evidence));
    checks.extend([
        none("messages left on the stream", evidence.debt.messages),
        none("batches left to judge", evidence.debt.flushes),
        none("notifications left in the outbox", evidence.debt.owed),
        none("processes that ended by themselves", toll.ended_by_themselves),
        none("processes that did not stop well when asked to", toll.ended_badly),
    ]);
    checks
}

fn none(name: &'static str, found: i64) -> Check {
    Check { name, expected: 0, found, ok: found == 0 }
}

/// Published = stored, once. A reading without a time has a value of its own, by which it is known.
fn readings(account: &Account, evidence: &Evidence) -> Vec<Check> {
    let mut clockless: HashMap<(&str, u64), i64> = HashMap::new();
    for (device, value) in &account.clockless {
        clockless.insert((device, value.to_bits()), 0);
    }
    let mut timed: HashSet<(&str, &str, i64)> = HashSet::new();
    let (mut unknown, mut other_value) = (0, 0);
    for reading in &evidence.readings {
        let (device, stored) = (reading.device.as_str(), &reading.stored);
        if let Some(count) = clockless.get_mut(&(device, stored.value.to_bits())) {
            *count += 1;
            continue;
        }
        match published(account, device, stored) {
            Some((metric, value)) => {
                timed.insert((device, metric, stored.ts));
                // The service reads decimal digits, and may be one unit of the last place off.
                other_value += i64::from((value - stored.value).abs() > 1e-9);
            }
            None => unknown += 1,
        }
    }
    let lost_clockless = clockless.values().filter(|count| **count == 0).count();
    let doubled: i64 = clockless.values().map(|count| (count - 1).max(0)).sum();
    let expected = account.readings() as i64;
    let found = evidence.readings.len() as i64;
    vec![
        Check { name: "readings published = stored", expected, found, ok: expected == found },
        none("readings lost", (account.timed.len() - timed.len() + lost_clockless) as i64),
        none("readings doubled", doubled),
        none("readings stored that nobody published", unknown),
        none("readings stored with another value", other_value),
    ]
}

fn published(account: &Account, device: &str, stored: &StoredReading) -> Option<(&'static str, f64)> {
    let metric = super::load::METRICS.into_iter().find(|metric| *metric == stored.metric)?;
    let value = account.timed.get(&(device.to_owned(), metric, stored.ts))?;
    Some((metric, *value))
}

fn alerts(compared: &Compared) -> [Check; 4] {
    let Compared { untold, unfounded, doubled, ill_ended } = *compared;
    [
        none("breaches that no alert told", untold),
        none("alerts of what was no breach", unfounded),
        none("alerts doubled", doubled),
        none("alerts that ended otherwise than the readings say", ill_ended),
    ]
}

fn deliveries(evidence: &Evidence) -> Vec<Check> {
    let nothing: Vec<Post> = Vec::new();
    let accepted = |id| evidence.posts.get(id).unwrap_or(&nothing).iter().any(|post| post.accepted);
    let missing = evidence.deliveries.values().filter(|delivery| delivery.status == "missing").count();
    let (mut off_record, mut of_nothing, mut other_body, mut not_delivered) = (0, 0, 0, 0);
    for (id, posts) in &evidence.posts {
        let Some(delivery) = evidence.deliveries.get(id) else {
            of_nothing += posts.len() as i64;
            continue;
        };
        off_record += (posts.len() as i64 - delivery.attempts).max(0);
        other_body += posts.iter().filter(|post| post.body != delivery.body.as_bytes()).count() as i64;
        not_delivered += i64::from(accepted(id) && delivery.status != DELIVERED);
    }
    let delivered = evidence.deliveries.iter().filter(|(_, delivery)| delivery.status == DELIVERED);
    let unaccepted = delivered.clone().filter(|(id, _)| !accepted(id)).count();
    vec![
        Check {
            name: "notifications delivered",
            expected: evidence.deliveries.values().filter(|delivery| delivery.status != SUPERSEDED).count()
                as i64,
            found: delivered.count() as i64,
            ok: evidence
                .deliveries
                .values()
                .all(|delivery| [DELIVERED, SUPERSEDED].contains(&delivery.status.as_str())),
        },
        none("notifications missing", missing as i64),
        none("POSTs off the record", off_record),
        none("POSTs of no notification", of_nothing),
        none("POSTs with another body than the notification's", other_body),
        none("accepted by the hub and not delivered", not_delivered),
        none("delivered and not accepted by the hub", unaccepted as i64),
    ]
}

/// POSTs of a notification that the hub had accepted before.
pub fn repeats(evidence: &Evidence) -> i64 {
    let after_acceptance = |posts: &Vec<Post>| match posts.iter().position(|post| post.accepted) {
        Some(first) => (posts.len() - first - 1) as i64,
        None => 0,
    };
    evidence.posts.values().map(after_acceptance).sum()
}

#[cfg(test)]
mod tests;
