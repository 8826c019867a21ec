//! No storm: many alerts that one rule opens at once are one notice that lists them.

use serde_json::Value;

use super::support::app::{TestApp, reading};

/// As in production: ten notices are still read.
const GROUP_ABOVE: [(&str, &str); 1] = [("detect.group_above", "10")];

/// So many devices breach `hot`, in one message.
async fn breach(app: &TestApp, devices: usize) {
    let readings = (1..=devices).map(|n| reading(&format!("pump-{n}"), "temperature", 90.0, 1));
    app.publish(Value::from(readings.collect::<Vec<_>>())).await;
    app.wait_until_judged().await;
    assert_eq!(app.count("SELECT count(*) FROM alerts").await, i64::try_from(devices).unwrap());
}

/// How many alerts opened with this disposition.
async fn opened(app: &TestApp, disposition: &str) -> i64 {
    let query =
        format!("SELECT count(*) FROM alert_events WHERE kind = 'opened' AND disposition = '{disposition}'");
    app.count(&query).await
}

/// The alerts that a notice lists, sorted.
fn listed(body: &Value) -> Vec<String> {
    let alerts = body["payload"]["alerts"].as_array().unwrap().iter();
    let mut ids: Vec<String> = alerts.map(|alert| alert["alert_id"].as_str().unwrap().to_owned()).collect();
    ids.sort_unstable();
    ids
}

/// The ids of a table's alerts, sorted.
async fn ids(app: &TestApp, table: &str) -> Vec<String> {
    let query = format!("SELECT alert_id::text FROM {table} ORDER BY 1");
    app.owner().query(&query, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn eleven_alerts_at_once_are_one_notice_that_lists_them_and_is_linked_to_each() {
    let mut app = TestApp::running(&GROUP_ABOVE).await;
    breach(&app, 11).await;
    app.wait_for_delivered(1).await;
    assert_eq!(app.count("SELECT count(*) FROM notifications").await, 1);
    assert_eq!(opened(&app, "grouped").await, 11);

    let heard = app.heard();
    assert_eq!(heard.len(), 1, "{heard:?}");
    let alerts = ids(&app, "alerts").await;
    assert_eq!(heard[0]["event_type"], "alert.opened");
    assert_eq!(heard[0]["payload"]["alert_count"], 11);
    assert_eq!(heard[0]["payload"]["severity"], "critical");
    assert_eq!(heard[0]["payload"]["rule"]["name"], "hot");
    assert_eq!(listed(&heard[0]), alerts);
    assert_eq!(ids(&app, "notification_alerts").await, alerts);
    for short in heard[0]["payload"]["alerts"].as_array().unwrap() {
        let device = short["device"].as_str().unwrap();
        assert!(short["summary"].as_str().unwrap().contains(device), "{short}");
    }

    let group = heard[0]["event_id"].clone();
    for alert in &alerts {
        let whole = app.get(&format!("/api/alerts/{alert}")).await;
        let deliveries = whole["deliveries"].as_array().unwrap();
        assert_eq!(deliveries.len(), 1, "{whole}");
        assert_eq!((&deliveries[0]["notification_id"], &deliveries[0]["alerts"]), (&group, &11.into()));
        assert_eq!(deliveries[0]["status"], "delivered");
        assert_eq!(whole["events"][0]["disposition"], "grouped", "{whole}");
    }
    app.assert_verified().await;
    app.stop().await;
}

#[tokio::test]
async fn ten_alerts_at_once_are_ten_notices() {
    let mut app = TestApp::running(&GROUP_ABOVE).await;
    breach(&app, 10).await;
    app.wait_for_delivered(10).await;
    assert_eq!(opened(&app, "notified").await, 10);
    assert_eq!(app.count("SELECT count(*) FROM notification_alerts").await, 0);
    let mut told: Vec<String> =
        app.heard().iter().map(|body| body["payload"]["alert_id"].as_str().unwrap().to_owned()).collect();
    told.sort_unstable();
    assert_eq!(told, ids(&app, "alerts").await);
    app.assert_verified().await;
    app.stop().await;
}

#[tokio::test]
async fn eleven_open_and_ten_of_them_are_over_at_once() {
    let mut app = TestApp::running(&GROUP_ABOVE).await;
    app.set_hot("cooldown_seconds = 0, resolve_after_seconds = 0").await;
    let mut readings = Vec::new();
    for n in 1..=11 {
        let device = format!("pump-{n}");
        readings.push(reading(&device, "temperature", 90.0, 2));
        if n > 1 {
            readings.push(reading(&device, "temperature", 20.0, 1));
        }
    }
    app.publish(Value::from(readings)).await;
    app.wait_until_judged().await;
    app.wait_for_delivered(11).await;

    // Ten that are over are few enough to be told alone; the notice that they opened was one of eleven all the same.
    assert_eq!(opened(&app, "grouped").await, 11);
    let (opened, resolved) = (app.heard_of("alert.opened"), app.heard_of("alert.resolved"));
    assert_eq!((opened.len(), resolved.len()), (1, 10));
    assert_eq!(listed(&opened[0]), ids(&app, "alerts").await);
    let burning = app.alert_of("pump-1").await;
    assert!(resolved.iter().all(|body| body["payload"]["alert_id"] != burning.to_string()));
    assert_eq!(app.timeline(burning).await, ["opened: grouped"]);
    let over = app.alert_of("pump-2").await;
    assert_eq!(app.timeline(over).await, ["opened: grouped", "resolved"]);
    app.assert_verified().await;
    app.stop().await;
}
