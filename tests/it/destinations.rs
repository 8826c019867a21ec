//! The workflow engine and the NATS event, and all three destinations at once.

use futures_util::StreamExt;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use watchbell::dev::hub::engine::EngineRules;
use watchbell::dev::hub::{Answer, Hub, Reply};
use watchbell::runtime::Roles;

use super::support::app::{TestApp, temperature};

const SECRET: &str = "the engine's own secret";

/// A service whose one rule tells a workflow engine.
async fn with_engine(secret: Option<&str>, extra: Value, settings: &[(&str, &str)]) -> (TestApp, Hub) {
    let app = TestApp::new(settings).await;
    let engine = Hub::start_engine(EngineRules::new("page", secret, None), None).await.unwrap();
    let mut fields = json!({ "url": format!("http://{}/webhooks/page", engine.address()) });
    fields.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    let destination = app.add_destination("engine", "workflow_engine", fields, secret, json!({})).await;
    app.route(&[destination]).await;
    (app, engine)
}

fn hmac(secret: &str, body: &[u8]) -> String {
    let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    let tag = mac.chain_update(body).finalize().into_bytes();
    tag.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn status(app: &TestApp, expected: &str) {
    app.wait_for_count(&format!("SELECT count(*) FROM deliveries WHERE status = '{expected}'"), 1).await;
}

/// The attempts of the one notification: outcome, status code, external id.
async fn attempts(app: &TestApp) -> Vec<(String, Option<i32>, Option<String>)> {
    let query = "SELECT outcome, status_code, external_id FROM delivery_attempts ORDER BY attempt, late";
    let rows = app.owner().query(query, &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
}

#[tokio::test]
async fn the_engine_gets_the_exact_bytes_signed_and_its_execution_is_kept() {
    let (mut app, engine) = with_engine(Some(SECRET), json!({}), &[]).await;
    app.start(Roles::all()).await;
    app.publish(temperature(91.0, 1)).await;
    status(&app, "delivered").await;
    let calls = engine.received();
    assert_eq!(calls.len(), 1);
    let body: String = app.owner().query_one("SELECT body FROM notifications", &[]).await.unwrap().get(0);
    assert_eq!(calls[0].body, body.as_bytes());
    let signature = format!("sha256={}", hmac(SECRET, body.as_bytes()));
    assert_eq!(calls[0].header("x-hub-signature-256"), Some(signature.as_str()));
    assert_eq!(calls[0].json()["event"], "alert.opened");
    assert_eq!(calls[0].json()["alert"]["value"], 91.0);
    let attempts = attempts(&app).await;
    assert_eq!((attempts.len(), attempts[0].0.as_str(), attempts[0].1), (1, "delivered", Some(202)));
    assert_eq!(attempts[0].2.as_deref().map(str::len), Some(36), "the execution's id");
    app.stop().await;
}

#[tokio::test]
async fn without_a_secret_the_engine_gets_no_signature() {
    let (mut app, engine) = with_engine(None, json!({}), &[]).await;
    app.start(Roles::all()).await;
    app.publish(temperature(91.0, 1)).await;
    status(&app, "delivered").await;
    assert_eq!(engine.received()[0].header("x-hub-signature-256"), None);
    app.stop().await;
}

#[tokio::test]
async fn silence_of_the_engine_is_ambiguous_and_is_repeated_under_the_same_id() {
    let settings = [("deliver.workflow_timeout_seconds", "1")];
    let (mut app, engine) = with_engine(Some(SECRET), json!({}), &settings).await;
    engine.push_answer(Answer::Hang);
    app.start(Roles::all()).await;
    app.publish(temperature(91.0, 1)).await;
    status(&app, "delivered").await;
    let outcomes: Vec<_> = attempts(&app).await.into_iter().map(|(outcome, ..)| outcome).collect();
    assert_eq!(outcomes, ["ambiguous", "delivered"]);
    let calls = engine.received();
    assert_eq!(calls[0].body, calls[1].body);
    app.stop().await;
}

#[tokio::test]
async fn a_destination_that_wants_no_repeat_leaves_silence_to_a_person() {
    let settings = [("deliver.workflow_timeout_seconds", "1")];
    let (mut app, engine) = with_engine(None, json!({ "repeat_ambiguous": false }), &settings).await;
    engine.push_answer(Answer::Hang);
    app.start(Roles::all()).await;
    app.publish(temperature(91.0, 1)).await;
    status(&app, "dead").await;
    let reason: String = app.owner().query_one("SELECT reason FROM dead_letters", &[]).await.unwrap().get(0);
    assert!(reason.starts_with("ambiguous"), "{reason}");
    assert_eq!(engine.total(), 1);
    app.stop().await;
}

#[tokio::test]
async fn the_engine_may_take_longer_than_any_other_receiver() {
    let settings = [("deliver.workflow_timeout_seconds", "30"), ("deliver.request_timeout_seconds", "1")];
    let (mut app, engine) = with_engine(None, json!({}), &settings).await;
    engine.push_answer(Answer::Hang);
    app.start(Roles::all()).await;
    app.publish(temperature(91.0, 1)).await;
    status(&app, "in_flight").await;
    let lease = "SELECT extract(epoch FROM leased_until - leased_at)::bigint FROM outbox";
    assert_eq!(app.count(lease).await, 35);
    // A request to a hub would have ended after a second; this one is still under way after two.
    let old = "SELECT count(*) FROM outbox WHERE status = 'in_flight' AND attempts = 1
               AND leased_at < now() - interval '2 seconds'";
    app.wait_for_count(old, 1).await;
    assert_eq!(engine.total(), 1);
}

#[tokio::test]
async fn each_answer_of_the_engine_leads_where_its_contract_says() {
    let held = "SELECT count(*) FROM destinations WHERE name = 'engine' AND state = 'held'";
    for (answer, expected) in [
        (Reply::new(401, "signature"), "hold"),
        (Reply::new(404, "inactive"), "hold"),
        (Reply::new(413, "too large"), "dead"),
        (Reply::new(429, "slow down").with_header("retry-after", "3600"), "retry"),
        (Reply::new(500, "oops"), "retry"),
    ] {
        let (mut app, engine) = with_engine(Some(SECRET), json!({}), &[]).await;
        let code = answer.status;
        engine.push_answer(Answer::Reply(answer));
        app.start(Roles::all()).await;
        app.publish(temperature(91.0, 1)).await;
        app.wait_for_count("SELECT count(*) FROM delivery_attempts WHERE attempt = 1", 1).await;
        let first = attempts(&app).await.remove(0);
        assert_eq!((first.0.as_str(), first.1), (expected, Some(i32::from(code))));
        match code {
            401 | 404 => {
                app.wait_for_count(held, 1).await;
                assert_eq!(app.count("SELECT count(*) FROM outbox").await, 1);
            }
            413 => status(&app, "dead").await,
            429 => {
                let later =
                    "SELECT count(*) FROM outbox WHERE next_attempt_at > now() + interval '59 minutes'";
                app.wait_for_count(later, 1).await;
            }
            _ => status(&app, "delivered").await,
        }
        app.stop().await;
    }
}

#[tokio::test]
async fn an_alert_is_an_event_on_nats_once_under_the_notifications_id() {
    let mut app = TestApp::new(&[]).await;
    let destination = app.add_destination("events", "nats", json!({}), None, json!({})).await;
    app.route(&[destination]).await;
    app.start(Roles::all()).await;
    app.publish(temperature(91.0, 1)).await;
    status(&app, "delivered").await;

    let settings = app.config().deliver;
    let mut stream = app.broker.get_stream(&settings.alerts_stream).await.unwrap();
    assert_eq!(stream.info().await.unwrap().state.messages, 1);
    let message = stream.get_raw_message(1).await.unwrap();
    let row =
        app.owner().query_one("SELECT notification_id::text, body FROM notifications", &[]).await.unwrap();
    let (id, body): (&str, &str) = (row.get(0), row.get(1));
    assert_eq!(message.subject.as_str(), format!("{}.acme", settings.alerts_subject_prefix));
    assert_eq!(message.headers.get("Nats-Msg-Id").map(|id| id.as_str()), Some(id));
    assert_eq!(message.payload, body.as_bytes());
    assert_eq!(
        attempts(&app).await,
        [("delivered".to_owned(), None, Some(format!("{}:1", settings.alerts_stream)))]
    );

    // As after a crash between the broker's answer and the record: sent again, and dropped by the broker.
    app.owner()
        .batch_execute(
            "INSERT INTO outbox (notification_id, tenant_id, destination_id, attempts)
             SELECT notification_id, tenant_id, destination_id, 1 FROM notifications",
        )
        .await
        .unwrap();
    app.wait_for_count("SELECT count(*) FROM delivery_attempts WHERE warning IS NOT NULL", 1).await;
    assert_eq!(stream.info().await.unwrap().state.messages, 1);
    app.stop().await;
}

#[tokio::test]
async fn a_process_without_a_broker_holds_events_and_delivers_the_rest() {
    let mut app = TestApp::new(&[]).await;
    let events = app.add_destination("events", "nats", json!({}), None, json!({})).await;
    app.route(&[events, app.destination]).await;
    app.start(Roles::of(&[watchbell::runtime::Role::Ingest, watchbell::runtime::Role::Detect])).await;
    app.publish(temperature(91.0, 1)).await;
    app.wait_for_count("SELECT count(*) FROM outbox", 2).await;
    app.stop().await;
    app.environment.remove("NATS_URL");
    app.start(Roles::of(&[watchbell::runtime::Role::Deliver])).await;
    status(&app, "delivered").await;
    let reason = "SELECT count(*) FROM destinations WHERE name = 'events' AND state = 'held'
                  AND state_reason LIKE '%nats.url is not set%'";
    app.wait_for_count(reason, 1).await;
    app.stop().await;
}

#[tokio::test]
async fn one_alert_pages_through_all_three_destinations() {
    let (mut app, engine) = with_engine(Some(SECRET), json!({}), &[]).await;
    let events = app.add_destination("events", "nats", json!({}), None, json!({})).await;
    let engine_id: uuid::Uuid = app
        .owner()
        .query_one("SELECT destination_id FROM destinations WHERE name = 'engine'", &[])
        .await
        .unwrap()
        .get(0);
    app.route(&[app.destination, watchbell::model::ids::DestinationId(engine_id), events]).await;
    app.start(Roles::all()).await;
    let settings = app.config().deliver;
    let stream = super::support::wait::until("the stream of events", async || {
        app.broker.get_stream(&settings.alerts_stream).await.ok()
    })
    .await;
    let consumer =
        stream.create_consumer(async_nats::jetstream::consumer::pull::Config::default()).await.unwrap();
    app.publish(temperature(91.0, 1)).await;
    app.wait_for_count("SELECT count(*) FROM deliveries WHERE status = 'delivered'", 3).await;
    assert_eq!(app.count("SELECT count(*) FROM alerts").await, 1);
    assert_eq!((app.hub.total(), engine.total()), (1, 1));
    let event = consumer.messages().await.unwrap().next().await.unwrap().unwrap();
    let event: Value = serde_json::from_slice(&event.payload).unwrap();
    assert_eq!(event["alert"]["alert_id"], app.hub.received()[0].json()["payload"]["alert_id"]);
    assert_eq!(event["alert"]["alert_id"], engine.received()[0].json()["alert"]["alert_id"]);
    app.stop().await;
}
