//! Two processes on one database and one stream: they share the work, one detects, and the other takes over.

use std::time::{Duration, Instant};

use serde_json::Value;
use watchbell::detect::detector::Step;

use super::support::app::{TestApp, reading, temperature};
use super::support::bench::DetectorBench;
use super::support::process::Process;
use super::support::wait::until;

/// Longest time between the loss of the active detector and the alert that another makes.
const TAKE_OVER: Duration = Duration::from_secs(10);

/// Two processes with every stage but the API, of which the first detects; with the leases of production.
async fn two() -> (TestApp, Process, Process) {
    let app = TestApp::new(&[
        ("detect.lease_seconds", "5"),
        ("deliver.worker_ttl_seconds", "5"),
        ("ingest.batch_size", "1"),
        // One request at a time, so that one process does not deliver everything before the other looks.
        ("deliver.concurrency_per_destination", "1"),
    ])
    .await;
    app.make_stream().await;
    let first = app.spawn("ingest,detect,deliver");
    app.wait_for_count("SELECT count(*) FROM leases WHERE name = 'detect'", 1).await;
    let second = app.spawn("ingest,detect,deliver");
    app.wait_for_count("SELECT count(*) FROM workers", 2).await;
    (app, first, second)
}

async fn epoch(app: &TestApp) -> i64 {
    app.count("SELECT epoch FROM leases WHERE name = 'detect'").await
}

async fn wait_for_alerts(app: &TestApp, count: i64) {
    app.wait_for_count("SELECT count(*) FROM alerts", count).await;
    app.wait_for_count("SELECT count(*) FROM deliveries WHERE status = 'delivered'", count).await;
}

#[tokio::test]
async fn when_the_active_detector_is_killed_the_other_takes_over_within_ten_seconds_and_keeps_its_cooldown() {
    let (app, first, second) = two().await;
    app.publish(temperature(91.0, 30)).await;
    wait_for_alerts(&app, 1).await;
    let before = epoch(&app).await;
    first.kill().await;
    let killed = Instant::now();
    // The first is in the cooldown of what the killed one fired; the second is not.
    app.publish(temperature(92.0, 20)).await;
    // What the broker sends to the killed one, before it knows, comes again when its time is over; these go to the other.
    for device in 2..12 {
        app.publish(reading(&format!("pump-{device}"), "temperature", 93.0, 10)).await;
    }
    app.wait_for_count("SELECT least(count(*), 2) FROM alerts", 2).await;
    assert!(killed.elapsed() < TAKE_OVER, "took {:?}", killed.elapsed());
    assert!(epoch(&app).await > before);
    app.wait_for_count("SELECT count(*) FROM readings", 12).await;
    app.wait_for_count("SELECT count(*) FROM flushes", 0).await;
    wait_for_alerts(&app, 11).await;
    assert_eq!(app.count("SELECT count(*) FROM alerts").await, 11);
    assert_eq!(second.terminate().await, Some(0));
    app.assert_verified().await;
}

#[tokio::test]
async fn when_the_active_detector_is_stopped_the_other_takes_over_and_the_first_writes_nothing_when_let_go_on()
 {
    let (app, first, second) = two().await;
    app.publish(temperature(91.0, 30)).await;
    wait_for_alerts(&app, 1).await;
    let before = epoch(&app).await;
    first.pause();
    let paused = Instant::now();
    // Whatever the paused one has pulled comes again when its time is over; these are pulled by the other.
    for device in 2..12 {
        app.publish(reading(&format!("pump-{device}"), "temperature", 93.0, 10)).await;
    }
    app.wait_for_count("SELECT least(count(*), 2) FROM alerts", 2).await;
    assert!(paused.elapsed() < TAKE_OVER, "took {:?}", paused.elapsed());
    assert!(epoch(&app).await > before);
    first.go_on();
    first.log_when("another process took the detector's lease over").await;
    wait_for_alerts(&app, 11).await;
    app.wait_for_count("SELECT count(*) FROM flushes", 0).await;
    assert_eq!(app.count("SELECT count(*) FROM readings").await, 11);
    assert_eq!(first.terminate().await, Some(0));
    assert_eq!(second.terminate().await, Some(0));
    app.assert_verified().await;
}

#[tokio::test]
async fn what_was_judged_under_a_lease_that_another_took_over_is_not_settled() {
    let mut bench = DetectorBench::new(TestApp::new(&[]).await, 60).await;
    bench.judge(&[(0.0, 50.0)]).await;
    let take_over = "UPDATE leases SET holder = gen_random_uuid(), epoch = epoch + 1, expires_at = now() + interval '1 hour'";
    bench.app.owner().batch_execute(take_over).await.unwrap();
    bench.commit(&[(59.0, 90.0)]).await;
    bench.step().await;
    assert_eq!(bench.app.count("SELECT count(*) FROM flushes").await, 1, "it is still owed");
    assert_eq!(bench.app.count("SELECT count(*) FROM readings_1m").await, 1);
    assert_eq!(bench.alerts().await, []);
    assert_eq!(bench.step().await, Step::StandingBy);
}

#[tokio::test]
async fn two_processes_share_ingestion_and_delivery() {
    let (app, first, second) = two().await;
    let settings = app.config().ingest;
    let stream = app.broker.get_stream(&settings.stream).await.unwrap();
    until("both ask the one consumer for readings", async || {
        let consumer = stream.consumer_info(&settings.consumer).await.unwrap();
        (consumer.num_waiting == 2).then_some(())
    })
    .await;
    app.owner().batch_execute("UPDATE rules SET cooldown_seconds = 0").await.unwrap();
    let mut published = 0;
    let workers = "SELECT count(DISTINCT worker_id) FROM delivery_attempts";
    until("both have delivered", async || {
        let hot = |n: i64| reading(&format!("pump-{}", published + n), "temperature", 90.0, 60);
        app.publish(Value::from((0..100).map(hot).collect::<Vec<_>>())).await;
        published += 100;
        wait_for_alerts(&app, published).await;
        (app.count(workers).await == 2).then_some(())
    })
    .await;
    assert_eq!(app.hub.total(), published as u64, "each page was sent once");
    assert_eq!(first.terminate().await, Some(0));
    assert_eq!(second.terminate().await, Some(0));
    app.assert_verified().await;
}
