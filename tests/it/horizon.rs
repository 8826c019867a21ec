//! The horizon ends all retrying, and stands still while a destination is held or parked: nobody was trying then.

use serde_json::json;
use watchbell::dev::hub::Answer;

use super::support::app::TestApp;
use super::support::courier::Courier;

const DELIVERED: &str = "SELECT count(*) FROM deliveries WHERE status = 'delivered'";
const HELD: &str = "SELECT count(*) FROM destinations WHERE state IN ('held', 'parked')";
const AGE: &str = "SELECT extract(epoch FROM now() - min(enqueued_at))::bigint FROM outbox";

#[tokio::test]
async fn the_horizon_stands_still_while_a_destination_is_held() {
    let app = TestApp::new(&[("deliver.hold_seconds", "4"), ("deliver.retry.horizon_seconds", "3")]).await;
    // One that is owed from before the hold, and one that is owed within it.
    let before = app.owe_one().await;
    app.hub.push_answer(Answer::status(401));
    let mut courier = Courier::new(&app.config()).await;
    courier.step_until(&app, HELD, 1).await;
    let within = app.owe_one().await;
    app.wait_for_more(AGE, 3).await;
    // The probe is answered 503: that is a failure like any other, and not the end.
    app.hub.push_answer(Answer::status(503));
    courier.step_until(&app, DELIVERED, 2).await;
    assert_eq!(app.outcomes(before).await[0], "hold");
    assert_eq!(app.count("SELECT count(*) FROM delivery_attempts WHERE outcome = 'retry'").await, 1);
    assert_eq!(app.delivery(within).await["status"], "delivered");
    assert_eq!(app.count("SELECT count(*) FROM dead_letters").await, 0);
}

#[tokio::test]
async fn the_horizon_stands_still_while_a_destination_is_parked_and_runs_on_afterwards() {
    let app = TestApp::new(&[("deliver.retry.horizon_seconds", "3")]).await;
    let mut courier = Courier::new(&app.config()).await;
    let id = app.owe_one().await;
    app.hub.push_answer(Answer::status(410));
    app.hub.set_default(Answer::status(503));
    courier.step_until(&app, HELD, 1).await;
    app.wait_for_more(AGE, 3).await;
    app.owner().execute("UPDATE destinations SET state = 'active', state_reason = NULL", &[]).await.unwrap();
    courier.step_until(&app, "SELECT count(*) FROM dead_letters", 1).await;
    let outcomes = app.outcomes(id).await;
    assert_eq!((outcomes[0].as_str(), outcomes[1].as_str()), ("hold", "retry"), "{outcomes:?}");
    assert_eq!(outcomes.last().unwrap(), "dead");
    assert_eq!(app.delivery(id).await["status"], json!("dead"));
    // What is owed after a hold has its own whole horizon.
    app.hub.push_answer(Answer::status(503));
    app.hub.set_default(Answer::ByTheRules);
    app.owe_one().await;
    courier.step_until(&app, DELIVERED, 1).await;
}
