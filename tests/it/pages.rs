//! From a reading to a delivered page.

use serde_json::json;
use sha2::{Digest, Sha256};
use watchbell::runtime::Roles;

use super::support::app::{HUB_KEY, TestApp, temperature};
use super::support::wait::PATIENCE;

#[tokio::test]
async fn a_reading_over_the_threshold_becomes_one_alert_one_notification_and_one_post() {
    let mut app = TestApp::new(&[]).await;
    app.start(Roles::all()).await;
    app.publish(temperature(79.9, 3)).await;
    app.publish(temperature(91.25, 2)).await;
    app.publish(temperature(79.9, 1)).await;
    app.wait_for_count("SELECT count(*) FROM deliveries WHERE status = 'delivered'", 1).await;
    app.wait_for_count("SELECT coalesce(sum(count), 0)::bigint FROM readings_1m", 3).await;

    assert_eq!(app.count("SELECT count(*) FROM readings").await, 3);
    assert_eq!(app.count("SELECT count(*) FROM alerts").await, 1);
    assert_eq!(app.count("SELECT count(*) FROM notifications").await, 1);
    assert_eq!(app.count("SELECT count(*) FROM outbox").await, 0);
    let posts = app.hub.received();
    assert_eq!(posts.len(), 1);
    let notification =
        app.owner().query_one("SELECT notification_id::text, body FROM notifications", &[]).await.unwrap();
    let (id, body): (&str, &str) = (notification.get(0), notification.get(1));
    assert_eq!(posts[0].path, "/api/events");
    assert_eq!(posts[0].header("x-api-key"), Some(HUB_KEY));
    assert_eq!(posts[0].header("content-type"), Some("application/json"));
    assert_eq!(posts[0].body, body.as_bytes());
    assert_eq!(posts[0].event_id.as_deref(), Some(id));
    assert_eq!(posts[0].json()["payload"]["value"], 91.25);

    let delivery = app.get(&format!("/api/deliveries/{id}")).await;
    assert_eq!(delivery["delivery"]["status"], "delivered");
    assert_eq!(delivery["attempts"].as_array().unwrap().len(), 1);
    assert_eq!(delivery["attempts"][0]["status_code"], 200);
    let hash: [u8; 32] = Sha256::digest(body.as_bytes()).into();
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(delivery["attempts"][0]["body_sha256"], json!(hex));
    let alerts = app.get("/api/alerts").await;
    assert_eq!(alerts["alerts"][0]["value"], 91.25);
    app.hub.wait_for(|posts| posts.len() == 1, PATIENCE).await.unwrap();
    app.stop().await;
}
