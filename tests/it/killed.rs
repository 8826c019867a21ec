//! Workers that are killed or stopped with many POSTs under way: another takes over, nothing is lost, what is repeated was
//! under way, and the record says so of each.

use std::time::{Duration, Instant};

use uuid::Uuid;
use watchbell::dev::hub::Answer;

use super::support::app::TestApp;
use super::support::process::Process;
use super::support::wait::{PATIENCE, until};

const DELIVERED: &str = "SELECT count(*) FROM deliveries WHERE status = 'delivered'";
const UNKNOWN: &str = "SELECT count(*) FROM delivery_attempts WHERE outcome = 'unknown'";
const LATE: &str = "SELECT count(*) FROM delivery_attempts WHERE late";
const IN_FLIGHT: &str = "SELECT count(*) FROM outbox WHERE status = 'in_flight'";
/// From the death of a worker until its rows are owed again.
const RESCUE: Duration = Duration::from_secs(10);
/// The hub takes a call at once, and its answer comes after the test.
const HELD: Answer = Answer::Slow(Duration::from_secs(3600));

/// A service whose workers send as wide as this.
async fn wide(requests: usize, settings: &[(&str, &str)]) -> TestApp {
    let requests = requests.to_string();
    let width = [("deliver.concurrency", &*requests), ("deliver.concurrency_per_destination", &*requests)];
    TestApp::new(&[&width, settings].concat()).await
}

/// A worker with so many POSTs under way that the hub has taken and not answered yet, and what they are about.
async fn one_with_its_hands_full(app: &TestApp, answer: Answer, posts: usize) -> (Process, Vec<Uuid>) {
    app.hub.set_default(answer);
    let full = app.spawn("deliver");
    app.wait_for_count("SELECT count(*) FROM workers", 1).await;
    let owed = app.owe(app.destination, posts).await;
    app.hub.wait_for(|received| received.len() == posts, PATIENCE).await.unwrap();
    app.hub.set_default(Answer::ByTheRules);
    (full, owed)
}

#[tokio::test]
async fn a_worker_killed_with_200_posts_in_flight_loses_none_and_each_repeat_is_on_record_under_its_id() {
    // The promise is about the defaults; nothing ends by itself meanwhile.
    let settings = [
        ("deliver.worker_ttl_seconds", "5"),
        ("deliver.request_timeout_seconds", "120"),
        ("deliver.lease_seconds", "130"),
    ];
    let app = wide(200, &settings).await;
    let (victim, mut owed) = one_with_its_hands_full(&app, HELD, 200).await;
    let other = app.spawn("deliver");
    app.wait_for_count("SELECT count(*) FROM workers", 2).await;
    assert_eq!(app.count(IN_FLIGHT).await, 200);
    let killed = Instant::now();
    victim.kill().await;
    // Meanwhile others are owed, and the other worker goes on.
    owed.extend(app.owe(app.destination, 100).await);
    app.wait_for_count(DELIVERED, 100).await;
    app.wait_for_count(UNKNOWN, 200).await;
    assert!(killed.elapsed() < RESCUE, "took {:?}", killed.elapsed());
    app.wait_for_count(DELIVERED, 300).await;
    assert_eq!(other.terminate().await, Some(0));

    let repeats = app.assert_all_told_and_on_record(&owed).await;
    assert_eq!(repeats, 200, "what was in flight, and nothing else");
    let cut_short = "SELECT count(*) FROM deliveries WHERE attempts = 2 AND status = 'delivered'";
    assert_eq!(app.count(cut_short).await, 200);
    let by_two =
        "SELECT count(DISTINCT worker_id) FROM delivery_attempts WHERE attempt = 1 AND outcome = 'unknown'";
    assert_eq!(app.count(by_two).await, 1);
}

/// Stopped before this answer comes, taken over by another, and let go on when everything is delivered.
async fn stopped_and_let_go_on(app: &TestApp, answer: Answer) {
    let (stopped, mut owed) = one_with_its_hands_full(app, answer, 40).await;
    stopped.pause();
    assert_eq!(app.count(IN_FLIGHT).await, 40, "stopped before the first answer");
    let other = app.spawn("deliver");
    owed.extend(app.owe(app.destination, 40).await);
    app.wait_for_count(UNKNOWN, 40).await;
    app.wait_for_count(DELIVERED, 80).await;
    stopped.go_on();
    app.wait_for_count(LATE, 40).await;
    // It is one of us again.
    assert_eq!(other.terminate().await, Some(0));
    owed.extend(app.owe(app.destination, 40).await);
    app.wait_for_count(DELIVERED, 120).await;
    assert_eq!(stopped.terminate().await, Some(0));
    assert_eq!(app.assert_all_told_and_on_record(&owed).await, 40, "what was in flight, and nothing else");
    assert_eq!(app.count(UNKNOWN).await, 40);
    assert_eq!(app.count("SELECT count(*) FROM workers").await, 0);
}

#[tokio::test]
async fn a_worker_stopped_past_its_heartbeat_keeps_its_late_answers_and_doubles_only_what_was_in_flight() {
    let app = wide(40, &[("deliver.request_timeout_seconds", "120"), ("deliver.lease_seconds", "130")]).await;
    stopped_and_let_go_on(&app, Answer::Slow(Duration::from_secs(5))).await;
    let accepted =
        "SELECT count(*) FROM delivery_attempts WHERE late AND outcome = 'delivered' AND status_code = 200";
    assert_eq!(app.count(accepted).await, 40);
}

#[tokio::test]
async fn a_worker_stopped_past_its_leases_keeps_its_late_answers_and_doubles_only_what_was_in_flight() {
    // Its heartbeat outlives its leases, which are eleven seconds long.
    let settings = [
        ("deliver.worker_ttl_seconds", "60"),
        ("deliver.request_timeout_seconds", "6"),
        ("deliver.lease_seconds", "11"),
    ];
    let app = wide(40, &settings).await;
    stopped_and_let_go_on(&app, Answer::Slow(Duration::from_secs(5))).await;
    let accepted = "SELECT count(*) FROM delivery_attempts WHERE late AND outcome = 'delivered'";
    assert_eq!(app.count(accepted).await, 40);
    let by_lease = "SELECT count(*) FROM delivery_attempts WHERE outcome = 'unknown' AND error LIKE 'the lease ran out%'";
    assert_eq!(app.count(by_lease).await, 40);
}

/// The answer lies in the socket: a worker that was stopped over its deadlines, and that nobody missed, has been told.
#[tokio::test]
async fn an_answer_that_came_in_time_is_read_although_its_worker_was_stopped_until_later() {
    let app = wide(40, &[("deliver.request_timeout_seconds", "5")]).await;
    let (stopped, owed) = one_with_its_hands_full(&app, Answer::Slow(Duration::from_secs(4)), 40).await;
    stopped.pause();
    assert_eq!(app.count(IN_FLIGHT).await, 40, "stopped before the first answer");
    let paused = Instant::now();
    until("deadlines are over", async || (paused.elapsed() > Duration::from_secs(6)).then_some(())).await;
    stopped.go_on();
    app.wait_for_count("SELECT count(*) FROM delivery_attempts", 40).await;
    assert_eq!(app.count(DELIVERED).await, 40);
    assert_eq!(app.assert_all_told_and_on_record(&owed).await, 0);
    assert_eq!(stopped.terminate().await, Some(0));
}

#[tokio::test]
async fn workers_killed_and_stopped_at_any_moment_lose_nothing_and_every_post_is_on_record() {
    const AT_ONCE: usize = 20;
    let app = wide(AT_ONCE, &[]).await;
    app.hub.set_default(Answer::Slow(Duration::from_millis(20)));
    let steady = app.spawn("deliver");
    let mut owed = Vec::new();
    for round in 1..=6_u64 {
        let victim = app.spawn("deliver");
        app.wait_for_count("SELECT least(count(*), 2) FROM workers", 2).await;
        owed.extend(app.owe(app.destination, 300).await);
        // Amid the work of both, each time after another number of POSTs.
        let before = app.hub.total();
        until("some to arrive", async || (app.hub.total() >= before + 37 * round).then_some(())).await;
        if round % 2 == 0 {
            victim.kill().await;
        } else {
            victim.pause();
            app.wait_for_count(DELIVERED, owed.len() as i64).await;
            victim.go_on();
            assert_eq!(victim.terminate().await, Some(0));
        }
    }
    app.wait_for_count(DELIVERED, owed.len() as i64).await;
    assert_eq!(steady.terminate().await, Some(0));
    let repeats = app.assert_all_told_and_on_record(&owed).await as i64;
    let unknown = app.count(UNKNOWN).await;
    assert!(0 < unknown && unknown <= 6 * AT_ONCE as i64, "{unknown} were in flight");
    assert!(repeats <= unknown, "{repeats} repeats of {unknown} that were in flight");
}
