//! The rules that watch while it is measured how readings are stored.

use serde_json::json;
use uuid::Uuid;

use crate::cli::bench::ground::Ground;
use crate::cli::readings::METRIC;
use crate::model::rule::Severity;

const INSERT_RULE: &str = include_str!("../../../../sql/queries/prove/insert_rule.sql");

/// Rules, of five devices each.
const RULES: usize = 1_000;

/// A thousand rules: nine in ten compare with a threshold, one with the mean of the half hour before.
///
/// # Errors
/// If the database refuses.
pub async fn insert(ground: &Ground) -> anyhow::Result<()> {
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
