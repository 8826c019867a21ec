//! HTTP for programs: what they see, and what errors look like.

use reqwest::Method;
use serde_json::Value;

use crate::support::database::TestDatabase;
use crate::support::house::House;
use crate::support::server::{TestServer, assert_problem, send, state};

#[tokio::test]
async fn every_error_is_problem_json() {
    let database = TestDatabase::new().await;
    let house = House::build(&database.owner, "a").await;
    let server = TestServer::start(&database.config).await;
    for (path, status, named) in [
        ("/nowhere", 404, ""),
        ("/api", 404, ""),
        ("/api/alerts/", 404, ""),
        ("/api/alerts/1", 400, "`id`"),
        ("/api/alerts/%FF", 400, "`id`"),
        ("/api/deliveries/x", 400, "`id`"),
        ("/api/alerts?state=opn", 400, "open, acknowledged, resolved"),
        ("/api/alerts?severity=bad", 400, "critical, error, warning, info"),
        ("/api/alerts?limit=0", 400, "`limit` must be a whole number from 1 to 1000"),
        ("/api/alerts?before=yesterday", 400, "`before` must be a UUID"),
        ("/api/alerts?stat=open", 400, "`stat`"),
        ("/api/alerts?state=open&state=resolved", 400, "`state` comes twice"),
        ("/api/alerts?device=a%00b", 400, "`device`"),
        ("/api/alerts?device=", 400, "`device`"),
        ("/api/deliveries?status=lost", 400, "pending, in_flight, retrying"),
        ("/api/deliveries?alert=1", 400, "`alert` must be a UUID"),
    ] {
        let problem = assert_problem(&server.get(path, &house.key).await, status);
        assert!(problem["detail"].as_str().unwrap().contains(named), "{path}: {problem}");
    }
    for path in ["/api/alerts", "/healthz", "/console.css"] {
        let answer = send(server.request(Method::DELETE, path).bearer_auth(&house.key)).await;
        assert_problem(&answer, 405);
        assert!(answer.header("allow").contains("GET"), "{answer:?}");
    }
}

#[tokio::test]
async fn a_handler_that_panics_answers_500_and_tells_nothing() {
    async fn panics() {
        panic!("the password is secret")
    }
    let router = axum::Router::new().route("/", axum::routing::get(panics));
    let server = TestServer::serve(watchbell::api::server::guarded(router)).await;
    let answer = server.get_without_key("/").await;
    assert_problem(&answer, 500);
    assert!(!answer.text.contains("secret"), "{answer:?}");
    assert_problem(&server.get_without_key("/").await, 500);
}

#[tokio::test]
async fn a_page_of_alerts_continues_where_the_last_one_ended() {
    let database = TestDatabase::new().await;
    let house = House::build(&database.owner, "a").await;
    let mut expected = Vec::new();
    for _ in 0..7 {
        expected.insert(0, house.alert(&database.owner).await.to_string());
    }
    let server = TestServer::start(&database.config).await;
    let (mut seen, mut pages, mut path) = (Vec::new(), 0, "/api/alerts?limit=3".to_owned());
    loop {
        let page = server.get(&path, &house.key).await.json();
        seen.extend(ids(&page["alerts"], "alert_id"));
        pages += 1;
        // What comes in meanwhile moves nothing.
        house.alert(&database.owner).await;
        match page["next"].as_str() {
            Some(next) => path = format!("/api/alerts?limit=3&before={next}"),
            None => break,
        }
    }
    assert_eq!((seen, pages), (expected, 3));
}

#[tokio::test]
async fn a_page_of_deliveries_continues_where_the_last_one_ended() {
    let database = TestDatabase::new().await;
    let house = House::build(&database.owner, "a").await;
    let alert = house.alert(&database.owner).await;
    let mut expected = Vec::new();
    for _ in 0..4 {
        expected.insert(0, house.notification(&database.owner, alert).await.to_string());
    }
    let server = TestServer::start(&database.config).await;
    let first = server.get("/api/deliveries?limit=2", &house.key).await.json();
    let next = first["next"].as_str().unwrap();
    let second = server.get(&format!("/api/deliveries?limit=2&before={next}"), &house.key).await.json();
    assert_eq!(second["next"], Value::Null);
    let seen = [ids(&first["deliveries"], "notification_id"), ids(&second["deliveries"], "notification_id")];
    assert_eq!(seen.concat(), expected);
}

#[tokio::test]
async fn filters_leave_only_what_was_asked_for() {
    let database = TestDatabase::new().await;
    let house = House::build(&database.owner, "a").await;
    let open = house.alert(&database.owner).await;
    let resolved = house.alert(&database.owner).await;
    let resolve =
        "UPDATE alerts SET state = 'resolved', severity = 'info', resolved_at = now() WHERE alert_id = $1";
    database.owner.execute(resolve, &[&resolved]).await.unwrap();
    let owed = house.notification(&database.owner, open).await;
    let delivered = house.notification(&database.owner, resolved).await;
    house.attempt(&database.owner, delivered, 1, false, "delivered").await;
    house.settle(&database.owner, delivered).await;
    let server = TestServer::start(&database.config).await;
    let both = vec![resolved.to_string(), open.to_string()];
    for (query, expected) in [
        ("state=open", vec![open.to_string()]),
        ("severity=info", vec![resolved.to_string()]),
        ("device=a-pump", both.clone()),
        ("device=b-pump", vec![]),
        ("metric=temperature&state=resolved", vec![resolved.to_string()]),
        ("metric=pressure", vec![]),
        ("rule=a-hot", both.clone()),
        (&format!("rule={}", house.rule), both.clone()),
        ("rule=b-hot", vec![]),
    ] {
        let answer = server.get(&format!("/api/alerts?{query}"), &house.key).await;
        assert_eq!(ids(&answer.json()["alerts"], "alert_id"), expected, "{query}");
    }
    let both = vec![delivered.to_string(), owed.to_string()];
    for (query, expected) in [
        ("status=pending".to_owned(), vec![owed.to_string()]),
        ("status=delivered".to_owned(), vec![delivered.to_string()]),
        ("status=missing".to_owned(), vec![]),
        ("destination=a-hub".to_owned(), both.clone()),
        (format!("destination={}", house.destination), both),
        (format!("alert={open}"), vec![owed.to_string()]),
    ] {
        let answer = server.get(&format!("/api/deliveries?{query}"), &house.key).await;
        assert_eq!(ids(&answer.json()["deliveries"], "notification_id"), expected, "{query}");
    }
}

#[tokio::test]
async fn an_alert_comes_with_its_events_and_its_deliveries() {
    let database = TestDatabase::new().await;
    let house = House::build(&database.owner, "a").await;
    let alert = house.alert(&database.owner).await;
    let notification = house.notification(&database.owner, alert).await;
    // Another alert's notification is not among them.
    let other = house.alert(&database.owner).await;
    house.notification(&database.owner, other).await;
    database.owner.execute("UPDATE rules SET name = 'renamed'", &[]).await.unwrap();
    let server = TestServer::start(&database.config).await;
    let whole = server.get(&format!("/api/alerts/{alert}"), &house.key).await.json();
    let shown = &whole["alert"];
    for (member, expected) in [
        ("alert_id", Value::from(alert.to_string())),
        ("device", "a-pump".into()),
        ("metric", "temperature".into()),
        ("unit", "°C".into()),
        ("rule", "a-hot".into()),
        ("rule_version", 1.into()),
        ("severity", "critical".into()),
        ("state", "open".into()),
        ("value", 81.5.into()),
        ("late", false.into()),
        ("resolved_at", Value::Null),
    ] {
        assert_eq!(shown[member], expected, "{member}");
    }
    assert_eq!(shown["evidence"]["threshold"], 80);
    assert!(shown["breached_at"].as_str().unwrap().ends_with('Z'), "{shown}");
    assert_eq!(whole["events"][0]["kind"], "opened");
    assert_eq!(ids(&whole["deliveries"], "notification_id"), [notification.to_string()]);
}

#[tokio::test]
async fn a_delivery_shows_its_exact_body_and_every_attempt_the_late_ones_too() {
    let database = TestDatabase::new().await;
    let house = House::build(&database.owner, "a").await;
    let alert = house.alert(&database.owner).await;
    let notification = house.notification(&database.owner, alert).await;
    house.attempt(&database.owner, notification, 1, false, "unknown").await;
    house.attempt(&database.owner, notification, 1, true, "retry").await;
    house.attempt(&database.owner, notification, 2, false, "delivered").await;
    house.settle(&database.owner, notification).await;
    let server = TestServer::start(&database.config).await;
    let answer = server.get(&format!("/api/deliveries/{notification}"), &house.key).await;
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    let whole = answer.json();
    assert_eq!(whole["body"], r#"{"text": "<b>81.5 °C</b>"}"#);
    assert_eq!(whole["delivery"]["status"], "delivered");
    assert_eq!(whole["delivery"]["attempts"], 2);
    let attempts = whole["attempts"].as_array().unwrap();
    let order: Vec<_> = attempts
        .iter()
        .map(|a| (a["attempt"].as_i64(), a["late"].as_bool(), a["outcome"].as_str()))
        .collect();
    let expected = [(1, false, "unknown"), (1, true, "retry"), (2, false, "delivered")];
    assert_eq!(order, expected.map(|(n, late, outcome)| (Some(n), Some(late), Some(outcome))));
    let sha256_of_body = "230d8358dc8e8890b4c58deeb62912ee2f20357ae92a5cc861b98e68fe31acb5";
    assert_eq!(attempts[0]["body_sha256"], sha256_of_body);
    for member in
        ["worker_id", "started_at", "finished_at", "status_code", "error", "answer", "external_id", "xid"]
    {
        assert!(!attempts[0][member].is_null(), "{member}");
    }
}

#[tokio::test]
async fn health_needs_no_key_and_shows_no_tenant() {
    let database = TestDatabase::new().await;
    House::build(&database.owner, "acme").await;
    let server = TestServer::start(&database.config).await;
    for path in ["/healthz", "/readyz", "/metrics"] {
        let answer = server.get_without_key(path).await;
        assert_eq!(answer.status, 200, "{path}");
        assert!(!answer.text.contains("acme"), "{path}");
    }
    let ready = server.get_without_key("/readyz").await.json();
    for check in ["database", "schema", "broker"] {
        assert_eq!(ready["checks"][check]["ok"], true, "{ready}");
    }
    let metrics = server.get_without_key("/metrics").await;
    assert_eq!(metrics.header("content-type"), "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(metrics.text.ends_with("# EOF\n"), "{}", metrics.text);
}

#[tokio::test]
async fn readiness_names_the_check_that_fails() {
    let database = TestDatabase::new().await;
    let server = TestServer::serve(watchbell::api::server::router(state(&database.config, false))).await;
    let problem = assert_problem(&server.get_without_key("/readyz").await, 503);
    assert_eq!(problem["checks"]["broker"]["ok"], false);
    assert_eq!(problem["checks"]["database"]["ok"], true);
    database.owner.execute("DELETE FROM refinery_schema_history WHERE version > 1", &[]).await.unwrap();
    let problem = assert_problem(&server.get_without_key("/readyz").await, 503);
    assert!(
        problem["checks"]["schema"]["detail"].as_str().unwrap().contains("watchbell migrate"),
        "{problem}"
    );
    database.vanish().await;
    let problem = assert_problem(&server.get_without_key("/readyz").await, 503);
    assert_eq!(problem["checks"]["database"]["ok"], false);
    assert_eq!(server.get_without_key("/healthz").await.status, 200);
}

#[tokio::test]
async fn when_the_database_is_away_requests_get_503() {
    let database = TestDatabase::new().await;
    let house = House::build(&database.owner, "a").await;
    let server = TestServer::start(&database.config).await;
    assert_eq!(server.get("/api/alerts", &house.key).await.status, 200);
    database.vanish().await;
    for _ in 0..2 {
        let answer = server.get("/api/alerts", &house.key).await;
        let problem = assert_problem(&answer, 503);
        assert!(!answer.header("retry-after").is_empty());
        assert_eq!(problem["detail"], "the database does not answer");
    }
    assert_problem(&server.get_without_key("/api/alerts").await, 401);
}

#[tokio::test]
async fn a_request_under_way_is_answered_before_the_server_stops() {
    use std::sync::Arc;
    use tokio::sync::Notify;
    let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (told, waits) = (begun.clone(), go_on.clone());
    let handler = axum::routing::get(async move || {
        told.notify_one();
        waits.notified().await;
        "done"
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let cancel = tokio_util::sync::CancellationToken::new();
    let router = watchbell::api::server::guarded(axum::Router::new().route("/", handler));
    let serving = tokio::spawn(watchbell::api::server::serve(listener, router, cancel.clone()));
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::new();
    let asking = tokio::spawn(send(client.get(&url)));
    begun.notified().await;
    cancel.cancel();
    tokio::task::yield_now().await;
    assert!(!serving.is_finished());
    go_on.notify_one();
    assert_eq!(asking.await.unwrap().text, "done");
    serving.await.unwrap().unwrap();
    assert!(client.get(&url).send().await.is_err());
}

fn ids(rows: &Value, column: &str) -> Vec<String> {
    rows.as_array().unwrap().iter().map(|row| row[column].as_str().unwrap().to_owned()).collect()
}
