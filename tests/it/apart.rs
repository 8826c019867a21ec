//! Detection apart from the rest: in a process of its own, without a broker; and what people change reaches every process.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;
use watchbell::runtime::{Role, Roles};

use super::support::app::{TestApp, reading, temperature};
use super::support::wait::until;

/// A second, and what a machine that does much else may add. Who was not told finds out when it starts again, or never.
const AT_ONCE: Duration = Duration::from_secs(5);

const ALERTS: &str = "SELECT count(*) FROM alerts";
const HOLDER: &str = "SELECT count(*) FROM leases WHERE name = 'detect' AND expires_at > now()";

/// The id of the rule `hot`, as a path.
async fn hot(app: &TestApp) -> String {
    let query = "SELECT rule_id::text FROM rules WHERE name = 'hot'";
    let id: String = app.owner().query_one(query, &[]).await.unwrap().get(0);
    format!("/api/rules/{id}")
}

fn above(threshold: f64) -> serde_json::Value {
    json!({ "condition": { "kind": "above_threshold", "threshold": threshold } })
}

/// A service whose API this process runs, and two processes that ingest and detect; the first detects.
async fn two_detectors() -> (TestApp, [super::support::process::Process; 2]) {
    let mut app = TestApp::new(&[]).await;
    app.make_stream().await;
    app.start(Roles::of(&[Role::Api])).await;
    let first = app.spawn("ingest,detect");
    app.wait_for_count(HOLDER, 1).await;
    let second = app.spawn("ingest,detect");
    second.log_when("watchbell runs").await;
    (app, [first, second])
}

/// Publishes readings of ever new devices until an alert more is there.
async fn until_one_more(app: &TestApp, value: f64, device: &str) {
    let before = app.count(ALERTS).await;
    let mut n = 0;
    until("an alert more", async || {
        n += 1;
        app.publish(reading(&format!("{device}-{n}"), "temperature", value, 0)).await;
        (app.count(ALERTS).await > before).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_rule_changed_over_http_acts_at_once_in_the_detector_that_is_active_and_in_the_one_that_takes_over()
{
    let (mut app, [first, second]) = two_detectors().await;
    let rule = hot(&app).await;
    app.publish(temperature(70.0, 1)).await;
    app.wait_until_judged().await;
    assert_eq!(app.count(ALERTS).await, 0);

    app.ask(Method::PATCH, &rule, &above(60.0)).await;
    let changed = Instant::now();
    until_one_more(&app, 70.0, "pump").await;
    assert!(changed.elapsed() < AT_ONCE, "took {:?}", changed.elapsed());
    assert_eq!(app.count("SELECT count(*) FROM alerts WHERE rule_version <> 2").await, 0);

    // Changed while the second stands by: when it takes over it knows.
    app.ask(Method::PATCH, &rule, &above(50.0)).await;
    first.kill().await;
    until_one_more(&app, 55.0, "fan").await;
    assert_eq!(app.count("SELECT max(rule_version)::bigint FROM alerts").await, 3);
    assert_eq!(second.terminate().await, Some(0));
    app.stop().await;
}

#[tokio::test]
async fn a_rule_archived_by_sql_ends_its_alert_at_once_though_no_reading_comes() {
    let (mut app, [first, second]) = two_detectors().await;
    app.publish(temperature(90.0, 1)).await;
    app.wait_for_count("SELECT count(*) FROM alerts WHERE state = 'open'", 1).await;
    app.set_hot("state = 'archived'").await;
    let changed = Instant::now();
    app.wait_for_count("SELECT count(*) FROM alerts WHERE state = 'resolved'", 1).await;
    assert!(changed.elapsed() < AT_ONCE, "took {:?}", changed.elapsed());
    assert_eq!(
        app.count("SELECT count(*) FROM deliveries WHERE event = 'resolved' AND status <> 'superseded'")
            .await,
        1
    );
    for process in [first, second] {
        assert_eq!(process.terminate().await, Some(0));
    }
    app.assert_verified().await;
    app.stop().await;
}

#[tokio::test]
async fn detection_alone_and_without_a_broker_judges_what_ingestion_alone_has_stored() {
    let mut app = TestApp::new(&[]).await;
    app.make_stream().await;
    let ingest = app.spawn("ingest");
    app.publish(json!([temperature(20.0, 2), temperature(91.0, 1)])).await;
    app.wait_for_empty_stream().await;
    assert_eq!(ingest.terminate().await, Some(0));
    assert_eq!((app.count("SELECT count(*) FROM flushes").await, app.count(ALERTS).await), (1, 0));

    // Port 1: nobody listens there.
    app.environment.insert("NATS_URL".to_owned(), "nats://127.0.0.1:1".to_owned());
    let detect = app.spawn("detect");
    app.wait_for_count("SELECT count(*) FROM flushes", 0).await;
    assert_eq!(app.count(ALERTS).await, 1);
    assert_eq!(app.count("SELECT count(*) FROM outbox").await, 1, "who delivers is another process");
    assert_eq!(detect.terminate().await, Some(0));
    app.assert_verified().await;
}
