//! A device that stops is told, though nothing else comes; our own lag never pages.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use watchbell::db::pool;
use watchbell::runtime::{Role, Roles};

use super::support::app::TestApp;
use super::support::wait::until;

/// Longer than any pause of this test's own.
const INTERVAL: SignedDuration = SignedDuration::from_secs(3);

/// A service that runs with the rule `quiet`: no `level` for the interval, over at the first reading. Ingestion has given
/// its word before.
async fn quiet() -> TestApp {
    let mut app = TestApp::new(&[]).await;
    let condition = json!({ "kind": "no_data", "interval_seconds": INTERVAL.as_secs() });
    app.add_rule("quiet", "level", condition, 900, &[app.destination]).await;
    app.owner().batch_execute("UPDATE rules SET resolve_after_seconds = 0").await.unwrap();
    app.start(all()).await;
    until("ingestion's word", async || word(&app).await).await;
    app
}

fn all() -> Roles {
    Roles::of(&[Role::Ingest, Role::Detect, Role::Deliver])
}

/// A reading of the level, taken then.
fn level(device: &str, ts: Timestamp) -> Value {
    json!({ "device": device, "metric": "level", "value": 7.5, "ts": ts })
}

/// Publishes a level that is taken now and judged when this returns.
async fn hear(app: &TestApp, device: &str) -> Timestamp {
    let ts = Timestamp::now();
    app.publish(level(device, ts)).await;
    app.wait_until_judged().await;
    ts
}

/// Publishes the next level: soon after the last, by the device's clock, however slow this machine is.
async fn hear_next(app: &TestApp, last: Timestamp) -> Timestamp {
    let ts = last + SignedDuration::from_secs(1);
    app.publish(level("tank-1", ts)).await;
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

/// Until a device that is heard last now would be silent for whoever does not know better.
async fn wait_long() {
    let late = Timestamp::now() + INTERVAL + INTERVAL;
    until("twice the interval to be over", async || (Timestamp::now() > late).then_some(())).await;
}

const ALERTS: &str = "SELECT count(*) FROM alerts";

#[tokio::test]
async fn a_device_that_stops_is_told_though_nothing_else_comes_and_it_is_over_when_it_is_heard_again() {
    let mut app = quiet().await;
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
    let last = hear(&app, "tank-1").await;
    until("the one that stopped to be told, and the other to have had its time", async || {
        app.publish(level("tank-2", Timestamp::now())).await;
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
    let last = hear(&app, "tank-1").await;
    app.stop().await;
    let heard = hear_next(&app, last).await;
    assert_eq!(app.count(ALERTS).await, 0);
    app.start(Roles::of(&[Role::Detect, Role::Deliver])).await;
    wait_long().await;
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
    let last = hear(&app, "tank-1").await;
    app.stop().await;
    app.start(Roles::of(&[Role::Detect, Role::Deliver])).await;
    wait_long().await;
    assert_eq!(app.count(ALERTS).await, 0);
    // That detection was looking shows when ingestion gives its word. When the device was heard is known to the minute only.
    let word = "UPDATE watermarks SET heard_until = clock_timestamp() + interval '70 seconds'";
    app.owner().batch_execute(word).await.unwrap();
    app.wait_for_delivered(1).await;
    assert_eq!(micros(breached_at(&app).await), micros(last + INTERVAL));
    app.stop().await;
}

#[tokio::test]
async fn nobody_is_silent_while_the_stream_holds_what_is_not_stored() {
    let mut app = quiet().await;
    let last = hear(&app, "tank-1").await;
    // Ingestion runs, and can't store what it reads.
    let mut blocker = pool::connect_owner(&app.database.config.database).await.unwrap();
    let lock = blocker.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE flushes IN SHARE MODE").await.unwrap();
    let heard = hear_next(&app, last).await;
    let published = Timestamp::now();
    wait_long().await;
    let word = word(&app).await.unwrap();
    assert!(word <= published, "{word} is after {published}");
    assert_eq!(app.count(ALERTS).await, 0);
    lock.rollback().await.unwrap();
    app.wait_for_count(ALERTS, 1).await;
    assert_eq!(micros(breached_at(&app).await), micros(heard + INTERVAL));
    app.stop().await;
}

#[tokio::test]
async fn a_device_that_a_rule_selects_again_while_it_is_silent_is_told_again() {
    let mut app = quiet().await;
    hear(&app, "tank-1").await;
    app.wait_for_delivered(1).await;
    app.owner().batch_execute("UPDATE rules SET device_tags = '{\"in\": \"service\"}'").await.unwrap();
    app.wait_for_count("SELECT count(*) FROM alerts WHERE state = 'resolved'", 1).await;
    app.owner().batch_execute("UPDATE rules SET device_tags = '{}'").await.unwrap();
    app.wait_for_count("SELECT count(*) FROM alerts WHERE state = 'open'", 1).await;
    app.wait_for_delivered(3).await;
    // What comes then harms nobody else's.
    hear(&app, "tank-1").await;
    app.wait_for_count("SELECT count(*) FROM alerts WHERE state = 'resolved'", 2).await;
    assert_eq!(app.count("SELECT count(*) FROM flushes WHERE quarantine_reason IS NOT NULL").await, 0);
    app.assert_verified().await;
    app.stop().await;
}

#[tokio::test]
async fn a_change_of_a_rule_makes_no_device_silent_whose_clock_is_behind() {
    let mut app = quiet().await;
    let behind = |n: i64| Timestamp::now() - SignedDuration::from_hours(1) + SignedDuration::from_millis(n);
    app.publish(level("tank-1", behind(0))).await;
    app.wait_until_judged().await;
    // As if it had been seen longer ago than an interval, as it is written now and then only.
    app.owner().batch_execute("UPDATE devices SET last_seen = now() - interval '20 seconds'").await.unwrap();
    app.owner().batch_execute("UPDATE rules SET labels = '{\"team\": \"water\"}'").await.unwrap();
    let changed = Timestamp::now();
    let mut n = 0;
    until("more than an interval to be over", async || {
        n += 1;
        app.publish(level("tank-1", behind(n))).await;
        (Timestamp::now() > changed + INTERVAL + INTERVAL).then_some(())
    })
    .await;
    assert_eq!(app.count(ALERTS).await, 0, "it sends all the while");
    app.stop().await;
}
