//! The workflow engine and the NATS event: `{"event", "notification_id", "alert"}`, or `group` where it tells of many.

use serde_json::json;

use super::payload::{event_type, group_payload, payload};
use super::told::{GroupNotice, Notice};

/// The body of the engine's webhook, and of the event on `alerts.<tenant>`.
pub fn render(notice: &Notice<'_>) -> String {
    json!({ "event": event_type(notice.event), "notification_id": notice.id, "alert": payload(notice) })
        .to_string()
}

/// The same, of many alerts.
pub fn render_group(group: &GroupNotice<'_>) -> String {
    let event = group.first().map(|first| event_type(first.event));
    json!({ "event": event, "notification_id": group.id, "group": group_payload(group) }).to_string()
}
