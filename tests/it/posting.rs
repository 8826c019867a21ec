//! Readings over HTTP: accepted is stored, refused says why, and nobody hands in for another.

use std::io::Write;
use std::net::SocketAddr;

use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::StreamExt;
use futures_util::future::select_all;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use reqwest::{RequestBuilder, Response};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use url::Url;
use watchbell::api::key_store::{self, NewKey};
use watchbell::api::scope::{Scope, Scopes};
use watchbell::ingest::broker::drops_accepted;
use watchbell::model::tenant::TenantName;
use watchbell::runtime::{Role, Roles};
use watchbell::telemetry::metrics::ByReason;

use super::support::app::{TestApp, reading, temperature};
use super::support::proxy::Proxy;
use super::support::wait::until;

const STORED: &str = "SELECT count(*) FROM readings";

fn address(app: &TestApp) -> SocketAddr {
    app.running.as_ref().unwrap().api_address.unwrap()
}

fn post(app: &TestApp, key: &str) -> RequestBuilder {
    let address = address(app);
    reqwest::Client::new().post(format!("http://{address}/api/readings")).header("X-API-Key", key)
}

async fn send(app: &TestApp, body: impl ToString) -> (u16, Value) {
    answer(post(app, &app.api_key).header(CONTENT_TYPE, "application/json").body(body.to_string())).await
}

async fn answer(request: RequestBuilder) -> (u16, Value) {
    let response: Response = request.send().await.unwrap();
    let status = response.status().as_u16();
    (status, serde_json::from_str(&response.text().await.unwrap()).unwrap())
}

async fn key(app: &TestApp, tenant: &str, scope: Scope) -> String {
    let owner = app.owner();
    let tenant = key_store::ensure_tenant(owner, &TenantName::parse(tenant).unwrap(), "test").await.unwrap();
    let scopes = Scopes::new([scope]);
    let new = NewKey { tenant, name: "another", scopes: &scopes, expires_in_days: None, actor: "test" };
    key_store::create_key(owner, &new).await.unwrap().key.secret().expose_secret().to_owned()
}

#[tokio::test]
async fn what_is_accepted_over_http_is_kept_by_the_broker_and_becomes_an_alert() {
    let mut app = TestApp::new(&[]).await;
    app.make_stream().await;
    app.start(Roles::of(&[Role::Api])).await;
    let (status, answer) = send(&app, json!([temperature(91.0, 5), temperature(20.0, 4)])).await;
    assert_eq!((status, &answer), (202, &json!({ "accepted": 2, "refused": 0, "refusals": [] })));
    // Nobody ingests yet: whoever crashes now, it is there.
    assert_eq!(app.messages_in_stream().await, 1);
    app.stop().await;
    app.start(Roles::of(&[Role::Ingest, Role::Detect])).await;
    app.wait_until_judged().await;
    assert_eq!(app.count("SELECT count(*) FROM alerts").await, 1);
    app.assert_nothing_lost_or_doubled(2).await;
    app.stop().await;
}

#[tokio::test]
async fn one_bad_reading_is_refused_with_its_place_and_reason_and_the_others_are_stored() {
    let mut app = TestApp::new(&[]).await;
    app.start(Roles::of(&[Role::Ingest, Role::Api])).await;
    let bad = json!({ "device": "", "metric": "temperature", "value": 1 });
    let (status, answer) = send(&app, json!([temperature(20.0, 5), bad, temperature(21.0, 4)])).await;
    assert_eq!((status, &answer["accepted"], &answer["refused"]), (202, &json!(2), &json!(1)));
    assert_eq!(
        (&answer["refusals"][0]["index"], &answer["refusals"][0]["reason"]),
        (&json!(1), &json!("bad_text"))
    );
    app.wait_for_count(STORED, 2).await;

    let (status, answer) = send(&app, json!([{ "device": "a" }, 7])).await;
    assert_eq!((status, &answer["refused"]), (422, &json!(2)), "{answer}");
    assert_eq!(send(&app, "{oops").await.0, 400);
    assert_eq!(send(&app, "[]").await.0, 202);
    assert_eq!(
        app.count("SELECT count(*) FROM rejected_readings").await,
        0,
        "what was refused was not published"
    );
    let metrics = &app.running.as_ref().unwrap().metrics;
    let refused = |reason| metrics.posted_refused.get_or_create(&ByReason { reason }).get();
    assert_eq!(
        (metrics.readings_posted.get(), refused("bad_text"), refused("not_a_reading")),
        (2, 1, 2),
        "counted"
    );
    app.stop().await;
}

#[tokio::test]
async fn readings_without_a_time_are_one_each_however_many_come_at_once() {
    let mut app = TestApp::new(&[]).await;
    app.start(Roles::of(&[Role::Ingest, Role::Api])).await;
    let beat = json!({ "device": "pump-1", "metric": "beat", "value": 1.0 });
    let (status, _) = send(&app, Value::from(vec![beat; 1_500])).await;
    assert_eq!(status, 202);
    app.wait_for_count(STORED, 1_500).await;
    app.stop().await;
}

#[tokio::test]
async fn lines_and_packed_bodies_are_read_and_others_refused() {
    let mut app = TestApp::new(&[]).await;
    app.start(Roles::of(&[Role::Ingest, Role::Api])).await;
    let lines: String = (0..100).map(|n| format!("{}\n", reading("pump-1", "pressure", 1.0, n))).collect();
    let lines_of =
        |body: Vec<u8>| post(&app, &app.api_key).header(CONTENT_TYPE, "application/x-ndjson").body(body);
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(lines.as_bytes()).unwrap();
    let gzip = gzip.finish().unwrap();
    let zstd = compress_to_vec(lines.as_bytes(), CompressionLevel::Fastest);
    for (encoding, body) in [("gzip", gzip.clone()), ("zstd", zstd), ("identity", lines.clone().into_bytes())]
    {
        let (status, answer) = answer(lines_of(body).header(CONTENT_ENCODING, encoding)).await;
        assert_eq!((status, &answer["accepted"]), (202, &json!(100)), "{encoding}");
    }
    // Three times the same.
    app.wait_for_empty_stream().await;
    app.wait_for_count(STORED, 100).await;

    let cut = gzip[..gzip.len() / 2].to_vec();
    assert_eq!(answer(lines_of(cut).header(CONTENT_ENCODING, "gzip")).await.0, 400);
    assert_eq!(answer(lines_of(gzip).header(CONTENT_ENCODING, "br")).await.0, 415);
    let csv = post(&app, &app.api_key).header(CONTENT_TYPE, "text/csv").body("a,b");
    assert_eq!(answer(csv).await.0, 415);
    app.stop().await;
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused_packed_or_not() {
    let limits = [("api.readings_body_max_bytes", "2000"), ("api.readings_unpacked_max_bytes", "50000")];
    let mut app = TestApp::new(&limits).await;
    app.start(Roles::of(&[Role::Ingest, Role::Api])).await;
    let (status, answer_to_large) = send(&app, " ".repeat(2_001)).await;
    assert_eq!(status, 413);
    assert!(answer_to_large["detail"].as_str().unwrap().contains("2000 bytes"), "{answer_to_large}");
    let mut bomb = GzEncoder::new(Vec::new(), Compression::best());
    bomb.write_all(&vec![b' '; 500_000]).unwrap();
    let bomb = bomb.finish().unwrap();
    assert!(bomb.len() < 2_000);
    let (status, _) = answer(post(&app, &app.api_key).header(CONTENT_ENCODING, "gzip").body(bomb)).await;
    assert_eq!(status, 413);
    app.stop().await;
}

#[tokio::test]
async fn a_key_hands_in_for_its_own_tenant_and_only_with_the_scope() {
    let mut app = TestApp::new(&[]).await;
    app.start(Roles::of(&[Role::Ingest, Role::Api])).await;
    let body = temperature(20.0, 5).to_string();
    let (reader, other) = (key(&app, "acme", Scope::Read).await, key(&app, "other", Scope::Publish).await);
    assert_eq!(answer(post(&app, &reader).body(body.clone())).await.0, 403);
    assert_eq!(answer(post(&app, "wb_nobody").body(body.clone())).await.0, 401);
    assert_eq!(answer(post(&app, &other).body(body)).await.0, 202);
    app.wait_for_count(STORED, 1).await;
    let owner = "SELECT count(*) FROM series JOIN tenants USING (tenant_id) WHERE name = 'other'";
    assert_eq!(app.count(owner).await, 1);
    app.stop().await;
}

#[tokio::test]
async fn without_a_broker_nothing_is_accepted_and_the_rest_of_the_api_answers() {
    let mut app = TestApp::new(&[]).await;
    app.environment.insert("NATS_URL".to_owned(), "nats://127.0.0.1:1".to_owned());
    app.start(Roles::of(&[Role::Api])).await;
    let request = post(&app, &app.api_key).body(temperature(20.0, 5).to_string());
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 503);
    assert!(response.headers().contains_key(RETRY_AFTER));
    let problem: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
    assert_eq!(problem["stored"], 0, "{problem}");
    assert!(app.get("/api/alerts").await["alerts"].is_array() || app.get("/api/alerts").await.is_object());
    app.stop().await;
}

#[tokio::test]
async fn what_is_refused_while_the_broker_is_away_is_not_sent_behind_the_senders_back() {
    let mut app = TestApp::new(&[]).await;
    let mut url = Url::parse(&app.environment["NATS_URL"]).unwrap();
    let proxy = Proxy::start(url.socket_addrs(|| Some(4222)).unwrap()[0]).await;
    url.set_ip_host(proxy.address.ip()).unwrap();
    url.set_port(Some(proxy.address.port())).unwrap();
    app.environment.insert("NATS_URL".to_owned(), url.to_string());
    app.make_stream().await;
    app.start(Roles::of(&[Role::Api])).await;
    assert_eq!(send(&app, temperature(20.0, 5)).await.0, 202);
    let wait_for_broker = async |ok: bool| {
        until("readyz to say it of the broker", async || {
            (app.get("/readyz").await["checks"]["broker"]["ok"] == ok).then_some(())
        })
        .await;
    };
    proxy.cut();
    wait_for_broker(false).await;
    assert_eq!(app.get("/readyz").await["checks"]["stream"]["ok"], false);
    let (status, problem) = send(&app, temperature(21.0, 4)).await;
    assert_eq!((status, &problem["stored"]), (503, &json!(0)), "{problem}");
    proxy.mend();
    wait_for_broker(true).await;
    assert_eq!(send(&app, temperature(22.0, 3)).await.0, 202);
    assert_eq!(app.messages_in_stream().await, 2);
    app.stop().await;
}

#[tokio::test]
async fn after_a_message_that_the_broker_does_not_confirm_no_more_are_sent() {
    let mut app = TestApp::new(&[]).await;
    // Somebody listens, so the broker does not say that nobody does; and nobody stores, so nothing is confirmed.
    let mut listening = app.client().subscribe(app.subject.clone()).await.unwrap();
    app.client().flush().await.unwrap();
    app.start(Roles::of(&[Role::Api])).await;
    let readings: Vec<Value> =
        (0..50_000).map(|n| json!({ "device": "pump-1", "metric": "beat", "value": n })).collect();
    let (status, problem) = send(&app, Value::from(readings)).await;
    assert_eq!((status, &problem["stored"]), (503, &json!(0)), "{problem}");
    app.stop().await;
    // What the broker got before this, it has passed on before this.
    app.client().publish(app.subject.clone(), "end".into()).await.unwrap();
    let mut first_values = Vec::new();
    while let Some(message) = listening.next().await
        && message.payload != "end"
    {
        let readings: Value = serde_json::from_slice(&message.payload).unwrap();
        first_values.push(readings[0]["value"].as_u64().unwrap());
    }
    assert!(first_values.len() < 100, "all were sent");
    let in_order: Vec<u64> = (0..first_values.len() as u64).map(|n| n * 500).collect();
    assert_eq!(first_values, in_order);
}

#[tokio::test]
async fn where_no_stream_stores_them_readings_are_refused_with_a_clear_sentence() {
    let mut app = TestApp::new(&[("ingest.source", "core"), ("ingest.on_flush_failure", "drop")]).await;
    app.start(Roles::of(&[Role::Ingest, Role::Api])).await;
    let (status, problem) = send(&app, temperature(20.0, 5)).await;
    assert!(problem["detail"].as_str().unwrap().contains("ingest.source"), "{problem}");
    assert_eq!(status, 503);
    assert!(app.get("/readyz").await["checks"].get("stream").is_none());
    app.stop().await;

    let mut app = TestApp::new(&[]).await;
    app.environment.remove("NATS_URL");
    app.start(Roles::of(&[Role::Api])).await;
    let (status, problem) = send(&app, temperature(20.0, 5)).await;
    assert!(problem["detail"].as_str().unwrap().contains("nats.url"), "{problem}");
    assert_eq!(status, 503);
    assert!(app.get("/readyz").await["checks"].get("stream").is_none());
    app.stop().await;
}

#[tokio::test]
async fn only_four_requests_hold_memory_at_once_and_another_is_told_to_come_again() {
    let mut app = TestApp::new(&[]).await;
    app.make_stream().await;
    app.start(Roles::of(&[Role::Api])).await;
    let mut halves = Vec::new();
    for _ in 0..5 {
        let mut half = TcpStream::connect(address(&app)).await.unwrap();
        let head = format!(
            "POST /api/readings HTTP/1.1\r\nHost: x\r\nX-API-Key: {}\r\nContent-Length: 1000\r\n\r\n[",
            app.api_key
        );
        half.write_all(head.as_bytes()).await.unwrap();
        halves.push(half);
    }
    // Nobody else asks: four wait for the rest of their bodies, and the fifth is answered, whichever it is.
    let answers = halves.iter_mut().map(|half| {
        Box::pin(async move {
            let mut answer = vec![0; 4_096];
            let length = half.read(&mut answer).await.unwrap();
            String::from_utf8_lossy(&answer[..length]).to_lowercase()
        })
    });
    let (refused, ..) = select_all(answers).await;
    assert!(refused.contains(" 503 ") && refused.contains("\nretry-after: 1\r\n"), "{refused}");
    drop(halves);
    until("room for another", async || (send(&app, temperature(20.0, 5)).await.0 == 202).then_some(())).await;
    app.stop().await;
}

#[tokio::test]
async fn a_full_stream_refuses_what_is_posted_and_says_so_in_readyz_until_there_is_room() {
    let mut app = TestApp::new(&[("ingest.stream_max_bytes", "100000")]).await;
    if drops_accepted(&app.broker_version) {
        eprintln!("this nats-server ({}) does not keep the promise that is tested here", app.broker_version);
        return;
    }
    app.make_stream().await;
    app.start(Roles::of(&[Role::Api])).await;
    assert_eq!(app.get("/readyz").await["checks"]["stream"]["ok"], true);
    let mut accepted: i64 = 0;
    let refusal = loop {
        let (status, answer) = send(&app, reading("pump-1", "pressure", 1.0, accepted + 1)).await;
        if status != 202 {
            break (status, answer);
        }
        accepted += 1;
        assert!(accepted < 10_000, "nothing is refused");
    };
    assert_eq!((refusal.0, &refusal.1["stored"]), (503, &json!(0)), "{}", refusal.1);
    until("readyz to say that it is full", async || {
        let stream = app.get("/readyz").await["checks"]["stream"].clone();
        (stream["ok"] == false && stream["detail"].as_str()?.starts_with("full: it holds")).then_some(())
    })
    .await;
    app.stop().await;
    app.start(Roles::of(&[Role::Ingest, Role::Detect, Role::Api])).await;
    app.wait_until_judged().await;
    app.assert_nothing_lost_or_doubled(accepted).await;
    until("readyz to be ready again", async || {
        (app.get("/readyz").await["checks"]["stream"]["ok"] == true).then_some(())
    })
    .await;
    app.stop().await;
}
