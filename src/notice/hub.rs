//! The notification hub: `{"event_type", "event_id", "payload"}`.
//!
//! The hub drops repeats by `event_id` and does not look at `event_type`: the id is the notification's, never the
//! alert's. It ignores other keys at the top, so everything else goes into `payload`; `payload._metadata` is kept with
//! the hub's own record.

use serde_json::{Value, json};

use super::payload::{event_type, group_payload, payload};
use super::told::{GroupNotice, Notice};
use crate::model::alert::Happening;
use crate::model::ids::NotificationId;

/// The body of `POST /api/events`.
pub fn render(notice: &Notice<'_>) -> String {
    event(notice.id, Some(notice.event), payload(notice))
}

/// The same, of many alerts.
pub fn render_group(group: &GroupNotice<'_>) -> String {
    event(group.id, group.first().map(|first| first.event), group_payload(group))
}

fn event(id: NotificationId, event: Option<Happening>, mut payload: Value) -> String {
    payload["_metadata"] = json!({ "source": "watchbell", "notification_id": id });
    json!({ "event_type": event.map(event_type), "event_id": id, "payload": payload }).to_string()
}

#[cfg(test)]
mod tests;
