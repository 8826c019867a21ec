//! The readings: 5,000 series at one reading a second each, in round robin; and the rules that watch them.

use std::fmt::Write as _;

use anyhow::Context as _;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use uuid::Uuid;

use crate::cli::bench::ground::{Ground, TENANT};
use crate::model::ids::SeriesId;
use crate::model::reading::{Reading, UnixMicros};
use crate::model::rule::Severity;

const INSERT_RULE: &str = include_str!("../../../../sql/queries/prove/insert_rule.sql");

/// Devices, of one metric each.
pub const SERIES: usize = 5_000;
/// Rules, of five devices each.
const RULES: usize = 1_000;
const METRIC: &str = "temperature";
/// Of event time before now: longer than any contender's readings last.
const BEGINS_BEFORE: SignedDuration = SignedDuration::from_hours(3);
/// Bytes published before the client is asked to write them out.
const FLUSH_BYTES: usize = 1 << 20;

/// The readings of one contender, from the first to whichever.
#[derive(Debug, Clone, Copy)]
pub struct Readings {
    begin: UnixMicros,
}

impl Readings {
    /// Those that begin three hours ago.
    pub fn new() -> Self {
        Self { begin: UnixMicros::from(Timestamp::now() - BEGINS_BEFORE) }
    }

    fn ts(self, number: usize) -> i64 {
        let (second, series) = (number / SERIES, number % SERIES);
        self.begin.0 + second as i64 * 1_000_000 + series as i64 * 7
    }

    /// Between 20 and 30: no rule minds.
    fn value(number: usize) -> f64 {
        20.0 + (number * 7_919 % 1_000) as f64 / 100.0
    }

    /// Appends a reading as a sensor sends it, some 90 bytes.
    pub fn write_json(self, number: usize, out: &mut String) {
        write_json(number % SERIES, Self::value(number), self.ts(number), out);
    }

    /// A reading as it is stored.
    pub fn reading(self, number: usize, series: &[SeriesId]) -> Reading {
        Reading {
            series: series[number % SERIES],
            ts: UnixMicros(self.ts(number)),
            value: Self::value(number),
        }
    }
}

/// Appends a reading of a device at a Unix time in microseconds.
pub fn write_json(device: usize, value: f64, ts: i64, out: &mut String) {
    // Writing to a String can't fail.
    let _ = write!(
        out,
        r#"{{"device":"device-{:03}-{}","metric":"{METRIC}","value":{value},"unit":"°C","ts":{ts}}}"#,
        device / 5,
        device % 5
    );
}

/// A thousand rules: nine in ten compare with a threshold, one with the mean of the half hour before.
///
/// # Errors
/// If the database refuses.
pub async fn insert_rules(ground: &Ground) -> anyhow::Result<()> {
    for number in 0..RULES {
        let condition = match number % 10 {
            0 => json!({ "kind": "deviation_from_mean", "window_minutes": 30, "k": 5.0 }),
            _ => json!({ "kind": "above_threshold", "threshold": 1_000.0 }),
        };
        let (name, pattern) = (format!("rule {number}"), format!("device-{number:03}-*"));
        let id = Uuid::now_v7();
        let nobody: [Uuid; 0] = [];
        ground
            .owner
            .execute(
                INSERT_RULE,
                &[&id, &ground.tenant.0, &name, &METRIC, &condition, &60, &nobody.as_slice()],
            )
            .await?;
        let narrow = "UPDATE rules SET device_pattern = $2, severity = $3 WHERE rule_id = $1";
        ground.owner.execute(narrow, &[&id, &pattern, &Severity::Warning.as_str()]).await?;
    }
    Ok(())
}

/// Publishes the readings of a range, `each` a message, and waits until the broker has stored them.
///
/// # Errors
/// If it does not.
pub async fn publish(
    ground: &Ground,
    readings: Readings,
    range: std::ops::Range<usize>,
    each: usize,
) -> anyhow::Result<u64> {
    let subject = format!("{}.{TENANT}", ground.config.ingest.subject_prefix);
    let before = ground.messages().await?;
    let (mut messages, mut unflushed) = (0, 0);
    for first in range.clone().step_by(each) {
        let mut message = String::with_capacity(each * 100 + 2);
        for number in first..(first + each).min(range.end) {
            message.push(if number > first { ',' } else { '[' });
            readings.write_json(number, &mut message);
        }
        message.push(']');
        let message = if each == 1 { message[1..message.len() - 1].to_owned() } else { message };
        unflushed += message.len();
        ground.client.publish(subject.clone(), message.into()).await.context("failed to publish")?;
        messages += 1;
        if unflushed > FLUSH_BYTES {
            unflushed = 0;
            ground.client.flush().await?;
        }
    }
    ground.client.flush().await?;
    ground.wait_for_messages(before + messages).await?;
    Ok(messages)
}
