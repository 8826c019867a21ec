//! Lanes: one bad destination delays nobody else, and what matters most goes first within each.

use serde_json::json;
use uuid::Uuid;
use watchbell::dev::hub::{Answer, Hub, HubOptions};

use super::support::app::TestApp;
use super::support::courier::Courier;
use super::support::receiver::{Manner, Receiver};

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
