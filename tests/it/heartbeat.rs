//! Heartbeats: who renewed late goes on under another id, and nobody is taken for dead by one who was away himself.

use std::collections::BTreeSet;
use std::time::Duration;

use watchbell::db::pool;
use watchbell::dev::hub::Answer;

use super::support::app::TestApp;
use super::support::courier::Courier;
use super::support::receiver::{Manner, Receiver};
use super::support::wait::{PATIENCE, until};

const ALIVE: &str = "SELECT count(*) FROM workers WHERE expires_at > clock_timestamp()";

async fn is_known(app: &TestApp, worker: &str) -> bool {
    app.count(&format!("SELECT count(*) FROM workers WHERE worker_id = '{worker}'")).await == 1
}

#[tokio::test]
async fn a_heartbeat_that_is_renewed_in_time_keeps_its_id() {
    let app = TestApp::new(&[("deliver.worker_ttl_seconds", "30")]).await;
    let mut courier = Courier::new(&app.config()).await;
    let id = courier.id();
    let expiry = "SELECT extract(epoch FROM expires_at)::bigint FROM workers";
    let before = app.count(expiry).await;
    until("the expiry moves", async || {
        courier.heartbeat.step().await.unwrap();
        (app.count(expiry).await > before).then_some(())
    })
    .await;
    assert_eq!(courier.id(), id);
    assert_eq!(app.count(ALIVE).await, 1);
}

#[tokio::test]
async fn a_heartbeat_that_came_late_keeps_its_id_and_its_requests_when_nobody_took_it_for_dead() {
    let app = TestApp::new(&[("deliver.worker_ttl_seconds", "1")]).await;
    app.hub.set_default(Answer::Hang);
    let id = app.owe_one().await;
    let mut courier = Courier::new(&app.config()).await;
    courier.claim().await;
    let former = courier.id();
    app.wait_for_count(ALIVE, 0).await;
    let renewed = until("it has been alive for a time to live again", async || {
        let before = app.count(ALIVE).await;
        (courier.heartbeat.step().await.unwrap() == 0 && before == 1).then_some(())
    });
    renewed.await;
    assert_eq!(courier.id(), former);
    assert_eq!(app.delivery(id).await["status"], "in_flight");
    assert!(app.outcomes(id).await.is_empty(), "nothing is `unknown` while its request runs");
}

#[tokio::test]
async fn a_worker_that_was_taken_for_dead_goes_on_under_a_new_id_and_claims_under_it() {
    let app = TestApp::new(&[("deliver.worker_ttl_seconds", "1")]).await;
    let mut courier = Courier::new(&app.config()).await;
    let former = courier.id();
    app.owner().execute("DELETE FROM workers", &[]).await.unwrap();
    let id = app.owe_one().await;
    courier.find_nothing_due().await;
    assert_eq!(app.delivery(id).await["status"], "pending", "the dead claim nothing");
    courier.heartbeat.step().await.unwrap();
    assert_ne!(courier.id(), former);
    courier.claim().await;
    assert_eq!(app.delivery(id).await["leased_by"], courier.id());
}

#[tokio::test]
async fn nobody_is_rescued_by_a_worker_that_has_only_just_come_back() {
    let app = TestApp::new(&[("deliver.worker_ttl_seconds", "2")]).await;
    app.hub.set_default(Answer::Hang);
    let id = app.owe_one().await;
    let mut other = Courier::new(&app.config()).await;
    let mut returned = Courier::new(&app.config()).await;
    other.claim().await;
    app.hub.wait_for(|posts| posts.len() == 1, PATIENCE).await.unwrap();
    // As after a time in which the database was away for everybody: both are late.
    app.wait_for_count(ALIVE, 0).await;
    assert_eq!(returned.heartbeat.step().await.unwrap(), 0);
    assert_eq!(app.delivery(id).await["status"], "in_flight");
    assert!(app.outcomes(id).await.is_empty());
    // The other one never came back: when its time is over, it is dead after all.
    until("the row is rescued", async || (returned.heartbeat.step().await.unwrap() == 1).then_some(())).await;
    assert_eq!(app.outcomes(id).await, ["unknown"]);
    assert_eq!(app.attempts(id).await[0]["worker_id"], other.id());
    assert_eq!(app.delivery(id).await["status"], "retrying");
    assert!(!is_known(&app, &other.id()).await);
}

#[tokio::test]
async fn who_has_only_just_begun_rescues_nobody_either() {
    let app = TestApp::new(&[("deliver.worker_ttl_seconds", "2")]).await;
    app.hub.set_default(Answer::Hang);
    let id = app.owe_one().await;
    let mut dead = Courier::new(&app.config()).await;
    dead.claim().await;
    drop(dead);
    app.wait_for_count(ALIVE, 0).await;
    let mut new = Courier::new(&app.config()).await;
    assert_eq!(new.heartbeat.step().await.unwrap(), 0);
    assert!(app.outcomes(id).await.is_empty());
    until("the row is rescued", async || (new.heartbeat.step().await.unwrap() == 1).then_some(())).await;
}

#[tokio::test]
async fn a_retired_worker_leaves_no_row_behind_and_a_dead_ones_is_cleared_away() {
    let app = TestApp::new(&[("deliver.worker_ttl_seconds", "1")]).await;
    let killed = app.spawn("deliver");
    app.wait_for_count("SELECT count(*) FROM workers", 1).await;
    killed.kill().await;
    let process = app.spawn("deliver");
    app.wait_for_count("SELECT count(*) FROM workers", 2).await;
    app.wait_for_count("SELECT count(*) FROM workers", 1).await;
    assert_eq!(process.terminate().await, Some(0));
    assert_eq!(app.count("SELECT count(*) FROM workers").await, 0);
}

#[tokio::test]
async fn the_heartbeat_goes_on_while_a_request_hangs() {
    let app = TestApp::new(&[("deliver.worker_ttl_seconds", "1")]).await;
    let silent = Receiver::start(Manner::Silent).await;
    let destination = app.add_hub("silent", &silent.url(), serde_json::json!({})).await;
    let id = app.owe(destination, 1).await[0];
    let process = app.spawn("deliver");
    let other = app.spawn("deliver");
    silent.wait_for_requests(1).await;
    let claimed = std::time::Instant::now();
    until("three lives are over", async || (claimed.elapsed() > Duration::from_secs(3)).then_some(())).await;
    assert_eq!(app.delivery(id).await["status"], "in_flight");
    assert_eq!((silent.requests(), app.outcomes(id).await.len()), (1, 0));
    process.kill().await;
    other.kill().await;
}

/// A turn that waits in the database is no sign of death.
#[tokio::test]
async fn the_heartbeat_goes_on_while_all_connections_of_its_worker_wait() {
    const WAITING: &str =
        "SELECT count(*) FROM pg_locks WHERE relation = 'outbox_blocked'::regclass AND NOT granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    let app =
        TestApp::new(&[("deliver.worker_ttl_seconds", "1"), ("database.deliver_connections", "1")]).await;
    let process = app.spawn("deliver");
    app.wait_for_count(ALIVE, 1).await;
    let worker = "SELECT worker_id::text FROM workers";
    let known: String = app.owner().query_one(worker, &[]).await.unwrap().get(0);
    let other = pool::connect_owner(&app.database.config.database).await.unwrap();
    // Whoever completes looks there.
    other.batch_execute("BEGIN; LOCK TABLE outbox_blocked IN ACCESS EXCLUSIVE MODE").await.unwrap();
    app.owe_one().await;
    app.wait_for_count(WAITING, 1).await;
    // Again and again, five times a life, also if one comes late: a turn that gives up lets go of its connection for one renewal only.
    let expires = "SELECT (extract(epoch FROM expires_at) * 1000)::int8 FROM workers";
    let mut renewals = BTreeSet::new();
    until("it has been renewed for three lives", async || {
        renewals.insert(app.count(expires).await);
        (renewals.len() > 15).then_some(())
    })
    .await;
    other.batch_execute("COMMIT").await.unwrap();
    app.wait_for_count("SELECT count(*) FROM deliveries WHERE status = 'delivered'", 1).await;
    assert!(is_known(&app, &known).await);
    assert_eq!(process.terminate().await, Some(0));
}

/// Heartbeats of different workers come at different times: of two that were cut off for nearly a whole life, one is late and the
/// other is not.
#[tokio::test]
async fn one_that_was_cut_off_itself_and_is_not_late_rescues_nobody_who_is() {
    let app = TestApp::new(&[("deliver.worker_ttl_seconds", "3")]).await;
    app.hub.set_default(Answer::Hang);
    let id = app.owe_one().await;
    let mut late = Courier::new(&app.config()).await;
    let mut other = Courier::new(&app.config()).await;
    late.claim().await;
    let former = late.id();
    let begun = std::time::Instant::now();
    until("both have been alive for long", async || {
        assert_eq!(late.heartbeat.step().await.unwrap(), 0);
        assert_eq!(other.heartbeat.step().await.unwrap(), 0);
        (begun.elapsed() > Duration::from_secs(4)).then_some(())
    })
    .await;
    let renewed = std::time::Instant::now();
    until("its time to beat", async || (renewed.elapsed() > Duration::from_millis(500)).then_some(())).await;
    other.heartbeat.step().await.unwrap();
    // The database is away for both until the first is late.
    app.wait_for_count(&format!("{ALIVE} AND worker_id = '{former}'"), 0).await;
    assert_eq!(other.heartbeat.step().await.unwrap(), 0);
    assert_eq!(late.heartbeat.step().await.unwrap(), 0);
    assert_eq!((late.id(), app.outcomes(id).await), (former, vec![]));
    assert_eq!(app.delivery(id).await["status"], "in_flight");
}
