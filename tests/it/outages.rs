//! Servers that go away, detection that fails, processes that are killed: nothing lost, nothing doubled, memory flat.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use watchbell::dev::postgres::PrivatePostgres;
use watchbell::dev::state::StateDir;

use super::support::app::{TestApp, reading, temperature};
use super::support::database::TestDatabase;
use super::support::load::readings;
use super::support::wait::until;

/// How much more memory a service may take while its database is away.
const FLAT: u64 = 48 * 1024 * 1024;

async fn stored_more_than(app: &TestApp, readings: i64) {
    let what = format!("more than {readings} readings");
    until(&what, async || (app.count("SELECT count(*) FROM readings").await > readings).then_some(())).await;
}

#[tokio::test]
async fn with_the_database_away_for_twenty_seconds_nothing_is_lost_or_doubled_and_memory_stays_flat() {
    let mut app = TestApp::new(&[]).await;
    let proxy = app.put_a_proxy_before_the_database().await;
    let service = app.spawn("ingest,detect");
    app.make_stream().await;
    let load = app.start_load(400, 10, 100, 10_000);
    stored_more_than(&app, 8_000).await;

    let before = service.resident_bytes();
    proxy.cut();
    let (cut_at, published) = (Instant::now(), load.published());
    let mut highest = 0;
    while cut_at.elapsed() < Duration::from_secs(20) {
        highest = highest.max(service.resident_bytes());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(load.published() - published > 20_000, "the publisher was to go on");
    app.publish(reading("pump-1", "temperature", 99.0, 5)).await;
    let published = load.stop().await + 1;
    proxy.mend();
    until("everything to be judged", async || {
        highest = highest.max(service.resident_bytes());
        // In this order: what leaves the stream is owed by then.
        let is_stored = app.messages_in_stream().await == 0;
        (is_stored && app.count("SELECT count(*) FROM flushes").await == 0).then_some(())
    })
    .await;
    assert!(highest < before + FLAT, "{before} bytes before, {highest} bytes at most");
    assert_eq!(app.count("SELECT count(*) FROM alerts").await, 1);
    app.assert_nothing_lost_or_doubled(published).await;
    assert_eq!(service.terminate().await, Some(0));
}

#[tokio::test]
async fn with_the_database_killed_under_load_nothing_is_lost_or_doubled() {
    let state = StateDir::open().unwrap();
    let mut server = PrivatePostgres::throw_away(&state).await.unwrap();
    let mut app = TestApp::on(TestDatabase::at(server.url()).await, &[]).await;
    let service = app.spawn("ingest,detect");
    app.make_stream().await;
    let load = app.start_load(200, 10, 50, 0);
    for _ in 0..3 {
        let stored = app.count("SELECT count(*) FROM readings").await;
        stored_more_than(&app, stored + 1_000).await;
        server.kill_hard().await.unwrap();
        let backlog = app.messages_in_stream().await + 150;
        until("a backlog", async || (app.messages_in_stream().await > backlog).then_some(())).await;
        server.restart().await.unwrap();
        app.database.reconnect().await;
    }
    app.publish(temperature(99.0, 5)).await;
    let published = load.stop().await + 1;
    app.wait_until_judged().await;
    assert_eq!(app.count("SELECT count(*) FROM alerts").await, 1);
    app.assert_nothing_lost_or_doubled(published).await;
    assert_eq!(service.terminate().await, Some(0));
    drop(app);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn ingestion_does_not_notice_that_detection_fails_and_no_alert_is_missing_afterwards() {
    let app = TestApp::new(&[]).await;
    let service = app.spawn("ingest,detect");
    app.make_stream().await;
    // First it can't write what it found, then it can't even read its rules.
    for (round, (break_it, mend_it)) in [
        ("REVOKE INSERT ON alerts FROM watchbell_worker", "GRANT INSERT ON alerts TO watchbell_worker"),
        (
            "ALTER TABLE rules RENAME TO mislaid; UPDATE config_version SET version = version + 1",
            "ALTER TABLE mislaid RENAME TO rules; UPDATE config_version SET version = version + 1",
        ),
        (
            "REVOKE SELECT, DELETE ON flushes FROM watchbell_worker",
            "GRANT SELECT, DELETE ON flushes TO watchbell_worker",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let device = format!("pump-{round}");
        app.owner().batch_execute(break_it).await.unwrap();
        app.publish(reading(&device, "temperature", 99.0, 500)).await;
        let start = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(24 * (1 + round as i64));
        app.publish_all(readings(20, start, 0, 2_000).chunks(10).map(|chunk| Value::from(chunk).to_string()))
            .await;
        app.wait_for_empty_stream().await;
        let stored = 2_001 * (1 + round as i64);
        assert_eq!(app.count("SELECT count(*) FROM readings").await, stored, "stored and acknowledged");
        assert_eq!(app.count("SELECT count(*) FROM alerts").await, round as i64, "{break_it}");
        assert!(app.count("SELECT count(*) FROM flushes").await > 0, "{break_it}");
        app.owner().batch_execute(mend_it).await.unwrap();
        app.wait_until_judged().await;
        assert_eq!(app.count("SELECT count(*) FROM alerts").await, 1 + round as i64, "{mend_it}");
        assert_eq!(app.count("SELECT count(*) FROM notifications").await, 1 + round as i64);
        app.assert_nothing_lost_or_doubled(stored).await;
    }
    assert_eq!(service.terminate().await, Some(0));
}

#[tokio::test]
async fn a_service_that_is_killed_again_and_again_loses_and_doubles_nothing() {
    let app = TestApp::new(&[("ingest.ack_wait_seconds", "1")]).await;
    app.make_stream().await;
    let start = jiff::Timestamp::now() - jiff::SignedDuration::from_secs(900);
    for part in 0..8 {
        let publishing = async {
            let messages = readings(40, start, part * 2_500, 2_500);
            app.publish_all(messages.chunks(5).map(|chunk| Value::from(chunk).to_string())).await;
        };
        let killing = async {
            let service = app.spawn("ingest,detect");
            // Some die while they store, some while they judge what is stored.
            let progress = if part % 2 == 0 {
                let stored = app.count("SELECT count(*) FROM readings").await;
                format!("SELECT FROM readings HAVING count(*) > {}", stored + 500)
            } else {
                let judged = app.count("SELECT coalesce(sum(count), 0)::bigint FROM readings_1m").await;
                format!("SELECT FROM readings_1m HAVING sum(count) > {judged}")
            };
            until(&progress, async || app.owner().query_opt(&progress, &[]).await.unwrap()).await;
            service.kill().await;
        };
        tokio::join!(publishing, killing);
    }
    app.publish(json!([temperature(99.0, 5), temperature(99.0, 4)])).await;
    let service = app.spawn("ingest,detect");
    app.wait_until_judged().await;
    assert_eq!(app.count("SELECT count(*) FROM alerts").await, 1);
    app.assert_nothing_lost_or_doubled(20_002).await;
    assert_eq!(service.terminate().await, Some(0));
}
