//! The hub's table of answers, and how an answer is read: each leads where the contract says.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use uuid::Uuid;
use watchbell::dev::hub::{Answer, Hub, HubOptions, Reply};
use watchbell::runtime::{Role, Roles};

use super::support::app::{HUB_KEY, TestApp, seal};
use super::support::courier::Courier;
use super::support::keeper::{Closes, Keeper};
use super::support::receiver::{Manner, Receiver};
use super::support::wait::until;

const DELIVERED: &str = "SELECT count(*) FROM deliveries WHERE status = 'delivered'";
const RECORDED: &str = "SELECT count(*) FROM delivery_attempts";
/// Nothing is tried a second time while a test looks.
const NO_RETRY: (&str, &str) = ("deliver.retry.first_delay_ms", "600000");

/// What became of one attempt that is answered so: the attempt and the delivery.
async fn answered(app: &TestApp, answer: impl Into<Answer>) -> (Value, Value) {
    app.hub.set_default(answer);
    let id = app.owe_one().await;
    let mut courier = Courier::new(&app.config()).await;
    let before = app.count(RECORDED).await;
    courier.step_until(app, RECORDED, before + 1).await;
    (app.attempts(id).await.remove(0), app.delivery(id).await)
}

fn time(value: &Value) -> Timestamp {
    value.as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn accepted_is_delivered_and_told_to_nobody_is_delivered_with_a_warning() {
    let mut app = TestApp::new(&[]).await;
    let (attempt, delivery) = answered(&app, Answer::ByTheRules).await;
    assert_eq!((&attempt["outcome"], &attempt["warning"]), (&json!("delivered"), &Value::Null));
    assert!(attempt["answer"].as_str().unwrap().contains(r#""processed":1"#));
    assert_eq!((&delivery["status"], &delivery["warning"]), (&json!("delivered"), &Value::Null));

    let nobody = Reply::json(200, &json!({ "published": true, "processed": 0 }));
    let (attempt, _) = answered(&app, nobody).await;
    assert_eq!(attempt["outcome"], "delivered");
    app.start(Roles::of(&[Role::Api])).await;
    let id = attempt["notification_id"].as_str().unwrap();
    let shown = app.get(&format!("/api/deliveries/{id}")).await;
    assert_eq!(shown["delivery"]["status"], "delivered");
    assert!(shown["delivery"]["warning"].as_str().unwrap().contains("nobody"), "{shown}");
    assert!(shown["attempts"][0]["warning"].as_str().unwrap().contains("nobody"), "{shown}");
    app.stop().await;
}

#[tokio::test]
async fn what_will_never_be_accepted_is_dead_at_once_with_the_answer_kept() {
    let app = TestApp::new(&[]).await;
    for status in [400, 413, 422] {
        let (attempt, delivery) = answered(&app, Reply::new(status, format!("no: {status}"))).await;
        assert_eq!((&attempt["outcome"], &attempt["status_code"]), (&json!("dead"), &json!(status)));
        assert_eq!(attempt["answer"], format!("no: {status}"));
        assert_eq!(delivery["status"], "dead");
        assert!(delivery["dead_reason"].as_str().unwrap().contains(&status.to_string()), "{delivery}");
    }
    assert_eq!(app.hub.total(), 3);
}

#[tokio::test]
async fn what_may_be_mended_is_tried_again() {
    let app = TestApp::new(&[NO_RETRY, ("deliver.breaker_failures", "0")]).await;
    for status in [408, 425, 429, 500, 502, 503, 504] {
        let (attempt, delivery) = answered(&app, Answer::status(status)).await;
        assert_eq!((&attempt["outcome"], &attempt["status_code"]), (&json!("retry"), &json!(status)));
        assert!(attempt["error"].is_string());
        assert_eq!(delivery["status"], "retrying");
    }
    let (attempt, delivery) = answered(&app, Answer::Close).await;
    assert_eq!((&attempt["outcome"], &attempt["status_code"]), (&json!("retry"), &Value::Null));
    assert!(attempt["error"].as_str().unwrap().contains("no answer"), "{attempt}");
    assert_eq!(delivery["status"], "retrying");
}

#[tokio::test]
async fn a_wrong_key_holds_the_destination_until_it_is_mended() {
    let app = TestApp::new(&[
        ("deliver.hold_seconds", "2"),
        ("deliver.concurrency_per_destination", "2"),
        ("deliver.retry.first_delay_ms", "1"),
    ])
    .await;
    let set_secret = async |secret: &str| {
        let query = "UPDATE destinations SET secret = $1 WHERE destination_id = $2";
        app.owner().execute(query, &[&seal(app.destination, secret), &app.destination.0]).await.unwrap();
    };
    set_secret("an old key").await;
    app.owe(app.destination, 10).await;
    let mut courier = Courier::new(&app.config()).await;
    courier.step_until(&app, "SELECT count(*) FROM destinations WHERE state = 'held'", 1).await;
    let held = app.destination(app.destination).await;
    assert!(held["state_reason"].as_str().unwrap().contains("401"), "{held}");
    // What is under way when it is held ends too; the time that it is held is not yet over.
    courier.step_until(&app, "SELECT count(*) FROM outbox WHERE status <> 'in_flight'", 10).await;
    let first = app.hub.received();
    assert!(
        first.len() <= 2
            && first.iter().all(|post| post.answered == watchbell::dev::hub::Answered::Status(401))
    );
    // One probe when it is over, and no more: it is held again.
    courier.step_until(&app, RECORDED, first.len() as i64 + 1).await;
    let posts = app.hub.received();
    let pause = posts[first.len()].at.duration_since(first[0].at);
    assert!(pause >= SignedDuration::from_millis(1_900), "{pause:?}");
    courier.find_nothing_due().await;
    assert_eq!(app.count("SELECT count(*) FROM outbox").await, 10);

    set_secret(HUB_KEY).await;
    courier.step_until(&app, DELIVERED, 10).await;
    let mended = app.destination(app.destination).await;
    assert_eq!((&mended["state"], &mended["state_reason"]), (&json!("active"), &Value::Null));
    assert_eq!(app.count("SELECT count(*) FROM delivery_attempts WHERE outcome = 'delivered'").await, 10);
}

/// A gateway may refuse what one of them says, and the destination is held: that it does so again and again is nobody else's fault.
#[tokio::test]
async fn one_notification_that_is_always_forbidden_shuts_nobody_out_and_ends_at_its_horizon() {
    let app =
        TestApp::new(&[("deliver.hold_seconds", "1"), ("deliver.concurrency_per_destination", "1")]).await;
    let policy = json!({ "horizon_seconds": 5, "max_delay_ms": 2_000 });
    let gateway = Receiver::start(Manner::Forbids("padding")).await;
    let destination = app.add_hub("gateway", &gateway.url(), policy).await;
    let forbidden = app.owe_padded(destination, 1).await;
    app.owe_class(destination, 20, 4).await;
    let mut courier = Courier::new(&app.config()).await;
    courier.step_until(&app, DELIVERED, 20).await;
    // While others are accepted its time runs.
    let mut delivered = 20;
    while app.count("SELECT count(*) FROM dead_letters").await == 0 {
        app.owe_class(destination, 1, 4).await;
        delivered += 1;
        courier.step_until(&app, DELIVERED, delivered).await;
        assert!(delivered < 1_000);
    }
    let delivery = app.delivery(forbidden).await;
    assert_eq!(delivery["status"], "dead");
    let reason = delivery["dead_reason"].as_str().unwrap();
    assert!(reason.starts_with("not delivered within 5 s") && reason.contains("403"), "{reason}");
}

#[tokio::test]
async fn a_wrong_address_or_forbidden_holds_and_gone_parks() {
    let app = TestApp::new(&[("deliver.hold_seconds", "1")]).await;
    for (status, state) in [(403, "held"), (404, "held"), (410, "parked")] {
        app.owner().execute("UPDATE destinations SET state = 'active'", &[]).await.unwrap();
        let (attempt, delivery) = answered(&app, Answer::status(status)).await;
        assert_eq!((&attempt["outcome"], &delivery["status"]), (&json!("hold"), &json!("retrying")));
        let destination = app.destination(app.destination).await;
        assert_eq!(destination["state"], state);
        assert!(destination["state_reason"].as_str().unwrap().contains(&status.to_string()));
        app.owner().execute("DELETE FROM outbox", &[]).await.unwrap();
    }
    // A parked destination is not even probed: another one's hold comes and goes meanwhile.
    let id = app.owe_one().await;
    let other = Hub::start(HubOptions { api_key: HUB_KEY.into(), ..HubOptions::default() }).await.unwrap();
    other.push_answer(Answer::status(401));
    let held = app.add_hub("held", &format!("http://{}", other.address()), json!({})).await;
    app.owe(held, 1).await;
    let before = app.hub.total();
    let mut courier = Courier::new(&app.config()).await;
    courier.step_until(&app, DELIVERED, 1).await;
    assert_eq!((app.hub.total(), app.delivery(id).await["status"].clone()), (before, json!("pending")));
}

#[tokio::test]
async fn retry_after_is_kept_in_seconds_and_as_a_date_and_capped_by_the_horizon() {
    let app =
        TestApp::new(&[("deliver.retry.first_delay_ms", "1"), ("deliver.retry.horizon_seconds", "7200")])
            .await;
    let date = |seconds| {
        let at = Timestamp::now() + SignedDuration::from_secs(seconds);
        at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
    };
    // Each of them pauses the destination.
    let unpause =
        async || app.owner().execute("UPDATE destinations SET paused_until = NULL", &[]).await.unwrap();
    for (status, asked, least, most) in [
        (429, "600".to_owned(), 600, 730),
        (503, "600".to_owned(), 600, 730),
        (429, date(600), 595, 730),
        (429, "31536000".to_owned(), 7_100, 7_201),
        (429, date(31_536_000), 7_100, 7_201),
        (429, "99999999999999999999".to_owned(), 7_100, 7_201),
    ] {
        unpause().await;
        let reply = Reply::new(status, "").with_header("retry-after", &asked);
        let (attempt, delivery) = answered(&app, reply).await;
        let wait = time(&delivery["next_attempt_at"]).duration_since(time(&attempt["finished_at"])).as_secs();
        assert!((least..=most).contains(&wait), "{asked}: {wait}");
    }
    unpause().await;
    for past in [date(-600), "soon".to_owned(), "-5".to_owned()] {
        let reply = Reply::new(429, "").with_header("retry-after", &past);
        app.hub.set_default(reply);
        let id = app.owe_one().await;
        let mut courier = Courier::new(&app.config()).await;
        let twice =
            format!("SELECT count(*) FROM delivery_attempts WHERE attempt = 2 AND notification_id = '{id}'");
        courier.step_until(&app, &twice, 1).await;
    }
}

#[tokio::test]
async fn a_redirect_is_a_failure_and_never_followed() {
    let app = TestApp::new(&[NO_RETRY]).await;
    let other = Receiver::start(Manner::Silent).await;
    for status in [301, 302, 303, 307, 308] {
        let reply = Reply::new(status, "").with_header("location", &format!("{}/api/events", other.url()));
        let (attempt, delivery) = answered(&app, reply).await;
        assert_eq!((&attempt["outcome"], &attempt["status_code"]), (&json!("retry"), &json!(status)));
        assert_eq!(delivery["status"], "retrying");
    }
    assert_eq!(other.connections(), 0);
}

/// One attempt at a receiver of this manner, of a worker whose requests end after so many seconds.
async fn received(manner: Manner, timeout: &str) -> (TestApp, Receiver, Value, Uuid) {
    let app = TestApp::new(&[NO_RETRY, ("deliver.request_timeout_seconds", timeout)]).await;
    let receiver = Receiver::start(manner).await;
    let destination = app.add_hub("raw", &receiver.url(), json!({})).await;
    let id = app.owe(destination, 1).await[0];
    let mut courier = Courier::new(&app.config()).await;
    courier.step_until(&app, RECORDED, 1).await;
    let attempt = app.attempts(id).await.remove(0);
    (app, receiver, attempt, id)
}

#[tokio::test]
async fn of_an_endless_answer_sixteen_kibibytes_are_read_and_kept() {
    let half_a_gigabyte = 512 << 20;
    let head = format!("HTTP/1.1 500 Oh\r\ncontent-length: {half_a_gigabyte}\r\n\r\n");
    let (_app, receiver, attempt, _) =
        received(Manner::Flood(head.into_bytes(), half_a_gigabyte), "15").await;
    assert_eq!((&attempt["outcome"], &attempt["status_code"]), (&json!("retry"), &json!(500)));
    assert_eq!(attempt["answer"].as_str().unwrap().len(), 16 * 1024);
    // What the kernel's buffers took, and not what there was.
    assert!(receiver.sent() < 64 << 20, "{}", receiver.sent());
}

#[tokio::test]
async fn endless_answers_cost_no_memory() {
    let app = TestApp::new(&[]).await;
    let half_a_gigabyte = 512 << 20;
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {half_a_gigabyte}\r\n\r\n");
    let receiver = Receiver::start(Manner::Flood(head.into_bytes(), half_a_gigabyte)).await;
    let destination = app.add_hub("flood", &receiver.url(), json!({})).await;
    let process = app.spawn("deliver");
    app.owe_one().await;
    app.wait_for_count(DELIVERED, 1).await;
    let before = process.resident_bytes();
    app.owe(destination, 40).await;
    app.wait_for_count(DELIVERED, 41).await;
    let grown = process.resident_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown}");
    assert_eq!(process.terminate().await, Some(0));
}

#[tokio::test]
async fn an_answer_that_trickles_ends_at_its_deadline_and_its_status_counts() {
    for (status, outcome) in [(200, "delivered"), (503, "retry")] {
        let head = format!("HTTP/1.1 {status} Slow\r\ncontent-length: 1000000\r\n\r\n").into_bytes();
        let (_app, receiver, attempt, _) = received(Manner::Trickle(head), "2").await;
        let took = time(&attempt["finished_at"]).duration_since(time(&attempt["started_at"]));
        assert!(
            took >= SignedDuration::from_millis(1_900) && took < SignedDuration::from_secs(20),
            "{took:?}"
        );
        assert_eq!((&attempt["outcome"], &attempt["status_code"]), (&json!(outcome), &json!(status)));
        assert!(attempt["answer"].as_str().unwrap().len() < 1_000);
        assert!(receiver.sent() > 0);
    }
}

#[tokio::test]
async fn headers_that_never_end_are_no_answer_at_the_deadline() {
    let head = b"HTTP/1.1 200 OK\r\nx-endless: ".to_vec();
    let (_app, receiver, attempt, _) = received(Manner::Trickle(head), "2").await;
    let took = time(&attempt["finished_at"]).duration_since(time(&attempt["started_at"]));
    assert!(took >= SignedDuration::from_millis(1_900) && took < SignedDuration::from_secs(20), "{took:?}");
    assert_eq!((&attempt["outcome"], &attempt["status_code"]), (&json!("retry"), &Value::Null));
    assert!(attempt["error"].as_str().unwrap().contains("no answer within"), "{attempt}");
    assert!(receiver.sent() > 0);
}

#[tokio::test]
async fn headers_and_answers_without_end_cost_a_real_process_no_memory() {
    let app = TestApp::new(&[NO_RETRY, ("deliver.breaker_failures", "0")]).await;
    let half_a_gigabyte = 512 << 20;
    let headers = Manner::Flood(b"HTTP/1.1 200 OK\r\nx-endless: ".to_vec(), half_a_gigabyte);
    let chunks = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n20000000\r\n".to_vec();
    let process = app.spawn("deliver");
    app.owe_one().await;
    app.wait_for_count(DELIVERED, 1).await;
    let before = process.resident_bytes();
    for (name, manner) in [("headers", headers), ("chunks", Manner::Flood(chunks, half_a_gigabyte))] {
        let receiver = Receiver::start(manner).await;
        let destination = app.add_hub(name, &receiver.url(), json!({})).await;
        app.owe(destination, 20).await;
        let ended = format!(
            "SELECT count(DISTINCT notification_id) FROM delivery_attempts a JOIN destinations USING (destination_id)
             WHERE name = '{name}'"
        );
        app.wait_for_count(&ended, 20).await;
        assert!(receiver.sent() < 256 << 20, "{}", receiver.sent());
        let grown = process.resident_bytes().saturating_sub(before);
        assert!(grown < 64 << 20, "{name}: {grown}");
    }
    assert_eq!(process.terminate().await, Some(0));
}

/// A receiver that closes a kept connection over a request that it has read, or before it: each request that it read is an
/// attempt on record, and none was sent twice behind our back.
#[tokio::test]
async fn a_kept_connection_that_is_closed_is_a_failed_attempt_and_no_silent_repeat() {
    for closes in [Closes::OverARequest, Closes::WhileIdle] {
        let settings = [("deliver.concurrency_per_destination", "1"), ("deliver.breaker_failures", "0")];
        let app = TestApp::new(&settings).await;
        let keeper = Keeper::start(closes).await;
        let destination = app.add_hub("keeper", &keeper.url(), json!({})).await;
        app.owe(destination, 30).await;
        let mut courier = Courier::new(&app.config()).await;
        courier.step_until(&app, DELIVERED, 30).await;
        let attempts = app.count(RECORDED).await;
        assert_eq!(keeper.requests() as i64, attempts, "{closes:?}");
        let unanswered = "SELECT count(*) FROM delivery_attempts WHERE outcome = 'retry'";
        let unanswered = app.count(unanswered).await;
        match closes {
            // Every second request of a connection is not answered.
            Closes::OverARequest => assert_eq!(unanswered, attempts - 30),
            Closes::WhileIdle => assert!(keeper.connections() >= 15, "{}", keeper.connections()),
        }
        assert!(closes == Closes::WhileIdle || unanswered >= 10, "{unanswered}");
    }
}

#[tokio::test]
async fn an_answer_of_any_bytes_is_kept_as_legal_text_of_at_most_sixteen_kibibytes() {
    let body = [b"a\0b\xff\xfe".as_slice(), &[0xff; 20_000]].concat();
    let head = format!("HTTP/1.1 400 Bad\r\ncontent-length: {}\r\n\r\n", body.len());
    let (app, _receiver, attempt, id) =
        received(Manner::Bytes([head.as_bytes(), &body].concat()), "15").await;
    assert_eq!(attempt["outcome"], "dead");
    let answer = attempt["answer"].as_str().unwrap();
    assert!(answer.starts_with("a\u{fffd}b\u{fffd}\u{fffd}"), "{:?}", answer.get(..20));
    assert!(answer.len() <= 16 * 1024, "{}", answer.len());
    assert_eq!(app.delivery(id).await["status"], "dead");
}

#[tokio::test]
async fn an_answer_that_is_no_http_is_tried_again() {
    let (_app, _receiver, attempt, _) =
        received(Manner::Bytes(b"220 mail.example ESMTP\r\n".to_vec()), "15").await;
    assert_eq!((&attempt["outcome"], &attempt["status_code"]), (&json!("retry"), &Value::Null));
    assert!(attempt["error"].is_string());
}

#[tokio::test]
async fn a_hold_and_a_park_alarm_somebody_once_and_stay_on_the_gauge() {
    for (status, state, probes) in [(401, "held", 3), (403, "held", 3), (404, "held", 3), (410, "parked", 1)]
    {
        let mut app =
            TestApp::new(&[("deliver.hold_seconds", "1"), ("deliver.concurrency_per_destination", "1")])
                .await;
        app.hub.set_default(Answer::status(status));
        app.owe(app.destination, 5).await;
        let process = app.spawn("deliver");
        process.log_when("somebody must look at it").await;
        until("probes", async || (app.hub.total() >= probes).then_some(())).await;
        let log = process.log();
        let alarms: Vec<_> = log.lines().filter(|line| line.contains("somebody must look at it")).collect();
        assert!(alarms.len() == 1 && alarms[0].contains("ERROR") && alarms[0].contains(state), "{alarms:?}");
        assert!(alarms[0].contains(&status.to_string()), "{alarms:?}");
        assert_eq!(process.terminate().await, Some(0));
        app.start(Roles::of(&[Role::Deliver])).await;
        let metrics = app.running.as_ref().unwrap().metrics.clone();
        let gauge = format!("watchbell_destinations{{state=\"{state}\"}} 1");
        until(&gauge, async || metrics.render().unwrap().contains(&gauge).then_some(())).await;
        app.stop().await;
    }
}
