//! Trying a rule with given points: every kind is explained, nothing is written, and it says what detection does.

use reqwest::Method;
use serde_json::{Value, json};
use watchbell::runtime::{Role, Roles};

use crate::support::app::TestApp;
use crate::support::database::TestDatabase;
use crate::support::house::House;
use crate::support::server::{Answer, TestServer, assert_problem, send};

async fn test(server: &TestServer, key: &str, path: &str, body: &Value) -> Answer {
    send(server.request(Method::POST, path).bearer_auth(key).json(body)).await
}

/// Points a minute apart with these values.
fn minutes(values: &[f64]) -> Vec<Value> {
    let point = |(minute, value): (usize, &f64)| json!({ "ts": 1_795_219_200 + 60 * minute, "value": value });
    values.iter().enumerate().map(point).collect()
}

fn words<'a>(tested: &'a Value, member: &str) -> Vec<&'a str> {
    tested["points"].as_array().unwrap().iter().map(|point| point[member].as_str().unwrap_or("")).collect()
}

#[tokio::test]
async fn each_kind_of_condition_is_explained_before_it_is_saved() {
    let database = TestDatabase::new().await;
    let house = House::build(&database.owner, "a").await;
    let server = TestServer::start(&database.config).await;
    for (condition, values, judgements, class, evidence) in [
        (
            json!({ "kind": "above_threshold", "threshold": 80, "clear": 75 }),
            &[70.0, 78.0, 81.0][..],
            ["clear", "between", "breach"].as_slice(),
            "spike above",
            json!({ "condition": "above_threshold", "threshold": 80.0 }),
        ),
        (
            json!({ "kind": "below_threshold", "threshold": 5 }),
            &[6.0, 4.0],
            &["clear", "breach"],
            "drop below",
            json!({ "condition": "below_threshold", "threshold": 5.0 }),
        ),
        (
            json!({ "kind": "outside_range", "lowest": 1, "highest": 5 }),
            &[3.0, 6.0],
            &["clear", "breach"],
            "spike above",
            json!({ "condition": "outside_range", "lowest": 1.0, "highest": 5.0, "above": true }),
        ),
        (
            json!({ "kind": "deviation_from_mean", "window_minutes": 5, "min_buckets": 2, "min_sigma": 1 }),
            &[10.0, 10.0, 10.0, 20.0],
            &["unknown", "unknown", "clear", "breach"],
            "deviation",
            json!({ "condition": "deviation_from_mean", "mean": 10.0, "sigma": 1.0, "z": 10.0, "k": 5.0, "n": 3,
                    "window_minutes": 5 }),
        ),
        (
            json!({ "kind": "rate_of_change", "limit": 5 }),
            &[10.0, 11.0, 18.0],
            &["unknown", "clear", "breach"],
            "too fast",
            json!({ "condition": "rate_of_change", "rate": 7.0, "limit": 5.0, "per_seconds": 60,
                    "previous_value": 11.0, "previous_seconds": 60.0 }),
        ),
        (
            json!({ "kind": "stuck", "window_minutes": 2 }),
            &[7.0, 7.0, 7.0],
            &["unknown", "unknown", "breach"],
            "stuck",
            json!({ "condition": "stuck", "lowest": 7.0, "highest": 7.0, "tolerance": 0.0, "n": 3,
                    "window_minutes": 2 }),
        ),
    ] {
        // What is only tried out needs no name.
        let rule = json!({ "metric": "temperature", "condition": condition });
        let body = json!({ "rule": rule, "points": minutes(values) });
        let tested = test(&server, &house.key, "/api/rules/test", &body).await.json();
        assert_eq!(words(&tested, "judgement"), judgements, "{condition}");
        assert_eq!(tested["points"].as_array().unwrap().last().unwrap()["evidence"], evidence, "{condition}");
        assert_eq!((&tested["summary"]["alerts"], &tested["alerts"][0]["class"]), (&json!(1), &json!(class)));
        for (why, judgement) in words(&tested, "why").into_iter().zip(judgements) {
            assert_eq!(why.is_empty(), ["clear", "breach"].contains(judgement), "{tested}");
        }
    }
    let rule = json!({ "metric": "t", "condition": { "kind": "no_data", "interval_seconds": 90 } });
    let body = json!({ "rule": rule, "points": minutes(&[1.0, 1.0]), "until": "2026-11-21T00:30:00Z" });
    let tested = test(&server, &house.key, "/api/rules/test", &body).await.json();
    assert_eq!(words(&tested, "judgement"), ["clear", "clear"]);
    assert_eq!(tested["afterwards"][0]["what"], "opened");
    assert_eq!(tested["afterwards"][0]["at"], "2026-11-21T00:02:30Z");
    assert_eq!(tested["summary"]["text"], "1 alert of 2 points opens; 1 open in the end");
}

#[tokio::test]
async fn a_stored_rule_is_tried_as_it_is_and_nothing_is_written() {
    let database = TestDatabase::new().await;
    let house = House::build(&database.owner, "a").await;
    let server = TestServer::start(&database.config).await;
    let path = format!("/api/rules/{}/test", house.rule);
    let body = json!({ "points": minutes(&[70.0, 81.0, 70.0]) });
    let tested = test(&server, &house.key, &path, &body).await.json();
    assert_eq!((&tested["name"], &tested["version"]), (&json!("a-hot"), &json!(1)));
    assert_eq!(tested["points"][1]["leads_to"][0]["disposition"], "notified");
    assert!(tested["alerts"][0]["summary"].as_str().unwrap().contains("is 81, above 80"), "{tested}");
    for table in ["alerts", "alert_events", "notifications", "outbox", "rule_state", "readings_1m"] {
        let query = format!("SELECT count(*) FROM {table}");
        let rows: i64 = database.owner.query_one(&query, &[]).await.unwrap().get(0);
        assert_eq!(rows, 0, "{table}");
    }
    // What nobody can judge is said to be so.
    let breaking = "UPDATE rules SET condition = '{\"kind\": \"phase_of_the_moon\"}'";
    database.owner.execute(breaking, &[]).await.unwrap();
    let problem = assert_problem(&test(&server, &house.key, &path, &body).await, 409);
    assert!(problem["detail"].as_str().unwrap().contains("`condition`"), "{problem}");
}

#[tokio::test]
async fn points_that_cannot_be_used_are_named_by_their_place() {
    let database = TestDatabase::new().await;
    let house = House::build(&database.owner, "a").await;
    let server = TestServer::start(&database.config).await;
    let (stored, draft) = (format!("/api/rules/{}/test", house.rule), "/api/rules/test");
    let mut unsorted = minutes(&[1.0, 2.0]);
    unsorted.reverse();
    let point = json!({ "ts": 1_795_219_200, "value": 1 });
    let rule = json!({ "metric": "t", "condition": { "kind": "above_threshold", "threshold": 80 } });
    for (path, body, member, said) in [
        (stored.as_str(), json!({}), "points", "missing"),
        (&stored, json!({ "points": [] }), "points", "1 to 10000"),
        (&stored, json!({ "points": vec![point.clone(); 10_001] }), "points", "10001"),
        (&stored, json!({ "points": unsorted }), "points[1].ts", "sort the points"),
        (&stored, json!({ "points": [{ "ts": "noon", "value": 1 }] }), "points[0].ts", "RFC 3339"),
        (&stored, json!({ "points": [{ "ts": 1, "value": "1" }] }), "points[0].value", "number"),
        (&stored, json!({ "points": [point], "until": 1 }), "until", "no earlier"),
        (&stored, json!({ "points": [point], "rule": rule }), "rule", "there are points, until"),
        (draft, json!({ "points": [point] }), "rule", "missing"),
        (draft, json!({ "points": [point], "rule": { "metric": "t" } }), "rule.condition", "missing"),
        (draft, json!({ "points": [point], "rule": "hot" }), "rule", "JSON object"),
    ] {
        let problem = assert_problem(&test(&server, &house.key, path, &body).await, 400);
        assert_eq!(problem["member"], member, "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains(said), "{problem}");
    }
    let many: Vec<f64> = (0..10_000).map(|n| f64::from(n % 100)).collect();
    let body = json!({ "points": minutes(&many) });
    let tested = test(&server, &house.key, &stored, &body).await.json();
    assert_eq!(tested["summary"]["points"], 10_000);
    assert_eq!(tested["summary"]["breach"], 1_900);
}

#[tokio::test]
async fn what_the_trial_says_is_what_detection_does() {
    let mut app = TestApp::new(&[]).await;
    let rule = json!({ "name": "high", "metric": "pressure", "severity": "warning", "cooldown_seconds": 300,
                       "resolve_after_seconds": 60, "destination_ids": [app.destination.0],
                       "condition": { "kind": "above_threshold", "threshold": 10, "clear": 8, "for_seconds": 30 } });
    app.start(Roles::of(&[Role::Ingest, Role::Detect, Role::Api])).await;
    let url = format!("http://{}", app.running.as_ref().unwrap().api_address.unwrap());
    let post = async |path: &str, body: &Value| -> Value {
        let request = reqwest::Client::new().post(format!("{url}{path}")).bearer_auth(&app.api_key);
        request.json(body).send().await.unwrap().json().await.unwrap()
    };
    let made = post("/api/rules", &rule).await;
    let begin = jiff::Timestamp::now().as_second() - 3600;
    // It fires, is over, opens again within its cooldown, is over, and fires behind the cooldown; steps of 20 s.
    let values = [
        1.0, 11.0, 12.0, 12.0, 7.0, 7.0, 7.0, 7.0, 11.0, 11.0, 11.0, 7.0, 7.0, 7.0, 7.0, 7.0, 7.0, 11.0,
        11.0, 11.0, 9.0, 7.0,
    ];
    let ts = |place: usize| begin + 20 * i64::try_from(place).unwrap();
    let points = |(place, value): (usize, &f64)| json!({ "ts": ts(place), "value": value });
    let points: Vec<Value> = values.iter().enumerate().map(points).collect();
    let test = format!("/api/rules/{}/test", made["rule_id"].as_str().unwrap());
    let tested = post(&test, &json!({ "points": points })).await;
    assert_eq!((&tested["summary"]["alerts"], &tested["summary"]["episodes"]), (&json!(2), &json!(3)));

    for point in &points {
        let (ts, value) = (&point["ts"], &point["value"]);
        app.publish(json!({ "device": "pump-1", "metric": "pressure", "ts": ts, "value": value })).await;
    }
    app.wait_until_judged().await;
    let query = "SELECT breached_at::timestamptz, fired_at, episodes, evidence, ended_at FROM alerts ORDER BY fired_at";
    let stored = app.owner().query(query, &[]).await.unwrap();
    let stored: Vec<Value> = stored
        .iter()
        .map(|row| {
            let at = |column: usize| row.get::<_, Option<jiff::Timestamp>>(column).map(|at| at.to_string());
            json!([at(0), at(1), row.get::<_, i32>(2), row.get::<_, Value>(3), at(4)])
        })
        .collect();
    let would_be = tested["alerts"].as_array().unwrap().iter().map(|alert| {
        let members = ["breached_at", "fired_at", "episodes", "evidence", "ended_at"];
        Value::from(members.map(|member| alert[member].clone()).to_vec())
    });
    assert_eq!(stored, would_be.collect::<Vec<Value>>());
    app.stop().await;
}
