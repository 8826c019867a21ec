//! A device that stops is told, though nothing else comes; our own lag never pages.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use watchbell::db::pool;
use watchbell::runtime::{Role, Roles};

use super::support::app::{TestApp, reading};
use super::support::wait::until;

/// Longer than any pause of this test's own.
const INTERVAL: SignedDuration = SignedDuration::from_secs(3);

/// A service with the rule `quiet`: no `level` for the interval, over at the first reading.
async fn quiet() -> TestApp {
    let app = TestApp::new(&[]).await;
    let condition = json!({ "kind": "no_data", "interval_seconds": INTERVAL.as_secs() });
    app.add_rule("quiet", "level", condition, 900, &[app.destination]).await;
    app.owner().batch_execute("UPDATE rules SET resolve_after_seconds = 0").await.unwrap();
    app
}

fn all() -> Roles {
    Roles::of(&[Role::Ingest, Role::Detect, Role::Deliver])
}

/// A reading of the level, taken now; and when that is.
fn level(device: &str) -> (Value, Timestamp) {
    let body = reading(device, "level", 7.5, 0);
    let ts = body["ts"].as_str().unwrap().parse().unwrap();
    (body, ts)
}

/// Publishes a level that is judged when this returns, and of which ingestion has said so.
async fn hear(app: &TestApp, device: &str) -> Timestamp {
    let (body, ts) = level(device);
    app.publish(body).await;
    app.wait_until_judged().await;
    until("ingestion's word", async || word(app).await.filter(|word| *word > ts)).await;
    ts
}

/// Until when everything is stored, as ingestion says.
async fn word(app: &TestApp) -> Option<Timestamp> {
    let row = app.owner().query_opt("SELECT heard_until FROM watermarks", &[]).await.unwrap();
    row.map(|row| row.get(0))
}

/// PostgreSQL keeps microseconds.
fn micros(at: Timestamp) -> i64 {
    at.as_microsecond()
}

async fn breached_at(app: &TestApp) -> Timestamp {
    app.owner().query_one("SELECT breached_at FROM alerts", &[]).await.unwrap().get(0)
}

/// Until the device that was heard last then would be silent for whoever does not know better.
async fn until_long_after(app: &TestApp, ts: Timestamp) {
    let late = ts + INTERVAL + INTERVAL;
    until("twice the interval to be over", async || {
        let now: Timestamp = app.owner().query_one("SELECT clock_timestamp()", &[]).await.unwrap().get(0);
        (now > late).then_some(())
    })
    .await;
}

const ALERTS: &str = "SELECT count(*) FROM alerts";

#[tokio::test]
async fn a_device_that_stops_is_told_though_nothing_else_comes_and_it_is_over_when_it_is_heard_again() {
    let mut app = quiet().await;
    app.start(all()).await;
    let last = hear(&app, "tank-1").await;
    app.wait_for_delivered(1).await;
    let told = app.heard().remove(0);
    assert_eq!((&told["event_type"], &told["payload"]["class"]), (&json!("alert.opened"), &json!("silent")));
    let summary = told["payload"]["summary"].as_str().unwrap();
    assert!(summary.contains("level of tank-1 is silent for more than 3 s"), "{summary}");
    assert_eq!(micros(breached_at(&app).await), micros(last + INTERVAL));
    let too_soon = "SELECT count(*) FROM alerts WHERE opened_at < breached_at OR class <> 'silent'";
    assert_eq!(app.count(too_soon).await, 0);

    let heard = hear(&app, "tank-1").await;
    until("it to be told as over", async || app.heard_of("alert.resolved").pop()).await;
    let over = app.heard_of("alert.resolved").remove(0);
    let time = |name: &str| micros(over["payload"][name].as_str().unwrap().parse().unwrap());
    assert_eq!((time("breached_at"), time("ended_at")), (micros(last + INTERVAL), micros(heard)));
    let alert = app.alert_of("tank-1").await;
    // It may be silent again by now.
    assert_eq!(app.timeline(alert).await[..2], ["opened: notified", "resolved"]);
    app.assert_verified().await;
    app.stop().await;
}

#[tokio::test]
async fn only_the_device_that_stops_is_silent() {
    let mut app = quiet().await;
    app.start(all()).await;
    let last = hear(&app, "tank-1").await;
    until("the one that stopped to be told, and the other to have had its time", async || {
        app.publish(level("tank-2").0).await;
        let is_told = app.heard().len() == 1;
        (is_told && Timestamp::now() > last + INTERVAL + INTERVAL + INTERVAL).then_some(())
    })
    .await;
    assert_eq!(app.count(ALERTS).await, 1);
    app.alert_of("tank-1").await;
    app.stop().await;
}

#[tokio::test]
async fn nobody_is_silent_while_ingestion_is_stopped() {
    let mut app = quiet().await;
    app.start(all()).await;
    let last = hear(&app, "tank-1").await;
    app.stop().await;
    assert_eq!(app.count(ALERTS).await, 0);
    app.start(Roles::of(&[Role::Detect, Role::Deliver])).await;
    let (body, heard) = level("tank-1");
    app.publish(body).await;
    until_long_after(&app, heard).await;
    assert_eq!(app.count(ALERTS).await, 0);
    assert_eq!(app.messages_in_stream().await, 1, "what the device said waits for us");

    // Ingestion is back: the device was heard all the while. And then it was not.
    app.stop().await;
    app.start(all()).await;
    app.wait_for_count(ALERTS, 1).await;
    let since = breached_at(&app).await;
    assert_ne!(micros(since), micros(last + INTERVAL));
    assert_eq!(micros(since), micros(heard + INTERVAL));
    app.stop().await;
}

#[tokio::test]
async fn the_watermark_alone_keeps_a_stopped_ingestion_from_paging() {
    let mut app = quiet().await;
    app.start(all()).await;
    let last = hear(&app, "tank-1").await;
    app.stop().await;
    app.start(Roles::of(&[Role::Detect, Role::Deliver])).await;
    until_long_after(&app, last).await;
    assert_eq!(app.count(ALERTS).await, 0);
    // That detection was looking shows when ingestion gives its word.
    app.owner().batch_execute("UPDATE watermarks SET heard_until = clock_timestamp()").await.unwrap();
    app.wait_for_delivered(1).await;
    assert_eq!(micros(breached_at(&app).await), micros(last + INTERVAL));
    app.stop().await;
}

#[tokio::test]
async fn nobody_is_silent_while_the_stream_holds_what_is_not_stored() {
    let mut app = quiet().await;
    app.start(all()).await;
    hear(&app, "tank-1").await;
    // Ingestion runs, and can't store what it reads.
    let mut blocker = pool::connect_owner(&app.database.config.database).await.unwrap();
    let lock = blocker.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE flushes IN SHARE MODE").await.unwrap();
    let (body, heard) = level("tank-1");
    app.publish(body).await;
    let published = Timestamp::now();
    until_long_after(&app, heard).await;
    let word = word(&app).await.unwrap();
    assert!(word <= published, "{word} is after {published}");
    assert_eq!(app.count(ALERTS).await, 0);
    lock.rollback().await.unwrap();
    app.wait_for_count(ALERTS, 1).await;
    assert_eq!(micros(breached_at(&app).await), micros(heard + INTERVAL));
    app.stop().await;
}
