//! Secrets stay where they are sealed: not on the record, not in an answer of ours, not on a page, not in a log line.

use serde_json::json;
use watchbell::deliver::secrets::SecretKey;
use watchbell::dev::hub::{Answer, Reply};

use super::support::app::{HUB_KEY, SECRETS_KEY, TestApp, seal, temperature};
use super::support::courier::Courier;
use super::support::server::TestServer;

/// Everything that the tables of delivery and detection say, as text.
const WHOLE_RECORD: &str = "
    SELECT string_agg(line, E'\\n') FROM (
      SELECT to_jsonb(t)::text AS line FROM delivery_attempts t UNION ALL
      SELECT to_jsonb(t)::text FROM deliveries t UNION ALL
      SELECT to_jsonb(t)::text FROM notifications t UNION ALL
      SELECT to_jsonb(t)::text FROM dead_letters t UNION ALL
      SELECT to_jsonb(t)::text FROM alerts t UNION ALL
      SELECT to_jsonb(t)::text FROM alert_events t UNION ALL
      SELECT to_jsonb(t)::text FROM destinations t) AS lines";

#[tokio::test]
async fn the_hubs_key_is_nowhere_but_in_the_request() {
    let app = TestApp::new(&[("log.filter", "trace"), ("deliver.hold_seconds", "1")]).await;
    // A receiver that repeats what it was sent, as debugging proxies do; in errors and in acceptances.
    let echo = |status| {
        Answer::from(Reply::new(status, format!("x-api-key: {HUB_KEY} is what you sent, {HUB_KEY}")))
    };
    for answer in [echo(503), Answer::Close, echo(401), Answer::too_many_requests("1"), echo(302), echo(200)]
    {
        app.hub.push_answer(answer);
    }
    app.hub.push_answer(echo(400));
    let process = app.spawn("ingest,detect,deliver,api");
    app.make_stream().await;
    app.publish(temperature(91.25, 5)).await;
    app.wait_for_count("SELECT count(*) FROM deliveries WHERE status = 'delivered'", 1).await;
    app.owe_one().await;
    app.wait_for_count("SELECT count(*) FROM dead_letters", 1).await;
    let bad_key = app.add_hub("can't stand in a header", "http://127.0.0.1:1", json!({})).await;
    let sealed = seal(bad_key, &format!("{HUB_KEY}\n"));
    let query = "UPDATE destinations SET secret = $1 WHERE destination_id = $2";
    app.owner().execute(query, &[&sealed, &bad_key.0]).await.unwrap();
    app.owe(bad_key, 1).await;
    app.wait_for_count("SELECT count(*) FROM destinations WHERE state = 'held'", 1).await;

    let record: String = app.owner().query_one(WHOLE_RECORD, &[]).await.unwrap().get(0);
    assert!(record.contains("is what you sent"), "{record}");
    let mut said = vec![("the record", record)];
    let server = TestServer::start(&app.config()).await;
    for path in ["/api/alerts", "/api/deliveries", "/", "/metrics"] {
        said.push((path, server.get(path, &app.api_key).await.text));
    }
    for id in app.owner().query("SELECT notification_id::text FROM notifications", &[]).await.unwrap() {
        let id: &str = id.get(0);
        said.push(("a delivery", server.get(&format!("/api/deliveries/{id}"), &app.api_key).await.text));
        said.push(("a page", server.get(&format!("/deliveries/{id}"), &app.api_key).await.text));
    }
    let log = process.log();
    assert!(log.contains("TRACE") && log.contains("given up"), "{log}");
    said.push(("the log", log));
    for (place, text) in said {
        let hub_key = text.find(HUB_KEY).or(text.find(SECRETS_KEY));
        let around = hub_key.map(|at| text[..at].chars().rev().take(300).collect::<String>());
        let around = around.map(|text| text.chars().rev().collect::<String>());
        assert_eq!(around, None, "{place} says a secret");
    }
    assert_eq!(process.terminate().await, Some(0));
    assert!(app.hub.received().iter().all(|post| post.header("x-api-key") == Some(HUB_KEY)));
}

#[tokio::test]
async fn a_secret_that_cant_be_opened_holds_its_destination_and_its_rows_stay_owed() {
    for key in ["1".repeat(64), String::new()] {
        let mut app = TestApp::new(&[("deliver.hold_seconds", "1")]).await;
        app.owe(app.destination, 3).await;
        let right = app.environment.insert("WATCHBELL__SECRETS__KEY".to_owned(), key).unwrap();
        let mut wrong = Courier::new(&app.config()).await;
        wrong.step_until(&app, "SELECT count(*) FROM destinations WHERE state = 'held'", 1).await;
        wrong.step_until(&app, "SELECT count(*) FROM outbox WHERE status = 'in_flight'", 0).await;
        let reason = app.destination(app.destination).await["state_reason"].as_str().unwrap().to_owned();
        assert!(reason.contains("secret"), "{reason}");
        assert_eq!((app.count("SELECT count(*) FROM outbox").await, app.hub.total()), (3, 0));
        drop(wrong);

        app.environment.insert("WATCHBELL__SECRETS__KEY".to_owned(), right);
        assert!(SecretKey::parse(&app.config().secrets.key).unwrap().is_some());
        let mut mended = Courier::new(&app.config()).await;
        mended.step_until(&app, "SELECT count(*) FROM deliveries WHERE status = 'delivered'", 3).await;
        assert_eq!(app.destination(app.destination).await["state"], "active");
    }
}
