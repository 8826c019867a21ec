//! Floors: nobody walks again over what was claimed, and what is due before them is found all the same.

use std::time::{Duration, Instant};

use tokio::sync::Notify;
use uuid::Uuid;
use watchbell::db::pool;
use watchbell::outbox::floors::Floors;

use super::support::app::TestApp;
use super::support::churn::Churn;
use super::support::courier::Courier;
use super::support::wait::{PATIENCE, until};

/// What was committed so long after it became due is looked for at every claim.
const SLACK: Duration = Duration::from_millis(250);
/// A sweep a second, and what a busy machine takes to send a request. Without sweeps it would be never.
const ABOUT_A_SECOND: Duration = Duration::from_secs(5);

/// One after another is owed and sent.
async fn send_one(app: &TestApp, bell: &Notify) {
    let before = app.hub.total();
    app.owe_one().await;
    bell.notify_one();
    app.hub.wait_for(|posts| posts.len() as u64 > before, PATIENCE).await.unwrap();
}

async fn wait_for_post(app: &TestApp, id: Uuid) {
    let id = id.to_string();
    let is_it = |event: &Option<String>| event.as_deref() == Some(&id);
    app.hub.wait_for(|posts| posts.iter().any(|post| is_it(&post.event_id)), PATIENCE).await.unwrap();
}

#[tokio::test]
async fn what_is_committed_long_after_it_became_due_is_sent_about_a_second_later() {
    let app = TestApp::new(&[]).await;
    let bell = Courier::new(&app.config()).await.run();
    let mut slow = pool::connect_owner(&app.database.config.database).await.unwrap();
    let transaction = slow.transaction().await.unwrap();
    let id = app.owe_within(&transaction, app.destination, 0).await;
    // Others of its lane, which are due later, are claimed meanwhile.
    let began = Instant::now();
    while began.elapsed() < 3 * SLACK {
        send_one(&app, &bell).await;
    }
    transaction.commit().await.unwrap();
    let committed = Instant::now();
    wait_for_post(&app, id).await;
    assert!(committed.elapsed() < ABOUT_A_SECOND, "{:?}", committed.elapsed());
}

#[tokio::test]
async fn a_row_whose_lease_runs_out_is_sent_about_a_second_later_however_long_it_was_due() {
    let app = TestApp::new(&[]).await;
    let bell = Courier::new(&app.config()).await.run();
    send_one(&app, &bell).await;
    let mut other = pool::connect_owner(&app.database.config.database).await.unwrap();
    let before = Instant::now();
    let transaction = other.transaction().await.unwrap();
    let id = app.owe_within(&transaction, app.destination, 0).await;
    let lease = "UPDATE outbox SET status = 'in_flight', attempts = 1, leased_by = $1, leased_at = now(),
                        next_attempt_at = now() - interval '1 hour', leased_until = now() + interval '1 second'";
    transaction.execute(lease, &[&Uuid::now_v7()]).await.unwrap();
    transaction.commit().await.unwrap();
    wait_for_post(&app, id).await;
    let (elapsed, lease) = (before.elapsed(), Duration::from_secs(1));
    assert!(elapsed > lease && elapsed < lease + ABOUT_A_SECOND, "{elapsed:?}");
    app.wait_for_count("SELECT count(*) FROM outbox", 0).await;
    assert_eq!(app.outcomes(id).await, ["unknown", "delivered"]);
}

/// Index entries that were looked at, of the index along which claims walk.
const READ: &str = "SELECT pg_stat_get_tuples_returned('outbox_lane'::regclass)";

/// What the claim of one row looks at.
async fn read_by_a_claim(churn: &mut Churn) -> i64 {
    churn.app.owe_one().await;
    churn.count_now().await;
    let before = churn.app.count(READ).await;
    let attempts = churn.claim().await;
    assert_eq!(attempts.len(), 1);
    churn.count_now().await;
    let read = churn.app.count(READ).await - before;
    churn.complete(attempts).await;
    read
}

#[tokio::test]
async fn while_an_old_snapshot_keeps_dead_rows_a_claim_does_not_walk_over_them_again() {
    let mut churn = Churn::new().await;
    let _old = churn.old_snapshot().await;
    churn.turn(20).await;
    // What is due since a moment ago is looked at again: it passes.
    let began = Instant::now();
    while began.elapsed() < 2 * SLACK {
        read_by_a_claim(&mut churn).await;
    }
    let from_the_floor = read_by_a_claim(&mut churn).await;
    churn.lane.floors = Floors::NONE;
    let from_the_start = read_by_a_claim(&mut churn).await;
    assert!(from_the_start > 10_000, "{from_the_start}");
    assert!(50 * from_the_floor < from_the_start, "{from_the_floor} of {from_the_start}");
}

#[tokio::test]
async fn a_worker_walks_over_dead_rows_at_its_sweeps_and_not_at_every_turn() {
    let mut churn = Churn::new().await;
    let _old = churn.old_snapshot().await;
    churn.turn(20).await;
    let turns = "SELECT pg_stat_get_numscans('outbox_lane'::regclass) / 8";
    let (read_before, turns_before) = (churn.app.count(READ).await, churn.app.count(turns).await);
    let began = Instant::now();
    let bell = Courier::new(&churn.app.config()).await.run();
    for _ in 0..60 {
        send_one(&churn.app, &bell).await;
    }
    // The statistics come within a second or two.
    until("60 turns", async || (churn.app.count(turns).await >= turns_before + 60).then_some(())).await;
    let walks = (churn.app.count(READ).await - read_before) / 10_000;
    // A sweep finds nothing, or the claim after it raises the floors again.
    let most = 2 * (began.elapsed().as_secs() as i64 + 2);
    assert!(walks >= 1 && walks <= most, "{walks} of {most}");
}
