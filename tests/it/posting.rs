//! Readings over HTTP: accepted is stored, refused says why, and nobody hands in for another.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use reqwest::{RequestBuilder, Response};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use watchbell::api::key_store::{self, NewKey};
use watchbell::api::scope::{Scope, Scopes};
use watchbell::ingest::broker::drops_accepted;
use watchbell::model::tenant::TenantName;
use watchbell::runtime::{Role, Roles};

use super::support::app::{TestApp, reading, temperature};
use super::support::wait::until;

const STORED: &str = "SELECT count(*) FROM readings";

fn post(app: &TestApp, key: &str) -> RequestBuilder {
    let address = app.running.as_ref().unwrap().api_address.unwrap();
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
        (stream["ok"] == false && stream["detail"].as_str()?.contains("publishers are refused")).then_some(())
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
