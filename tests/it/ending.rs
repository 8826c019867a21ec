//! A worker that is asked to end: what it knows is on record before it is gone, whatever keeps it.

use std::time::Duration;

use serde_json::json;
use watchbell::dev::hub::Answer;

use super::support::app::TestApp;
use super::support::receiver::{ACCEPTED, Manner, Receiver};
use super::support::wait::PATIENCE;

const DELIVERED: &str = "SELECT count(*) FROM deliveries WHERE status = 'delivered'";
/// Long enough that it is asked to end before they are answered.
const SOON: Answer = Answer::Slow(Duration::from_secs(1));

/// A workflow may take minutes, and a process that is asked to end has seconds.
#[tokio::test]
async fn what_ends_meanwhile_is_on_record_before_the_last_request_has_ended() {
    let app =
        TestApp::new(&[("deliver.request_timeout_seconds", "50"), ("deliver.lease_seconds", "60")]).await;
    let gated = Receiver::start(Manner::Gated(ACCEPTED.to_vec())).await;
    let slow = app.add_hub("slow", &gated.url(), json!({})).await;
    let process = app.spawn("deliver");
    app.owe(slow, 1).await;
    gated.wait_for_requests(1).await;
    app.hub.set_default(SOON);
    app.owe(app.destination, 10).await;
    app.hub.wait_for(|posts| posts.len() == 10, PATIENCE).await.unwrap();
    process.ask_to_end();
    app.wait_for_count(DELIVERED, 10).await;
    gated.open();
    assert_eq!(process.ended().await, Some(0));
    assert_eq!(app.count(DELIVERED).await, 11);
    assert_eq!(app.count("SELECT count(*) FROM delivery_attempts").await, 11);
}

#[tokio::test]
async fn while_the_database_is_away_for_a_moment_nothing_that_is_known_is_thrown_away() {
    let mut app = TestApp::new(&[]).await;
    let proxy = app.put_a_proxy_before_the_database().await;
    let process = app.spawn("deliver");
    app.hub.set_default(SOON);
    app.owe(app.destination, 10).await;
    app.hub.wait_for(|posts| posts.len() == 10, PATIENCE).await.unwrap();
    proxy.cut();
    process.ask_to_end();
    process.log_when("failed to record the last attempts, trying again").await;
    proxy.mend();
    assert_eq!(process.ended().await, Some(0));
    assert_eq!((app.count(DELIVERED).await, app.hub.total()), (10, 10));
}
