//! Pages for people: who gets in, and that nothing from outside becomes markup.

use reqwest::Method;
use uuid::Uuid;
use watchbell::api::scope::Scope;

use crate::support::database::TestDatabase;
use crate::support::house::{House, key_with};
use crate::support::server::{Answer, TestServer, send};

async fn visit(server: &TestServer, path: &str, key: &str) -> Answer {
    send(server.request(Method::GET, path).basic_auth("anybody", Some(key))).await
}

#[tokio::test]
async fn a_browser_is_asked_to_log_in() {
    let database = TestDatabase::new().await;
    let house = House::build(&database.owner, "a").await;
    let server = TestServer::start(&database.config).await;
    let publisher = key_with(&database.owner, house.tenant, &[Scope::Publish]).await;
    let of_one = |what: &str| format!("/{what}/{}", Uuid::now_v7());
    for path in ["/".to_owned(), of_one("deliveries"), of_one("alerts")] {
        let path = path.as_str();
        for answer in [
            server.get_without_key(path).await,
            visit(&server, path, "wrong").await,
            visit(&server, path, &publisher).await,
            server.get(path, &house.key).await,
        ] {
            assert_eq!(answer.status, 401, "{path}");
            assert!(answer.header("www-authenticate").starts_with("Basic realm=\"watchbell\""), "{answer:?}");
            assert!(answer.header("content-type").starts_with("text/html"), "{answer:?}");
        }
    }
    assert_eq!(visit(&server, "/", &house.key).await.status, 200);
}

#[tokio::test]
async fn the_overview_shows_alerts_deliveries_and_counts_of_its_tenant_only() {
    let database = TestDatabase::new().await;
    let ours = House::build(&database.owner, "ours").await;
    let theirs = House::build(&database.owner, "theirs").await;
    for house in [&ours, &theirs, &theirs] {
        let alert = house.alert(&database.owner).await;
        let delivered = house.notification(&database.owner, alert).await;
        house.attempt(&database.owner, delivered, 1, false, "delivered").await;
        house.settle(&database.owner, delivered).await;
        house.notification(&database.owner, alert).await;
    }
    let server = TestServer::start(&database.config).await;
    let page = visit(&server, "/", &ours.key).await.text;
    for expected in [
        "ours-pump",
        "81.5 °C",
        "ours-hot",
        "ours-hub",
        ">1</strong>critical, not resolved",
        ">1</strong>on the way",
        ">1</strong>delivered, 24 h",
        ">0</strong>dead",
        "http-equiv=\"refresh\"",
    ] {
        assert!(page.contains(expected), "{expected}: {page}");
    }
    assert!(!page.contains("theirs"), "{page}");
}

#[tokio::test]
async fn what_comes_from_outside_is_escaped_and_no_script_may_run() {
    let database = TestDatabase::new().await;
    let house = House::build(&database.owner, "a").await;
    let alert = house.alert(&database.owner).await;
    let notification = house.notification(&database.owner, alert).await;
    house.attempt(&database.owner, notification, 1, false, "retry").await;
    let evil = "UPDATE devices SET external_id = '<script>alert(1)</script>'";
    database.owner.execute(evil, &[]).await.unwrap();
    let server = TestServer::start(&database.config).await;
    let overview = visit(&server, "/", &house.key).await;
    assert!(overview.text.contains("&lt;script&gt;") && !overview.text.contains("<script"), "{overview:?}");
    let delivery = visit(&server, &format!("/deliveries/{notification}"), &house.key).await;
    assert!(delivery.text.contains("&lt;b&gt;81.5 °C") && !delivery.text.contains("<b>"), "{delivery:?}");
    assert!(delivery.text.contains("&lt;i&gt;no") && !delivery.text.contains("<i>"), "{delivery:?}");
    for page in [overview, delivery] {
        let policy = page.header("content-security-policy");
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(page.header("cache-control"), "no-store");
        assert!(!page.text.contains("style="), "{page:?}");
    }
    let style = server.get_without_key("/console.css").await;
    assert_eq!((style.status.as_u16(), style.header("content-type")), (200, "text/css; charset=utf-8"));
}

#[tokio::test]
async fn the_page_of_an_alert_says_what_since_when_why_what_happened_and_who_was_told() {
    let database = TestDatabase::new().await;
    let house = House::build(&database.owner, "a").await;
    database
        .owner
        .batch_execute(
            "UPDATE rules SET runbook_url = 'https://wiki.example/pumps', labels = '{\"team\": \"water\"}'",
        )
        .await
        .unwrap();
    let alert = house.alert(&database.owner).await;
    let notification = house.notification(&database.owner, alert).await;
    let points: Vec<_> = (0..20)
        .map(|second| {
            serde_json::json!([
                format!("2026-09-01T12:00:{second:02}Z"),
                if second == 19 { 81.5 } else { 20.0 }
            ])
        })
        .collect();
    let fill = "UPDATE alerts SET rule_version = 2, class = 'spike above', summary = 'it is too <hot>',
                  device_tags = '{\"site\": \"north\"}', points = $1, state = 'acknowledged',
                  acknowledged_at = now(), acknowledged_by = 'key anna', breached_at = '2026-09-01T12:00:19Z'";
    database.owner.execute(fill, &[&serde_json::Value::from(points)]).await.unwrap();
    let event = "INSERT INTO alert_events (alert_id, tenant_id, kind, actor, note)
                 VALUES ($1, $2, 'acknowledged', 'key anna', 'on my way')";
    database.owner.execute(event, &[&alert, &house.tenant.0]).await.unwrap();
    let server = TestServer::start(&database.config).await;
    let overview = visit(&server, "/", &house.key).await.text;
    assert!(overview.contains(&format!("href=\"/alerts/{alert}\"")), "{overview}");
    let delivery = visit(&server, &format!("/deliveries/{notification}"), &house.key).await.text;
    assert!(delivery.contains(&format!("href=\"/alerts/{alert}\"")), "{delivery}");

    let page = visit(&server, &format!("/alerts/{alert}"), &house.key).await;
    assert_eq!(page.status, 200);
    for expected in [
        "temperature of a-pump",
        "it is too &lt;hot&gt;",
        "spike above",
        "2026-09-01 12:00:19 UTC",
        "acknowledged",
        "by key anna",
        "site: north",
        "team: water",
        "href=\"https://wiki.example/pumps\"",
        "81.5 °C",
        "<dt>Threshold</dt><dd>80</dd>",
        "<svg class=\"chart\"",
        "the last 20 readings, from 20 to 81.5",
        "<line class=\"limit\"",
        "on my way",
        "notified",
        "a-hub",
        &format!("href=\"/deliveries/{notification}\""),
    ] {
        assert!(page.text.contains(expected), "{expected}: {}", page.text);
    }
    let drawn = page.text.split("points=\"").nth(1).unwrap().split('"').next().unwrap();
    assert_eq!(drawn.split(' ').count(), 20, "{drawn}");
    assert!(!page.text.contains("<script") && !page.text.contains("style="), "{page:?}");
    assert!(!page.text.contains("<hot>"), "{page:?}");
}

#[tokio::test]
async fn a_foreign_alert_has_no_page() {
    let database = TestDatabase::new().await;
    let ours = House::build(&database.owner, "ours").await;
    let theirs = House::build(&database.owner, "theirs").await;
    let alert = theirs.alert(&database.owner).await;
    let server = TestServer::start(&database.config).await;
    let path = format!("/alerts/{alert}");
    assert_eq!(visit(&server, &path, &theirs.key).await.status, 200);
    let foreign = visit(&server, &path, &ours.key).await;
    assert_eq!(foreign.status, 404);
    assert_eq!(foreign.text, visit(&server, "/alerts/1", &ours.key).await.text);
}

#[tokio::test]
async fn a_foreign_delivery_has_no_page() {
    let database = TestDatabase::new().await;
    let ours = House::build(&database.owner, "ours").await;
    let theirs = House::build(&database.owner, "theirs").await;
    let alert = theirs.alert(&database.owner).await;
    let notification = theirs.notification(&database.owner, alert).await;
    let server = TestServer::start(&database.config).await;
    let path = format!("/deliveries/{notification}");
    assert_eq!(visit(&server, &path, &theirs.key).await.status, 200);
    let foreign = visit(&server, &path, &ours.key).await;
    assert_eq!(foreign.status, 404);
    assert_eq!(foreign.text, visit(&server, "/deliveries/1", &ours.key).await.text);
}

#[tokio::test]
async fn when_the_database_is_away_the_page_says_so_and_comes_back_by_itself() {
    let database = TestDatabase::new().await;
    let house = House::build(&database.owner, "a").await;
    let server = TestServer::start(&database.config).await;
    database.vanish().await;
    let answer = visit(&server, "/", &house.key).await;
    assert_eq!(answer.status, 503);
    assert!(answer.text.contains("database does not answer"), "{answer:?}");
    assert!(answer.text.contains("http-equiv=\"refresh\""), "{answer:?}");
}
