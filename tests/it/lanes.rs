//! Lanes: one bad destination delays nobody else, and what matters most goes first within each.

use std::time::{Duration, Instant};

use serde_json::json;
use uuid::Uuid;
use watchbell::dev::hub::{Answer, Hub, HubOptions};

use super::support::app::TestApp;
use super::support::courier::Courier;
use super::support::receiver::{Manner, Receiver};
use super::support::wait::{PATIENCE, until};

const HEALTHY_DELIVERED: &str =
    "SELECT count(*) FROM deliveries WHERE destination = 'hub' AND status = 'delivered'";

#[tokio::test]
async fn five_thousand_due_rows_of_a_dead_destination_delay_nobody_else() {
    let app = TestApp::new(&[]).await;
    let dead = Hub::start(HubOptions::default()).await.unwrap();
    dead.set_default(Answer::status(503));
    let destination = app.add_hub("dead", &format!("http://{}", dead.address()), json!({})).await;
    app.owe(destination, 5_000).await;
    app.owe(app.destination, 40).await;
    let mut courier = Courier::new(&app.config()).await;
    courier.step_until(&app, HEALTHY_DELIVERED, 40).await;
    // Eight slots each: while the healthy lane took its 40, the dead one can't have taken hundreds.
    let tried =
        app.count("SELECT count(*) FROM deliveries WHERE destination = 'dead' AND attempts > 0").await;
    assert!((1..1_000).contains(&tried), "{tried}");
    assert_eq!(app.count("SELECT count(*) FROM outbox").await, 5_000);
}

#[tokio::test]
async fn a_hanging_destination_takes_its_own_slots_and_no_more() {
    let app =
        TestApp::new(&[("deliver.concurrency", "16"), ("deliver.concurrency_per_destination", "4")]).await;
    let silent = Receiver::start(Manner::Silent).await;
    let hanging = app.add_hub("hanging", &silent.url(), json!({})).await;
    app.owe(hanging, 100).await;
    app.owe(app.destination, 40).await;
    let mut courier = Courier::new(&app.config()).await;
    courier.step_until(&app, HEALTHY_DELIVERED, 40).await;
    silent.wait_for_requests(4).await;
    assert_eq!(silent.connections(), 4);
    assert_eq!(app.count("SELECT count(*) FROM deliveries WHERE status = 'in_flight'").await, 4);
}

/// A worker that begins when nothing is owed prepares its claim for a table that is empty, and keeps the plan.
#[tokio::test]
async fn who_planned_for_an_empty_table_claims_no_more_than_it_may_when_it_is_full() {
    let app = TestApp::new(&[("deliver.concurrency_per_destination", "4")]).await;
    app.hub.set_default(Answer::Slow(PATIENCE));
    app.owner().batch_execute("VACUUM ANALYZE outbox").await.unwrap();
    let mut courier = Courier::new(&app.config()).await;
    courier.find_nothing_due().await;
    app.owe(app.destination, 300).await;
    courier.claim().await;
    assert_eq!(app.count("SELECT count(*) FROM outbox WHERE status = 'in_flight'").await, 4);
}

#[tokio::test]
async fn within_a_lane_the_most_severe_goes_first() {
    let app = TestApp::new(&[("deliver.concurrency_per_destination", "1")]).await;
    let mut expected: Vec<Uuid> = Vec::new();
    for class in [6, 4, 2, 0] {
        expected.splice(0..0, app.owe_class(app.destination, 2, class).await);
    }
    let mut courier = Courier::new(&app.config()).await;
    courier.step_until(&app, HEALTHY_DELIVERED, 8).await;
    let told: Vec<Uuid> =
        app.hub.received().iter().map(|post| post.event_id.as_deref().unwrap().parse().unwrap()).collect();
    let classes = |ids: &[Uuid]| {
        ids.iter().map(|id| expected.iter().position(|e| e == id).unwrap() / 2).collect::<Vec<_>>()
    };
    assert_eq!(classes(&told), [0, 0, 1, 1, 2, 2, 3, 3]);
}

/// The notifications in the order in which the hub accepted them.
fn accepted(app: &TestApp) -> Vec<Uuid> {
    let posts = app.hub.received();
    let accepted = posts.iter().filter(|post| post.was_accepted());
    accepted.map(|post| post.event_id.as_deref().unwrap().parse().unwrap()).collect()
}

#[tokio::test]
async fn within_a_severity_first_attempts_go_before_what_failed_however_long_that_is_due() {
    let app = TestApp::new(&[("deliver.concurrency_per_destination", "1")]).await;
    app.hub.set_default(Answer::status(503));
    let failed =
        [app.owe_class(app.destination, 1, 0).await[0], app.owe_class(app.destination, 1, 6).await[0]];
    let mut courier = Courier::new(&app.config()).await;
    courier.step_until(&app, "SELECT count(*) FROM outbox WHERE status = 'retrying'", 2).await;
    let long_due = "UPDATE outbox SET status = 'retrying', next_attempt_at = now() - interval '1 hour'";
    assert_eq!(app.owner().execute(long_due, &[]).await.unwrap(), 2);
    let new = [app.owe_class(app.destination, 1, 0).await[0], app.owe_class(app.destination, 1, 6).await[0]];
    app.hub.set_default(Answer::status(202));
    courier.step_until(&app, HEALTHY_DELIVERED, 4).await;
    assert_eq!(accepted(&app), [new[0], failed[0], new[1], failed[1]]);
}

#[tokio::test]
async fn what_was_rescued_from_a_dead_worker_comes_after_first_attempts_too() {
    let app =
        TestApp::new(&[("deliver.concurrency_per_destination", "1"), ("deliver.worker_ttl_seconds", "1")])
            .await;
    app.hub.set_default(Answer::Hang);
    let rescued = app.owe_one().await;
    let mut dead = Courier::new(&app.config()).await;
    dead.claim().await;
    drop(dead);
    let mut courier = Courier::new(&app.config()).await;
    until("the row is rescued", async || (courier.heartbeat.step().await.unwrap() == 1).then_some(())).await;
    let new = app.owe_one().await;
    app.hub.set_default(Answer::status(202));
    until("both are delivered", async || {
        courier.heartbeat.step().await.unwrap();
        courier.worker.step().await.unwrap();
        (app.count(HEALTHY_DELIVERED).await == 2).then_some(())
    })
    .await;
    assert_eq!(accepted(&app), [new, rescued]);
}

/// Owes some to each of so many destinations, and sends so many one after another; returns how many of them each lane got.
async fn turns_of(due: usize, idle: usize, each: usize, sent: usize) -> Vec<usize> {
    let app = TestApp::new(&[("deliver.concurrency", "1")]).await;
    let url = format!("http://{}", app.hub.address());
    let mut lanes = Vec::new();
    for number in 0..due {
        let destination = app.add_hub(&format!("due-{number}"), &url, json!({})).await;
        lanes.push(app.owe(destination, each).await);
    }
    for number in 0..idle {
        app.add_hub(&format!("idle-{number}"), &url, json!({})).await;
    }
    let mut courier = Courier::new(&app.config()).await;
    let delivered = "SELECT count(*) FROM deliveries WHERE status = 'delivered'";
    courier.step_until(&app, delivered, sent as i64).await;
    let heard = &accepted(&app)[..sent];
    lanes.iter().map(|lane| lane.iter().filter(|id| heard.contains(id)).count()).collect()
}

#[tokio::test]
async fn when_more_lanes_are_due_than_requests_may_run_each_gets_its_turn() {
    assert_eq!(turns_of(10, 0, 5, 20).await, [2; 10]);
}

#[tokio::test]
async fn idle_lanes_give_their_turns_to_all_that_are_due_alike() {
    assert_eq!(turns_of(2, 20, 12, 12).await, [6; 2]);
}

/// A notification of another destination, from its commit until it arrives, again and again; the middle one of all.
async fn typical_delay(app: &TestApp) -> Duration {
    let mut delays = Vec::new();
    for _ in 0..15 {
        let before = app.hub.total();
        let owed = Instant::now();
        app.owe_one().await;
        app.hub.wait_for(|posts| posts.len() as u64 > before, PATIENCE).await.unwrap();
        delays.push(owed.elapsed());
    }
    delays.sort_unstable();
    delays[7]
}

#[tokio::test]
async fn a_hundred_thousand_due_rows_of_one_that_never_answers_delay_nobody_else() {
    let app = TestApp::new(&[("deliver.request_timeout_seconds", "1")]).await;
    let silent = Receiver::start(Manner::Silent).await;
    // It is never left alone: its lane is looked at in every turn.
    let silent_one = app.add_hub("silent", &silent.url(), json!({ "breaker_failures": 0 })).await;
    app.owe_very_many(silent_one, 100_000, 0).await;
    let process = app.spawn("deliver");
    silent.wait_for_requests(8).await;
    let delay = typical_delay(&app).await;
    // Behind all of them it would come after hours.
    assert!(delay < Duration::from_secs(5), "{delay:?}");
    // All the while they were due, and were tried.
    let due = "SELECT count(*) FROM outbox WHERE next_attempt_at <= now()";
    assert!(app.count(due).await > 99_000);
    assert!(silent.requests() >= 16, "{}", silent.requests());
    process.kill().await;
}

#[tokio::test]
async fn the_most_severe_goes_before_a_hundred_thousand_others_of_its_lane() {
    let app = TestApp::new(&[("deliver.concurrency_per_destination", "1")]).await;
    app.owe_very_many(app.destination, 100_000, 6).await;
    let mut courier = Courier::new(&app.config()).await;
    courier.step_until(&app, HEALTHY_DELIVERED, 3).await;
    let severe = app.owe_class(app.destination, 2, 0).await;
    let less = app.owe_class(app.destination, 2, 2).await;
    let before = usize::try_from(app.hub.total()).unwrap();
    courier.step_until(&app, HEALTHY_DELIVERED, 12).await;
    let place = |id: &Uuid| {
        let posts = app.hub.received();
        posts.iter().position(|post| post.event_id.as_deref() == Some(&id.to_string())).unwrap()
    };
    let mut places: Vec<usize> = severe.iter().map(place).collect();
    places.sort_unstable();
    // One may have been claimed when they were owed, and not have arrived.
    assert!(places[1] <= before + 2, "{places:?} after {before}");
    assert!(less.iter().all(|id| place(id) > places[1] && place(id) <= before + 4));
}
