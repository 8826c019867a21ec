//! What comes in and is no reading: kept with its reason, and in nobody's way.

use serde_json::{Value, json};
use watchbell::runtime::{Role, Roles};

use super::support::app::{TestApp, temperature};

/// Bytes of an input that are kept.
const KEPT: usize = 1024;

async fn started() -> TestApp {
    let mut app = TestApp::new(&[]).await;
    app.start(Roles::of(&[Role::Ingest, Role::Detect])).await;
    app
}

/// Publishes it between two readings; returns what is on record about it once all three are done with.
async fn rejects(app: &TestApp, subject: &str, payload: Vec<u8>) -> Vec<Reject> {
    let before = app.count("SELECT coalesce(max(rejected_id), 0) FROM rejected_readings").await;
    let stored = app.count("SELECT count(*) FROM readings").await;
    app.publish(temperature(20.0, stored)).await;
    let accepted = app.broker.publish(subject.to_owned(), payload.into()).await.unwrap();
    accepted.await.unwrap();
    app.publish(temperature(20.0, stored + 1)).await;
    app.wait_until_judged().await;
    assert!(app.count("SELECT count(*) FROM readings").await >= stored + 2, "it blocks nobody");
    let query = "SELECT tenant_id, subject, reason, detail, payload FROM rejected_readings
                 WHERE rejected_id > $1 ORDER BY rejected_id";
    let rows = app.owner().query(query, &[&before]).await.unwrap();
    rows.iter()
        .map(|row| Reject {
            tenant: row.get(0),
            subject: row.get(1),
            reason: row.get(2),
            detail: row.get(3),
            payload: row.get(4),
        })
        .collect()
}

#[derive(Debug)]
struct Reject {
    tenant: Option<i32>,
    subject: String,
    reason: String,
    detail: String,
    payload: Vec<u8>,
}

#[tokio::test]
async fn a_malformed_message_is_rejected_with_its_reason_and_blocks_nothing() {
    let app = started().await;
    let with = |name: &str, value: Value| {
        let mut reading = temperature(20.0, 0);
        reading["firmware"] = json!("7.1");
        reading[name] = value;
        reading.to_string()
    };
    let huge = |number: &str| format!(r#"{{"device":"d","metric":"m","value":{number}}}"#);
    let cases = [
        (String::new(), "not_json"),
        ("hello".to_owned(), "not_json"),
        (r#"{"device":"d","metric":"m","value":1"#.to_owned(), "not_json"),
        (huge("NaN"), "not_json"),
        ("[".repeat(100_000), "not_json"),
        (huge("1e999"), "not_finite"),
        (huge("-1e999"), "not_finite"),
        ("7".to_owned(), "not_a_reading"),
        ("{}".to_owned(), "not_a_reading"),
        (with("value", json!("20")), "not_a_reading"),
        (with("value", Value::Null), "not_a_reading"),
        (with("device", json!(1)), "not_a_reading"),
        (with("device", json!("")), "bad_text"),
        (with("device", json!("   ")), "bad_text"),
        (with("metric", json!("a\u{0}b")), "bad_text"),
        (with("unit", json!("\u{0}")), "bad_text"),
        (with("device", json!("x".repeat(2_000))), "bad_text"),
        (with("ts", json!("yesterday")), "bad_time"),
        (with("ts", json!("1969-12-31T23:59:59Z")), "too_old"),
        (with("ts", json!(-1)), "too_old"),
        (with("ts", json!("9999-12-30T00:00:00Z")), "in_the_future"),
        (with("ts", json!(1e300)), "in_the_future"),
    ];
    for (payload, reason) in cases {
        let found = rejects(&app, &app.subject, payload.clone().into_bytes()).await;
        let [reject] = &found[..] else { panic!("{payload:.100}: {found:?}") };
        assert_eq!(reject.reason, reason, "{payload:.100}");
        assert_eq!((reject.tenant, &reject.subject), (Some(app.tenant.0), &app.subject));
        assert!(!reject.detail.is_empty());
        let sent = &payload.as_bytes()[..payload.len().min(KEPT)];
        assert_eq!(reject.payload, sent, "what was sent: {payload:.100}");
    }
    let binary = rejects(&app, &app.subject, vec![0xff, 0x00, 0xfe]).await;
    assert_eq!((&*binary[0].reason, &*binary[0].payload), ("not_json", &[0xff, 0x00, 0xfe][..]));
}

#[tokio::test]
async fn each_bad_element_of_an_array_rejects_itself_only() {
    let app = started().await;
    let good = |value: f64, ago: i64| temperature(value, 1_000 + ago).to_string();
    let bad = [
        r#"{"device":"d","metric":"m"}"#,
        r#"{"device":"d","metric":"m","value":1e999}"#,
        r#"{"device":"", "metric":"m","value":1,"why":"who knows"}"#,
        r#"{"device":"d","metric":"m","value":1,"ts":"never"}"#,
        "[7]",
    ];
    let array =
        [&good(1.0, 1)[..], bad[0], bad[1], &good(91.0, 2), bad[2], bad[3], bad[4], &good(3.0, 3)].join(", ");
    let found = rejects(&app, &app.subject, format!("[{array}]").into_bytes()).await;
    let reasons: Vec<_> = found.iter().map(|reject| &*reject.reason).collect();
    assert_eq!(reasons, ["not_a_reading", "not_finite", "bad_text", "bad_time", "not_a_reading"]);
    for (reject, sent) in found.iter().zip(bad) {
        assert_eq!(String::from_utf8_lossy(&reject.payload), sent);
    }
    assert_eq!(app.count("SELECT count(*) FROM readings WHERE value IN (1, 91, 3)").await, 3);
    assert_eq!(app.count("SELECT count(*) FROM alerts").await, 1, "its neighbours are judged");
    // All good but one that shows only when it is validated.
    let array = format!("[{}, {}]", good(4.0, 4), bad[2]);
    let found = rejects(&app, &app.subject, array.into_bytes()).await;
    assert_eq!((found.len(), String::from_utf8_lossy(&found[0].payload).as_ref()), (1, bad[2]));
}

#[tokio::test]
async fn a_message_for_nobody_is_rejected_and_its_sender_named() {
    let app = started().await;
    let prefix = app.subject.strip_suffix("acme").unwrap();
    for tenant in ["nobody", "a!b", "_", "nobody.acme"] {
        let subject = format!("{prefix}{tenant}");
        let found = rejects(&app, &subject, temperature(99.0, 1).to_string().into_bytes()).await;
        let [reject] = &found[..] else { panic!("{found:?}") };
        assert_eq!((reject.tenant, &reject.subject, &*reject.reason), (None, &subject, "unknown_tenant"));
    }
    assert_eq!(app.count("SELECT count(*) FROM alerts").await, 0);
}

#[tokio::test]
async fn of_a_huge_message_only_the_beginning_is_kept() {
    let app = started().await;
    let large = "x".repeat(900_000);
    let cases = [
        large.clone(),
        format!(r#"{{"device":"d","metric":"m","value":"{large}"}}"#),
        format!(r#"{{"device":"{large}","metric":"m","value":1}}"#),
        format!(r#"[{{"device":"d","metric":"m","value":1,"unit":["{large}"]}}]"#),
    ];
    for payload in cases {
        let found = rejects(&app, &app.subject, payload.clone().into_bytes()).await;
        assert_eq!(found.len(), 1, "{payload:.50}");
        let row = found[0].payload.len() + found[0].detail.len();
        assert!(row <= 2 * KEPT, "{row} bytes are kept of {payload:.50}");
    }
    // Thousands of bad elements are a few rows.
    let found = rejects(&app, &app.subject, format!("[{}0]", "0,".repeat(400_000)).into_bytes()).await;
    assert!((1..=100).contains(&found.len()), "{}", found.len());
    assert!(found.iter().all(|reject| reject.reason == "not_a_reading"));
}
