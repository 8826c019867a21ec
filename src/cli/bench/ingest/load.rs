//! Fills the stream with readings, and makes the rules that watch them.

use anyhow::Context as _;
use serde_json::json;
use uuid::Uuid;

use crate::cli::bench::ground::{Ground, TENANT};
use crate::cli::readings::{METRIC, Readings};
use crate::model::rule::Severity;

const INSERT_RULE: &str = include_str!("../../../../sql/queries/prove/insert_rule.sql");

/// Rules, of five devices each.
const RULES: usize = 1_000;
/// Messages published before the broker must have stored them all: nobody is answered, and a broker drops what exceeds its
/// queue (nats-server 2.11 and newer: `max_buffered_msgs`, 10,000 unless told otherwise).
const UNSTORED: u64 = 5_000;

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
    let mut messages = 0;
    for first in range.clone().step_by(each) {
        let message = readings.message(first..(first + each).min(range.end));
        ground.client.publish(subject.clone(), message.into()).await.context("failed to publish")?;
        messages += 1;
        if messages % UNSTORED == 0 {
            ground.wait_for_messages(before + messages).await?;
        }
    }
    ground.wait_for_messages(before + messages).await?;
    Ok(messages)
}
