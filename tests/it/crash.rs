//! Crash points of delivery: whatever dies between a POST and its record, nothing is lost, nothing is forgotten, and no
//! known acceptance is thrown away.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use watchbell::dev::hub::Answer;

use super::support::app::TestApp;
use super::support::courier::Courier;
use super::support::receiver::{ACCEPTED, Manner, Receiver};
use super::support::wait::{PATIENCE, until};

const DELIVERED: &str = "SELECT count(*) FROM deliveries WHERE status = 'delivered'";
const UNKNOWN: &str = "SELECT count(*) FROM delivery_attempts WHERE outcome = 'unknown'";
const IN_FLIGHT_AGAIN: &str = "SELECT count(*) FROM outbox WHERE status = 'in_flight' AND attempts = 2";
const LEASES_OVER: &str = "SELECT count(*) FROM outbox WHERE status = 'in_flight' AND leased_until > now()";

async fn leased_by(app: &TestApp) -> Value {
    app.owner().query_one("SELECT to_jsonb(o) -> 'leased_by' FROM outbox o", &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn a_killed_workers_row_is_taken_over_within_ten_seconds_and_its_attempt_is_unknown() {
    // The promise is about the defaults.
    let app = TestApp::new(&[("deliver.worker_ttl_seconds", "5")]).await;
    app.hub.push_answer(Answer::Hang);
    let victim = app.spawn("deliver");
    let id = app.owe_one().await;
    app.hub.wait_for(|posts| posts.len() == 1, PATIENCE).await.unwrap();
    let victims_id = leased_by(&app).await;
    let other = app.spawn("deliver");
    app.wait_for_count("SELECT count(*) FROM workers", 2).await;
    let killed_at = Timestamp::now();
    victim.kill().await;
    app.wait_for_count(DELIVERED, 1).await;

    let attempts = app.attempts(id).await;
    assert_eq!(app.outcomes(id).await, ["unknown", "delivered"]);
    assert_eq!(attempts[0]["worker_id"], victims_id);
    assert_ne!(attempts[1]["worker_id"], victims_id);
    let taken_at: Timestamp = attempts[0]["recorded_at"].as_str().unwrap().parse().unwrap();
    assert!(taken_at.duration_since(killed_at) < SignedDuration::from_secs(10), "{attempts:?}");
    // Every POST that the hub saw is on record, under one id.
    let posts = app.hub.received();
    assert_eq!(posts.len(), attempts.len());
    assert!(posts.iter().all(|post| post.event_id.as_deref() == Some(&id.to_string())));
    assert_eq!(other.terminate().await, Some(0));
}

#[tokio::test]
async fn a_worker_that_was_paused_keeps_its_late_acceptance_and_nothing_more_is_sent() {
    let app =
        TestApp::new(&[("deliver.lease_seconds", "60"), ("deliver.request_timeout_seconds", "50")]).await;
    let gated = Receiver::start(Manner::Gated(ACCEPTED.to_vec())).await;
    let destination = app.add_hub("gated", &gated.url(), json!({})).await;
    let paused = app.spawn("deliver");
    let id = app.owe(destination, 1).await[0];
    gated.wait_for_requests(1).await;
    paused.pause();
    let other = app.spawn("deliver");
    app.wait_for_count(UNKNOWN, 1).await;
    gated.wait_for_requests(2).await;
    gated.open();
    app.wait_for_count(DELIVERED, 1).await;
    paused.go_on();
    app.wait_for_count("SELECT count(*) FROM delivery_attempts WHERE late", 1).await;

    assert_eq!(app.outcomes(id).await, ["unknown", "late delivered", "delivered"]);
    assert_eq!(app.attempts(id).await[1]["status_code"], 200);
    assert_eq!(app.delivery(id).await["status"], "delivered");
    assert_eq!(paused.terminate().await, Some(0));
    assert_eq!(other.terminate().await, Some(0));
    assert_eq!(gated.requests(), 2);
}

/// A worker that got its 200 and was stopped before it could say so; its lease ran out.
async fn stopped_with_an_acceptance(app: &TestApp) -> Courier {
    let mut stopped = Courier::new(&app.config()).await;
    stopped.claim().await;
    app.hub.wait_for(|posts| posts.len() == 1, PATIENCE).await.unwrap();
    app.wait_for_count(LEASES_OVER, 0).await;
    stopped
}

const SHORT_LEASE: [(&str, &str); 2] =
    [("deliver.lease_seconds", "3"), ("deliver.request_timeout_seconds", "1")];

#[tokio::test]
async fn a_lease_that_ran_out_is_taken_over_and_its_attempt_is_unknown() {
    let app = TestApp::new(&SHORT_LEASE).await;
    let id = app.owe_one().await;
    let stopped = stopped_with_an_acceptance(&app).await;
    let mut other = Courier::new(&app.config()).await;
    other.step_until(&app, DELIVERED, 1).await;
    assert_eq!(app.outcomes(id).await, ["unknown", "delivered"]);
    let attempts = app.attempts(id).await;
    assert_eq!(
        (&attempts[0]["worker_id"], &attempts[1]["worker_id"]),
        (&json!(stopped.id()), &json!(other.id()))
    );
    assert_eq!(app.hub.total(), 2);
}

#[tokio::test]
async fn a_late_acceptance_ends_what_another_has_in_flight_whatever_becomes_of_that() {
    let app = TestApp::new(&SHORT_LEASE).await;
    let id = app.owe_one().await;
    let mut stopped = stopped_with_an_acceptance(&app).await;
    app.hub.set_default(Answer::status(503));
    let mut other = Courier::new(&app.config()).await;
    other.claim().await;
    app.hub.wait_for(|posts| posts.len() == 2, PATIENCE).await.unwrap();
    stopped.worker.step().await.unwrap();
    assert_eq!(app.outcomes(id).await, ["unknown", "late delivered"]);
    other.step_until(&app, "SELECT count(*) FROM outbox", 0).await;
    other.find_nothing_due().await;
    assert_eq!(app.delivery(id).await["status"], "delivered");
    assert!(app.delivery(id).await["delivered_at"].is_string());
    assert_eq!(app.hub.total(), 2);
    assert_eq!(app.outcomes(id).await[2..], ["retry"]);
}

#[tokio::test]
async fn a_late_acceptance_beats_a_death_before_it_or_after_it() {
    for dies_first in [false, true] {
        let app = TestApp::new(&SHORT_LEASE).await;
        let id = app.owe_one().await;
        let mut stopped = stopped_with_an_acceptance(&app).await;
        app.hub.set_default(Answer::status(400));
        let mut other = Courier::new(&app.config()).await;
        other.claim().await;
        app.hub.wait_for(|posts| posts.len() == 2, PATIENCE).await.unwrap();
        if dies_first {
            other.step_until(&app, "SELECT count(*) FROM dead_letters", 1).await;
        }
        stopped.worker.step().await.unwrap();
        other.step_until(&app, "SELECT count(*) FROM outbox", 0).await;
        assert_eq!(app.delivery(id).await["status"], "delivered");
        assert_eq!(app.count("SELECT count(*) FROM dead_letters").await, 0);
        assert_eq!(app.outcomes(id).await, ["unknown", "late delivered", "dead"]);
    }
}

#[tokio::test]
async fn a_late_acceptance_is_remembered_when_the_worker_after_it_dies_too() {
    let app = TestApp::new(&SHORT_LEASE).await;
    let ids = app.owe(app.destination, 2).await;
    let mut stopped = Courier::new(&app.config()).await;
    stopped.claim().await;
    app.hub.wait_for(|posts| posts.len() == 2, PATIENCE).await.unwrap();
    app.wait_for_count(LEASES_OVER, 0).await;
    let mut other = Courier::new(&app.config()).await;
    other.claim().await;
    app.wait_for_count(IN_FLIGHT_AGAIN, 2).await;
    app.hub.wait_for(|posts| posts.len() == 4, PATIENCE).await.unwrap();
    stopped.worker.step().await.unwrap();
    drop(other);
    // One is found by its lease, the other by the heartbeat of the worker that died.
    app.owner()
        .execute(
            "UPDATE outbox SET next_attempt_at = now() + interval '1 hour' WHERE notification_id = $1",
            &[&ids[0]],
        )
        .await
        .unwrap();
    let mut third = Courier::new(&app.config()).await;
    until("both ended", async || {
        third.worker.step().await.unwrap();
        third.heartbeat.step().await.unwrap();
        (app.count("SELECT count(*) FROM outbox").await == 0).then_some(())
    })
    .await;
    third.find_nothing_due().await;
    for id in ids {
        assert_eq!(app.outcomes(id).await, ["unknown", "late delivered", "unknown"]);
        assert_eq!(app.delivery(id).await["status"], "delivered");
    }
    assert_eq!(app.hub.total(), 4);
}

#[tokio::test]
async fn an_outcome_is_kept_while_the_database_is_away_and_nothing_is_sent_twice() {
    let mut app = TestApp::new(&[]).await;
    let proxy = app.put_a_proxy_before_the_database().await;
    let ids = app.owe(app.destination, 3).await;
    let mut courier = Courier::new(&app.config()).await;
    courier.claim().await;
    proxy.cut();
    app.hub.wait_for(|posts| posts.len() == 3, PATIENCE).await.unwrap();
    for _ in 0..3 {
        courier.worker.step().await.unwrap_err();
    }
    proxy.mend();
    until("the database is back", async || courier.worker.step().await.ok()).await;
    courier.step_until(&app, DELIVERED, 3).await;
    for id in ids {
        assert_eq!(app.outcomes(id).await, ["delivered"]);
    }
    assert_eq!(app.hub.total(), 3);
}

#[tokio::test]
async fn a_completion_repeated_after_its_commits_answer_was_lost_is_not_recorded_as_late() {
    for (answer, status, outcome) in
        [(Answer::ByTheRules, "delivered", "delivered"), (Answer::status(503), "retrying", "retry")]
    {
        // One at a time: nothing is committed while it is under way.
        let settings = [("deliver.retry.first_delay_ms", "600000"), ("deliver.concurrency", "1")];
        let mut app = TestApp::new(&settings).await;
        app.hub.set_default(answer);
        let proxy = app.put_a_proxy_before_the_database().await;
        let id = app.owe_one().await;
        let mut courier = Courier::new(&app.config()).await;
        courier.claim().await;
        app.hub.wait_for(|posts| posts.len() == 1, PATIENCE).await.unwrap();
        proxy.lose_next_commits_answer();
        until("a commit's answer is lost", async || {
            let failed = courier.worker.step().await.is_err();
            assert_eq!(failed, !proxy.will_lose_a_commits_answer());
            failed.then_some(())
        })
        .await;
        assert_eq!(app.outcomes(id).await, [outcome]);
        courier.worker.step().await.unwrap();
        courier.find_nothing_due().await;
        assert_eq!(app.outcomes(id).await, [outcome]);
        assert_eq!(app.delivery(id).await["status"], status);
        assert_eq!(app.hub.total(), 1);
    }
}

#[tokio::test]
async fn an_outcome_whose_commit_never_arrived_is_written_again_and_is_not_taken_for_unknown() {
    // One at a time: nothing is committed while it is under way.
    let mut app = TestApp::new(&[("deliver.concurrency", "1")]).await;
    let proxy = app.put_a_proxy_before_the_database().await;
    let id = app.owe_one().await;
    let mut courier = Courier::new(&app.config()).await;
    courier.claim().await;
    app.hub.wait_for(|posts| posts.len() == 1, PATIENCE).await.unwrap();
    proxy.lose_next_commit();
    until("a commit is lost", async || courier.worker.step().await.is_err().then_some(())).await;
    assert_eq!(app.delivery(id).await["status"], "in_flight");
    courier.step_until(&app, DELIVERED, 1).await;
    courier.find_nothing_due().await;
    assert_eq!(app.outcomes(id).await, ["delivered"]);
    assert_eq!(app.hub.total(), 1);
}

#[tokio::test]
async fn a_claim_whose_commits_answer_was_lost_is_owed_again_at_once_and_what_is_under_way_is_left_alone() {
    // A lease that nobody here lives to see the end of.
    let mut app =
        TestApp::new(&[("deliver.lease_seconds", "3600"), ("deliver.request_timeout_seconds", "600")]).await;
    let gated = Receiver::start(Manner::Gated(ACCEPTED.to_vec())).await;
    let busy = app.add_hub("gated", &gated.url(), json!({})).await;
    let proxy = app.put_a_proxy_before_the_database().await;
    let mut courier = Courier::new(&app.config()).await;
    let under_way = app.owe(busy, 1).await.remove(0);
    courier.claim().await;
    gated.wait_for_requests(1).await;
    let id = app.owe_one().await;
    proxy.lose_next_commits_answer();
    courier.worker.step().await.unwrap_err();
    // It was committed, and nobody here knows it.
    assert_eq!(app.delivery(id).await["status"], "in_flight");
    assert_eq!(app.hub.total(), 0);
    courier.step_until(&app, DELIVERED, 1).await;
    let attempts = app.attempts(id).await;
    assert_eq!(app.outcomes(id).await, ["unknown", "delivered"]);
    assert_eq!(attempts[0]["error"], "the answer to its claim was lost, and it was not sent");
    assert_eq!(attempts[0]["started_at"], Value::Null);
    assert_eq!(app.hub.total(), 1);
    gated.open();
    courier.step_until(&app, DELIVERED, 2).await;
    assert_eq!(app.outcomes(under_way).await, ["delivered"]);
    assert_eq!(gated.requests(), 1);
}

#[tokio::test]
async fn a_claim_that_is_committed_only_after_its_worker_gave_it_up_is_owed_again_too() {
    const WAITS: &str = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    const UNDER_WAY: &str = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'";
    let mut app = TestApp::new(&[("deliver.lease_seconds", "3600")]).await;
    let proxy = app.put_a_proxy_before_the_database().await;
    let mut courier = Courier::new(&app.config()).await;
    for told in 1..=5 {
        let id = app.owe_one().await;
        proxy.hold_next_commit();
        courier.worker.step().await.unwrap_err();
        let waited = until("somebody waits for it", async || match app.count(WAITS).await {
            0 => (app.count(UNDER_WAY).await == 0).then_some(false),
            _ => Some(true),
        })
        .await;
        proxy.let_commit_go();
        courier.step_until(&app, DELIVERED, told).await;
        assert_eq!(app.hub.total(), told as u64);
        if waited && app.outcomes(id).await == ["unknown", "delivered"] {
            return;
        }
        // PostgreSQL itself ends what nobody goes on with for some seconds: there was no claim, and it says nothing.
    }
    panic!("nobody ever waited for a commit that was still to come");
}

#[tokio::test]
async fn on_sigterm_the_requests_under_way_end_and_are_recorded() {
    let app = TestApp::new(&[]).await;
    let gated = Receiver::start(Manner::Gated(ACCEPTED.to_vec())).await;
    let destination = app.add_hub("gated", &gated.url(), json!({})).await;
    let ids = app.owe(destination, 5).await;
    let process = app.spawn("deliver");
    gated.wait_for_requests(5).await;
    let log = process.log_when("stopping");
    let (code, ()) = tokio::join!(process.terminate(), async {
        log.await;
        gated.open();
    });
    assert_eq!(code, Some(0));
    for id in ids {
        assert_eq!(app.outcomes(id).await, ["delivered"]);
    }
    assert_eq!(app.count("SELECT count(*) FROM outbox").await, 0);
    assert_eq!(app.count("SELECT count(*) FROM workers").await, 0);
}
