//! From the stream into the table: once, whatever is delivered, published or killed twice.

use serde_json::{Value, json};
use watchbell::db::pool;
use watchbell::runtime::{Role, Roles};

use super::support::app::{TestApp, reading, temperature};
use super::support::faults::{slow_commits, slow_registration};
use super::support::load::readings;

const INGEST_AND_DETECT: [Role; 2] = [Role::Ingest, Role::Detect];

fn hundred() -> Vec<Value> {
    let start = jiff::Timestamp::now() - jiff::SignedDuration::from_secs(60);
    readings(7, start, 0, 100)
}

#[tokio::test]
async fn a_message_whose_service_died_between_commit_and_acknowledgement_is_stored_judged_and_counted_once() {
    let app = TestApp::new(&[("ingest.ack_wait_seconds", "1")]).await;
    app.make_stream().await;
    slow_commits(app.owner()).await;
    let service = app.spawn("ingest");
    app.publish(temperature(91.0, 5)).await;
    app.kill_between_commit_and_acknowledgement(service, 1).await;
    assert_eq!(app.messages_in_stream().await, 1, "nobody acknowledged it");

    let service = app.spawn("ingest,detect");
    app.wait_until_judged().await;
    assert_eq!(app.count("SELECT count(*) FROM alerts").await, 1);
    assert_eq!(app.count("SELECT count(*) FROM notifications").await, 1);
    app.assert_nothing_lost_or_doubled(1).await;
    assert_eq!(service.terminate().await, Some(0));
}

#[tokio::test]
async fn an_array_whose_service_died_between_commit_and_acknowledgement_is_stored_and_counted_once() {
    let app = TestApp::new(&[("ingest.ack_wait_seconds", "1")]).await;
    app.make_stream().await;
    slow_commits(app.owner()).await;
    let service = app.spawn("ingest");
    app.publish(Value::from(hundred())).await;
    app.kill_between_commit_and_acknowledgement(service, 100).await;

    // What comes again is stored beside what is new.
    let mut more = hundred();
    more.truncate(60);
    app.publish(Value::from(more)).await;
    let service = app.spawn("ingest,detect");
    app.wait_until_judged().await;
    app.assert_nothing_lost_or_doubled(160).await;
    assert_eq!(service.terminate().await, Some(0));
}

#[tokio::test]
async fn a_message_delivered_again_without_a_time_of_its_own_is_the_same_reading() {
    let app = TestApp::new(&[("ingest.ack_wait_seconds", "1")]).await;
    app.make_stream().await;
    let element = |value: f64| json!({ "device": "pump-1", "metric": "pressure", "value": value });
    app.publish(json!([element(1.0), element(2.0), element(3.0)])).await;
    let stream = app.broker.get_stream(app.config().ingest.stream).await.unwrap();
    let stored_at = stream.get_raw_message(1).await.unwrap().time.unix_timestamp_nanos() / 1_000;
    slow_commits(app.owner()).await;
    let service = app.spawn("ingest");
    app.kill_between_commit_and_acknowledgement(service, 3).await;

    let service = app.spawn("ingest,detect");
    app.wait_until_judged().await;
    app.assert_nothing_lost_or_doubled(3).await;
    let rows = app.owner().query("SELECT ts, value FROM readings ORDER BY ts", &[]).await.unwrap();
    for (index, row) in rows.iter().enumerate() {
        let ts: jiff::Timestamp = row.get(0);
        assert_eq!(
            i128::from(ts.as_microsecond()),
            stored_at + index as i128,
            "the store time and the place"
        );
        assert_eq!(row.get::<_, f64>(1), index as f64 + 1.0);
    }
    assert_eq!(service.terminate().await, Some(0));
}

#[tokio::test]
async fn what_a_publisher_sends_twice_is_stored_judged_and_counted_once() {
    let mut app = TestApp::new(&[]).await;
    app.start(Roles::of(&INGEST_AND_DETECT)).await;
    let (hot, array) = (temperature(91.0, 3).to_string(), Value::from(hundred()).to_string());
    // In one batch, and in batches of their own: the second time every element meets itself.
    for message in [&hot, &hot, &array] {
        app.publish(message).await;
    }
    app.wait_until_judged().await;
    app.publish(&hot).await;
    app.publish(&array).await;
    app.wait_until_judged().await;
    app.assert_nothing_lost_or_doubled(101).await;
    assert_eq!(app.count("SELECT count(*) FROM alerts").await, 1);
    assert_eq!(app.count("SELECT count(*) FROM notifications").await, 1);
    app.stop().await;
}

#[tokio::test]
async fn of_two_values_for_one_instant_the_first_is_stored_and_the_other_kept_with_the_rejects() {
    let mut app = TestApp::new(&[]).await;
    app.start(Roles::of(&INGEST_AND_DETECT)).await;
    let first = temperature(20.0, 3);
    let mut other = first.clone();
    other["value"] = json!(95.5);
    app.publish(&first).await;
    app.wait_until_judged().await;
    app.publish(json!([other, first, temperature(21.0, 2)])).await;
    app.wait_until_judged().await;

    assert_eq!(app.count("SELECT count(*) FROM readings").await, 2);
    assert_eq!(app.count("SELECT sum(count)::bigint FROM readings_1m").await, 2);
    assert_eq!(app.count("SELECT count(*) FROM alerts").await, 0, "what is not stored is not judged");
    let reject = "SELECT tenant_id, reason, convert_from(payload, 'UTF8'), subject FROM rejected_readings";
    let reject = app.owner().query_one(reject, &[]).await.unwrap();
    assert_eq!((reject.get(0), reject.get(1)), (app.tenant.0, "conflicting_value"));
    assert_eq!(reject.get::<_, &str>(3), app.subject);
    let kept: Value = serde_json::from_str(reject.get(2)).unwrap();
    assert_eq!(
        (&kept["device"], &kept["metric"], &kept["value"]),
        (&json!("pump-1"), &json!("temperature"), &json!(95.5))
    );
    app.assert_verified().await;
    app.stop().await;
}

#[tokio::test]
async fn a_row_that_postgresql_refuses_is_rejected_alone() {
    let mut app = TestApp::new(&[]).await;
    app.owner().batch_execute("ALTER TABLE readings ADD CHECK (value <> 1313)").await.unwrap();
    app.start(Roles::of(&INGEST_AND_DETECT)).await;
    let mut array = hundred();
    for index in [0, 41, 99] {
        array[index]["value"] = json!(1313.0);
    }
    app.publish(Value::from(array)).await;
    app.publish(reading("pump-2", "pressure", 1313.0, 1)).await;
    app.publish(temperature(91.0, 1)).await;
    app.wait_until_judged().await;
    assert_eq!(app.count("SELECT count(*) FROM readings").await, 98);
    assert_eq!(app.count("SELECT sum(count)::bigint FROM readings_1m").await, 98);
    assert_eq!(app.count("SELECT count(*) FROM alerts").await, 1);
    let refused = "SELECT count(*) FROM rejected_readings WHERE reason = 'refused_by_database'
        AND convert_from(payload, 'UTF8')::jsonb ->> 'value' = '1313'";
    assert_eq!(app.count(refused).await, 4);
    assert_eq!(app.count("SELECT count(*) FROM rejected_readings").await, 4);
    app.assert_verified().await;
    app.stop().await;
}

#[tokio::test]
async fn two_processes_that_meet_the_same_new_devices_register_them_once_and_lose_nothing() {
    // What the first holds back comes to the second when nobody spoke of it for this long.
    let app = TestApp::new(&[("ingest.ack_wait_seconds", "2")]).await;
    app.make_stream().await;
    let start = jiff::Timestamp::now() - jiff::SignedDuration::from_secs(60);
    // One pull takes 500 messages: the first of either process names the same devices.
    let messages = (0..1_000).map(|number| {
        let mut array = readings(100, start, number * 20, 20);
        for (index, element) in array.iter_mut().enumerate() {
            element["metric"] = json!(format!("metric-{}", index % 3));
        }
        Value::from(array).to_string()
    });
    app.publish_all(messages).await;
    slow_registration(app.owner()).await;
    // Both have read that the devices are unknown, and both stand, one before the table and one before the tenant that the
    // other has locked to count its devices, when it opens.
    let gate = pool::connect_owner(&app.database.config.database).await.unwrap();
    gate.batch_execute("BEGIN; LOCK TABLE devices IN SHARE ROW EXCLUSIVE MODE").await.unwrap();
    let services = [app.spawn("ingest"), app.spawn("ingest,detect")];
    let waiting = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'";
    app.wait_for_count(waiting, 2).await;
    gate.batch_execute("COMMIT").await.unwrap();
    app.wait_until_judged().await;
    for service in services {
        assert_eq!(service.terminate().await, Some(0));
    }
    assert_eq!(app.count("SELECT count(*) FROM devices").await, 100);
    let named = "SELECT count(*) FROM (SELECT DISTINCT device_id, metric FROM series) AS named";
    assert_eq!(app.count("SELECT count(*) FROM series").await, app.count(named).await);
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    assert_eq!(app.count(deadlocks).await, 0);
    app.assert_nothing_lost_or_doubled(20_000).await;
}

#[tokio::test]
async fn what_was_published_in_order_is_judged_in_order() {
    let mut app = TestApp::new(&[]).await;
    let condition = json!({ "kind": "above_threshold", "threshold": 0.0 });
    app.add_rule("each", "pressure", condition, 0, &[]).await;
    app.owner().batch_execute("UPDATE rules SET resolve_after_seconds = 0").await.unwrap();
    app.make_stream().await;
    // More than one pull, more than one batch. In any other order there are fewer alerts, or more that are late.
    let start = jiff::Timestamp::now() - jiff::SignedDuration::from_secs(3);
    let messages = (0..3_000).map(|number| {
        let ts = start + jiff::SignedDuration::from_millis(number);
        let value = if number % 2 == 0 { 1.0 } else { -1.0 };
        json!({ "device": "pump-1", "metric": "pressure", "value": value, "ts": ts }).to_string()
    });
    app.publish_all(messages).await;
    app.start(Roles::of(&INGEST_AND_DETECT)).await;
    app.wait_until_judged().await;
    assert_eq!(app.count("SELECT count(*) FROM alerts").await, 1_500);
    let off =
        "SELECT count(*) FROM alerts WHERE ended_at IS NULL OR ended_at <> breached_at + interval '1 ms'";
    assert_eq!(app.count(off).await, 0);
    app.assert_nothing_lost_or_doubled(3_000).await;
    app.stop().await;
}
