//! Receivers that are ill in ways that the contract does not know: each costs one attempt, no longer than its deadline, and next
//! to no memory.

use std::time::{Duration, Instant};

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::support::app::TestApp;
use super::support::owed::took;
use super::support::process::Process;
use super::support::receiver::{Manner, Receiver};

const HALF_A_GIGABYTE: usize = 512 << 20;
/// More than this is not needed, however much a receiver sends.
const FLAT: u64 = 64 << 20;
/// A second for the poll, and what a busy machine adds.
const PROMPT: Duration = Duration::from_secs(10);
/// Where no deadline is to be met, a starved machine meets none either.
const UNHURRIED: (&str, &str) = ("deliver.request_timeout_seconds", "15");

/// A worker of its own, which has delivered something: what it needs for that it has. Its requests end after two seconds.
async fn worker(settings: &[(&str, &str)]) -> (TestApp, Process) {
    let own = [
        ("deliver.retry.first_delay_ms", "600000"),
        ("deliver.request_timeout_seconds", "2"),
        ("deliver.breaker_failures", "0"),
    ];
    let app = TestApp::new(&[&own, settings].concat()).await;
    let process = app.spawn("deliver");
    app.owe_one().await;
    app.wait_for_count("SELECT count(*) FROM deliveries WHERE status = 'delivered'", 1).await;
    (app, process)
}

/// At its deadline, give or take what a busy machine adds.
fn assert_ended_at_its_deadline(attempt: &Value) {
    let took = took(attempt);
    assert!(took >= SignedDuration::from_millis(1_900) && took < SignedDuration::from_secs(20), "{attempt}");
}

#[tokio::test]
async fn half_a_gigabyte_of_headers_body_or_chunks_never_is_in_memory_not_even_for_a_moment() {
    let (app, process) = worker(&[UNHURRIED]).await;
    let before = process.peak_bytes();
    let body = format!("HTTP/1.1 200 OK\r\ncontent-length: {HALF_A_GIGABYTE}\r\n\r\n").into_bytes();
    let refused = format!("HTTP/1.1 500 Oh\r\ncontent-length: {HALF_A_GIGABYTE}\r\n\r\n").into_bytes();
    let chunks = b"HTTP/1.1 503 Oh\r\ntransfer-encoding: chunked\r\n\r\n20000000\r\n".to_vec();
    let until_closed = b"HTTP/1.1 404 No\r\nconnection: close\r\n\r\n".to_vec();
    for (name, head, outcome, status) in [
        ("body", body, "delivered", json!(200)),
        ("refused", refused, "retry", json!(500)),
        ("chunks", chunks, "retry", json!(503)),
        ("until closed", until_closed, "hold", json!(404)),
        ("headers", b"HTTP/1.1 200 OK\r\nx-endless: ".to_vec(), "retry", Value::Null),
        ("status line", b"HTTP/1.1 200 ".to_vec(), "retry", Value::Null),
        (
            "chunk's extension",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;".to_vec(),
            "delivered",
            json!(200),
        ),
        (
            "trailer",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nx-endless: ".to_vec(),
            "delivered",
            json!(200),
        ),
    ] {
        let receiver = Receiver::start(Manner::Flood(head, HALF_A_GIGABYTE)).await;
        for attempt in app.attempts_at(name, &receiver.url(), 8).await {
            assert_eq!((&attempt["outcome"], &attempt["status_code"]), (&json!(outcome), &status), "{name}");
            let kept = attempt["answer"].as_str().map_or(0, str::len);
            assert!(kept <= 16 * 1024, "{name}: {kept}");
            assert!(
                kept == 16 * 1024 || !["body", "refused", "chunks", "until closed"].contains(&name),
                "{kept}"
            );
            assert!(took(&attempt) < SignedDuration::from_secs(20), "{name}");
        }
        let grown = process.peak_bytes().saturating_sub(before);
        assert!(grown < FLAT, "{name}: {grown}");
        // What the kernel's buffers took, and not what there was.
        assert!(receiver.sent() < HALF_A_GIGABYTE / 2, "{name}: {}", receiver.sent());
    }
    assert_eq!(process.terminate().await, Some(0));
}

#[tokio::test]
async fn interim_answers_for_ever_end_at_the_deadline_and_cost_no_memory() {
    let (app, process) = worker(&[]).await;
    let before = process.peak_bytes();
    let interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n".to_vec();
    let receiver = Receiver::start(Manner::Repeats(interim)).await;
    for attempt in app.attempts_at("interim", &receiver.url(), 4).await {
        assert_eq!((&attempt["outcome"], &attempt["status_code"]), (&json!("retry"), &Value::Null));
        assert!(attempt["error"].as_str().unwrap().contains("no answer within"), "{attempt}");
        assert_ended_at_its_deadline(&attempt);
    }
    let grown = process.peak_bytes().saturating_sub(before);
    assert!(grown < FLAT, "{grown}");
    assert_eq!(process.terminate().await, Some(0));
}

/// What HTTP sets no end to, without end: to as many requests at once as one destination may have, and to more when they ended.
#[tokio::test]
async fn whatever_a_receiver_pours_out_without_end_delays_nobody_else() {
    const OWED: usize = 32;
    let (app, process) = worker(&[UNHURRIED]).await;
    let before = process.peak_bytes();
    let of = |id| format!("SELECT count(*) FROM delivery_attempts WHERE destination_id = '{id}'");
    let chunked = |more: &str| format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{more}");
    let mut to_healthy = 1;
    for (name, head, poured, outcome, status) in [
        ("interim answers", String::new(), "HTTP/1.1 100 Continue\r\n\r\n", "retry", Value::Null),
        ("headers", "HTTP/1.1 200 OK\r\n".to_owned(), "x: y\r\n", "retry", Value::Null),
        ("tiny chunks", chunked(""), "1\r\nx\r\n", "delivered", json!(200)),
        ("zeros before a chunk's size", chunked(""), "0", "delivered", json!(200)),
        ("blanks after a chunk's size", chunked("1"), " ", "delivered", json!(200)),
        ("extensions of chunks", chunked(""), "1;x=y\r\nx\r\n", "delivered", json!(200)),
        ("trailers", chunked("0\r\n"), "x: y\r\n", "delivered", json!(200)),
    ] {
        let receiver = Receiver::start(Manner::Pours(head.into(), poured.into())).await;
        let ill = app.add_hub(name, &receiver.url(), json!({})).await;
        let ids = app.owe(ill, OWED).await;
        receiver.wait_for_requests(1).await;
        for _ in 0..2 {
            let owed = Instant::now();
            app.owe_one().await;
            to_healthy += 1;
            app.wait_for_count(&of(app.destination), to_healthy).await;
            assert!(owed.elapsed() < PROMPT, "{name}: {:?}", owed.elapsed());
        }
        app.wait_for_count(&of(ill), OWED as i64).await;
        let mut errors = Vec::new();
        for id in ids {
            let attempt = app.attempts(id).await.remove(0);
            assert_eq!(
                (&attempt["outcome"], &attempt["status_code"]),
                (&json!(outcome), &status),
                "{attempt}"
            );
            assert!(took(&attempt) < SignedDuration::from_secs(20), "{name}: {attempt}");
            errors.extend(attempt["error"].as_str().map(str::to_owned));
        }
        if name == "interim answers" {
            assert!(errors.iter().any(|error| error.contains("more than 262144 bytes came")), "{errors:?}");
        }
    }
    let grown = process.peak_bytes().saturating_sub(before);
    assert!(grown < FLAT, "{grown}");
    assert_eq!(process.terminate().await, Some(0));
}

#[tokio::test]
async fn a_byte_a_second_for_ever_ends_at_the_deadline_wherever_it_begins() {
    let (app, process) = worker(&[]).await;
    let chunked = b"HTTP/1.1 503 Slow\r\ntransfer-encoding: chunked\r\n\r\n1000\r\n".to_vec();
    let stalled = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n".to_vec();
    for (name, head, outcome, status) in [
        ("from the first byte", Vec::new(), "retry", Value::Null),
        ("in the headers", b"HTTP/1.1 200 OK\r\nx-endless: ".to_vec(), "retry", Value::Null),
        ("in a chunk", chunked, "retry", json!(503)),
        ("in the body", stalled, "delivered", json!(200)),
    ] {
        let receiver = Receiver::start(Manner::Drips(head)).await;
        let attempt = app.attempts_at(name, &receiver.url(), 1).await.remove(0);
        assert_eq!((&attempt["outcome"], &attempt["status_code"]), (&json!(outcome), &status), "{name}");
        // It sends no HTTP from the first byte: that may be seen at once.
        if name != "from the first byte" {
            assert_ended_at_its_deadline(&attempt);
        }
    }
    assert_eq!(process.terminate().await, Some(0));
}

/// Of a request that is bigger than what the kernels keep for both, nobody takes the rest.
#[tokio::test]
async fn a_receiver_that_does_not_read_ends_at_the_deadline() {
    let (app, process) = worker(&[]).await;
    let receiver = Receiver::start(Manner::Deaf).await;
    let destination = app.add_hub("deaf", &receiver.url(), json!({})).await;
    let id = app.owe_padded(destination, 32 << 20).await;
    let recorded = format!("SELECT count(*) FROM delivery_attempts WHERE notification_id = '{id}'");
    app.wait_for_count(&recorded, 1).await;
    let attempt = app.attempts(id).await.remove(0);
    assert_eq!((&attempt["outcome"], &attempt["status_code"]), (&json!("retry"), &Value::Null));
    assert!(attempt["error"].as_str().unwrap().contains("no answer within"), "{attempt}");
    assert_ended_at_its_deadline(&attempt);
    assert_eq!(process.terminate().await, Some(0));
}

/// No byte of the request has left then, and that is known.
#[tokio::test]
async fn a_handshake_that_never_ends_is_no_connection() {
    let (app, process) = worker(&[("deliver.request_timeout_seconds", "8")]).await;
    let receiver = Receiver::start(Manner::Silent).await;
    let url = receiver.url().replace("http://", "https://");
    let attempt = app.attempts_at("mute", &url, 1).await.remove(0);
    assert_eq!((&attempt["outcome"], &attempt["status_code"]), (&json!("retry"), &Value::Null));
    assert!(attempt["error"].as_str().unwrap().contains("failed to connect"), "{attempt}");
    assert!(took(&attempt) < SignedDuration::from_secs(20), "{attempt}");
    assert_eq!(process.terminate().await, Some(0));
}
