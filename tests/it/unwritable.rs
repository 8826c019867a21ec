//! An outcome that the database refuses, whatever the reason: it is found and set aside, and costs nobody else anything.

use serde_json::json;
use watchbell::dev::hub::Reply;

use super::support::app::TestApp;
use super::support::wait::until;

const DELIVERED: &str = "SELECT count(*) FROM deliveries WHERE status = 'delivered'";
const IN_FLIGHT: &str = "SELECT count(*) FROM outbox WHERE status = 'in_flight'";

#[tokio::test]
async fn while_it_is_looked_for_nothing_more_is_claimed_and_afterwards_all_goes_on() {
    const OWED: i64 = 3_000;
    let app = TestApp::new(&[("deliver.concurrency", "16")]).await;
    app.owner()
        .batch_execute(
            "ALTER TABLE delivery_attempts ADD CHECK (answer IS DISTINCT FROM 'not to be written')",
        )
        .await
        .unwrap();
    app.hub.push_answer(Reply::new(200, "not to be written"));
    let url = format!("http://{}", app.hub.address());
    for n in 0..10 {
        let other = app.add_hub(&format!("hub {n}"), &url, json!({})).await;
        app.owe(other, OWED as usize / 10).await;
    }
    let process = app.spawn("deliver");
    until("all but one are delivered", async || {
        let in_flight = app.count(IN_FLIGHT).await;
        assert!(in_flight <= 17, "{in_flight}");
        (app.count(DELIVERED).await == OWED - 1).then_some(())
    })
    .await;
    assert_eq!(app.hub.total(), OWED as u64);
    process.log_when("an outcome can't be written").await;
    assert_eq!(process.terminate().await, Some(0));
}
