//! A destination hears what becomes of a rule on a series in its order, whatever happens to it and to us.

use serde_json::Value;
use uuid::Uuid;
use watchbell::db::pool;
use watchbell::dev::hub::{Answer, Received};
use watchbell::model::ids::SeriesId;

use super::support::app::TestApp;
use super::support::bench::DetectorBench;
use super::support::courier::Courier;
use super::support::wait::until;

const OWED: &str = "SELECT count(*) FROM outbox";
const DELIVERED: &str = "SELECT count(*) FROM deliveries WHERE status = 'delivered'";
const WAITING: &str = "SELECT count(*) FROM outbox WHERE next_attempt_at = 'infinity'";
const TRIED: &str = "SELECT count(*) FROM outbox WHERE attempts > 0 AND status = 'retrying'";
const AT_A_LOCK: &str = "SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock'";

/// Another connection of the owner.
async fn connect(app: &TestApp) -> tokio_postgres::Client {
    pool::connect_owner(&app.config().database).await.unwrap()
}

/// A detector whose alerts are over as soon as they are clear, and a worker.
async fn scene(settings: &[(&str, &str)]) -> (DetectorBench, Courier) {
    let bench = DetectorBench::new(TestApp::new(settings).await, 60).await;
    bench.app.set_hot("resolve_after_seconds = 0, cooldown_seconds = 0").await;
    let courier = Courier::new(&bench.app.config()).await;
    (bench, courier)
}

/// An alert has opened, and the receiver has refused to hear of it once.
async fn refused() -> (DetectorBench, Courier) {
    let (mut bench, mut courier) = scene(&[]).await;
    bench.app.hub.set_default(Answer::status(500));
    bench.judge(&[(0.0, 90.0)]).await;
    courier.step_until(&bench.app, TRIED, 1).await;
    (bench, courier)
}

/// What was sent to the hub, as `opened` and `resolved`, with whether it was accepted.
fn heard(app: &TestApp) -> Vec<(String, bool)> {
    let event =
        |call: &Received| call.json()["event_type"].as_str().unwrap_or_default().replace("alert.", "");
    app.hub.received().iter().map(|call| (event(call), call.was_accepted())).collect()
}

/// What it accepted of that.
fn accepted(app: &TestApp) -> Vec<String> {
    heard(app).into_iter().filter(|(_, accepted)| *accepted).map(|(event, _)| event).collect()
}

/// The alerts of which a call tells.
fn alerts_of(call: &Value) -> Vec<String> {
    let payload = &call["payload"];
    let id = |alert: &Value| alert["alert_id"].as_str().unwrap_or_default().to_owned();
    payload["alerts"].as_array().map_or_else(|| vec![id(payload)], |alerts| alerts.iter().map(id).collect())
}

/// Nobody was sent that an alert is over before that it is open was accepted.
fn assert_in_order(app: &TestApp) {
    let calls = app.hub.received();
    let tells = |call: &Received, event: &str, alert: &String| {
        let body = call.json();
        body["event_type"] == format!("alert.{event}") && alerts_of(&body).contains(alert)
    };
    for (place, call) in
        calls.iter().enumerate().filter(|(_, call)| call.json()["event_type"] == "alert.resolved")
    {
        for alert in alerts_of(&call.json()) {
            let opened = calls.iter().position(|call| call.was_accepted() && tells(call, "opened", &alert));
            assert!(opened.is_some_and(|opened| opened < place), "{alert}: {:?}", heard(app));
        }
    }
}

#[tokio::test]
async fn that_it_is_over_is_sent_after_that_it_opened_though_the_receiver_was_down() {
    let (mut bench, mut courier) = refused().await;
    bench.judge(&[(1.0, 50.0)]).await;
    assert_eq!(bench.app.count(WAITING).await, 1);
    let waits = "SELECT count(*) FROM deliveries d JOIN deliveries o ON o.notification_id = d.waits_for[1]
        WHERE d.event = 'resolved' AND d.next_attempt_at IS NULL AND o.event = 'opened'";
    assert_eq!(bench.app.count(waits).await, 1, "it says what it waits for");
    courier.step_until(&bench.app, "SELECT count(*) FROM outbox WHERE attempts >= 4", 1).await;
    assert!(heard(&bench.app).iter().all(|(event, _)| event == "opened"), "{:?}", heard(&bench.app));
    bench.app.assert_verified().await;

    bench.app.hub.set_default(Answer::ByTheRules);
    courier.step_until(&bench.app, DELIVERED, 2).await;
    assert_eq!(accepted(&bench.app), ["opened", "resolved"]);
    bench.app.assert_verified().await;
}

#[tokio::test]
async fn what_is_due_again_goes_out_in_the_step_that_brought_the_acceptance_it_waited_for() {
    let (mut bench, mut courier) = refused().await;
    bench.judge(&[(1.0, 50.0)]).await;
    bench.app.hub.set_default(Answer::ByTheRules);
    courier.step_until(&bench.app, DELIVERED, 1).await;
    assert_eq!(bench.app.count("SELECT count(*) FROM outbox WHERE status = 'in_flight'").await, 1);
    courier.step_until(&bench.app, OWED, 0).await;
}

#[tokio::test]
async fn two_workers_of_which_one_is_killed_keep_the_order_of_thirty_series() {
    let (mut bench, _) = scene(&[]).await;
    let series = bench.add_series(30).await;
    // All of them are tried, however often it fails.
    let patient = r#"UPDATE destinations SET policy = '{"breaker_failures": 0}'"#;
    bench.app.owner().batch_execute(patient).await.unwrap();
    bench.app.hub.set_default(Answer::status(500));
    bench.commit_of_each(&series, &[(0.0, 90.0)]).await;
    bench.settle().await;
    let (first, second) = (bench.app.spawn("deliver"), bench.app.spawn("deliver"));
    bench.app.wait_for_count("SELECT count(*) FROM outbox WHERE attempts > 0", 30).await;
    bench.commit_of_each(&series, &[(1.0, 50.0)]).await;
    bench.settle().await;
    assert_eq!(bench.app.count(WAITING).await, 30);
    bench.app.hub.set_default(Answer::Slow(std::time::Duration::from_millis(50)));
    bench.app.wait_for_more(DELIVERED, 4).await;
    first.kill().await;
    bench.app.wait_for_count(OWED, 0).await;
    bench.app.wait_for_count(DELIVERED, 60).await;
    assert_in_order(&bench.app);
    assert_eq!(second.terminate().await, Some(0));
    bench.app.assert_verified().await;
}

#[tokio::test]
async fn a_group_notice_belongs_to_the_chains_of_all_its_alerts() {
    let (mut bench, mut courier) = scene(&[("detect.group_above", "2")]).await;
    let series = bench.add_series(4).await;
    let judge = async |bench: &mut DetectorBench, series: &[SeriesId], minute: f64, value: f64| {
        bench.commit_of_each(series, &[(minute, value)]).await;
        bench.settle().await;
    };
    bench.app.hub.set_default(Answer::status(500));
    judge(&mut bench, &series[..1], 0.0, 90.0).await;
    judge(&mut bench, &series[1..], 0.0, 90.0).await;
    courier.step_until(&bench.app, TRIED, 2).await;
    // One of the three of which one notice told; then the other two, and the one of which one told alone.
    judge(&mut bench, &series[1..2], 1.0, 50.0).await;
    judge(&mut bench, &[series[0], series[2], series[3]], 1.0, 50.0).await;
    let links = "SELECT count(*) FROM outbox_blocked";
    assert_eq!((bench.app.count(WAITING).await, bench.app.count(links).await), (2, 3));
    bench.app.hub.set_default(Answer::ByTheRules);
    courier.step_until(&bench.app, DELIVERED, 4).await;
    assert_in_order(&bench.app);
    bench.app.assert_verified().await;
}

#[tokio::test]
async fn a_dead_opening_does_not_keep_back_that_it_is_over() {
    let (mut bench, mut courier) = refused().await;
    bench.judge(&[(1.0, 50.0)]).await;
    bench.app.hub.push_answer(Answer::status(400));
    bench.app.hub.set_default(Answer::ByTheRules);
    courier.step_until(&bench.app, OWED, 0).await;
    assert_eq!(heard(&bench.app).last(), Some(&("resolved".to_owned(), true)));
    assert_eq!(bench.app.count("SELECT count(*) FROM dead_letters").await, 1);
    bench.app.assert_verified().await;
}

#[tokio::test]
async fn what_flaps_while_the_receiver_is_down_ends_as_it_stands() {
    let (mut bench, mut courier) = refused().await;
    for minute in 1..=10 {
        bench.judge(&[(f64::from(minute), if minute % 2 == 0 { 90.0 } else { 50.0 })]).await;
    }
    let superseded = "SELECT count(*) FROM deliveries WHERE status = 'superseded'";
    assert_eq!(bench.app.count(superseded).await, 8, "each alert but the first and the last, by one notice");
    assert_eq!((bench.app.count(OWED).await, bench.app.count(WAITING).await), (7, 6));
    bench.app.assert_verified().await;
    bench.app.hub.set_default(Answer::ByTheRules);
    courier.step_until(&bench.app, OWED, 0).await;
    let mut expected = vec!["opened"];
    expected.extend(["resolved"; 5]);
    expected.push("opened");
    assert_eq!(accepted(&bench.app), expected);
    bench.app.assert_verified().await;
}

#[tokio::test]
async fn what_is_owed_while_its_predecessor_leaves_waits_for_nothing() {
    let (mut bench, mut courier) = refused().await;
    let mut worker = connect(&bench.app).await;
    let leaving = worker.transaction().await.unwrap();
    leaving.batch_execute("DELETE FROM outbox").await.unwrap();
    bench.commit(&[(1.0, 50.0)]).await;
    let app_count = connect(&bench.app).await;
    let finish = async {
        until("the detector to wait for the worker", async || {
            let row = app_count.query_one(AT_A_LOCK, &[]).await.unwrap();
            (row.get::<_, i64>(0) == 1).then_some(())
        })
        .await;
        let record =
            "INSERT INTO delivery_attempts (notification_id, attempt, tenant_id, destination_id, outcome)
            SELECT notification_id, 2, tenant_id, destination_id, 'delivered' FROM notifications";
        leaving.batch_execute(record).await.unwrap();
        leaving
            .execute("SELECT release_waiting(ARRAY(SELECT notification_id FROM notifications))", &[])
            .await
            .unwrap();
        leaving.commit().await.unwrap();
    };
    tokio::join!(bench.settle(), finish);
    assert_eq!((bench.app.count(OWED).await, bench.app.count(WAITING).await), (1, 0));
    bench.app.hub.set_default(Answer::ByTheRules);
    courier.step_until(&bench.app, OWED, 0).await;
}

#[tokio::test]
async fn what_is_made_to_wait_while_a_worker_completes_its_predecessor_is_released_by_it() {
    let (bench, mut courier) = refused().await;
    bench.app.hub.set_default(Answer::ByTheRules);
    // It is under way, and accepted; the worker has not said so yet.
    until("the retry", async || {
        courier.worker.step().await.unwrap();
        (bench.app.count("SELECT count(*) FROM outbox WHERE status = 'in_flight'").await == 1).then_some(())
    })
    .await;
    until("the answer", async || accepted(&bench.app).first().map(drop)).await;
    let mut detector = connect(&bench.app).await;
    let owing = detector.transaction().await.unwrap();
    let owe = "SELECT FROM chains c, lock_chains(ARRAY[c.destination_id], ARRAY[c.rule_id], ARRAY[c.series_id], ARRAY[NULL]::uuid[]);
        INSERT INTO outbox_blocked SELECT notification_id, 'NEW', tenant_id FROM outbox;
        INSERT INTO outbox (notification_id, destination_id, tenant_id, next_attempt_at)
        SELECT 'NEW', destination_id, tenant_id, 'infinity' FROM outbox";
    owing.batch_execute(&owe.replace("NEW", &Uuid::now_v7().to_string())).await.unwrap();
    let commit = async {
        bench.app.wait_for_count(AT_A_LOCK, 1).await;
        owing.commit().await.unwrap();
    };
    let complete = async {
        until("the completion", async || {
            courier.worker.step().await.unwrap();
            (bench.app.count(DELIVERED).await == 1).then_some(())
        })
        .await;
    };
    tokio::join!(commit, complete);
    assert_eq!((bench.app.count(OWED).await, bench.app.count(WAITING).await), (1, 0));
    assert_eq!(bench.app.count("SELECT count(*) FROM outbox_blocked").await, 0);
}

#[tokio::test]
async fn what_waits_for_two_that_leave_at_once_is_released_by_the_second() {
    let app = TestApp::new(&[]).await;
    let ids = app.owe(app.destination, 3).await;
    let block = "INSERT INTO outbox_blocked SELECT unnest($1::uuid[]), $2, $3";
    app.owner().execute(block, &[&&ids[..2], &ids[2], &app.tenant.0]).await.unwrap();
    let wait = "UPDATE outbox SET next_attempt_at = 'infinity' WHERE notification_id = $1";
    app.owner().execute(wait, &[&ids[2]]).await.unwrap();
    let (mut first, mut second) = (connect(&app).await, connect(&app).await);
    let (first, second) = (first.transaction().await.unwrap(), second.transaction().await.unwrap());
    let leave = async |who: &tokio_postgres::Transaction<'_>, id| {
        who.execute("DELETE FROM outbox WHERE notification_id = $1", &[&id]).await.unwrap();
        who.execute("SELECT release_waiting(ARRAY[$1::uuid])", &[&id]).await.unwrap();
    };
    leave(&first, ids[0]).await;
    let commit = async {
        app.wait_for_count(AT_A_LOCK, 1).await;
        first.commit().await.unwrap();
    };
    tokio::join!(leave(&second, ids[1]), commit);
    second.commit().await.unwrap();
    assert_eq!((app.count(OWED).await, app.count(WAITING).await), (1, 0));
}

#[tokio::test]
async fn verify_sees_what_waits_for_nothing() {
    let app = TestApp::new(&[]).await;
    let id = app.owe_one().await;
    app.assert_verified().await;
    for wrong in [
        "UPDATE outbox SET next_attempt_at = 'infinity'",
        "INSERT INTO outbox_blocked SELECT gen_random_uuid(), notification_id, tenant_id FROM outbox",
        "UPDATE outbox SET next_attempt_at = now()",
    ] {
        app.owner().batch_execute(wrong).await.unwrap();
        let mut owner = connect(&app).await;
        let broken: Vec<_> = watchbell::audit::verify::verify(&mut owner)
            .await
            .unwrap()
            .into_iter()
            .filter(|c| !c.ok)
            .collect();
        let names: Vec<_> = broken.iter().map(|check| check.name).collect();
        assert_eq!(names, ["notifications that wait for what is not owed"], "{wrong}: {id}");
    }
}
