use super::*;
use crate::model::alert::{Alert, AlertState, Decision, Life, Told};
use crate::model::evidence::Evidence;
use crate::model::ids::{AlertId, RuleId, SeriesId, TenantId};
use crate::model::reading::UnixMicros;
use crate::model::rule::Severity;
use crate::model::selector::Tags;
use crate::notice::told::RuleFacts;

const AT: UnixMicros = UnixMicros(1_790_000_000_000_000);

fn alert(evidence: Evidence, value: f64) -> Alert {
    Alert {
        id: AlertId::new(),
        tenant: TenantId(1),
        rule: RuleId::new(),
        rule_version: 3,
        series: SeriesId(1),
        breached_at: AT,
        fired_at: AT,
        decision: Decision { ts: AT, value, evidence },
        tags: [("site".to_owned(), "north".to_owned())].into(),
        points: vec![(AT.to_timestamp(), value)],
        late: false,
    }
}

fn life(alert: &Alert) -> Life {
    Life {
        alert: alert.id,
        state: AlertState::Open,
        severity: Severity::Critical,
        episodes: 1,
        breached_at: AT,
        ended_at: None,
        historical: false,
        silence: None,
        told: Told::Open,
        told_at: None,
        told_destinations: Vec::new(),
    }
}

fn notice<'a>(alert: &'a Alert, life: &'a Life, labels: &'a Tags, event: Happening) -> Notice<'a> {
    Notice {
        id: NotificationId::new(),
        event,
        alert,
        life,
        rule: RuleFacts { name: "hot", labels, runbook_url: Some("https://wiki.example/hot") },
        device: "pump-1",
        metric: "temperature",
        unit: Some("°C"),
        link: Some(format!("https://watchbell.example/alerts/{}", alert.id)),
        by: None,
        supersedes: &[],
    }
}

fn body(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn the_hub_is_told_under_the_notifications_own_id() {
    let alert = alert(Evidence::AboveThreshold { threshold: 80.0 }, 91.25);
    let (life, labels) = (life(&alert), Tags::new());
    let notice = notice(&alert, &life, &labels, Happening::Opened);
    let body = body(&render(&notice));
    assert_eq!(body["event_type"], "alert.opened");
    assert_eq!(body["event_id"], notice.id.to_string());
    let payload = &body["payload"];
    assert_eq!(payload["_metadata"]["notification_id"], notice.id.to_string());
    let expected = "temperature of pump-1 is 91.25 °C, above 80 °C, since 2026-09-21 14:13:20 UTC (rule hot)";
    assert_eq!(payload["summary"], expected);
    assert_eq!(payload["breached_at"], "2026-09-21T14:13:20Z");
    assert_eq!(payload["severity"], "critical");
    assert_eq!(payload["class"], "spike above");
    assert_eq!(payload["tags"]["site"], "north");
    assert_eq!(payload["points"][0][1], 91.25);
    assert_eq!(payload["link"], format!("https://watchbell.example/alerts/{}", alert.id));
    assert_eq!(payload["rule"]["runbook_url"], "https://wiki.example/hot");
}

#[test]
fn each_condition_has_a_sentence() {
    let labels = Tags::new();
    for (evidence, value, expected) in [
        (Evidence::BelowThreshold { threshold: 1.0 }, 0.5, "is 0.5 °C, below 1 °C"),
        (
            Evidence::OutsideRange { lowest: 1.0, highest: 5.0, above: true },
            6.0,
            "is 6 °C, above the range 1 to 5 °C",
        ),
        (
            Evidence::DeviationFromMean {
                mean: 50.0,
                sigma: 1.0,
                z: -7.25,
                k: 5.0,
                n: 60,
                window_minutes: 60,
            },
            42.75,
            "is 42.75 °C, 7.2 standard deviations below 50 °C, the mean of 60 minutes before",
        ),
        (
            Evidence::RateOfChange {
                rate: -30.0,
                limit: 6.0,
                per_seconds: 60,
                previous_value: 25.0,
                previous_seconds: 10.0,
            },
            20.0,
            "fell from 25 °C to 20 °C in 10 s, faster than 6 °C in 60 s",
        ),
        (
            Evidence::Stuck { lowest: 7.0, highest: 7.0, tolerance: 0.1, n: 9, window_minutes: 10 },
            7.0,
            "has not changed by more than 0.1 °C for 10 minutes: it is 7 °C",
        ),
        (
            Evidence::NoData { interval_seconds: 300 },
            7.0,
            "is silent for more than 5 min: the last reading was 7 °C at 2026-09-21 14:13:20 UTC",
        ),
    ] {
        let alert = alert(evidence, value);
        let life = life(&alert);
        let body = body(&render(&notice(&alert, &life, &labels, Happening::Opened)));
        let summary = body["payload"]["summary"].as_str().unwrap();
        assert!(summary.contains(expected), "{summary}");
    }
}

#[test]
fn what_is_over_is_told_with_both_times() {
    let alert = alert(Evidence::AboveThreshold { threshold: 80.0 }, 91.25);
    let labels = Tags::new();
    let mut life = life(&alert);
    life.state = AlertState::Resolved;
    life.ended_at = Some(UnixMicros(AT.0 + 60_000_000));
    let body = body(&render(&notice(&alert, &life, &labels, Happening::Resolved)));
    assert_eq!(body["event_type"], "alert.resolved");
    assert_eq!(body["payload"]["state"], "resolved");
    assert_eq!(body["payload"]["ended_at"], "2026-09-21T14:14:20Z");
    let summary = body["payload"]["summary"].as_str().unwrap();
    assert!(
        summary.starts_with("Over: ") && summary.ends_with("clear since 2026-09-21 14:14:20 UTC"),
        "{summary}"
    );
}

#[test]
fn many_at_once_are_one_notice_that_lists_them() {
    let alerts: Vec<_> =
        (0..12).map(|n| alert(Evidence::AboveThreshold { threshold: 80.0 }, 90.0 + f64::from(n))).collect();
    let lives: Vec<_> = alerts.iter().map(life).collect();
    let labels = Tags::new();
    let notices: Vec<_> = alerts
        .iter()
        .zip(&lives)
        .map(|(alert, life)| notice(alert, life, &labels, Happening::Opened))
        .collect();
    let group = GroupNotice { id: NotificationId::new(), notices: &notices };
    let body = body(&render_group(&group));
    assert_eq!(body["event_type"], "alert.opened");
    assert_eq!(body["event_id"], group.id.to_string());
    assert_eq!(body["payload"]["summary"], "12 alerts opened: hot (temperature)");
    assert_eq!(body["payload"]["alert_count"], 12);
    let listed = body["payload"]["alerts"].as_array().unwrap();
    assert_eq!(listed.len(), 12);
    assert_eq!(listed[11]["alert_id"], alerts[11].id.to_string());
}
