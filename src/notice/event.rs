//! The workflow engine and the NATS event: `{"event", "notification_id", "alert"}`.

use serde_json::json;

use super::payload::{event_type, payload};
use super::told::Notice;

/// The body of the engine's webhook, and of the event on `alerts.<tenant>`.
pub fn render(notice: &Notice<'_>) -> String {
    json!({ "event": event_type(notice), "notification_id": notice.id, "alert": payload(notice) }).to_string()
}
