//! From readings to alerts: cooldown, broken rules, broken batches, changes while it runs.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use watchbell::model::batch::pack;
use watchbell::model::ids::SeriesId;
use watchbell::model::reading::{Reading, UnixMicros};
use watchbell::runtime::{Role, Roles};

use super::support::app::{TestApp, reading, temperature};
use super::support::wait::until;

fn roles() -> Roles {
    Roles::of(&[Role::Ingest, Role::Detect])
}

/// A breach of `hot` on `pump-1`, minutes after `start`.
fn hot(start: Timestamp, minutes: i64) -> Value {
    json!({ "device": "pump-1", "metric": "temperature", "value": 90.0, "ts": start + SignedDuration::from_mins(minutes) })
}

/// The alerts' breaches in minutes after `start`, as they came.
async fn alerts(app: &TestApp, start: Timestamp) -> Vec<i64> {
    let query = "SELECT breached_at FROM alerts ORDER BY alert_id";
    let rows = app.owner().query(query, &[]).await.unwrap();
    rows.iter().map(|row| (row.get::<_, Timestamp>(0).as_second() - start.as_second()) / 60).collect()
}

/// What people were told, in its order.
async fn told(app: &TestApp) -> Vec<String> {
    let query = "SELECT event FROM notifications ORDER BY notification_id";
    app.owner().query(query, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

/// Publishes breaches one by one, each judged before the next.
async fn breaches(app: &TestApp, start: Timestamp, minutes: &[i64]) {
    for minute in minutes {
        app.publish(hot(start, *minute)).await;
        app.wait_until_judged().await;
    }
}

#[tokio::test]
async fn what_burns_is_told_once_a_cooldown_across_a_restart_and_a_crash_too() {
    let mut app = TestApp::new(&[]).await;
    let start = Timestamp::now() - SignedDuration::from_hours(10);
    app.start(roles()).await;
    breaches(&app, start, &[0, 1, 14]).await;
    assert_eq!(told(&app).await, ["opened"]);
    app.stop().await;
    app.start(roles()).await;
    // In the readings' own time: [0, 15) is silent, however much later it is judged; 15 is not.
    breaches(&app, start, &[2, 13]).await;
    assert_eq!(told(&app).await, ["opened"]);
    breaches(&app, start, &[15, 16, 29]).await;
    assert_eq!(told(&app).await, ["opened", "still_burning"]);
    // A detector that is killed hands on no less.
    app.stop().await;
    let service = app.spawn("ingest,detect");
    breaches(&app, start, &[30]).await;
    service.kill().await;
    app.start(roles()).await;
    breaches(&app, start, &[31, 44, 45]).await;
    assert_eq!(told(&app).await, ["opened", "still_burning", "still_burning", "still_burning"]);
    assert_eq!(alerts(&app, start).await, [0], "it is one alert all the while");
    app.assert_verified().await;
    app.stop().await;
}

#[tokio::test]
async fn cooldown_is_a_rule_and_series() {
    let mut app = TestApp::new(&[]).await;
    let condition = json!({ "kind": "below_threshold", "threshold": 95.0 });
    app.add_rule("not hot enough", "temperature", condition, 900, &[app.destination]).await;
    app.start(roles()).await;
    for device in ["pump-1", "pump-2"] {
        for ago in [3, 2] {
            app.publish(reading(device, "temperature", 90.0, ago)).await;
            app.wait_until_judged().await;
        }
    }
    let pairs = "SELECT count(*) FROM (SELECT DISTINCT rule_id, series_id FROM alerts) AS pairs";
    assert_eq!(app.count(pairs).await, 4);
    assert_eq!(app.count("SELECT count(*) FROM alerts").await, 4);
    app.stop().await;
}

#[tokio::test]
async fn a_breach_older_than_the_last_one_fires_late_and_without_a_storm() {
    let mut app = TestApp::new(&[]).await;
    let start = Timestamp::now() - SignedDuration::from_hours(10);
    app.start(roles()).await;
    breaches(&app, start, &[100]).await;
    // A device that was cut off sends what it kept: one alert a cooldown, not one a reading.
    app.publish(Value::from((10..24).map(|minute| hot(start, minute)).collect::<Vec<_>>())).await;
    app.wait_until_judged().await;
    assert_eq!(alerts(&app, start).await, [100, 10]);
    app.stop().await;
    app.start(roles()).await;
    breaches(&app, start, &[11, 24, 25]).await;
    assert_eq!(alerts(&app, start).await, [100, 10, 25]);
    let over = "SELECT count(*) FROM alerts WHERE late AND state = 'resolved'";
    assert_eq!(app.count(over).await, 2, "what came after them was judged before");
    // It has not moved the cooldown of the breach that is the last.
    breaches(&app, start, &[101, 114]).await;
    assert_eq!(app.count("SELECT count(*) FROM notifications WHERE event = 'still_burning'").await, 0);
    breaches(&app, start, &[115]).await;
    assert_eq!(app.count("SELECT count(*) FROM notifications WHERE event = 'still_burning'").await, 1);
    app.assert_verified().await;
    app.stop().await;
}

#[tokio::test]
async fn a_series_that_was_forgotten_for_want_of_room_goes_on_as_if_it_had_not_been() {
    let mut app =
        TestApp::new(&[("detect.series_cache_size", "1"), ("detect.window_cache_minutes", "1")]).await;
    let condition = json!({ "kind": "deviation_from_mean", "window_minutes": 10, "min_buckets": 5 });
    app.add_rule("unusual", "pressure", condition, 900, &[app.destination]).await;
    app.start(roles()).await;
    let metrics = app.running.as_ref().unwrap().metrics.clone();
    for minutes_ago in (1_i32..9).rev() {
        for device in ["pump-1", "pump-2", "pump-3"] {
            app.publish(reading(
                device,
                "pressure",
                5.0 + f64::from(minutes_ago % 2) * 0.1,
                i64::from(minutes_ago) * 60,
            ))
            .await;
        }
    }
    app.wait_until_judged().await;
    until("all windows to be forgotten", async || {
        let forgotten =
            metrics.detect_series_forgotten.get() >= 3 && metrics.detect_window_minutes.get() == 0;
        forgotten.then_some(())
    })
    .await;
    app.publish(reading("pump-2", "pressure", 9.0, 0)).await;
    app.wait_until_judged().await;
    assert_eq!(app.count("SELECT count(*) FROM alerts").await, 1, "its minutes are read again");
    app.stop().await;
}

#[tokio::test]
async fn a_rule_that_cannot_be_read_is_marked_faulted_and_stops_nobody() {
    let mut app = TestApp::new(&[]).await;
    let broken = json!({ "kind": "above_threshold", "threshold": "high" });
    let broken = app.add_rule("broken", "temperature", broken, 900, &[app.destination]).await;
    let foreign = json!({ "kind": "phase_of_the_moon" });
    let foreign = app.add_rule("foreign", "temperature", foreign, 900, &[app.destination]).await;
    app.start(roles()).await;
    app.publish(temperature(90.0, 1)).await;
    app.wait_until_judged().await;
    assert_eq!(app.count("SELECT count(*) FROM alerts").await, 1);
    for rule in [broken, foreign] {
        let query = "SELECT state, fault FROM rules WHERE rule_id = $1";
        let row = app.owner().query_one(query, &[&rule]).await.unwrap();
        let (state, fault): (&str, Option<&str>) = (row.get(0), row.get(1));
        assert_eq!(state, "faulted");
        assert!(fault.is_some_and(|fault| fault.contains("condition")), "{fault:?}");
    }
    let metrics = app.running.as_ref().unwrap().metrics.clone();
    until("two faulted rules in the metrics", async || (metrics.rules_faulted.get() == 2).then_some(()))
        .await;
    app.owner().batch_execute("UPDATE rules SET destination_ids = '{}' WHERE name = 'hot'").await.unwrap();
    until("a rule that tells nobody", async || (metrics.rules_unrouted.get() == 1).then_some(())).await;
    let mend = r#"UPDATE rules SET condition = '{"kind": "above_threshold", "threshold": 80}' WHERE name = 'broken'"#;
    app.owner().batch_execute(mend).await.unwrap();
    let mended = "SELECT count(*) FROM rules WHERE name = 'broken' AND state = 'active' AND fault IS NULL";
    until("the mended rule is read", async || {
        app.publish(temperature(10.0, 0)).await;
        app.wait_until_judged().await;
        (app.count(mended).await == 1).then_some(())
    })
    .await;
    app.stop().await;
}

#[tokio::test]
async fn numbers_that_postgres_cannot_multiply_do_not_stop_detection() {
    let mut app = TestApp::new(&[("detect.commit_interval_ms", "1")]).await;
    app.start(roles()).await;
    let minute = Timestamp::now().as_second() / 60 * 60 - 60;
    for (second, value) in
        [(1, "0"), (2, "1e-200"), (3, "-1e140"), (4, "1e140"), (5, "5e-324"), (6, "1e-160")]
    {
        let reading = r#"{"device": "pump-1", "metric": "pressure", "value": VALUE, "ts": TS}"#;
        let reading = reading.replace("VALUE", value).replace("TS", &(minute + second).to_string());
        app.publish(reading).await;
        app.wait_until_judged().await;
    }
    app.publish(r#"{"device": "pump-1", "metric": "pressure", "value": 1e300}"#).await;
    app.wait_for_count("SELECT count(*) FROM rejected_readings WHERE reason = 'not_finite'", 1).await;
    app.publish(temperature(90.0, 1)).await;
    app.wait_for_count("SELECT count(*) FROM alerts", 1).await;
    assert_eq!(app.count("SELECT count(*) FROM flushes").await, 0);
    assert_eq!(app.count("SELECT coalesce(sum(count), 0)::bigint FROM readings_1m").await, 7);
    app.stop().await;
}

#[tokio::test]
async fn a_change_of_a_rule_acts_without_a_restart() {
    let mut app = TestApp::new(&[]).await;
    app.start(roles()).await;
    app.publish(temperature(70.0, 30)).await;
    app.wait_until_judged().await;
    let lower = r#"UPDATE rules SET condition = '{"kind": "above_threshold", "threshold": 60}'"#;
    app.owner().batch_execute(lower).await.unwrap();
    app.publish(temperature(71.0, 20)).await;
    app.wait_until_judged().await;
    let alert = "SELECT rule_version, evidence FROM alerts";
    let alert = app.owner().query_one(alert, &[]).await.unwrap();
    assert_eq!(alert.get::<_, i32>(0), 2);
    assert_eq!(alert.get::<_, Value>(1)["threshold"], 60.0);

    app.owner().batch_execute("UPDATE rules SET state = 'archived'").await.unwrap();
    let condition = json!({ "kind": "below_threshold", "threshold": 0.0 });
    app.add_rule("frost", "temperature", condition, 0, &[app.destination]).await;
    app.publish(json!([temperature(99.0, 4), temperature(-1.0, 3)])).await;
    app.wait_until_judged().await;
    let values = app.owner().query("SELECT value FROM alerts ORDER BY alert_id", &[]).await.unwrap();
    let values: Vec<f64> = values.iter().map(|row| row.get(0)).collect();
    assert_eq!(values, [71.0, -1.0]);
    app.stop().await;
}

async fn owe(app: &TestApp, batch: Vec<u8>) -> i64 {
    let query = "INSERT INTO flushes (readings, batch) VALUES (1, $1) RETURNING flush_id";
    app.owner().query_one(query, &[&batch]).await.unwrap().get(0)
}

#[tokio::test]
async fn a_batch_that_cannot_be_judged_is_quarantined_with_its_reason_and_the_rest_is_judged() {
    let mut app = TestApp::new(&[]).await;
    app.start(Roles::of(&[Role::Ingest])).await;
    app.publish(temperature(90.0, 50)).await;
    app.wait_for_empty_stream().await;
    let bytes: Vec<u8> = app.owner().query_one("SELECT batch FROM flushes", &[]).await.unwrap().get(0);
    let mut foreign = bytes.clone();
    foreign[0] = 99;
    // Whole to look at, but of a time that no table holds.
    let absurd = Reading { series: SeriesId(1), ts: UnixMicros(16_725_225_600_000_000), value: 1.0 };
    let damaged = [
        (owe(&app, bytes[..bytes.len() - 3].to_vec()).await, "damaged"),
        (owe(&app, foreign).await, "version"),
        (owe(&app, Vec::new()).await, "damaged"),
        (owe(&app, pack(&[absurd])).await, "partition"),
    ];
    app.publish(temperature(20.0, 40)).await;
    app.wait_for_empty_stream().await;
    app.stop().await;

    app.start(roles()).await;
    app.wait_for_count("SELECT count(*) FROM flushes WHERE quarantine_reason IS NULL", 0).await;
    for (flush, expected) in damaged {
        let query = "SELECT quarantine_reason FROM flushes WHERE flush_id = $1";
        let row = app.owner().query_one(query, &[&flush]).await.unwrap();
        let reason: &str = row.get(0);
        assert!(reason.contains(expected), "{reason}");
    }
    assert_eq!(app.count("SELECT count(*) FROM flushes").await, 4);
    assert_eq!(app.count("SELECT count(*) FROM alerts").await, 1);
    // And what comes after is judged as ever.
    app.publish(temperature(20.0, 30)).await;
    app.wait_for_count("SELECT coalesce(sum(count), 0)::bigint FROM readings_1m", 3).await;
    app.stop().await;
}
