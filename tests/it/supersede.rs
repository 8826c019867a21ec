//! What opened and is over before anybody was sent a word of it is told by one notice.

use reqwest::Method;
use serde_json::{Value, json};
use watchbell::db::pool;
use watchbell::dev::hub::Answer;
use watchbell::runtime::{Role, Roles};

use super::support::app::TestApp;
use super::support::bench::DetectorBench;
use super::support::command::watchbell;
use super::support::courier::Courier;
use super::support::wait::until;

const OWED: &str = "SELECT count(*) FROM outbox";
const SUPERSEDED: &str = "SELECT count(*) FROM deliveries WHERE status = 'superseded'";
const TRIED: &str = "SELECT count(*) FROM outbox WHERE attempts > 0 AND status = 'retrying'";

/// Another connection of the owner.
async fn connect(app: &TestApp) -> tokio_postgres::Client {
    pool::connect_owner(&app.config().database).await.unwrap()
}

async fn scene() -> DetectorBench {
    let bench = DetectorBench::new(TestApp::new(&[]).await, 60).await;
    bench.app.set_hot("resolve_after_seconds = 0, cooldown_seconds = 0").await;
    bench
}

/// The one notice that the hub got.
async fn the_one_notice(app: &TestApp, courier: &mut Courier) -> Value {
    courier.step_until(app, OWED, 0).await;
    let heard = app.heard();
    assert_eq!(heard.len(), 1, "{heard:?}");
    heard[0].clone()
}

async fn assert_tells_both(app: &TestApp, notice: &Value, others: usize) {
    let payload = &notice["payload"];
    assert_eq!(notice["event_type"], "alert.resolved");
    assert!(payload["summary"].as_str().unwrap().starts_with("Came, and is over: "), "{payload}");
    assert!(payload["breached_at"].is_string() && payload["state"] == "resolved", "{payload}");
    let named: Vec<&str> =
        payload["supersedes"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!(named.len(), others);
    let id = notice["event_id"].as_str().unwrap();
    assert!(!named.contains(&id), "an id of its own");
    let query = "SELECT count(*) FROM delivery_attempts a JOIN deliveries USING (notification_id)
        WHERE outcome = 'superseded' AND status = 'superseded' AND attempt = 1 AND a.started_at IS NULL
          AND notification_id::text = ANY ($1) AND error = 'told by ' || $2";
    let on_record = app.owner().query_one(query, &[&named, &id]).await.unwrap().get::<_, i64>(0);
    assert_eq!(on_record, others as i64);
    assert_eq!(app.count(SUPERSEDED).await, others as i64);
    app.assert_verified().await;
}

#[tokio::test]
async fn what_opens_and_is_over_in_one_settlement_is_told_once() {
    let mut bench = scene().await;
    bench.judge(&[(0.0, 90.0), (1.0, 50.0)]).await;
    let mut courier = Courier::new(&bench.app.config()).await;
    let notice = the_one_notice(&bench.app, &mut courier).await;
    assert_tells_both(&bench.app, &notice, 2).await;
    assert!(notice["payload"]["ended_at"].is_string());
}

#[tokio::test]
async fn what_is_over_before_it_was_sent_is_told_once_whatever_was_owed_of_it() {
    let mut bench = scene().await;
    let worse = r#"severity = 'warning', escalations = '[{"severity": "critical", "beyond": 95}]'"#;
    bench.app.set_hot(worse).await;
    bench.judge(&[(0.0, 90.0)]).await;
    bench.judge(&[(1.0, 99.0)]).await;
    assert_eq!(bench.app.count(OWED).await, 2);
    bench.judge(&[(2.0, 50.0)]).await;
    assert_eq!(bench.app.count(OWED).await, 1);
    let mut courier = Courier::new(&bench.app.config()).await;
    let notice = the_one_notice(&bench.app, &mut courier).await;
    assert_tells_both(&bench.app, &notice, 3).await;
}

#[tokio::test]
async fn a_claim_and_the_end_at_once_send_what_opened_or_take_it_back_and_never_both() {
    // The worker is first: what it has in its hands is waited for.
    let mut bench = scene().await;
    bench.judge(&[(0.0, 90.0)]).await;
    let mut worker = connect(&bench.app).await;
    let claiming = worker.transaction().await.unwrap();
    let claim = "UPDATE outbox SET status = 'in_flight', attempts = 1, leased_by = gen_random_uuid(), leased_at = now(),
        leased_until = now() + interval '1 minute' WHERE notification_id IN (SELECT notification_id FROM outbox FOR UPDATE)";
    claiming.batch_execute(claim).await.unwrap();
    bench.commit(&[(1.0, 50.0)]).await;
    let looker = connect(&bench.app).await;
    let commit = async {
        until("the detector to wait", async || {
            let waits = "SELECT count(*) FROM pg_stat_activity
                WHERE datname = current_database() AND wait_event_type = 'Lock'";
            (looker.query_one(waits, &[]).await.unwrap().get::<_, i64>(0) == 1).then_some(())
        })
        .await;
        claiming.commit().await.unwrap();
    };
    tokio::join!(bench.settle(), commit);
    assert_eq!(bench.app.count(SUPERSEDED).await, 0);
    assert_eq!(bench.app.count("SELECT count(*) FROM outbox_blocked").await, 1);
    bench.app.assert_verified().await;

    // The detector is first: the worker passes it by.
    let mut bench = scene().await;
    bench.judge(&[(0.0, 90.0)]).await;
    let mut detector = connect(&bench.app).await;
    let ending = detector.transaction().await.unwrap();
    let lock = "SELECT l.alert_id FROM chains c, alerts a,
        lock_chains(ARRAY[c.destination_id], ARRAY[c.rule_id], ARRAY[c.series_id], ARRAY[a.alert_id]) l
        WHERE l.alert_id IS NOT NULL";
    assert_eq!(ending.query(lock, &[]).await.unwrap().len(), 1);
    let mut courier = Courier::new(&bench.app.config()).await;
    courier.find_nothing_due().await;
    ending.commit().await.unwrap();
    courier.claim().await;
}

#[tokio::test]
async fn what_a_person_resolves_before_it_was_sent_is_told_once_and_what_was_sent_is_waited_for() {
    for sent in [false, true] {
        let mut bench = scene().await;
        let mut courier = Courier::new(&bench.app.config()).await;
        bench.judge(&[(0.0, 90.0)]).await;
        if sent {
            bench.app.hub.set_default(Answer::status(500));
            courier.step_until(&bench.app, TRIED, 1).await;
        }
        let alert = bench.app.alert_of("pump-1").await;
        bench.app.start(Roles::of(&[Role::Api])).await;
        bench.app.ask(Method::POST, &format!("/api/alerts/{alert}/resolve"), &json!({})).await;
        bench.app.hub.set_default(Answer::ByTheRules);
        let waiting = bench.app.count("SELECT count(*) FROM outbox_blocked").await;
        assert_eq!(waiting, i64::from(sent));
        if sent {
            courier.step_until(&bench.app, OWED, 0).await;
            let heard: Vec<Value> = bench.app.heard().iter().map(|body| body["event_type"].clone()).collect();
            assert_eq!(heard, ["alert.opened", "alert.resolved"]);
            assert_eq!(bench.app.count(SUPERSEDED).await, 0);
        } else {
            let notice = the_one_notice(&bench.app, &mut courier).await;
            assert_tells_both(&bench.app, &notice, 2).await;
            assert!(notice["payload"]["by"].is_string());
        }
        bench.app.assert_verified().await;
        bench.app.stop().await;
    }
}

/// An alert of which that it opened is dead, and that it is over was answered like this.
async fn dead_opening(answer: Answer) -> (DetectorBench, Courier, String) {
    let mut bench = scene().await;
    let mut courier = Courier::new(&bench.app.config()).await;
    bench.app.hub.set_default(Answer::status(500));
    bench.judge(&[(0.0, 90.0)]).await;
    courier.step_until(&bench.app, TRIED, 1).await;
    bench.judge(&[(1.0, 50.0)]).await;
    bench.app.hub.push_answer(Answer::status(400));
    bench.app.hub.set_default(answer);
    courier.step_until(&bench.app, "SELECT count(*) FROM dead_letters", 1).await;
    let row =
        bench.app.owner().query_one("SELECT notification_id::text FROM dead_letters", &[]).await.unwrap();
    (bench, courier, row.get(0))
}

#[tokio::test]
async fn what_was_overtaken_is_sent_again_only_if_it_is_forced() {
    let (mut bench, mut courier, id) = dead_opening(Answer::ByTheRules).await;
    courier.step_until(&bench.app, OWED, 0).await;
    bench.app.start(Roles::of(&[Role::Api])).await;
    let address = bench.app.running.as_ref().unwrap().api_address.unwrap();
    let url = format!("http://{address}/api/admin/notifications/{id}/redrive");
    let ask = async |body: Value| {
        let request = reqwest::Client::new().post(&url).header("X-API-Key", &bench.app.api_key).json(&body);
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    let (status, problem) = ask(json!({ "reason": "mended" })).await;
    assert_eq!(status, 409);
    assert!(problem["detail"].as_str().unwrap().contains(r#"{"force": true}"#), "{problem}");
    let refused = watchbell(&["redrive", &id, "--reason", "mended"], &bench.app.environment).await;
    assert_eq!(refused.code, Some(1));
    assert!(refused.errors.contains("what came after it was told already"), "{refused:?}");
    assert!(refused.errors.contains("--force sends it all the same"), "{refused:?}");
    assert_eq!(bench.app.count("SELECT count(*) FROM dead_letters").await, 1);
    let (status, _) = ask(json!({ "reason": "mended", "force": true })).await;
    assert_eq!(status, 202);
    let shown = bench.app.get(&format!("/api/deliveries/{id}")).await;
    assert_eq!(shown["actions"][0]["action"], "notification.redriven_by_force");
    courier.step_until(&bench.app, OWED, 0).await;
    assert_eq!(bench.app.heard().last().unwrap()["event_type"], "alert.opened");
    bench.app.assert_verified().await;
    bench.app.stop().await;
}

#[tokio::test]
async fn the_command_that_forces_says_so_on_the_record_and_one_that_need_not_does_not() {
    let (bench, mut courier, id) = dead_opening(Answer::status(500)).await;
    courier.step_until(&bench.app, TRIED, 1).await;
    let force = ["redrive", &id, "--reason", "mended", "--force"];
    let redriven = watchbell(&force, &bench.app.environment).await;
    assert_eq!(redriven.code, Some(0), "{redriven:?}");
    bench.app.hub.push_answer(Answer::status(400));
    bench.app.hub.set_default(Answer::ByTheRules);
    courier.step_until(&bench.app, OWED, 0).await;
    let redriven = watchbell(&force, &bench.app.environment).await;
    assert_eq!(redriven.code, Some(0), "{redriven:?}");
    let shown = watchbell(&["deliveries", "show", &id, "--json"], &bench.app.environment).await.json();
    let actions: Vec<&Value> = shown["actions"].as_array().unwrap().iter().map(|a| &a["action"]).collect();
    assert_eq!(actions, ["notification.redriven", "notification.redriven_by_force"]);
}

#[tokio::test]
async fn what_is_still_owed_waits_for_the_opening_that_is_sent_again() {
    let (bench, mut courier, id) = dead_opening(Answer::status(500)).await;
    courier.step_until(&bench.app, TRIED, 1).await;
    let redriven = watchbell(&["redrive", &id, "--reason", "mended"], &bench.app.environment).await;
    assert_eq!(redriven.code, Some(0), "{redriven:?}");
    let waits = "SELECT count(*) FROM outbox WHERE next_attempt_at = 'infinity'";
    assert_eq!(bench.app.count(waits).await, 1);
    bench.app.assert_verified().await;
    bench.app.hub.set_default(Answer::ByTheRules);
    courier.step_until(&bench.app, OWED, 0).await;
    let heard: Vec<Value> = bench.app.heard().iter().map(|body| body["event_type"].clone()).collect();
    assert_eq!(heard, ["alert.opened", "alert.resolved"]);
    bench.app.assert_verified().await;
}
