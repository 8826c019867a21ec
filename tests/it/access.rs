//! Who is let in through HTTP, and whose things they see.

use reqwest::Method;
use uuid::Uuid;
use watchbell::api::key_store;
use watchbell::api::scope::Scope;

use crate::support::database::TestDatabase;
use crate::support::house::{House, key_with};
use crate::support::server::{TestServer, assert_problem, send};

#[tokio::test]
async fn a_request_without_a_key_is_refused() {
    let database = TestDatabase::new().await;
    let server = TestServer::start(&database.config).await;
    let id = Uuid::now_v7();
    for path in
        ["/api/alerts", "/api/deliveries", &format!("/api/alerts/{id}"), &format!("/api/deliveries/{id}")]
    {
        let answer = server.get_without_key(path).await;
        assert_problem(&answer, 401);
        assert_eq!(answer.header("www-authenticate"), "Bearer", "{path}");
    }
}

#[tokio::test]
async fn a_key_is_taken_from_either_header() {
    let database = TestDatabase::new().await;
    let house = House::build(&database.owner, "a").await;
    let server = TestServer::start(&database.config).await;
    assert_eq!(server.get("/api/alerts", &house.key).await.status, 200);
    let other_header = server.request(Method::GET, "/api/alerts").header("X-API-Key", &house.key);
    assert_eq!(send(other_header).await.status, 200);
}

#[tokio::test]
async fn a_key_that_nobody_has_is_refused() {
    let database = TestDatabase::new().await;
    let house = House::build(&database.owner, "a").await;
    let server = TestServer::start(&database.config).await;
    let mut wrong_secret = house.key.clone();
    let last = if wrong_secret.pop() == Some('0') { '1' } else { '0' };
    wrong_secret.push(last);
    let unknown_prefix = format!("wb_000000000000_{}", &house.key[16..]);
    for key in [&wrong_secret, &unknown_prefix, &house.key.to_uppercase(), "wb_", "x"] {
        let answer = server.get("/api/alerts", key).await;
        assert_problem(&answer, 401);
        assert!(answer.header("www-authenticate").starts_with("Bearer"), "{key}");
    }
}

#[tokio::test]
async fn an_expired_key_is_refused() {
    let database = TestDatabase::new().await;
    let house = House::build(&database.owner, "a").await;
    let server = TestServer::start(&database.config).await;
    assert_eq!(server.get("/api/alerts", &house.key).await.status, 200);
    let expire = "UPDATE api_keys SET expires_at = now() WHERE prefix = $1";
    database.owner.execute(expire, &[&prefix_of(&house.key)]).await.unwrap();
    assert_problem(&server.get("/api/alerts", &house.key).await, 401);
}

#[tokio::test]
async fn a_revoked_key_is_refused_from_the_next_request_on() {
    let database = TestDatabase::new().await;
    let house = House::build(&database.owner, "a").await;
    let server = TestServer::start(&database.config).await;
    assert_eq!(server.get("/api/alerts", &house.key).await.status, 200);
    key_store::revoke_key(&database.owner, prefix_of(&house.key), "lost", "test").await.unwrap();
    assert_problem(&server.get("/api/alerts", &house.key).await, 401);
}

#[tokio::test]
async fn a_key_without_the_scope_is_told_which_one() {
    let database = TestDatabase::new().await;
    let house = House::build(&database.owner, "a").await;
    let server = TestServer::start(&database.config).await;
    let publisher = key_with(&database.owner, house.tenant, &[Scope::Publish, Scope::Write]).await;
    let problem = assert_problem(&server.get("/api/deliveries", &publisher).await, 403);
    assert_eq!(problem["scope"], "read");
    assert!(problem["detail"].as_str().unwrap().contains("`read`"), "{problem}");
    let admin = key_with(&database.owner, house.tenant, &[Scope::Admin]).await;
    assert_eq!(server.get("/api/deliveries", &admin).await.status, 200);
}

#[tokio::test]
async fn another_tenants_key_sees_nothing() {
    let database = TestDatabase::new().await;
    let ours = House::build(&database.owner, "ours").await;
    let theirs = House::build(&database.owner, "theirs").await;
    let alert = theirs.alert(&database.owner).await;
    theirs.notification(&database.owner, alert).await;
    let server = TestServer::start(&database.config).await;
    for (path, rows) in [("/api/alerts", "alerts"), ("/api/deliveries", "deliveries")] {
        assert_eq!(server.get(path, &ours.key).await.json()[rows], serde_json::json!([]), "{path}");
        assert_eq!(server.get(path, &theirs.key).await.json()[rows].as_array().unwrap().len(), 1, "{path}");
    }
}

#[tokio::test]
async fn a_foreign_tenants_id_is_not_found() {
    let database = TestDatabase::new().await;
    let ours = House::build(&database.owner, "ours").await;
    let theirs = House::build(&database.owner, "theirs").await;
    let alert = theirs.alert(&database.owner).await;
    let notification = theirs.notification(&database.owner, alert).await;
    let server = TestServer::start(&database.config).await;
    for (path, unknown) in [
        (format!("/api/alerts/{alert}"), format!("/api/alerts/{}", Uuid::now_v7())),
        (format!("/api/deliveries/{notification}"), format!("/api/deliveries/{}", Uuid::now_v7())),
    ] {
        assert_eq!(server.get(&path, &theirs.key).await.status, 200);
        let foreign = server.get(&path, &ours.key).await;
        assert_problem(&foreign, 404);
        // Not even the words tell that the thing exists.
        assert_eq!(foreign.text, server.get(&unknown, &ours.key).await.text);
    }
}

fn prefix_of(key: &str) -> &str {
    &key[3..15]
}
