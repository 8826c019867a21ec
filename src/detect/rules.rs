//! A rule as its row says it: parsed once, so that a rule that makes no sense is found when it is read.

use jiff::Timestamp;
use tokio_postgres::Row;

use crate::model::condition::Condition;
use crate::model::ids::{DestinationId, RuleId, SilenceId, TenantId};
use crate::model::rule::{Escalation, Rule, Severity};
use crate::model::selector::{DevicePattern, Selector, tags_from_json};
use crate::model::silence::Silence;

/// A row of `rules`, with all columns of its definition.
///
/// # Errors
/// Says which column makes no sense, and why.
pub fn rule_from_row(row: &Row) -> Result<Rule, String> {
    let named = |column: &'static str| move |problem: String| format!("{column}: {problem}");
    let condition = Condition::from_json(row.get("condition")).map_err(named("condition"))?;
    let severity: &str = row.get("severity");
    let severity = Severity::parse(severity).ok_or_else(|| format!("severity: {severity}"))?;
    let escalations = Escalation::list_from_json(row.get("escalations"), &condition.check, severity)
        .map_err(named("escalations"))?;
    let destinations: Vec<uuid::Uuid> = row.get("destination_ids");
    let micros = |column: &str| i64::from(row.get::<_, i32>(column)) * 1_000_000;
    Ok(Rule {
        id: RuleId(row.get("rule_id")),
        version: row.get("version"),
        tenant: TenantId(row.get("tenant_id")),
        name: row.get::<_, &str>("name").into(),
        metric: row.get("metric"),
        devices: Selector {
            ids: row.get::<_, Option<Vec<String>>>("device_ids").map(|ids| ids.into_iter().collect()),
            pattern: DevicePattern::new(row.get::<_, &str>("device_pattern")),
            tags: tags_from_json(row.get("device_tags")).map_err(named("device_tags"))?,
        },
        condition,
        severity,
        escalations,
        cooldown_micros: micros("cooldown_seconds"),
        resolve_after_micros: micros("resolve_after_seconds"),
        reminder_micros: row
            .get::<_, Option<i32>>("reminder_seconds")
            .map(|seconds| i64::from(seconds) * 1_000_000),
        labels: tags_from_json(row.get("labels")).map_err(named("labels"))?,
        runbook_url: row.get("runbook_url"),
        destinations: destinations.into_iter().map(DestinationId).collect(),
    })
}

/// A row of `silences`.
///
/// # Errors
/// Says which column makes no sense, and why.
pub fn silence_from_row(row: &Row) -> Result<Silence, String> {
    Ok(Silence {
        id: SilenceId(row.get("silence_id")),
        tenant: TenantId(row.get("tenant_id")),
        rule: row.get::<_, Option<uuid::Uuid>>("rule_id").map(RuleId),
        devices: Selector {
            ids: None,
            pattern: DevicePattern::new(row.get::<_, Option<&str>>("device_pattern").unwrap_or("*")),
            tags: tags_from_json(row.get("device_tags"))
                .map_err(|problem| format!("device_tags: {problem}"))?,
        },
        starts_at: row.get::<_, Timestamp>("starts_at").into(),
        ends_at: row.get::<_, Timestamp>("ends_at").into(),
    })
}
