//! The notification hub: `{"event_type", "event_id", "payload"}`.
//!
//! The hub drops repeats by `event_id` and does not look at `event_type`: the id is the notification's, never the
//! alert's. It ignores other keys at the top, so everything else goes into `payload`; `payload._metadata` is kept with
//! the hub's own record.

use serde_json::json;

use super::payload::{event_type, payload};
use super::told::Notice;

/// The body of `POST /api/events`.
pub fn render(notice: &Notice<'_>) -> String {
    let mut payload = payload(notice);
    payload["_metadata"] = json!({ "source": "watchbell", "notification_id": notice.id });
    json!({ "event_type": event_type(notice), "event_id": notice.id, "payload": payload }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::alert::{Alert, Evidence};
    use crate::model::ids::{AlertId, NotificationId, RuleId, SeriesId, TenantId};
    use crate::model::notification::Event;
    use crate::model::reading::UnixMicros;
    use crate::model::rule::Severity;

    #[test]
    fn the_hub_is_told_under_the_notifications_own_id() {
        let alert = Alert {
            id: AlertId::new(),
            tenant: TenantId(1),
            rule: RuleId::new(),
            rule_version: 3,
            series: SeriesId(1),
            severity: Severity::Critical,
            breached_at: UnixMicros(1_790_000_000_000_000),
            value: 91.25,
            evidence: Evidence::AboveThreshold { threshold: 80.0 },
            late: false,
            historical: false,
        };
        let id = NotificationId::new();
        let notice = Notice {
            id,
            event: Event::Opened,
            alert: &alert,
            rule: "hot",
            device: "pump-1",
            metric: "temperature",
            unit: Some("°C"),
        };
        let body: serde_json::Value = serde_json::from_str(&render(&notice)).unwrap();
        assert_eq!(body["event_type"], "alert.opened");
        assert_eq!(body["event_id"], id.to_string());
        assert_eq!(body["payload"]["_metadata"]["notification_id"], id.to_string());
        assert_eq!(body["payload"]["summary"], "temperature of pump-1 is 91.25 °C, above 80 °C");
        assert_eq!(body["payload"]["breached_at"], "2026-09-21T14:13:20Z");
        assert_eq!(body["payload"]["severity"], "critical");
    }
}
