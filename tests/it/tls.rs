//! Receivers over TLS, as most of them are: who they are is checked, and over one connection that carries many requests nobody can
//! keep them up for ever.

use std::time::{Duration, Instant};

use jiff::SignedDuration;
use serde_json::{Value, json};
use watchbell::model::ids::DestinationId;

use super::support::app::{HUB_KEY, TestApp};
use super::support::http2::{self, CONTINUATION, DATA, END_HEADERS, HEADERS, frame};
use super::support::owed::took;
use super::support::process::Process;
use super::support::receiver::{ACCEPTED, Manner, Receiver};
use super::support::tls::Authority;
use super::support::wait::until;

const HALF_A_GIGABYTE: usize = 512 << 20;
/// More than this is not needed, however much a receiver sends.
const FLAT: u64 = 64 << 20;
/// A second for the poll, and what a busy machine adds.
const PROMPT: Duration = Duration::from_secs(10);

/// A worker of its own that trusts this authority and tries each notification again at once; its requests end after two seconds.
async fn worker(authority: &Authority, settings: &[(&str, &str)]) -> (TestApp, Process) {
    let own = [("deliver.request_timeout_seconds", "2"), ("deliver.breaker_failures", "0")];
    let mut app = TestApp::new(&[&own, settings].concat()).await;
    app.environment.extend([authority.trusted()]);
    let process = app.spawn("deliver");
    (app, process)
}

fn attempts_of(destination: DestinationId) -> String {
    format!("SELECT count(*) FROM delivery_attempts WHERE destination_id = '{destination}'")
}

fn delivered_to(destination: DestinationId) -> String {
    format!("SELECT count(*) FROM deliveries WHERE destination_id = '{destination}' AND status = 'delivered'")
}

/// What failed is not tried again while a test runs.
const ONCE: (&str, &str) = ("deliver.retry.first_delay_ms", "600000");
/// Where no deadline is to be met, a starved machine meets none either.
const UNHURRIED: (&str, &str) = ("deliver.request_timeout_seconds", "15");

#[tokio::test]
async fn a_receiver_over_tls_is_told_in_the_version_of_http_that_it_speaks() {
    let authority = Authority::new();
    let (app, process) = worker(&authority, &[UNHURRIED]).await;
    let old = authority.acceptor("127.0.0.1", "http/1.1");
    let old = Receiver::start_tls(old, Manner::Bytes(ACCEPTED.to_vec())).await;
    let new =
        Receiver::start_tls(authority.acceptor("127.0.0.1", "h2"), Manner::Http2(http2::Manner::Accepts))
            .await;
    for (name, url) in [("old", old.url()), ("new", new.url())] {
        for attempt in app.attempts_at(name, &url, 20).await {
            assert_eq!(
                (&attempt["outcome"], &attempt["status_code"]),
                (&json!("delivered"), &json!(200)),
                "{name}"
            );
        }
    }
    assert_eq!((old.requests(), new.requests()), (20, 20));
    assert_eq!(process.terminate().await, Some(0));
}

/// Nothing of a request reaches somebody else, and that is known.
#[tokio::test]
async fn who_can_not_say_who_he_is_is_sent_nothing_and_the_record_says_why() {
    let authority = Authority::new();
    let (app, process) = worker(&authority, &[ONCE, UNHURRIED]).await;
    let other = authority.acceptor("hub.example", "h2");
    let unknown = Authority::new().acceptor("127.0.0.1", "h2");
    for (name, acceptor, why) in
        [("other", other, "not valid for name"), ("unknown", unknown, "UnknownIssuer")]
    {
        let receiver = Receiver::start_tls(acceptor, Manner::Http2(http2::Manner::Accepts)).await;
        let attempt = app.attempts_at(name, &receiver.url(), 1).await.remove(0);
        assert_eq!((&attempt["outcome"], &attempt["status_code"]), (&json!("retry"), &Value::Null));
        let error = attempt["error"].as_str().unwrap();
        assert!(error.starts_with("failed to connect") && error.contains(why), "{error}");
        assert_eq!(receiver.requests(), 0);
    }
    assert_eq!(process.terminate().await, Some(0));
}

#[tokio::test]
async fn without_any_authority_nothing_starts_and_what_to_do_is_said() {
    let mut app = TestApp::new(&[]).await;
    for name in ["SSL_CERT_FILE", "SSL_CERT_DIR"] {
        app.environment.insert(name.to_owned(), "/nonexistent".to_owned());
    }
    app.spawn("deliver")
        .log_when("install the system's certificates (ca-certificates), or name a file with SSL_CERT_FILE")
        .await;
}

/// A firewall that forgot a connection, a receiver's process that hangs: others would wait on it as long as somebody sends.
#[tokio::test]
async fn a_connection_that_went_mute_is_left_after_one_request() {
    let authority = Authority::new();
    let (app, process) = worker(&authority, &[]).await;
    let acceptor = authority.acceptor("127.0.0.1", "h2");
    let receiver = Receiver::start_tls(acceptor, Manner::Http2(http2::Manner::MuteAfterOne)).await;
    let destination = app.add_hub("mute", &receiver.url(), json!({})).await;
    app.owe(destination, 1).await;
    app.wait_for_count(&delivered_to(destination), 1).await;
    let id = app.owe(destination, 1).await.remove(0);
    app.wait_for_count(&delivered_to(destination), 2).await;
    let outcomes = app.outcomes(id).await;
    assert_eq!(outcomes, ["retry", "delivered"]);
    assert_eq!(receiver.connections(), 2);
    assert_eq!(process.terminate().await, Some(0));
}

/// What is read of one answer is bounded, not what one connection carries: here two megabytes of headers.
#[tokio::test]
async fn one_connection_is_good_for_any_number_of_answers() {
    const LONG: usize = 10_000;
    let authority = Authority::new();
    let (app, process) = worker(&authority, &[ONCE, UNHURRIED]).await;
    let old = format!("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx-long: {}\r\n\r\n", "x".repeat(LONG));
    for (protocol, manner) in
        [("http/1.1", Manner::Keeps(old.into_bytes())), ("h2", Manner::Http2(http2::Manner::Tells(LONG)))]
    {
        let receiver = Receiver::start_tls(authority.acceptor("127.0.0.1", protocol), manner).await;
        let destination = app.add_hub(protocol, &receiver.url(), json!({ "concurrency": 1 })).await;
        app.owe(destination, 200).await;
        app.wait_for_count(&attempts_of(destination), 200).await;
        assert_eq!(app.count(&delivered_to(destination)).await, 200, "{protocol}");
        // Some more, if the machine kept one idle for too long.
        assert!(receiver.connections() < 8, "{protocol}: {}", receiver.connections());
    }
    assert_eq!(process.terminate().await, Some(0));
}

/// Before the receiver closes it: whether a request that crosses that arrived, nobody knows.
#[tokio::test]
async fn a_connection_that_nobody_uses_is_closed_after_seconds() {
    let authority = Authority::new();
    let (app, process) = worker(&authority, &[]).await;
    let receiver =
        Receiver::start_tls(authority.acceptor("127.0.0.1", "h2"), Manner::Http2(http2::Manner::Accepts))
            .await;
    let destination = app.add_hub("idle", &receiver.url(), json!({})).await;
    app.owe(destination, 1).await;
    app.wait_for_count(&delivered_to(destination), 1).await;
    let since = Instant::now();
    until("the end of the connection", async || (receiver.ended() == 1).then_some(())).await;
    // It is looked at as often as it may be idle.
    assert!(since.elapsed() < Duration::from_secs(20), "{:?}", since.elapsed());
    assert_eq!(process.terminate().await, Some(0));
}

/// As balancers do, when connections are old or they are set up anew. Nobody has to ask whether it arrived.
#[tokio::test]
async fn what_a_receiver_says_that_it_did_not_take_is_sent_again_also_to_who_wants_no_repeat() {
    let authority = Authority::new();
    let (app, process) = worker(&authority, &[]).await;
    for (manner, count, taken) in [(http2::Manner::SaysFarewell, 200, 200), (http2::Manner::RefusesOne, 1, 2)]
    {
        let receiver =
            Receiver::start_tls(authority.acceptor("127.0.0.1", "h2"), Manner::Http2(manner.clone())).await;
        let settings = json!({ "url": receiver.url(), "repeat_ambiguous": false });
        let name = format!("{manner:?}");
        let engine = app.add_destination(&name, "workflow_engine", settings, Some("a key"), json!({})).await;
        app.owe(engine, count).await;
        app.wait_for_count(&delivered_to(engine), count as i64).await;
        assert_eq!(receiver.requests(), taken, "{name}");
        let others = format!(
            "{} AND outcome <> 'delivered' AND error NOT LIKE 'the receiver did not take it: %'",
            attempts_of(engine)
        );
        assert_eq!(app.count(&others).await, 0, "{name}");
        assert!(app.count(&attempts_of(engine)).await >= taken as i64);
    }
    assert_eq!(process.terminate().await, Some(0));
}

/// It may hold anything, also what it was sent.
#[tokio::test]
async fn what_a_receiver_adds_when_it_ends_a_connection_is_not_on_the_record() {
    let authority = Authority::new();
    let (app, process) = worker(&authority, &[ONCE, UNHURRIED]).await;
    for (name, code, error) in [
        ("well", 0, "did not take it: it ended the connection with NO_ERROR"),
        ("ill", 11, "no answer: it ended the connection with ENHANCE_YOUR_CALM"),
    ] {
        let said = [&[0, 0, 0, 0, 0, 0, 0, code], HUB_KEY.as_bytes(), &[b'x'; 8_000]].concat();
        let farewell = frame(http2::GOAWAY, 0, 0, &said);
        let acceptor = authority.acceptor("127.0.0.1", "h2");
        let receiver =
            Receiver::start_tls(acceptor, Manner::Http2(http2::Manner::Pours(farewell.clone(), farewell)))
                .await;
        let attempt = app.attempts_at(name, &receiver.url(), 1).await.remove(0);
        let found = attempt["error"].as_str().unwrap();
        assert!(found.contains(error) && !found.contains(HUB_KEY) && found.len() < 200, "{found}");
    }
    assert_eq!(process.terminate().await, Some(0));
}

#[tokio::test]
async fn half_a_gigabyte_over_a_connection_of_many_requests_is_not_read() {
    let authority = Authority::new();
    let (app, process) = worker(&authority, &[ONCE, UNHURRIED]).await;
    app.owe_one().await;
    app.wait_for_count(&delivered_to(app.destination), 1).await;
    let before = process.peak_bytes();
    let acceptor = authority.acceptor("127.0.0.1", "h2");
    let receiver = Receiver::start_tls(acceptor, Manner::Http2(http2::Manner::Flood(HALF_A_GIGABYTE))).await;
    let destination = app.add_hub("flood", &receiver.url(), json!({})).await;
    // Over the connection of the first all others go at once.
    let mut ids = app.owe(destination, 1).await;
    app.wait_for_count(&delivered_to(destination), 1).await;
    ids.extend(app.owe(destination, 16).await);
    app.wait_for_count(&delivered_to(destination), 17).await;
    for id in ids {
        let attempt = app.attempts(id).await.remove(0);
        assert_eq!((&attempt["outcome"], &attempt["status_code"]), (&json!("delivered"), &json!(200)));
        assert_eq!(attempt["answer"].as_str().unwrap().len(), 16 * 1024);
        assert!(took(&attempt) < SignedDuration::from_secs(20), "{attempt}");
    }
    let grown = process.peak_bytes().saturating_sub(before);
    assert!(grown < FLAT, "{grown}");
    assert!(receiver.sent() < HALF_A_GIGABYTE / 16, "{}", receiver.sent());
    assert_eq!(process.terminate().await, Some(0));
}

#[tokio::test]
async fn a_byte_a_second_over_a_connection_of_many_requests_ends_at_the_deadline() {
    let authority = Authority::new();
    let (app, process) = worker(&authority, &[ONCE]).await;
    let acceptor = authority.acceptor("127.0.0.1", "h2");
    let receiver = Receiver::start_tls(acceptor, Manner::Http2(http2::Manner::Drips)).await;
    for attempt in app.attempts_at("drips", &receiver.url(), 4).await {
        assert_eq!((&attempt["outcome"], &attempt["status_code"]), (&json!("delivered"), &json!(200)));
        let took = took(&attempt);
        assert!(
            took >= SignedDuration::from_millis(1_900) && took < SignedDuration::from_secs(20),
            "{attempt}"
        );
    }
    assert_eq!(process.terminate().await, Some(0));
}

/// What HTTP/2 sets no end to, without end, to as many requests at once as one destination may have.
#[tokio::test]
async fn whatever_frames_a_receiver_pours_out_without_end_delay_nobody_else() {
    const OK: &[u8] = &[0x88];
    const EARLY_HINTS: &[u8] = b"\x08\x03103";
    const FIELD: &[u8] = b"\x00\x01x\x01y";
    // What HTTP/2's own client takes for an attack; and all else.
    const LOAD: &str = "excessive load";
    const MUCH: &str = "more than 262144 bytes came";
    let authority = Authority::new();
    let (app, process) = worker(&authority, &[ONCE]).await;
    app.owe_one().await;
    app.wait_for_count(&delivered_to(app.destination), 1).await;
    let before = process.peak_bytes();
    let mut to_healthy = 1;
    let head = frame(HEADERS, END_HEADERS, 1, OK);
    for (name, head, poured, end) in [
        ("pings", Vec::new(), frame(http2::PING, 0, 0, &[0; 8]), MUCH),
        ("settings", Vec::new(), frame(http2::SETTINGS, 0, 0, &[]), MUCH),
        ("headers", frame(HEADERS, 0, 1, OK), frame(CONTINUATION, 0, 1, FIELD), LOAD),
        ("nothing in headers", frame(HEADERS, 0, 1, OK), frame(CONTINUATION, 0, 1, &[]), LOAD),
        ("interim answers", Vec::new(), frame(HEADERS, END_HEADERS, 1, EARLY_HINTS), MUCH),
        ("answers", Vec::new(), frame(HEADERS, END_HEADERS, 1, OK), MUCH),
        ("nothing", head.clone(), frame(DATA, 0, 1, &[]), LOAD),
        ("single bytes", head.clone(), frame(DATA, 0, 1, b"x"), LOAD),
        ("windows", Vec::new(), frame(http2::WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]), MUCH),
        ("priorities", Vec::new(), frame(http2::PRIORITY, 0, 1, &[0; 5]), MUCH),
        ("resets", Vec::new(), frame(http2::RST_STREAM, 0, 1, &[0, 0, 0, 2]), MUCH),
        ("farewells", Vec::new(), frame(http2::GOAWAY, 0, 0, &[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]), MUCH),
        ("what nobody knows", Vec::new(), frame(0xbb, 0, 0, &[0; 64]), MUCH),
    ] {
        let acceptor = authority.acceptor("127.0.0.1", "h2");
        let receiver = Receiver::start_tls(acceptor, Manner::Http2(http2::Manner::Pours(head, poured))).await;
        let ill = app.add_hub(name, &receiver.url(), json!({})).await;
        let ids = app.owe(ill, 16).await;
        receiver.wait_for_requests(1).await;
        let owed = Instant::now();
        app.owe_one().await;
        to_healthy += 1;
        app.wait_for_count(&attempts_of(app.destination), to_healthy).await;
        assert!(owed.elapsed() < PROMPT, "{name}: {:?}", owed.elapsed());
        app.wait_for_count(&attempts_of(ill), 16).await;
        let mut errors = Vec::new();
        for id in ids {
            let attempt = app.attempts(id).await.remove(0);
            errors.extend(attempt["error"].as_str().map(str::to_owned));
            // At its deadline, if not before.
            assert!(
                took(&attempt) < SignedDuration::from_secs(2 + PROMPT.as_secs() as i64),
                "{name}: {attempt}"
            );
        }
        assert!(errors.iter().any(|error| error.contains(end)), "{name}: {errors:?}");
    }
    let grown = process.peak_bytes().saturating_sub(before);
    assert!(grown < FLAT, "{grown}");
    assert_eq!(process.terminate().await, Some(0));
}
