//! From an owed notification to its end: delivered under one id after however many attempts, or dead with its reason; and
//! what the view `deliveries` says on the way.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use uuid::Uuid;
use watchbell::audit::verify::verify;
use watchbell::db::pool;
use watchbell::dev::hub::{Answer, Received};
use watchbell::runtime::{Role, Roles};

use super::support::app::{TestApp, temperature};
use super::support::courier::Courier;
use super::support::receiver::{ACCEPTED, Manner, Receiver};
use super::support::wait::until;

fn time(value: &Value) -> Timestamp {
    value.as_str().unwrap_or_else(|| panic!("{value} is no time")).parse().unwrap()
}

#[tokio::test]
async fn after_503_and_503_the_third_attempt_delivers_it_once_with_the_same_id_and_bytes() {
    let mut app = TestApp::new(&[
        ("deliver.retry.first_delay_ms", "100"),
        ("deliver.retry.factor", "4"),
        ("deliver.retry.jitter", "0"),
    ])
    .await;
    app.hub.push_answer(Answer::status(503));
    app.hub.push_answer(Answer::status(503));
    app.start(Roles::all()).await;
    app.publish(temperature(91.25, 1)).await;
    app.wait_for_count("SELECT count(*) FROM deliveries WHERE status = 'delivered'", 1).await;

    let posts = app.hub.received();
    assert_eq!(posts.len(), 3);
    assert_eq!(posts.iter().filter(|post| post.was_accepted()).count(), 1);
    let ids: HashSet<_> = posts.iter().map(|post| post.event_id.clone().unwrap()).collect();
    assert_eq!(ids.len(), 1);
    assert!(posts.iter().all(|post| post.body == posts[0].body));

    let id: Uuid = posts[0].event_id.as_deref().unwrap().parse().unwrap();
    let shown = app.get(&format!("/api/deliveries/{id}")).await;
    assert_eq!(
        (&shown["delivery"]["status"], &shown["delivery"]["attempts"]),
        (&json!("delivered"), &json!(3))
    );
    let attempts = app.attempts(id).await;
    let column = |name: &str| attempts.iter().map(|attempt| attempt[name].clone()).collect::<Vec<_>>();
    assert_eq!(column("attempt"), [1, 2, 3]);
    assert_eq!(column("outcome"), ["retry", "retry", "delivered"]);
    assert_eq!(column("status_code"), [503, 503, 200]);
    assert!(column("body_sha256").iter().all(|hash| hash.is_string() && *hash == attempts[0]["body_sha256"]));
    let waits: Vec<SignedDuration> = attempts
        .windows(2)
        .map(|pair| time(&pair[1]["started_at"]).duration_since(time(&pair[0]["finished_at"])))
        .collect();
    assert!(waits[0] >= SignedDuration::from_millis(100), "{waits:?}");
    assert!(waits[1] >= SignedDuration::from_millis(400), "{waits:?}");
    app.stop().await;
    assert_eq!(app.hub.total(), 3);
}

/// A receiver that never takes it: dead at the horizon, on every page, and never tried again.
async fn dies_at_its_horizon(mut app: TestApp, url: &str, reason: &str) {
    let policy = json!({ "horizon_seconds": 8, "first_delay_ms": 300, "factor": 2.0 });
    let destination = app.add_hub("gone", url, policy).await;
    let id = app.owe(destination, 1).await[0];
    let mut courier = Courier::new(&app.config()).await;
    courier.step_until(&app, "SELECT count(*) FROM dead_letters", 1).await;
    courier.find_nothing_due().await;

    let delivery = app.delivery(id).await;
    assert_eq!(delivery["status"], "dead");
    let told = delivery["dead_reason"].as_str().unwrap();
    assert!(told.contains("8 s") && told.contains(reason), "{told}");
    let attempts = app.attempts(id).await;
    assert_eq!(delivery["attempts"], attempts.len());
    assert!(attempts.len() >= 3, "{attempts:?}");
    let horizon = time(&delivery["created_at"]) + SignedDuration::from_secs(8);
    let (last, before) = attempts.split_last().unwrap();
    assert!(
        before.iter().all(|attempt| time(&attempt["started_at"]) < horizon && attempt["outcome"] == "retry")
    );
    // An attempt that is under way at the horizon is the last, or one more is made at the horizon itself.
    assert!(time(&last["finished_at"]) >= horizon - SignedDuration::from_millis(1), "{attempts:?}");
    assert_eq!(last["outcome"], "dead");
    assert_eq!(app.count("SELECT count(*) FROM outbox").await, 0);
    assert_eq!(app.count("SELECT count(*) FROM deliveries WHERE status = 'missing'").await, 0);

    app.start(Roles::of(&[Role::Api, Role::Deliver])).await;
    let shown = app.get("/api/deliveries?status=dead").await;
    assert_eq!(shown["deliveries"][0]["notification_id"], json!(id));
    assert!(shown["deliveries"][0]["dead_reason"].as_str().unwrap().contains(reason), "{shown}");
    app.stop().await;
    assert_eq!(app.attempts(id).await.len(), attempts.len());
}

#[tokio::test]
async fn a_receiver_that_always_answers_503_ends_as_a_dead_letter() {
    let app = TestApp::new(&[]).await;
    app.hub.set_default(Answer::status(503));
    let url = format!("http://{}", app.hub.address());
    dies_at_its_horizon(app, &url, "503").await;
}

#[tokio::test]
async fn a_receiver_that_refuses_connections_ends_as_a_dead_letter() {
    let app = TestApp::new(&[]).await;
    let mut other =
        watchbell::dev::hub::Hub::start(watchbell::dev::hub::HubOptions::default()).await.unwrap();
    let url = format!("http://{}", other.address());
    other.take_down().await;
    dies_at_its_horizon(app, &url, "refused").await;
}

#[tokio::test]
async fn a_receiver_that_never_answers_ends_as_a_dead_letter() {
    let app = TestApp::new(&[("deliver.request_timeout_seconds", "1"), ("deliver.lease_seconds", "5")]).await;
    let silent = Receiver::start(Manner::Silent).await;
    dies_at_its_horizon(app, &silent.url(), "no answer").await;
    assert!(silent.requests() >= 3);
}

#[tokio::test]
async fn two_workers_at_once_deliver_each_of_500_notifications_exactly_once() {
    let mut app = TestApp::new(&[]).await;
    let other = app.spawn("deliver");
    app.start(Roles::of(&[Role::Deliver])).await;
    app.wait_for_count("SELECT count(*) FROM workers", 2).await;
    // So slow that none is done before the other one looks.
    app.hub.set_default(Answer::Slow(Duration::from_millis(100)));
    let owed = app.owe(app.destination, 500).await;
    app.wait_for_count("SELECT count(*) FROM deliveries WHERE status = 'delivered'", 500).await;
    app.stop().await;
    assert_eq!(other.terminate().await, Some(0));

    let id = |post: &Received| post.event_id.clone().unwrap().parse().unwrap();
    let told: HashSet<Uuid> = app.hub.received().iter().map(id).collect();
    assert_eq!(told, owed.into_iter().collect());
    assert_eq!(app.hub.total(), 500);
    assert_eq!(app.count("SELECT count(*) FROM delivery_attempts").await, 500);
    assert_eq!(app.count("SELECT count(DISTINCT worker_id) FROM delivery_attempts").await, 2);
}

/// Whoever owes something locks what is owed before it in the order of the ids, while a worker takes rows out of the outbox.
#[tokio::test]
async fn who_locks_rows_in_their_order_meets_no_worker_that_does_it_in_another() {
    const LOCK_WAITS: &str = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let app = TestApp::new(&[]).await;
    let refused = b"HTTP/1.1 400 Bad\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_vec();
    let (mut ids, mut receivers) = (Vec::new(), Vec::new());
    for answer in [refused, ACCEPTED.to_vec()] {
        let receiver = Receiver::start(Manner::Gated(answer)).await;
        let destination = app.add_hub(&receiver.url(), &receiver.url(), json!({})).await;
        ids.extend(app.owe(destination, 1).await);
        receivers.push(receiver);
    }
    let mut courier = Courier::new(&app.config()).await;
    courier.claim().await;
    for receiver in &receivers {
        receiver.wait_for_requests(1).await;
        receiver.open();
    }
    let opened = Instant::now();
    until("both are answered", async || (opened.elapsed() > Duration::from_millis(500)).then_some(())).await;
    let mut other = pool::connect_owner(&app.database.config.database).await.unwrap();
    let transaction = other.transaction().await.unwrap();
    let lock = "SELECT FROM outbox WHERE notification_id = $1 FOR KEY SHARE";
    transaction.batch_execute("SET LOCAL lock_timeout = '500ms'").await.unwrap();
    transaction.execute(lock, &[&ids[0]]).await.unwrap();
    let locks = async {
        app.wait_for_count(LOCK_WAITS, 1).await;
        transaction.execute(lock, &[&ids[1]]).await.unwrap();
        transaction.commit().await.unwrap();
    };
    let (stepped, ()) = tokio::join!(courier.worker.step(), locks);
    stepped.unwrap();
    assert_eq!(
        (app.outcomes(ids[0]).await, app.outcomes(ids[1]).await),
        (vec!["dead".to_owned()], vec!["delivered".to_owned()])
    );
}

#[tokio::test]
async fn the_view_says_how_far_each_notification_got() {
    let app = TestApp::new(&[("deliver.retry.first_delay_ms", "600000")]).await;
    let gated =
        Receiver::start(Manner::Gated(b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n".to_vec())).await;
    let slow = app.add_hub("slow", &gated.url(), json!({})).await;
    let mut courier = Courier::new(&app.config()).await;

    let id = app.owe(slow, 1).await[0];
    let pending = app.delivery(id).await;
    assert_eq!((&pending["status"], &pending["attempts"]), (&json!("pending"), &json!(0)));
    assert!(time(&pending["next_attempt_at"]) <= Timestamp::now());
    assert!(pending["leased_by"].is_null() && pending["delivered_at"].is_null());

    courier.claim().await;
    let in_flight = app.delivery(id).await;
    assert_eq!((&in_flight["status"], &in_flight["attempts"]), (&json!("in_flight"), &json!(1)));
    assert_eq!(in_flight["leased_by"], courier.id());
    assert!(in_flight["leased_at"].is_string() && in_flight["next_attempt_at"].is_null());

    gated.open();
    courier.step_until(&app, "SELECT count(*) FROM deliveries WHERE status = 'retrying'", 1).await;
    let retrying = app.delivery(id).await;
    assert_eq!((&retrying["last_status_code"], &retrying["attempts"]), (&json!(503), &json!(1)));
    assert!(time(&retrying["next_attempt_at"]) > Timestamp::now());
    assert!(retrying["leased_by"].is_null() && retrying["last_error"].is_string());

    let delivered = app.owe_one().await;
    app.hub.push_answer(Answer::ByTheRules);
    app.hub.push_answer(Answer::status(422));
    courier.step_until(&app, "SELECT count(*) FROM deliveries WHERE status = 'delivered'", 1).await;
    let dead = app.owe_one().await;
    courier.step_until(&app, "SELECT count(*) FROM deliveries WHERE status = 'dead'", 1).await;
    let delivered = app.delivery(delivered).await;
    assert!(delivered["delivered_at"].is_string() && delivered["next_attempt_at"].is_null());
    let dead = app.delivery(dead).await;
    assert!(dead["died_at"].is_string() && dead["dead_reason"].as_str().unwrap().contains("422"));
    assert!(dead["delivered_at"].is_null());
}

#[tokio::test]
async fn a_notification_that_is_neither_owed_nor_ended_is_missing_and_verify_shouts() {
    let app = TestApp::new(&[]).await;
    let id = app.owe_one().await;
    let mut client = pool::connect_owner(&app.config().database).await.unwrap();
    let broken = async |client: &mut tokio_postgres::Client| {
        let checks = verify(client).await.unwrap();
        checks
            .into_iter()
            .filter(|check| !check.ok)
            .map(|check| (check.name, check.found))
            .collect::<Vec<_>>()
    };
    assert_eq!(broken(&mut client).await, []);
    app.owner().execute("DELETE FROM outbox", &[]).await.unwrap();
    assert_eq!(app.delivery(id).await["status"], "missing");
    assert_eq!(broken(&mut client).await, [("notifications neither owed nor ended", 1)]);

    let verify = tokio::process::Command::new(env!("CARGO_BIN_EXE_watchbell"))
        .arg("verify")
        .envs(&app.environment)
        .output()
        .await
        .unwrap();
    assert_eq!(verify.status.code(), Some(1));
    let printed = String::from_utf8_lossy(&verify.stdout).into_owned();
    assert!(
        printed.lines().any(|line| line.contains("neither owed nor ended") && line.contains("BROKEN")),
        "{printed}"
    );
}
