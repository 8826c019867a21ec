//! Alerts as programs see them: what is known of each, and how they are found again.

use serde_json::{Value, json};
use uuid::Uuid;
use watchbell::config::Config;

use super::support::database::TestDatabase;
use super::support::house::House;
use super::support::server::{TestServer, assert_problem};

fn ids(rows: &Value, column: &str) -> Vec<String> {
    rows.as_array().unwrap().iter().map(|row| row[column].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn an_alert_says_what_it_looks_like_when_it_fired_who_was_told_and_what_to_do() {
    let database = TestDatabase::new().await;
    let house = House::build(&database.owner, "a").await;
    let rule =
        "UPDATE rules SET labels = '{\"team\": \"water\"}', runbook_url = 'https://wiki.example/pumps'";
    database.owner.batch_execute(rule).await.unwrap();
    let alert = house.alert(&database.owner).await;
    let silence = Uuid::now_v7();
    let fill = "UPDATE alerts SET rule_version = 2, class = 'spike above', summary = 'too hot', episodes = 2,
                  device_tags = '{\"site\": \"north\"}', points = '[[\"2026-09-01T12:00:00Z\", 81.5]]', silence_id = $1,
                  fired_at = '2026-09-01T12:00:05Z', decided_at = '2026-09-01T12:00:04Z', ended_at = '2026-09-01T12:10:00Z',
                  told = 'open', told_at = '2026-09-01T12:00:06Z', state = 'resolved', acknowledged_by = 'anna',
                  resolved_by = 'detector'";
    database.owner.execute(fill, &[&silence]).await.unwrap();
    let event =
        "INSERT INTO alert_events (alert_id, tenant_id, kind, actor, happened_at, episode, disposition)
                 VALUES ($1, $2, 'reopened', 'detector', '2026-09-01T12:05:00Z', 2, 'cooled_down')";
    database.owner.execute(event, &[&alert, &house.tenant.0]).await.unwrap();
    let url = secrecy::ExposeSecret::expose_secret(&database.config.database.url);
    let environment =
        [("DATABASE_URL", url), ("WATCHBELL__API__PUBLIC_URL", "https://watchbell.example/on-call")];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let server = TestServer::start(&Config::from_sources(None, environment).unwrap()).await;

    let whole = server.get(&format!("/api/alerts/{alert}"), &house.key).await.json();
    let link = format!("https://watchbell.example/on-call/alerts/{alert}");
    let expected = [
        ("class", json!("spike above")),
        ("summary", json!("too hot")),
        ("fired_at", json!("2026-09-01T12:00:05Z")),
        ("decided_at", json!("2026-09-01T12:00:04Z")),
        ("ended_at", json!("2026-09-01T12:10:00Z")),
        ("episodes", json!(2)),
        ("silence_id", json!(silence)),
        ("told", json!("open")),
        ("told_at", json!("2026-09-01T12:00:06Z")),
        ("acknowledged_by", json!("anna")),
        ("resolved_by", json!("detector")),
        ("device_tags", json!({ "site": "north" })),
        ("labels", json!({ "team": "water" })),
        ("runbook_url", json!("https://wiki.example/pumps")),
        ("link", json!(link)),
    ];
    let listed = server.get("/api/alerts", &house.key).await.json();
    for (member, expected) in expected {
        assert_eq!(whole["alert"][member], expected, "{member}");
        assert_eq!(listed["alerts"][0][member], expected, "{member}");
    }
    assert_eq!(whole["alert"]["points"], json!([["2026-09-01T12:00:00Z", 81.5]]));
    assert!(listed["alerts"][0].get("points").is_none(), "a list carries no points");
    let event = &whole["events"][1];
    assert_eq!((&event["episode"], &event["disposition"]), (&json!(2), &json!("cooled_down")));
    assert_eq!(event["happened_at"], "2026-09-01T12:05:00Z");
    let without = TestServer::start(&database.config).await;
    let whole = without.get(&format!("/api/alerts/{alert}"), &house.key).await.json();
    assert_eq!(whole["alert"]["link"], Value::Null, "nobody said where people reach us");
}

#[tokio::test]
async fn alerts_are_found_by_class_by_tag_and_by_whether_they_are_silenced() {
    let database = TestDatabase::new().await;
    let house = House::build(&database.owner, "a").await;
    let (one, two) = (house.alert(&database.owner).await, house.alert(&database.owner).await);
    let fill = "UPDATE alerts SET class = $2, device_tags = $3, silence_id = CASE WHEN $4::bool THEN alert_id END WHERE alert_id = $1";
    for (alert, class, tags, silenced) in [
        (one, "spike above", json!({ "site": "north", "url": "a:b" }), false),
        (two, "stuck", json!({ "site": "south" }), true),
    ] {
        database.owner.execute(fill, &[&alert, &class, &tags, &silenced]).await.unwrap();
    }
    let server = TestServer::start(&database.config).await;
    let (one, two) = (vec![one.to_string()], vec![two.to_string()]);
    for (query, expected) in [
        ("class=spike%20above", &one),
        ("class=stuck", &two),
        ("class=silent", &vec![]),
        ("silenced=true", &two),
        ("silenced=false", &one),
        ("tag=site:north", &one),
        ("tag=url:a:b", &one),
        ("tag=site:west", &vec![]),
        ("tag=floor:2", &vec![]),
        ("tag=site:south&class=stuck&silenced=true&state=open", &two),
    ] {
        let answer = server.get(&format!("/api/alerts?{query}"), &house.key).await;
        assert_eq!(ids(&answer.json()["alerts"], "alert_id"), *expected, "{query}");
    }
    for (query, named) in [
        ("class=loud", "spike above, drop below, deviation, too fast, stuck, silent"),
        ("silenced=yes", "true, false"),
        ("tag=site", "`tag` must be a name and a value"),
        ("tag=site:north&tag=floor:2", "`tag` comes twice"),
    ] {
        let problem = assert_problem(&server.get(&format!("/api/alerts?{query}"), &house.key).await, 400);
        assert!(problem["detail"].as_str().unwrap().contains(named), "{query}: {problem}");
    }
}

#[tokio::test]
async fn a_notice_that_tells_of_many_alerts_is_a_delivery_of_each() {
    let database = TestDatabase::new().await;
    let house = House::build(&database.owner, "a").await;
    let mut alerts = Vec::new();
    for _ in 0..3 {
        alerts.push(house.alert(&database.owner).await);
    }
    let other = house.alert(&database.owner).await;
    let group = house.notification(&database.owner, alerts[0]).await;
    let own = house.notification(&database.owner, alerts[2]).await;
    for alert in &alerts {
        let link = "INSERT INTO notification_alerts (notification_id, alert_id, tenant_id, episode) VALUES ($1, $2, $3, 1)";
        database.owner.execute(link, &[&group, alert, &house.tenant.0]).await.unwrap();
    }
    let server = TestServer::start(&database.config).await;
    let (both, only) = (vec![own.to_string(), group.to_string()], vec![group.to_string()]);
    for (alert, expected) in [(alerts[0], &only), (alerts[1], &only), (alerts[2], &both), (other, &vec![])] {
        let whole = server.get(&format!("/api/alerts/{alert}"), &house.key).await.json();
        assert_eq!(ids(&whole["deliveries"], "notification_id"), *expected, "{alert}");
        let listed = server.get(&format!("/api/deliveries?alert={alert}"), &house.key).await.json();
        assert_eq!(listed["deliveries"], whole["deliveries"]);
    }
    let whole = server.get(&format!("/api/deliveries/{group}"), &house.key).await.json();
    assert_eq!((&whole["delivery"]["alerts"], &whole["told_alert_ids"]), (&json!(3), &json!(alerts)));
    let whole = server.get(&format!("/api/deliveries/{own}"), &house.key).await.json();
    assert_eq!((&whole["delivery"]["alerts"], &whole["told_alert_ids"]), (&json!(1), &json!([])));
}
