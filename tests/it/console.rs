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
    for path in ["/", &format!("/deliveries/{}", Uuid::now_v7())] {
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
