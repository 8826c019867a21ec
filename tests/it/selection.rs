//! From a rule that was made over HTTP to its alerts: on the devices that it selects, and from the next reading on.

use reqwest::Method;
use serde_json::{Value, json};
use watchbell::runtime::{Role, Roles};

use super::support::app::{TestApp, reading};

async fn started() -> TestApp {
    let mut app = TestApp::new(&[]).await;
    app.start(Roles::of(&[Role::Ingest, Role::Detect, Role::Api])).await;
    app
}

async fn call(app: &TestApp, method: Method, path: &str, body: Value) -> Value {
    let address = app.running.as_ref().unwrap().api_address.unwrap();
    let request = reqwest::Client::new().request(method, format!("http://{address}{path}"));
    let answer = request.bearer_auth(&app.api_key).json(&body).send().await.unwrap();
    assert!(answer.status().is_success(), "{path}: {}", answer.text().await.unwrap());
    answer.json().await.unwrap()
}

async fn make(app: &TestApp, name: &str, devices: Value) -> String {
    let rule = json!({ "name": name, "metric": "pressure", "severity": "warning", "devices": devices,
                       "condition": { "kind": "above_threshold", "threshold": 10 },
                       "destination_ids": [app.destination.0] });
    let made = call(app, Method::POST, "/api/rules", rule).await;
    format!("/api/rules/{}", made["rule_id"].as_str().unwrap())
}

/// Which device which rule fired on, by name.
async fn fired(app: &TestApp) -> Vec<String> {
    let query = "SELECT r.name || ' on ' || d.external_id FROM alerts a JOIN rules r USING (rule_id)
                 JOIN series s USING (series_id) JOIN devices d USING (device_id) ORDER BY 1";
    app.owner().query(query, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

async fn publish(app: &TestApp, devices: &[&str], value: f64, seconds_ago: i64) {
    let readings: Vec<Value> =
        devices.iter().map(|device| reading(device, "pressure", value, seconds_ago)).collect();
    app.publish(Value::from(readings)).await;
    app.wait_until_judged().await;
}

#[tokio::test]
async fn a_rule_fires_only_on_the_devices_that_it_selects() {
    let mut app = started().await;
    let devices = ["pump-1", "pump-2", "fan-1"];
    publish(&app, &devices, 1.0, 60).await;
    call(&app, Method::PUT, "/api/devices/pump-1/tags", json!({ "site": "north", "floor": "2" })).await;
    call(&app, Method::PUT, "/api/devices/fan-1/tags", json!({ "site": "north" })).await;
    make(&app, "all", json!({})).await;
    make(&app, "by id", json!({ "ids": ["pump-2", "nobody"] })).await;
    make(&app, "by pattern", json!({ "pattern": "pump-*" })).await;
    make(&app, "by tag", json!({ "tags": { "site": "north" } })).await;
    make(&app, "by two tags", json!({ "tags": { "site": "north", "floor": "2" } })).await;
    make(&app, "by pattern and tag", json!({ "pattern": "f*", "tags": { "site": "north" } })).await;
    make(&app, "nobody", json!({ "ids": ["pump-1"], "pattern": "fan-*" })).await;
    publish(&app, &devices, 11.0, 1).await;
    assert_eq!(
        fired(&app).await,
        [
            "all on fan-1",
            "all on pump-1",
            "all on pump-2",
            "by id on pump-2",
            "by pattern and tag on fan-1",
            "by pattern on pump-1",
            "by pattern on pump-2",
            "by tag on fan-1",
            "by tag on pump-1",
            "by two tags on pump-1",
        ]
    );
    app.stop().await;
}

#[tokio::test]
async fn a_device_that_gets_a_tag_is_selected_from_the_next_reading_on_and_no_more_without_it() {
    let mut app = started().await;
    make(&app, "north", json!({ "tags": { "site": "north" } })).await;
    publish(&app, &["pump-1", "pump-2"], 11.0, 60).await;
    assert_eq!(fired(&app).await, Vec::<String>::new());
    call(&app, Method::PUT, "/api/devices/pump-1/tags", json!({ "site": "north" })).await;
    publish(&app, &["pump-1", "pump-2"], 11.0, 30).await;
    assert_eq!(fired(&app).await, ["north on pump-1"]);
    call(&app, Method::PUT, "/api/devices/pump-1/tags", json!({})).await;
    call(&app, Method::PUT, "/api/devices/pump-2/tags", json!({ "site": "north" })).await;
    publish(&app, &["pump-1", "pump-2"], 12.0, 1).await;
    assert_eq!(fired(&app).await, ["north on pump-1", "north on pump-2"]);
    app.stop().await;
}

#[tokio::test]
async fn a_change_over_http_acts_on_the_next_reading() {
    let mut app = started().await;
    let rule = make(&app, "high", json!({})).await;
    publish(&app, &["pump-1"], 9.0, 60).await;
    assert_eq!(fired(&app).await, Vec::<String>::new());
    // Nothing is waited for: whatever is published after the answer is judged by the rule as it is then.
    call(&app, Method::PATCH, &rule, json!({ "condition": { "threshold": 8 } })).await;
    publish(&app, &["pump-1"], 9.0, 30).await;
    assert_eq!(fired(&app).await, ["high on pump-1"]);
    assert_eq!(app.count("SELECT rule_version::bigint FROM alerts").await, 2);
    call(&app, Method::DELETE, &rule, json!({})).await;
    publish(&app, &["pump-1", "pump-2"], 99.0, 1).await;
    assert_eq!(fired(&app).await, ["high on pump-1"]);
    // Its alerts are over, or they would stay open for ever.
    app.wait_for_count("SELECT count(*) FROM alerts WHERE state = 'resolved'", 1).await;
    app.stop().await;
}
