//! What every JSON receiver is told, under the same names.

use serde_json::{Value, json};

use super::sentence::{group_summary, summary};
use super::told::{GroupNotice, Notice};
use crate::model::alert::Happening;

/// One notice lists no more alerts than this: receivers take no more than a mebibyte, and nobody reads on. All of them are
/// linked to it in the database, and counted in it.
const MOST_LISTED: usize = 500;

/// The alert, for programs and with one sentence for people.
pub fn payload(notice: &Notice<'_>) -> Value {
    let (alert, life) = (notice.alert, notice.life);
    let mut payload = json!({
        "summary": summary(notice),
        "alert_id": alert.id,
        "state": life.state,
        "severity": life.severity,
        "class": alert.decision.evidence.class(),
        "rule": {
            "id": alert.rule,
            "version": alert.rule_version,
            "name": notice.rule.name,
            "labels": notice.rule.labels,
            "runbook_url": notice.rule.runbook_url,
        },
        "device": notice.device,
        "tags": alert.tags,
        "metric": notice.metric,
        "unit": notice.unit,
        "value": alert.decision.value,
        "evidence": alert.decision.evidence,
        "decided_at": alert.decision.ts.to_timestamp(),
        "breached_at": alert.breached_at.to_timestamp(),
        "fired_at": alert.fired_at.to_timestamp(),
        "ended_at": life.ended_at.map(|at| at.to_timestamp()),
        "episode": life.episodes,
        "late": alert.late,
        "points": alert.points,
        "link": notice.link,
        "by": notice.by,
    });
    if !notice.supersedes.is_empty() {
        payload["supersedes"] = json!(notice.supersedes);
    }
    payload
}

/// Many alerts of one rule, each in short.
pub fn group_payload(group: &GroupNotice<'_>) -> Value {
    let Some(first) = group.first() else { return Value::Null };
    let listed: Vec<Value> = group.notices.iter().take(MOST_LISTED).map(short).collect();
    json!({
        "summary": group_summary(group),
        "severity": group.notices.iter().map(|notice| notice.life.severity).min(),
        "rule": {
            "id": first.alert.rule,
            "name": first.rule.name,
            "labels": first.rule.labels,
            "runbook_url": first.rule.runbook_url,
        },
        "metric": first.metric,
        "alert_count": group.notices.len(),
        "alerts": listed,
    })
}

fn short(notice: &Notice<'_>) -> Value {
    json!({
        "alert_id": notice.alert.id,
        "device": notice.device,
        "state": notice.life.state,
        "severity": notice.life.severity,
        "value": notice.alert.decision.value,
        "breached_at": notice.alert.breached_at.to_timestamp(),
        "ended_at": notice.life.ended_at.map(|at| at.to_timestamp()),
        "summary": summary(notice),
        "link": notice.link,
    })
}

/// `alert.opened` and the like.
pub fn event_type(event: Happening) -> String {
    format!("alert.{}", event.as_str())
}
