//! `watchbell publish`: every reading of a file is stored once, or counted as refused, or an error says how far it came.

use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use uuid::Uuid;
use watchbell::dev::hub::Hub;
use watchbell::dev::hub::engine::EngineRules;
use watchbell::dev::nats::PrivateNats;
use watchbell::dev::process::Signal;
use watchbell::dev::state::StateDir;
use watchbell::runtime::{Role, Roles};

use crate::support::app::TestApp;
use crate::support::command::{Finished, LONGEST, watchbell_reading};
use crate::support::wait::until;

/// A file that ends with the test.
struct Recording(PathBuf);

impl Recording {
    fn new(extension: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("watchbell-{}.{extension}", Uuid::now_v7().simple()));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    /// As recordings of machines are: a line of names, then a reading every five minutes.
    fn of_values(values: impl IntoIterator<Item = f64>) -> Self {
        let start: Timestamp = "2013-12-02T21:15:00Z".parse().unwrap();
        let mut text = "timestamp,value\n".to_owned();
        for (place, value) in values.into_iter().enumerate() {
            let at = start + SignedDuration::from_mins(5 * place as i64);
            text.push_str(&format!("{},{value}\n", at.strftime("%Y-%m-%d %H:%M:%S")));
        }
        Self::new("csv", &text)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

const MACHINE: [&str; 4] = ["--device", "machine-1", "--metric", "temperature"];

async fn publish(app: &TestApp, arguments: &[&str], input: &str) -> Finished {
    let all = [&["publish", "--tenant", "acme"], arguments].concat();
    watchbell_reading(input, &all, &app.environment, LONGEST).await
}

async fn publish_machine(app: &TestApp, file: &str, more: &[&str]) -> Finished {
    publish(app, &[&[file], &MACHINE[..], more].concat(), "").await
}

/// Values of a machine that runs well.
fn well(readings: usize) -> impl Iterator<Item = f64> {
    (0..readings).map(|place| 70.0 + (place % 7) as f64)
}

fn reasons(said: &Finished) -> Value {
    said.json()["refused_by_reason"].clone()
}

const STORED: &str = "SELECT count(*) FROM readings";

#[tokio::test]
async fn a_recording_published_twice_with_the_same_end_is_stored_once() {
    let mut app = TestApp::new(&[]).await;
    app.start(Roles::of(&[Role::Ingest])).await;
    let recording = Recording::of_values(well(250));
    let before = Timestamp::now();
    let said = publish_machine(&app, recording.path(), &["--end", "now"]).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    let end = said.out.lines().find_map(|line| line.strip_prefix("end")).unwrap().trim().to_owned();
    let at: Timestamp = end.parse().unwrap();
    assert!(at >= before - SignedDuration::from_secs(1) && at <= Timestamp::now());
    assert_eq!(end.len(), "2026-09-21T14:13:20.123456Z".len(), "{end}");
    app.wait_for_count(STORED, 250).await;

    let again = publish_machine(&app, recording.path(), &["--end", &end, "--json"]).await;
    assert_eq!(again.code, Some(0), "{again:?}");
    let summary = again.json();
    assert_eq!((&summary["read"], &summary["accepted"]), (&json!(250), &json!(250)));
    assert_eq!((&summary["end"], &summary["last"]), (&json!(end), &json!(end)));
    app.publish(json!({ "device": "marker", "metric": "m", "value": 1 })).await;
    app.wait_for_count(
        "SELECT count(*) FROM readings r JOIN series s USING (series_id) WHERE s.metric = 'm'",
        1,
    )
    .await;
    app.wait_for_count(STORED, 251).await;
    let (first, last): (Timestamp, Timestamp) = {
        let row = app.owner().query_one("SELECT min(ts), max(ts) FROM readings r JOIN series s USING (series_id) WHERE s.metric = 'temperature'", &[]).await.unwrap();
        (row.get(0), row.get(1))
    };
    assert_eq!((last, first), (at, at - SignedDuration::from_mins(5 * 249)));
    app.stop().await;
}

#[tokio::test]
async fn a_file_goes_in_its_order_in_arrays_of_at_most_a_hundred() {
    let app = TestApp::new(&[]).await;
    app.make_stream().await;
    let recording = Recording::of_values((0..250).map(f64::from));
    let said = publish_machine(&app, recording.path(), &["--end", "now"]).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    let mut stream = app.broker.get_stream(app.config().ingest.stream).await.unwrap();
    assert_eq!(stream.info().await.unwrap().state.messages, 3);
    let mut values = Vec::new();
    for sequence in 1..=3 {
        let message = stream.get_raw_message(sequence).await.unwrap();
        let readings: Vec<Value> = serde_json::from_slice(&message.payload).unwrap();
        assert!(readings.len() <= 100);
        values.extend(readings.iter().map(|reading| reading["value"].as_f64().unwrap()));
    }
    assert_eq!(values, (0..250).map(f64::from).collect::<Vec<_>>());
}

#[tokio::test]
async fn refused_lines_are_counted_by_reason_and_the_rest_is_stored() {
    let mut app = TestApp::new(&[]).await;
    app.start(Roles::of(&[Role::Ingest])).await;
    let now = Timestamp::now().as_second();
    let text = format!(
        "time,value,device\n{now},1,a\n{now},NaN,a\n{now},x,a\nnever,1,a\n{},1,a\n{},1,a\n{now},2,b\n{now},3,b\n",
        now + 3_600,
        now - 100 * 86_400,
    );
    let recording = Recording::new("csv", &text);
    let said = publish(&app, &[recording.path(), "--metric", "m", "--json"], "").await;
    assert_eq!(said.code, Some(1), "{said:?}");
    let summary = said.json();
    assert_eq!((&summary["read"], &summary["accepted"]), (&json!(8), &json!(3)));
    assert_eq!(summary["repeated"], 1, "the service will store the first of b's two");
    let expected =
        json!({ "not_finite": 1, "not_a_reading": 1, "bad_time": 1, "in_the_future": 1, "too_old": 1 });
    assert_eq!(reasons(&said), expected);
    assert_eq!(summary["refused_lines"][0]["line"], 3);
    app.wait_for_count(STORED, 2).await;
    // What the publisher takes the service takes; only the conflict shows there alone.
    app.wait_for_count("SELECT count(*) FROM rejected_readings WHERE reason = 'conflicting_value'", 1).await;
    assert_eq!(app.count("SELECT count(*) FROM rejected_readings").await, 1);

    let shown = publish(&app, &[recording.path(), "--metric", "m"], "").await;
    assert!(shown.errors.contains("line 3: not_finite: "), "{shown:?}");
    assert!(shown.out.contains("refused            5"), "{shown:?}");
    app.stop().await;
}

#[tokio::test]
async fn json_lines_come_from_standard_input_too() {
    let mut app = TestApp::new(&[]).await;
    app.start(Roles::of(&[Role::Ingest])).await;
    let lines = r#"{"device":"a","metric":"m","value":1,"ts":"2014-01-01T00:00:00Z","unit":"bar"}
        [{"value":2,"ts":"2014-01-01 00:00:01"},{"value":3,"ts":1388534402}]"#;
    let arguments = ["-", "--format", "ndjson", "--device", "b", "--metric", "m", "--end", "now", "--json"];
    let said = publish(&app, &arguments, lines).await;
    assert_eq!((said.code, &said.json()["accepted"]), (Some(0), &json!(3)), "{said:?}");
    app.wait_for_count(STORED, 3).await;
    let rows = app
        .owner()
        .query(
            "SELECT d.external_id, s.unit, r.value FROM readings r JOIN series s USING (series_id)
             JOIN devices d USING (device_id) ORDER BY r.ts",
            &[],
        )
        .await
        .unwrap();
    let found: Vec<(String, Option<String>, f64)> =
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    let b = |value| ("b".to_owned(), None, value);
    assert_eq!(found, [("a".to_owned(), Some("bar".to_owned()), 1.0), b(2.0), b(3.0)]);
    app.stop().await;
}

#[tokio::test]
async fn what_is_wrong_is_said_in_a_line() {
    let app = TestApp::new(&[]).await;
    let good = Recording::of_values([1.0]);
    let other = Recording::new("csv", "when,reading\n1,2\n");
    let nameless = Recording::new("data", "x");
    let cases: [(&[&str], &str); 6] = [
        (&["/nonexistent/file.csv"], "/nonexistent/file.csv: failed to open the file: No such file"),
        (&[other.path(), "--device", "a", "--metric", "m"], "the columns are: when, reading"),
        (&[good.path(), "--metric", "m"], "--device"),
        (&[nameless.path()], "--format"),
        (&[good.path(), "--end", "yesterday"], "neither `now` nor a time"),
        (&[good.path(), "--device", "a", "--metric", "m", "--end", "now"], "start the service first"),
    ];
    for (arguments, expected) in cases {
        let said = publish(&app, arguments, "").await;
        assert!(matches!(said.code, Some(1 | 2)), "{arguments:?}: {said:?}");
        assert!(said.errors.contains(expected), "{arguments:?}: {said:?}");
    }
}

/// A broker of the test's own, that it may crash.
async fn private_broker(app: &mut TestApp) -> PrivateNats {
    let nats = PrivateNats::throw_away(&StateDir::open().unwrap()).await.unwrap();
    app.environment.insert("NATS_URL".to_owned(), nats.url().to_owned());
    app.broker = async_nats::jetstream::new(async_nats::connect(nats.url()).await.unwrap());
    app.make_stream().await;
    nats
}

/// Whether the kernel holds bytes that the server at this URL has not read.
fn has_unread_bytes(url: &str) -> bool {
    let port: u16 = url.rsplit_once(':').unwrap().1.parse().unwrap();
    let local = format!(":{port:04X}");
    let connections = std::fs::read_to_string("/proc/net/tcp").unwrap();
    connections.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).any(|fields| {
        // Columns of a socket: local address, .., state (01: established), bytes to send and to read.
        fields[1].ends_with(&local) && fields[3] == "01" && !fields[4].ends_with(":00000000")
    })
}

async fn stored_in_stream(app: &TestApp) -> Option<u64> {
    let mut stream = app.broker.get_stream(app.config().ingest.stream).await.ok()?;
    Some(stream.info().await.ok()?.state.messages)
}

#[tokio::test]
async fn a_broker_that_crashes_in_the_middle_and_comes_back_has_every_reading_once() {
    let mut app = TestApp::new(&[]).await;
    let mut nats = private_broker(&mut app).await;
    let recording = Recording::of_values(well(20_000));
    let arguments = ["--end", "now", "--rate", "2000", "--json"];
    let publishing = publish_machine(&app, recording.path(), &arguments);
    let crashing = async {
        until("some are stored", async || stored_in_stream(&app).await.filter(|stored| *stored >= 5)).await;
        // What it has received and not read is lost with it.
        Signal::Stop.send(nats.pid().unwrap()).unwrap();
        until("more is sent", async || has_unread_bytes(nats.url()).then_some(())).await;
        nats.kill_hard().await.unwrap();
        nats.restart().await.unwrap();
    };
    let (said, ()) = tokio::join!(publishing, crashing);
    assert_eq!((said.code, &said.json()["accepted"]), (Some(0), &json!(20_000)), "{said:?}");
    app.start(Roles::of(&[Role::Ingest])).await;
    app.wait_for_count(STORED, 20_000).await;
    app.stop().await;
}

#[tokio::test]
async fn a_broker_that_stays_away_ends_it_with_what_was_stored() {
    let mut app = TestApp::new(&[]).await;
    let mut nats = private_broker(&mut app).await;
    let recording = Recording::of_values(well(20_000));
    let arguments = ["--end", "now", "--rate", "1000", "--retry-for", "0", "--json"];
    let publishing = publish_machine(&app, recording.path(), &arguments);
    let crashing = async {
        until("some are stored", async || stored_in_stream(&app).await.filter(|stored| *stored >= 5)).await;
        nats.take_down().await.unwrap();
    };
    let (said, ()) = tokio::join!(publishing, crashing);
    let summary = said.json();
    let accepted = summary["accepted"].as_u64().unwrap();
    assert_eq!(said.code, Some(1), "{said:?}");
    let end = summary["end"].as_str().unwrap();
    let expected = format!("{accepted} readings of {} are stored, up to line", recording.path());
    assert!(summary["error"].as_str().unwrap().contains(&expected), "{said:?}");
    assert!(said.errors.contains(&format!("--end {end}")), "{said:?}");
    nats.restart().await.unwrap();
    let messages = until("the stream is back", async || stored_in_stream(&app).await).await;
    assert!(accepted >= 500 && accepted <= messages * 100, "{accepted} in {messages} messages");
    // What was stored is not stored twice by going on as the error says.
    let rest = publish_machine(&app, recording.path(), &["--end", end]).await;
    assert_eq!(rest.code, Some(0), "{rest:?}");
    app.start(Roles::of(&[Role::Ingest])).await;
    app.wait_for_count(STORED, 20_000).await;
    app.stop().await;
}

#[tokio::test]
async fn old_breaches_of_a_recording_page_nobody_and_one_that_burns_at_its_end_pages_all_three_destinations()
{
    let mut app = TestApp::new(&[]).await;
    let condition = json!({ "kind": "deviation_from_mean", "window_minutes": 1440, "k": 4 });
    let engine = Hub::start_engine(EngineRules::new("page", None, None), None).await.unwrap();
    let webhook = json!({ "url": format!("http://{}/webhooks/page", engine.address()) });
    let workflow = app.add_destination("engine", "workflow_engine", webhook, None, json!({})).await;
    let events = app.add_destination("events", "nats", json!({}), None, json!({})).await;
    app.add_rule("odd", "temperature", condition, 900, &[app.destination, workflow, events]).await;
    // Three days; in the first an excursion, at the end another one that lasts. Neither reaches the other rule's 80.
    let values: Vec<f64> = well(864)
        .enumerate()
        .map(|(place, value)| match place {
            200 => 20.0,
            863.. => 15.0,
            _ => value,
        })
        .collect();
    let recording = Recording::of_values(values);
    app.start(Roles::of(&[Role::Ingest, Role::Detect, Role::Deliver])).await;
    let said = publish_machine(&app, recording.path(), &["--end", "now", "--json"]).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    app.wait_for_count("SELECT count(*) FROM deliveries WHERE status = 'delivered'", 3).await;
    app.wait_for_count(STORED, 864).await;
    app.wait_for_count("SELECT count(*) FROM flushes", 0).await;
    let rows =
        app.owner().query("SELECT value, historical FROM alerts ORDER BY breached_at", &[]).await.unwrap();
    let found: Vec<(f64, bool)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(found, [(20.0, true), (15.0, false)]);
    assert_eq!(app.count("SELECT count(*) FROM notifications").await, 3);
    assert_eq!((app.hub.total(), engine.total()), (1, 1));

    let end = said.json()["end"].as_str().unwrap().to_owned();
    let again = publish_machine(&app, recording.path(), &["--end", &end]).await;
    assert_eq!(again.code, Some(0), "{again:?}");
    app.publish(json!({ "device": "marker", "metric": "m", "value": 1 })).await;
    app.wait_for_count(
        "SELECT count(*) FROM readings_1m r JOIN series s USING (series_id) WHERE s.metric = 'm'",
        1,
    )
    .await;
    assert_eq!(app.count("SELECT count(*) FROM alerts").await, 2);
    app.stop().await;
}
