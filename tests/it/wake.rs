//! Wake-ups: the bell makes it fast, and without it nothing is lost but a second.

use std::time::{Duration, Instant};

use tokio::sync::Notify;
use watchbell::db::pool;

use super::support::app::TestApp;
use super::support::courier::Courier;
use super::support::wait::PATIENCE;

/// Owes one again and again; returns how long each took to arrive, the shortest first.
async fn delays(app: &TestApp, bell: Option<&Notify>, count: usize) -> Vec<Duration> {
    let mut delays = Vec::new();
    for _ in 0..count {
        let before = app.hub.total();
        app.owe_one().await;
        let committed = Instant::now();
        if let Some(bell) = bell {
            bell.notify_one();
        }
        app.hub.wait_for(|posts| posts.len() as u64 > before, PATIENCE).await.unwrap();
        delays.push(committed.elapsed());
    }
    delays.sort_unstable();
    delays
}

#[tokio::test]
async fn a_lost_wake_up_costs_at_most_about_a_second() {
    let app = TestApp::new(&[]).await;
    let _bell = Courier::new(&app.config()).await.run();
    let delays = delays(&app, None, 5).await;
    // The middle one: the machine may keep a single one waiting.
    assert!(delays[2] < Duration::from_secs(2), "{delays:?}");
}

#[tokio::test]
async fn a_wake_up_makes_the_poll_needless() {
    let app = TestApp::new(&[]).await;
    let bell = Courier::new(&app.config()).await.run();
    // One after another, so that the next poll is a second away.
    let delays = delays(&app, Some(&bell), 15).await;
    assert!(delays[7] < Duration::from_millis(500), "{delays:?}");
}

#[tokio::test]
async fn a_turn_that_has_to_wait_keeps_no_page_waiting() {
    const WAITING: &str =
        "SELECT count(*) FROM pg_locks WHERE relation = 'outbox_blocked'::regclass AND NOT granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    let app = TestApp::new(&[]).await;
    let bell = Courier::new(&app.config()).await.run();
    let other = pool::connect_owner(&app.database.config.database).await.unwrap();
    // Whoever completes looks there.
    other.batch_execute("BEGIN; LOCK TABLE outbox_blocked IN ACCESS EXCLUSIVE MODE").await.unwrap();
    app.owe_one().await;
    bell.notify_one();
    app.wait_for_count(WAITING, 1).await;
    app.owe_one().await;
    bell.notify_one();
    app.hub.wait_for(|posts| posts.len() == 2, PATIENCE).await.unwrap();
    other.batch_execute("COMMIT").await.unwrap();
    app.wait_for_count("SELECT count(*) FROM deliveries WHERE status = 'delivered'", 2).await;
}
