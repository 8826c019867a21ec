//! Lanes: one bad destination delays nobody else, and what matters most goes first within each.

use std::time::{Duration, Instant};

use serde_json::json;
use uuid::Uuid;
use watchbell::dev::hub::{Answer, Hub, HubOptions};

use super::support::app::TestApp;
use super::support::courier::Courier;
use super::support::receiver::{Manner, Receiver};
use super::support::wait::PATIENCE;

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

#[tokio::test]
async fn within_a_lane_the_most_severe_goes_first() {
    let app = TestApp::new(&[("deliver.concurrency_per_destination", "1")]).await;
    let mut expected: Vec<Uuid> = Vec::new();
    for class in [3, 2, 1, 0] {
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
    assert!(delay < Duration::from_millis(1_500), "{delay:?}");
    // All the while they were due, and were tried.
    let due = "SELECT count(*) FROM outbox WHERE next_attempt_at <= now()";
    assert!(app.count(due).await > 99_000);
    assert!(silent.requests() >= 16, "{}", silent.requests());
    process.kill().await;
}

#[tokio::test]
async fn the_most_severe_goes_before_a_hundred_thousand_others_of_its_lane() {
    let app = TestApp::new(&[("deliver.concurrency_per_destination", "1")]).await;
    app.owe_very_many(app.destination, 100_000, 3).await;
    let mut courier = Courier::new(&app.config()).await;
    courier.step_until(&app, HEALTHY_DELIVERED, 3).await;
    let severe = app.owe_class(app.destination, 2, 0).await;
    let less = app.owe_class(app.destination, 2, 1).await;
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
