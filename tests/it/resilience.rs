//! One bad thing stops nobody else: a subject, a destination, a slow look-up, a consumer that somebody deleted.

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use watchbell::runtime::{Role, Roles};

use super::support::app::{TestApp, temperature};
use super::support::wait::until;

#[tokio::test]
async fn a_subject_that_postgres_cannot_store_is_rejected_and_blocks_nothing() {
    let mut app = TestApp::new(&[]).await;
    app.start(Roles::of(&[Role::Ingest])).await;
    let address = app.environment["NATS_URL"].trim_start_matches("nats://").to_owned();
    let mut broker = TcpStream::connect(address).await.unwrap();
    // No client would send this subject; the broker takes it.
    let subject = app.subject.replace("acme", "ac\0me");
    broker.write_all(format!("CONNECT {{}}\r\nPUB {subject} 2\r\nhi\r\nPING\r\n").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"PONG\r\n") {
        assert!(broker.read_buf(&mut answer).await.unwrap() > 0, "the broker closed the connection");
    }
    app.publish(temperature(50.0, 1)).await;
    app.wait_for_count("SELECT count(*) FROM readings", 1).await;
    app.wait_for_count("SELECT count(*) FROM rejected_readings WHERE subject LIKE '%ac\\\\0me'", 1).await;
    app.stop().await;
}

#[tokio::test]
async fn a_consumer_that_was_deleted_is_made_again() {
    let mut app = TestApp::new(&[]).await;
    app.start(Roles::of(&[Role::Ingest])).await;
    let settings = app.config().ingest;
    let stream = app.broker.get_stream(&settings.stream).await.unwrap();
    stream.delete_consumer(&settings.consumer).await.unwrap();
    app.publish(temperature(50.0, 1)).await;
    app.wait_for_count("SELECT count(*) FROM readings", 1).await;
    app.stop().await;
}

#[tokio::test]
async fn a_destination_with_an_absurd_policy_is_served_by_the_services_own() {
    let mut app = TestApp::new(&[]).await;
    let url = format!("http://{}", app.hub.address());
    let absurd =
        app.add_hub("absurd", &url, json!({ "first_delay_ms": 1e16, "horizon_seconds": 1e14 })).await;
    let negative = app.add_hub("negative", &url, json!({ "jitter": -2.0 })).await;
    app.route(&[absurd, negative, app.destination]).await;
    for _ in 0..3 {
        app.hub.push_answer(watchbell::dev::hub::Answer::status(503));
    }
    app.start(Roles::all()).await;
    app.publish(temperature(91.0, 1)).await;
    app.wait_for_count("SELECT count(*) FROM deliveries WHERE status = 'delivered'", 3).await;
    assert_eq!(app.count("SELECT count(*) FROM delivery_attempts WHERE outcome = 'unknown'").await, 0);
    app.stop().await;
}

#[tokio::test]
async fn answers_of_a_destination_do_not_reach_the_detector() {
    let app = TestApp::new(&[]).await;
    let version = "SELECT version FROM config_version";
    let before = app.count(version).await;
    for state in ["held", "parked", "active"] {
        app.owner()
            .execute("UPDATE destinations SET state = $1, held_until = now()", &[&state])
            .await
            .unwrap();
    }
    assert_eq!(app.count(version).await, before);
    app.owner()
        .execute("UPDATE destinations SET settings = settings || '{\"url\": \"http://x\"}'", &[])
        .await
        .unwrap();
    assert_eq!(app.count(version).await, before + 1);
}

#[tokio::test]
async fn a_step_that_takes_longer_than_the_lease_keeps_it() {
    let mut app = TestApp::new(&[("detect.lease_seconds", "5")]).await;
    app.start(Roles::of(&[Role::Ingest, Role::Detect])).await;
    app.wait_for_count("SELECT count(*) FROM leases", 1).await;
    let standing_by = app.spawn("detect");
    app.publish(temperature(50.0, 2)).await;
    app.wait_for_count("SELECT coalesce(sum(count), 0)::bigint FROM readings_1m", 1).await;
    let epoch = app.count("SELECT epoch FROM leases").await;

    // A new series has to be looked up, and the look-up does not come back.
    let mut blocker = watchbell::db::pool::connect_owner(&app.database.config.database).await.unwrap();
    let lock = blocker.transaction().await.unwrap();
    app.owner()
        .batch_execute(
            "WITH d AS (INSERT INTO devices (tenant_id, external_id) SELECT tenant_id, 'pump-2' FROM tenants RETURNING *)
             INSERT INTO series (tenant_id, device_id, metric) SELECT tenant_id, device_id, 'temperature' FROM d",
        )
        .await
        .unwrap();
    lock.batch_execute("LOCK TABLE readings_1m IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let start = app.count("SELECT extract(epoch FROM expires_at)::bigint FROM leases").await;
    app.publish(super::support::app::reading("pump-2", "temperature", 50.0, 1)).await;
    until("the lease has been renewed for longer than it lasts", async || {
        let now = app.count("SELECT extract(epoch FROM expires_at)::bigint FROM leases").await;
        (now >= start + 6).then_some(())
    })
    .await;
    assert_eq!(app.count("SELECT epoch FROM leases").await, epoch);
    lock.rollback().await.unwrap();
    app.wait_for_count("SELECT coalesce(sum(count), 0)::bigint FROM readings_1m", 2).await;
    assert_eq!(app.count("SELECT epoch FROM leases").await, epoch);
    drop(standing_by);
    app.stop().await;
}
