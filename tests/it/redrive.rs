//! Sending a dead notification again.

use std::process::Output;

use reqwest::StatusCode;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use watchbell::api::key_store::{self, NewKey};
use watchbell::api::scope::{Scope, Scopes};
use watchbell::dev::hub::{Answer, Reply};
use watchbell::model::tenant::TenantName;
use watchbell::runtime::Roles;

use super::support::app::{TestApp, temperature};

/// A service with one dead notification, and its id: the hub refused it for good.
async fn dead() -> (TestApp, String) {
    let mut app = TestApp::new(&[]).await;
    app.start(Roles::all()).await;
    app.hub.push_answer(Answer::Reply(Reply::new(400, r#"{"error":{"code":"VALIDATION_ERROR"}}"#)));
    app.publish(temperature(91.0, 1)).await;
    app.wait_for_count("SELECT count(*) FROM deliveries WHERE status = 'dead'", 1).await;
    let row = app.owner().query_one("SELECT notification_id::text FROM notifications", &[]).await.unwrap();
    (app, row.get(0))
}

async fn redrive(app: &TestApp, key: &str, id: &str, body: &Value) -> (StatusCode, Value) {
    let address = app.running.as_ref().unwrap().api_address.unwrap();
    let url = format!("http://{address}/api/admin/notifications/{id}/redrive");
    let answer = reqwest::Client::new().post(url).header("X-API-Key", key).json(body).send().await.unwrap();
    (answer.status(), answer.json().await.unwrap())
}

async fn key(app: &TestApp, tenant: &str, scope: Scope) -> String {
    let tenant = TenantName::parse(tenant).unwrap();
    let tenant = key_store::ensure_tenant(app.owner(), &tenant, "test").await.unwrap();
    let scopes = Scopes::new([scope]);
    let new = NewKey { tenant, name: "another", scopes: &scopes, expires_in_days: None, actor: "test" };
    key_store::create_key(app.owner(), &new).await.unwrap().key.secret().expose_secret().to_owned()
}

fn command(app: &TestApp, arguments: &[&str]) -> Output {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_watchbell"));
    command.args(arguments).envs(&app.environment).output().unwrap()
}

#[tokio::test]
async fn a_dead_notification_is_redriven_and_delivered_with_one_id_one_body_and_its_whole_history() {
    let (mut app, id) = dead().await;
    let (status, answer) = redrive(&app, &app.api_key, &id, &json!({ "reason": "the hub is mended" })).await;
    assert_eq!((status, &answer["status"]), (StatusCode::ACCEPTED, &json!("pending")));
    app.wait_for_count("SELECT count(*) FROM deliveries WHERE status = 'delivered'", 1).await;

    let posts = app.hub.received();
    assert_eq!(posts.len(), 2);
    assert_eq!(posts[0].body, posts[1].body);
    assert_eq!(posts[0].event_id.as_deref(), Some(id.as_str()));
    let whole = app.get(&format!("/api/deliveries/{id}")).await;
    let attempts = whole["attempts"].as_array().unwrap();
    let history: Vec<_> = attempts.iter().map(|a| (a["attempt"].as_i64(), a["outcome"].as_str())).collect();
    assert_eq!(history, [(Some(1), Some("dead")), (Some(2), Some("delivered"))]);
    assert_eq!(attempts[0]["answer"], r#"{"error":{"code":"VALIDATION_ERROR"}}"#);
    assert_eq!(whole["actions"][0]["action"], "notification.redriven");
    assert_eq!(whole["actions"][0]["reason"], "the hub is mended");
    assert!(whole["actions"][0]["actor"].as_str().unwrap().starts_with("key test ("));
    app.stop().await;
}

#[tokio::test]
async fn only_an_admin_of_the_tenant_redrives_and_only_what_is_dead() {
    let (mut app, id) = dead().await;
    let why = json!({ "reason": "again" });
    let writer = key(&app, "acme", Scope::Write).await;
    let stranger = key(&app, "strangers", Scope::Admin).await;
    assert_eq!(redrive(&app, &writer, &id, &why).await.0, StatusCode::FORBIDDEN);
    assert_eq!(redrive(&app, "nonsense", &id, &why).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(redrive(&app, &stranger, &id, &why).await.0, StatusCode::NOT_FOUND);
    for bad in [json!({}), json!({ "reason": "  " }), json!({ "reason": "x", "force": "yes" }), json!("x")] {
        assert_eq!(redrive(&app, &app.api_key, &id, &bad).await.0, StatusCode::BAD_REQUEST, "{bad}");
    }
    assert_eq!(redrive(&app, &app.api_key, "not-an-id", &why).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(app.count("SELECT count(*) FROM dead_letters").await, 1);
    assert_eq!(app.count("SELECT count(*) FROM admin_actions WHERE action LIKE 'notification%'").await, 0);

    let both = tokio::join!(redrive(&app, &app.api_key, &id, &why), redrive(&app, &app.api_key, &id, &why));
    let mut statuses = [both.0.0, both.1.0];
    statuses.sort_unstable();
    assert_eq!(statuses, [StatusCode::ACCEPTED, StatusCode::CONFLICT]);
    app.wait_for_count("SELECT count(*) FROM deliveries WHERE status = 'delivered'", 1).await;
    let (status, problem) = redrive(&app, &app.api_key, &id, &why).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(problem["detail"].as_str().unwrap().contains("`delivered`"));
    assert_eq!(app.hub.total(), 2);
    app.stop().await;
}

#[tokio::test]
async fn the_commands_list_show_and_redrive() {
    let (mut app, id) = dead().await;
    let listed = command(&app, &["deliveries", "list", "--tenant", "acme", "--status", "dead", "--json"]);
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(listed["deliveries"][0]["notification_id"], json!(id));
    let table = command(&app, &["deliveries", "list", "--tenant", "acme"]);
    assert!(String::from_utf8_lossy(&table.stdout).contains(&id));

    let refused = command(&app, &["redrive", &id]);
    assert_eq!(refused.status.code(), Some(2), "without a reason");
    let redriven = command(&app, &["redrive", &id, "--reason", "by hand"]);
    assert!(redriven.status.success(), "{}", String::from_utf8_lossy(&redriven.stderr));
    app.wait_for_count("SELECT count(*) FROM deliveries WHERE status = 'delivered'", 1).await;
    let again = command(&app, &["redrive", &id, "--reason", "by hand"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&again.stderr).contains("is `delivered`"));

    let shown = command(&app, &["deliveries", "show", &id, "--json"]);
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(shown["attempts"].as_array().unwrap().len(), 2);
    assert_eq!(shown["actions"][0]["reason"], "by hand");
    let shown = command(&app, &["deliveries", "show", &id]);
    assert!(String::from_utf8_lossy(&shown.stdout).contains("by hand"));
    app.stop().await;
}
