//! Deviation from the mean of the minutes before, through the detector and its tables.

use serde_json::json;

use super::support::app::TestApp;
use super::support::bench::DetectorBench;

async fn bench(condition: serde_json::Value, cooldown_seconds: i32) -> DetectorBench {
    let app = TestApp::new(&[]).await;
    app.owner().batch_execute("UPDATE rules SET state = 'archived'").await.unwrap();
    app.add_rule("odd", "temperature", condition, cooldown_seconds, &[app.destination]).await;
    DetectorBench::new(app, 60).await
}

fn hour() -> serde_json::Value {
    json!({ "kind": "deviation_from_mean", "window_minutes": 60, "min_sigma": 1.0 })
}

#[tokio::test]
async fn a_value_far_from_the_minutes_before_it_pages_and_says_why() {
    let mut bench = bench(hour(), 900).await;
    bench.judge(&[(0.0, 50.0), (1.0, 52.0), (2.0, 50.0), (3.0, 52.0), (4.0, 50.0)]).await;
    bench.judge(&[(5.0, 50.0)]).await;
    // Its own minute has a reading, and is read back with the others: it does not count.
    bench.restart().await;
    bench.judge(&[(5.5, 90.0)]).await;
    assert_eq!(bench.alerts().await, [(5.5, false, 1)]);
    let row = bench.app.owner().query_one("SELECT value, evidence FROM alerts", &[]).await.unwrap();
    let evidence: serde_json::Value = row.get(1);
    assert_eq!(row.get::<_, f64>(0), 90.0);
    assert_eq!((&evidence["mean"], &evidence["n"], &evidence["k"]), (&json!(50.8), &json!(5), &json!(5.0)));
    let sigma = 1.2_f64.sqrt();
    assert!((evidence["sigma"].as_f64().unwrap() - sigma).abs() < 1e-12);
    assert!((evidence["z"].as_f64().unwrap() - (90.0 - 50.8) / sigma).abs() < 1e-9);
}

#[tokio::test]
async fn a_window_outlives_the_detector() {
    let mut bench = bench(hour(), 900).await;
    bench.judge(&[(0.0, 50.0), (1.0, 52.0), (2.0, 50.0), (3.0, 52.0), (4.0, 50.0)]).await;
    bench.restart().await;
    bench.judge(&[(5.0, 90.0)]).await;
    assert_eq!(bench.alerts().await, [(5.0, false, 1)]);
}

#[tokio::test]
async fn four_minutes_never_fire_through_the_tables_either() {
    let mut bench = bench(hour(), 900).await;
    bench.judge(&[(0.0, 50.0), (1.0, 52.0), (2.0, 50.0), (3.0, 52.0), (4.0, 1e6)]).await;
    assert_eq!(bench.alerts().await, []);
}

#[tokio::test]
async fn minutes_out_of_the_window_do_not_count() {
    let condition = json!({ "kind": "deviation_from_mean", "window_minutes": 5, "min_sigma": 1.0 });
    let mut bench = bench(condition, 900).await;
    bench.judge(&[(0.0, 50.0), (1.0, 52.0), (2.0, 50.0), (3.0, 52.0), (4.0, 50.0), (6.0, 90.0)]).await;
    assert_eq!(bench.alerts().await, [], "only four of the five minutes before had a reading");
}

#[tokio::test]
async fn an_old_breach_that_is_over_is_historical_and_pages_nobody() {
    let app = TestApp::new(&[("detect.notify_max_age_seconds", "1800")]).await;
    let mut bench = DetectorBench::new(app, 120).await;
    bench.judge(&[(0.0, 90.0), (1.0, 91.0)]).await;
    bench.judge(&[(2.0, 20.0), (119.0, 20.0)]).await;
    assert_eq!(bench.alerts().await, [(0.0, true, 0)]);
    assert_eq!(bench.app.count("SELECT count(*) FROM rule_state WHERE fires_since IS NOT NULL").await, 0);
}

#[tokio::test]
async fn an_old_breach_that_burns_still_pages_however_late() {
    let app = TestApp::new(&[("detect.notify_max_age_seconds", "1800")]).await;
    app.owner().batch_execute("UPDATE rules SET cooldown_seconds = 86400").await.unwrap();
    let mut bench = DetectorBench::new(app, 120).await;
    bench.judge(&[(0.0, 90.0), (1.0, 91.0)]).await;
    assert_eq!(bench.alerts().await, [(0.0, true, 0)]);
    bench.restart().await;
    bench.judge(&[(60.0, 91.0), (119.0, 91.0)]).await;
    assert_eq!(bench.alerts().await, [(0.0, false, 1)]);
    let kinds = "SELECT count(*) FROM alert_events WHERE kind IN ('opened', 'still_burning')";
    assert_eq!(bench.app.count(kinds).await, 2);
}

#[tokio::test]
async fn a_recent_breach_pages_though_an_older_one_was_historical() {
    let app = TestApp::new(&[("detect.notify_max_age_seconds", "1800")]).await;
    let mut bench = DetectorBench::new(app, 120).await;
    bench.judge(&[(0.0, 90.0), (1.0, 20.0), (118.0, 90.0)]).await;
    assert_eq!(bench.alerts().await, [(0.0, true, 0), (118.0, false, 1)]);
}
