//! What every JSON receiver is told, under the same names.

use serde_json::{Value, json};

use super::sentence::sentence;
use super::told::Notice;

/// The alert, for programs and with one sentence for people.
pub fn payload(notice: &Notice<'_>) -> Value {
    let alert = notice.alert;
    json!({
        "summary": sentence(notice),
        "alert_id": alert.id,
        "severity": alert.severity,
        "rule": { "id": alert.rule, "version": alert.rule_version, "name": notice.rule },
        "device": notice.device,
        "metric": notice.metric,
        "unit": notice.unit,
        "value": alert.value,
        "evidence": alert.evidence,
        "breached_at": alert.breached_at.to_timestamp(),
        "late": alert.late,
    })
}

/// `alert.opened` and the like.
pub fn event_type(notice: &Notice<'_>) -> String {
    format!("alert.{}", notice.event.as_str())
}
