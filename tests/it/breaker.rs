//! Breakers: a destination that is not well is left alone by all processes, and found well again by a single probe.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use uuid::Uuid;
use watchbell::db::pool;
use watchbell::dev::hub::{Answer, Answered, Hub, HubOptions, Reply};
use watchbell::runtime::{Role, Roles};

use super::support::app::TestApp;
use super::support::courier::Courier;
use super::support::receiver::{Manner, Receiver};
use super::support::wait::until;

const DELIVERED: &str = "SELECT count(*) FROM deliveries WHERE status = 'delivered'";
const OPENED: &str = "SELECT breaker_opened::bigint FROM destinations WHERE name = 'hub'";
const OPEN: &str = "SELECT count(*) FROM destinations WHERE breaker_opened > 0";
const IN_FLIGHT: &str = "SELECT count(*) FROM outbox WHERE status = 'in_flight'";
/// Longer than any test looks.
const LONG: (&str, &str) = ("deliver.retry.first_delay_ms", "600000");

/// What is owed to it is due again, and the breaker's wait is over.
async fn let_time_pass(app: &TestApp) {
    app.owner()
        .batch_execute(
            "UPDATE destinations SET breaker_open_until = now() WHERE breaker_opened > 0;
             UPDATE outbox SET next_attempt_at = now() WHERE status <> 'in_flight'",
        )
        .await
        .unwrap();
}

#[tokio::test]
async fn after_five_failures_in_a_row_nothing_is_sent_and_no_row_is_touched() {
    let app = TestApp::new(&[LONG, ("deliver.concurrency_per_destination", "1")]).await;
    app.hub.set_default(Answer::status(503));
    app.owe(app.destination, 50).await;
    let mut courier = Courier::new(&app.config()).await;
    courier.step_until(&app, OPENED, 1).await;
    let rows = "SELECT md5(string_agg(o::text || o.xmin::text, ',' ORDER BY notification_id)) FROM outbox o";
    let before: String = app.owner().query_one(rows, &[]).await.unwrap().get(0);
    courier.find_nothing_due().await;
    let after: String = app.owner().query_one(rows, &[]).await.unwrap().get(0);
    assert_eq!(after, before);
    assert_eq!(app.hub.total(), 5);
    let destination = app.destination(app.destination).await;
    assert_eq!(
        (&destination["state"], &destination["breaker_reason"]),
        (&json!("active"), &json!("it answered 503"))
    );
    let until: Timestamp = destination["breaker_open_until"].as_str().unwrap().parse().unwrap();
    let wait = until.duration_since(Timestamp::now()).as_secs();
    assert!((590..=720).contains(&wait), "{wait}");
}

#[tokio::test]
async fn refused_connections_open_it_and_a_worker_that_starts_later_knows() {
    let app = TestApp::new(&[LONG]).await;
    let mut gone = Hub::start(HubOptions::default()).await.unwrap();
    let destination = app.add_hub("gone", &format!("http://{}", gone.address()), json!({})).await;
    gone.take_down().await;
    app.owe(destination, 30).await;
    let mut courier = Courier::new(&app.config()).await;
    courier.step_until(&app, OPEN, 1).await;
    courier.step_until(&app, IN_FLIGHT, 0).await;
    let attempts = "SELECT count(*) FROM delivery_attempts";
    let tried = app.count(attempts).await;
    assert!((5..30).contains(&tried), "{tried}");
    drop(courier);
    let mut other = Courier::new(&app.config()).await;
    other.find_nothing_due().await;
    assert_eq!(app.count(attempts).await, tried);
    let row = app.destination(destination).await;
    assert!(row["breaker_reason"].as_str().unwrap().contains("refused"), "{row}");
}

/// One turn finds out that it is not well while another one claims.
#[tokio::test]
async fn what_was_claimed_before_it_opened_is_no_probe_and_makes_it_no_worse() {
    const CLAIM_WAITS: &str =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
        AND query LIKE '%FOR KEY SHARE%'";
    let app = TestApp::new(&[LONG, ("deliver.worker_ttl_seconds", "60")]).await;
    let busy = b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_vec();
    let sick = Receiver::start(Manner::Gated(busy)).await;
    let destination = app.add_hub("sick", &sick.url(), json!({ "breaker_failures": 1 })).await;
    let bell = Courier::new(&app.config()).await.run();
    app.owe(destination, 1).await;
    sick.wait_for_requests(1).await;
    // The next claim waits, and meanwhile the first one fails.
    let other = pool::connect_owner(&app.database.config.database).await.unwrap();
    other.batch_execute("BEGIN; SELECT FROM workers FOR UPDATE").await.unwrap();
    app.owe(destination, 1).await;
    bell.notify_one();
    app.wait_for_count(CLAIM_WAITS, 1).await;
    sick.open();
    let opened = Instant::now();
    until("the worker has read the answer", async || {
        (opened.elapsed() > Duration::from_millis(500)).then_some(())
    })
    .await;
    other.batch_execute("COMMIT").await.unwrap();
    app.wait_for_count("SELECT count(*) FROM delivery_attempts", 2).await;
    app.wait_for_count("SELECT max(breaker_opened)::bigint FROM destinations", 1).await;
    assert_eq!(app.count("SELECT count(*) FROM outbox WHERE status = 'in_flight'").await, 0);
}

#[tokio::test]
async fn of_two_workers_one_probes_and_a_success_opens_it_for_both() {
    let app = TestApp::new(&[LONG]).await;
    app.hub.set_default(Answer::status(500));
    app.owe(app.destination, 40).await;
    let mut one = Courier::new(&app.config()).await;
    one.step_until(&app, OPENED, 1).await;
    one.step_until(&app, IN_FLIGHT, 0).await;
    let mut other = Courier::new(&app.config()).await;
    other.find_nothing_due().await;
    let before = app.hub.total();

    // The probe fails: it waits longer, and the other one does not probe on its own.
    let_time_pass(&app).await;
    until("a probe to fail", async || {
        tokio::try_join!(one.worker.step(), other.worker.step()).unwrap();
        (app.count(OPENED).await == 2).then_some(())
    })
    .await;
    assert_eq!(app.hub.total(), before + 1);
    let wait =
        "SELECT extract(epoch FROM breaker_open_until - now())::bigint FROM destinations WHERE name = 'hub'";
    let wait = app.count(wait).await;
    assert!((890..=1080).contains(&wait), "twice as long, up to the cap of 15 minutes: {wait}");

    // The probe is under way, for as long as the receiver likes: nobody else starts one.
    let silent = Receiver::start(Manner::Gated(
        b"HTTP/1.1 200 OK\r\ncontent-length: 32\r\nconnection: close\r\n\r\n{\"published\":true,\"processed\":1}".to_vec(),
    ))
    .await;
    app.owner()
        .execute("UPDATE destinations SET settings = $1", &[&json!({ "url": silent.url() })])
        .await
        .unwrap();
    app.owner().execute("UPDATE destinations SET breaker_opened = 2", &[]).await.unwrap();
    let_time_pass(&app).await;
    until("a probe to be under way", async || {
        tokio::try_join!(one.worker.step(), other.worker.step()).unwrap();
        (silent.requests() == 1).then_some(())
    })
    .await;
    for _ in 0..20 {
        tokio::try_join!(one.worker.step(), other.worker.step()).unwrap();
    }
    // One that has just looked at all destinations does not either.
    let mut third = Courier::new(&app.config()).await;
    third.find_nothing_due().await;
    assert_eq!((silent.connections(), app.count(IN_FLIGHT).await), (1, 1));
    silent.open();
    until("all to be delivered by both", async || {
        tokio::try_join!(one.worker.step(), other.worker.step()).unwrap();
        (app.count(DELIVERED).await == 40).then_some(())
    })
    .await;
    let row = app.destination(app.destination).await;
    assert_eq!((&row["breaker_opened"], &row["breaker_open_until"]), (&json!(0), &Value::Null));
}

#[tokio::test]
async fn a_worker_that_dies_while_probing_keeps_nobody_from_probing_later() {
    let app =
        TestApp::new(&[LONG, ("deliver.request_timeout_seconds", "1"), ("deliver.lease_seconds", "2")]).await;
    let silent = Receiver::start(Manner::Silent).await;
    let destination = app.add_hub("silent", &silent.url(), json!({ "breaker_failures": 1 })).await;
    app.owe(destination, 1).await;
    app.owner()
        .execute("UPDATE destinations SET breaker_opened = 1 WHERE name = 'silent'", &[])
        .await
        .unwrap();
    app.owner().execute("UPDATE destinations SET breaker_open_until = now()", &[]).await.unwrap();
    let mut courier = Courier::new(&app.config()).await;
    courier.claim().await;
    drop(courier);
    let mut other = Courier::new(&app.config()).await;
    let twice = "SELECT count(*) FROM outbox WHERE attempts = 2";
    other.step_until(&app, twice, 1).await;
}

#[tokio::test]
async fn a_broken_destination_delays_nobody_else() {
    let app = TestApp::new(&[("deliver.concurrency", "8")]).await;
    let sick = Hub::start(HubOptions::default()).await.unwrap();
    sick.set_default(Answer::status(503));
    let broken = app.add_hub("sick", &format!("http://{}", sick.address()), json!({})).await;
    app.owe(broken, 1_000).await;
    app.owe(app.destination, 100).await;
    let mut courier = Courier::new(&app.config()).await;
    courier.step_until(&app, DELIVERED, 100).await;
    assert!(sick.total() < 100, "{}", sick.total());
    assert_eq!(app.count("SELECT count(*) FROM outbox").await, 1_000);
}

#[tokio::test]
async fn one_notification_that_can_never_be_accepted_shuts_nobody_out() {
    let app =
        TestApp::new(&[("deliver.retry.first_delay_ms", "5"), ("deliver.retry.max_delay_ms", "5")]).await;
    app.hub.set_default(Answer::status(500));
    let poison = app.owe_one().await;
    let mut courier = Courier::new(&app.config()).await;
    let tries =
        format!("SELECT least(count(*), 12) FROM delivery_attempts WHERE notification_id = '{poison}'");
    courier.step_until(&app, &tries, 12).await;
    assert_eq!(app.count(OPENED).await, 0);
}

#[tokio::test]
async fn what_waits_for_a_broken_destination_dies_at_its_horizon_though_nobody_tries_it() {
    let policy = json!({ "horizon_seconds": 4, "first_delay_ms": 600_000, "max_delay_ms": 600_000, "breaker_failures": 1 });
    let app = TestApp::new(&[("deliver.concurrency_per_destination", "1")]).await;
    let sick = Hub::start(HubOptions::default()).await.unwrap();
    sick.set_default(Answer::status(503));
    let destination = app.add_hub("sick", &format!("http://{}", sick.address()), policy).await;
    let mut courier = Courier::new(&app.config()).await;
    app.owe(destination, 3).await;
    courier.step_until(&app, "SELECT count(*) FROM dead_letters", 3).await;
    assert_eq!(sick.total(), 1);
    let untried = "SELECT count(*) FROM deliveries WHERE status = 'dead' AND attempts = 0
                   AND dead_reason LIKE 'not delivered within 4 s; %left alone'";
    assert_eq!(app.count(untried).await, 2);
    let overdue = "SELECT count(*) FROM dead_letters x JOIN notifications n USING (notification_id)
                   WHERE x.died_at < n.created_at + interval '5 seconds'";
    assert_eq!(app.count(overdue).await, 0, "not before the horizon");
}

#[tokio::test]
async fn another_address_is_another_chance_at_once() {
    let app = TestApp::new(&[LONG]).await;
    let sick = Hub::start(HubOptions::default()).await.unwrap();
    sick.set_default(Answer::status(503));
    let destination = app.add_hub("sick", &format!("http://{}", sick.address()), json!({})).await;
    app.owe(destination, 20).await;
    let mut courier = Courier::new(&app.config()).await;
    courier.step_until(&app, OPEN, 1).await;
    courier.step_until(&app, IN_FLIGHT, 0).await;
    let mended = json!({ "url": format!("http://{}", app.hub.address()) });
    app.owner()
        .execute("UPDATE destinations SET settings = $1 WHERE name = 'sick'", &[&mended])
        .await
        .unwrap();
    // Also for those that have been tried, whose next attempt is far away.
    let tried = app.count("SELECT count(*) FROM outbox WHERE attempts > 0").await;
    assert!(tried > 0 && tried < 20, "{tried}");
    courier.step_until(&app, DELIVERED, 20).await;
}

#[tokio::test]
async fn a_pause_that_one_answer_asks_for_is_kept_for_all_by_all() {
    for status in [429, 503] {
        let app = TestApp::new(&[("deliver.concurrency_per_destination", "1")]).await;
        app.hub.push_answer(Reply::new(status, "").with_header("retry-after", "60"));
        app.owe(app.destination, 10).await;
        let mut courier = Courier::new(&app.config()).await;
        let paused = "SELECT count(*) FROM destinations WHERE paused_until > now() + interval '50 seconds'";
        courier.step_until(&app, paused, 1).await;
        courier.find_nothing_due().await;
        let mut other = Courier::new(&app.config()).await;
        app.owe_one().await;
        other.find_nothing_due().await;
        assert_eq!(app.hub.total(), 1);
        // Nothing is tried before the 60 seconds are over: not the one that was answered so, nor the others.
        let tried: Uuid =
            app.owner().query_one("SELECT notification_id FROM delivery_attempts", &[]).await.unwrap().get(0);
        let answered: Timestamp =
            app.attempts(tried).await[0]["finished_at"].as_str().unwrap().parse().unwrap();
        let due: Timestamp = app.delivery(tried).await["next_attempt_at"].as_str().unwrap().parse().unwrap();
        let paused: Timestamp =
            app.destination(app.destination).await["paused_until"].as_str().unwrap().parse().unwrap();
        for at in [due, paused] {
            assert!(at.duration_since(answered) >= SignedDuration::from_secs(60), "{answered} {at}");
        }
        // As if they were over.
        app.owner().execute("UPDATE destinations SET paused_until = now()", &[]).await.unwrap();
        app.owner().execute("UPDATE outbox SET next_attempt_at = now()", &[]).await.unwrap();
        other.step_until(&app, DELIVERED, 11).await;
    }
}

#[tokio::test]
async fn a_held_destination_that_answers_503_stays_held_and_is_probed_slowly() {
    let app =
        TestApp::new(&[("deliver.hold_seconds", "2"), ("deliver.concurrency_per_destination", "1")]).await;
    app.hub.push_answer(Answer::status(401));
    app.hub.set_default(Answer::status(503));
    app.owe(app.destination, 20).await;
    let mut courier = Courier::new(&app.config()).await;
    until("two probes", async || {
        courier.worker.step().await.unwrap();
        (app.hub.total() == 3).then_some(())
    })
    .await;
    courier.step_until(&app, IN_FLIGHT, 0).await;
    let posts = app.hub.received();
    for pair in posts.windows(2) {
        let pause = pair[1].at.duration_since(pair[0].at);
        assert!(pause >= SignedDuration::from_millis(1_900), "{pause:?}");
        assert!(pause < SignedDuration::from_secs(20), "as long as a hold, not as a lease: {pause:?}");
    }
    let row = app.destination(app.destination).await;
    assert_eq!((&row["state"], &row["state_reason"]), (&json!("held"), &json!("it answered 401")));
    assert_eq!(row["breaker_opened"], 0);
    app.hub.set_default(Answer::ByTheRules);
    courier.step_until(&app, DELIVERED, 20).await;
    assert_eq!(app.destination(app.destination).await["state"], "active");
    assert!(app.hub.received().iter().any(|post| post.answered == Answered::Status(200)));
}

#[tokio::test]
async fn people_see_that_a_destination_is_left_alone_and_the_log_says_it_once() {
    let mut app = TestApp::new(&[LONG]).await;
    app.hub.set_default(Answer::status(502));
    let process = app.spawn("deliver");
    let id = app.owe(app.destination, 30).await[29];
    app.wait_for_count(OPENED, 1).await;
    process.log_when("destination is not well").await;
    app.start(Roles::of(&[Role::Api])).await;
    let shown = app.get(&format!("/api/deliveries/{id}")).await;
    let delivery = &shown["delivery"];
    assert_eq!(
        (&delivery["destination_state"], &delivery["destination_reason"]),
        (&json!("broken"), &json!("it answered 502"))
    );
    assert!(delivery["destination_opens_at"].is_string(), "{delivery}");
    app.stop().await;
    for _ in 0..2 {
        let_time_pass(&app).await;
        let opened = app.count(OPENED).await;
        app.wait_for_more(OPENED, opened).await;
    }
    app.hub.set_default(Answer::ByTheRules);
    let_time_pass(&app).await;
    process.log_when("destination is well again").await;
    let log = process.log();
    assert_eq!(log.matches("destination is not well").count(), 1, "{log}");
    assert_eq!(process.terminate().await, Some(0));
}

#[tokio::test]
async fn the_metrics_count_destinations_by_what_they_are() {
    let mut app = TestApp::new(&[LONG]).await;
    app.hub.set_default(Answer::status(503));
    app.owe(app.destination, 10).await;
    app.start(Roles::of(&[Role::Deliver])).await;
    let metrics = app.running.as_ref().unwrap().metrics.clone();
    until("a broken destination in the metrics", async || {
        metrics.render().unwrap().contains("watchbell_destinations{state=\"broken\"} 1").then_some(())
    })
    .await;
    app.stop().await;
}

#[tokio::test]
async fn that_a_destination_is_not_well_is_written_although_the_first_try_failed() {
    let app = TestApp::new(&[LONG]).await;
    app.hub.set_default(Answer::status(503));
    app.owe(app.destination, 4).await;
    let mut courier = Courier::new(&app.config()).await;
    courier.step_until(&app, "SELECT count(*) FROM outbox WHERE status = 'retrying'", 4).await;
    app.owe_one().await;
    app.owner()
        .batch_execute(
            "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not now'; END $$;
             CREATE TRIGGER fail BEFORE UPDATE ON destinations FOR EACH ROW EXECUTE FUNCTION fail()",
        )
        .await
        .unwrap();
    until("a turn that fails", async || courier.worker.step().await.is_err().then_some(())).await;
    app.owner().batch_execute("DROP TRIGGER fail ON destinations").await.unwrap();
    courier.step_until(&app, OPENED, 1).await;
}
