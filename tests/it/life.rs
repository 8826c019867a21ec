//! The life of an alert, from the readings to the receiver: over and back again, worse, not acknowledged, and told to a
//! receiver that was away.

use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use serde_json::{Value, json};

use super::support::app::{TestApp, reading};
use super::support::wait::until;

/// An hour ago: all of the test's readings lie after it.
fn start() -> Timestamp {
    let now = Timestamp::now().as_second();
    Timestamp::from_second(now - 3600).unwrap()
}

fn minute(start: Timestamp, minute: i64) -> Timestamp {
    start + SignedDuration::from_mins(minute)
}

/// Temperatures of `pump-1` at these minutes, each judged before the next.
async fn judge(app: &TestApp, start: Timestamp, readings: &[(i64, f64)]) {
    for (at, value) in readings {
        let ts = minute(start, *at);
        let body = json!({ "device": "pump-1", "metric": "temperature", "value": value, "ts": ts });
        app.publish(body).await;
        app.wait_until_judged().await;
    }
}

/// A time of what was told.
fn told(body: &Value, name: &str) -> Timestamp {
    body["payload"][name].as_str().unwrap_or_else(|| panic!("no {name}: {body}")).parse().unwrap()
}

fn events(heard: &[Value]) -> Vec<&str> {
    heard.iter().map(|body| body["event_type"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn an_alert_resolves_by_itself_and_is_reopened_within_its_cooldown_without_a_word() {
    let mut app = TestApp::running(&[]).await;
    let start = start();
    judge(&app, start, &[(0, 90.0)]).await;
    app.wait_for_delivered(1).await;
    judge(&app, start, &[(1, 20.0), (5, 20.0)]).await;
    let alert = app.alert_of("pump-1").await;
    assert_eq!(app.alert(alert).await["state"], "open", "it was clear for four minutes");
    judge(&app, start, &[(6, 20.0)]).await;
    app.wait_for_delivered(2).await;
    let heard = app.heard();
    assert_eq!(events(&heard), ["alert.opened", "alert.resolved"]);
    assert_eq!(heard[0]["payload"]["ended_at"], Value::Null);
    assert_eq!((told(&heard[1], "breached_at"), told(&heard[1], "ended_at")), (start, minute(start, 1)));
    assert!(heard[1]["payload"]["summary"].as_str().unwrap().starts_with("Over: "), "{}", heard[1]);

    judge(&app, start, &[(7, 91.0)]).await;
    let row = app.alert(alert).await;
    assert_eq!(
        (&row["state"], &row["ended_at"], &row["resolved_at"]),
        (&json!("open"), &Value::Null, &Value::Null)
    );
    judge(&app, start, &[(8, 20.0), (13, 20.0)]).await;
    let row = app.alert(alert).await;
    assert_eq!((&row["state"], &row["episodes"]), (&json!("resolved"), &json!(2)));
    assert_eq!(row["ended_at"].as_str().unwrap().parse::<Timestamp>().unwrap(), minute(start, 8));
    assert_eq!(
        app.timeline(alert).await,
        ["opened: notified", "resolved", "reopened: cooled_down", "resolved"]
    );
    assert_eq!(app.count("SELECT count(*) FROM alerts").await, 1);
    assert_eq!(
        app.count("SELECT count(*) FROM notifications").await,
        2,
        "who heard that it is over knows all"
    );
    app.assert_verified().await;
    app.stop().await;
}

#[tokio::test]
async fn flapping_never_swallows_the_last_state() {
    let mut app = TestApp::running(&[]).await;
    app.set_hot("resolve_after_seconds = 0").await;
    let start = start();
    // On and off within the cooldown, and still on when it ends.
    judge(&app, start, &[(0, 90.0)]).await;
    app.wait_for_delivered(1).await;
    judge(&app, start, &[(1, 20.0), (3, 90.0), (4, 20.0)]).await;
    app.wait_for_delivered(2).await;
    judge(&app, start, &[(6, 90.0), (15, 90.0)]).await;
    app.wait_for_delivered(3).await;
    assert_eq!(events(&app.heard()), ["alert.opened", "alert.resolved", "alert.still_burning"]);
    judge(&app, start, &[(16, 20.0)]).await;
    app.wait_for_delivered(4).await;
    let heard = app.heard();
    assert_eq!(heard[3]["event_type"], "alert.resolved");
    assert_eq!((told(&heard[3], "breached_at"), told(&heard[3], "ended_at")), (start, minute(start, 16)));
    assert_eq!(heard[3]["payload"]["episode"], 3);
    app.assert_verified().await;
    app.stop().await;
}

#[tokio::test]
async fn severity_rises_while_it_is_open_and_people_hear_of_it() {
    let mut app = TestApp::running(&[]).await;
    app.set_hot(
        r#"severity = 'warning', escalations = '[{"severity": "error", "after_seconds": 600},
                                                 {"severity": "critical", "beyond": 95}]'"#,
    )
    .await;
    let start = start();
    judge(&app, start, &[(0, 90.0), (9, 91.0)]).await;
    app.wait_for_delivered(1).await;
    let alert = app.alert_of("pump-1").await;
    assert_eq!(app.alert(alert).await["severity"], "warning");
    judge(&app, start, &[(10, 91.0)]).await;
    app.wait_for_delivered(2).await;
    judge(&app, start, &[(11, 96.0), (12, 91.0)]).await;
    app.wait_for_delivered(3).await;
    assert_eq!(app.alert(alert).await["severity"], "critical", "it never falls");
    let heard = app.heard();
    let said: Vec<_> = heard
        .iter()
        .map(|body| (&body["event_type"], body["payload"]["severity"].as_str().unwrap()))
        .collect();
    assert_eq!(
        said,
        [
            (&json!("alert.opened"), "warning"),
            (&json!("alert.escalated"), "error"),
            (&json!("alert.escalated"), "critical")
        ]
    );
    assert_eq!(
        app.timeline(alert).await,
        ["opened: notified", "escalated: from warning to error", "escalated: from error to critical"]
    );
    app.assert_verified().await;
    app.stop().await;
}

#[tokio::test]
async fn while_nobody_acknowledges_it_people_are_reminded_and_then_no_more() {
    let mut app = TestApp::running(&[]).await;
    app.set_hot("reminder_seconds = 1").await;
    app.publish(json!([
        reading("pump-1", "temperature", 90.0, 1),
        reading("pump-2", "temperature", 90.0, 1)
    ]))
    .await;
    app.wait_for_count("SELECT count(*) FROM alerts", 2).await;
    let (taken, left) = (app.alert_of("pump-1").await, app.alert_of("pump-2").await);
    let reminders =
        async |alert: uuid::Uuid| app.timeline(alert).await.iter().filter(|line| *line == "reminded").count();
    until("two reminders", async || (reminders(taken).await >= 2).then_some(())).await;
    app.ask(Method::POST, &format!("/api/alerts/{taken}/acknowledge"), &json!({ "note": "on my way" })).await;
    // The other goes on: what would remind had its chance.
    let before = reminders(left).await;
    until("more of the other", async || (reminders(left).await >= before + 2).then_some(())).await;
    let timeline = app.timeline(taken).await;
    assert_eq!(timeline.last().unwrap(), "acknowledged: on my way");
    let reminded = i64::try_from(reminders(taken).await).unwrap();
    let told =
        format!("SELECT count(*) FROM notifications WHERE event = 'reminded' AND alert_id = '{taken}'");
    assert_eq!(app.count(&told).await, reminded);
    let delivered = format!(
        "SELECT count(*) FROM deliveries WHERE status = 'delivered' AND event = 'reminded' AND alert_id = '{taken}'"
    );
    app.wait_for_count(&delivered, reminded).await;
    app.stop().await;
    app.assert_verified().await;
}

#[tokio::test]
async fn what_opened_and_closed_while_the_receiver_was_down_is_told_with_both_times_when_it_is_back() {
    let mut app = TestApp::running(&[]).await;
    app.hub.take_down().await;
    let start = start();
    judge(&app, start, &[(0, 90.0)]).await;
    app.wait_for_more("SELECT count(*) FROM delivery_attempts", 0).await;
    judge(&app, start, &[(2, 20.0), (7, 20.0)]).await;
    assert_eq!(app.count("SELECT count(*) FROM alerts WHERE state = 'resolved'").await, 1);
    assert_eq!(app.count("SELECT count(*) FROM outbox").await, 2, "both wait for it");
    assert_eq!(app.heard(), Vec::<Value>::new());
    app.hub.restart().await.unwrap();
    app.wait_for_delivered(2).await;
    let opened = app.heard_of("alert.opened").remove(0);
    assert_eq!(told(&opened, "breached_at"), start);
    let over = app.heard_of("alert.resolved").remove(0);
    assert_eq!(over["payload"]["alert_id"], opened["payload"]["alert_id"]);
    assert_eq!((told(&over, "breached_at"), told(&over, "ended_at")), (start, minute(start, 2)));
    app.assert_verified().await;
    app.stop().await;
}
