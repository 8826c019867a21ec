//! Rules over HTTP: made, read, changed and archived, by whom; and what is refused.

use reqwest::Method;
use serde_json::{Value, json};
use tokio_postgres::Client;
use uuid::Uuid;
use watchbell::api::scope::Scope;

use crate::support::database::TestDatabase;
use crate::support::house::{House, key_with};
use crate::support::server::{Answer, TestServer, assert_problem, send};

async fn call(server: &TestServer, method: Method, path: &str, key: &str, body: &Value) -> Answer {
    send(server.request(method, path).bearer_auth(key).json(body)).await
}

async fn create(server: &TestServer, key: &str, body: &Value) -> Value {
    let answer = call(server, Method::POST, "/api/rules", key, body).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(
        answer.header("location"),
        format!("/api/rules/{}", answer.json()["rule_id"].as_str().unwrap())
    );
    answer.json()
}

fn path(rule: &Value) -> String {
    format!("/api/rules/{}", rule["rule_id"].as_str().unwrap())
}

fn names(page: &Value) -> Vec<&str> {
    page["rules"].as_array().unwrap().iter().map(|rule| rule["name"].as_str().unwrap()).collect()
}

fn cold(name: &str) -> Value {
    json!({ "name": name, "metric": "temperature", "severity": "warning",
            "condition": { "kind": "below_threshold", "threshold": 5.0 } })
}

/// A server, a tenant `a` with a rule `a-hot` and a destination, and a key of it that may write.
async fn ground() -> (TestDatabase, House, TestServer, String) {
    let database = TestDatabase::new().await;
    let house = House::build(&database.owner, "a").await;
    let server = TestServer::start(&database.config).await;
    let writer = key_with(&database.owner, house.tenant, &[Scope::Read, Scope::Write]).await;
    (database, house, server, writer)
}

async fn count(owner: &Client, query: &str) -> i64 {
    owner.query_one(query, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn a_rule_is_made_read_changed_and_archived() {
    let (database, house, server, key) = ground().await;
    let whole = json!({
        "name": "cold", "metric": "temperature", "severity": "warning",
        "devices": { "pattern": "pump-*", "ids": ["pump-1", "pump-2"], "tags": { "site": "north" } },
        "condition": { "kind": "below_threshold", "threshold": 5.0, "clear": 7.0, "for_seconds": 60,
                       "m_of_n": { "m": 2, "n": 3 } },
        "cooldown_seconds": 60, "resolve_after_seconds": 120, "reminder_seconds": 600,
        "escalations": [{ "severity": "critical", "after_seconds": 900 }],
        "labels": { "team": "water" }, "runbook_url": "https://wiki.example/cold",
        "destination_ids": [house.destination],
    });
    let made = create(&server, &key, &whole).await;
    for (member, value) in whole.as_object().unwrap() {
        assert_eq!(&made[member], value, "{member}");
    }
    assert_eq!(
        (&made["version"], &made["state"], &made["fault"]),
        (&json!(1), &json!("active"), &Value::Null)
    );
    assert_eq!(made["warnings"], json!([]));
    for time in ["created_at", "updated_at"] {
        assert!(made[time].as_str().unwrap().ends_with('Z'), "{made}");
    }
    let mut read = server.get(&path(&made), &key).await.json();
    assert_eq!(read["versions"].as_array_mut().unwrap().len(), 1);
    read.as_object_mut().unwrap().remove("versions");
    assert_eq!(read, made);

    let patch = json!({ "severity": "error", "condition": { "threshold": 4.0, "m_of_n": null }, "devices": { "ids": null },
                        "labels": { "floor": "2" }, "runbook_url": null });
    let changed = call(&server, Method::PATCH, &path(&made), &key, &patch).await.json();
    assert_eq!((&changed["version"], &changed["severity"]), (&json!(2), &json!("error")));
    let condition = json!({ "kind": "below_threshold", "threshold": 4.0, "clear": 7.0, "for_seconds": 60 });
    assert_eq!(changed["condition"], condition);
    assert_eq!(changed["devices"], json!({ "pattern": "pump-*", "tags": { "site": "north" } }));
    assert_eq!(changed["labels"], json!({ "team": "water", "floor": "2" }));
    assert_eq!(changed["runbook_url"], Value::Null);
    assert_eq!(changed["reminder_seconds"], 600);

    let archived = call(&server, Method::DELETE, &path(&made), &key, &json!({})).await.json();
    assert_eq!((&archived["state"], &archived["version"]), (&json!("archived"), &json!(2)));
    assert_eq!(names(&server.get("/api/rules", &key).await.json()), ["a-hot"]);
    assert_eq!(names(&server.get("/api/rules?state=archived", &key).await.json()), ["cold"]);
    assert_eq!(server.get(&path(&made), &key).await.json()["versions"].as_array().unwrap().len(), 2);
    // Once more is no change, and it takes none any more; its name is free again.
    assert_eq!(call(&server, Method::DELETE, &path(&made), &key, &json!({})).await.json(), archived);
    let answer = call(&server, Method::PATCH, &path(&made), &key, &json!({ "severity": "info" })).await;
    assert!(assert_problem(&answer, 409)["detail"].as_str().unwrap().contains("archived"));
    create(&server, &key, &whole).await;
    let actions = "SELECT count(*) FROM admin_actions WHERE action = 'rule.archived'";
    assert_eq!(count(&database.owner, actions).await, 1);
}

#[tokio::test]
async fn each_change_is_a_version_with_who_made_it_and_stands_on_the_record() {
    let (database, _house, server, key) = ground().await;
    let made = create(&server, &key, &cold("cold")).await;
    let patch = json!({ "name": "frost", "cooldown_seconds": 5 });
    call(&server, Method::PATCH, &path(&made), &key, &patch).await;
    // What changes nothing makes no version, raises nothing, and is no action.
    let before = count(&database.owner, "SELECT version FROM config_version").await;
    let same = call(&server, Method::PATCH, &path(&made), &key, &patch).await.json();
    assert_eq!(same["version"], 2);
    assert_eq!(count(&database.owner, "SELECT version FROM config_version").await, before);

    let versions = server.get(&path(&made), &key).await.json()["versions"].clone();
    let versions = versions.as_array().unwrap();
    let numbers: Vec<_> = versions.iter().map(|version| version["version"].as_i64().unwrap()).collect();
    assert_eq!(numbers, [2, 1]);
    for version in versions {
        let by = version["changed_by"].as_str().unwrap();
        assert!(by.starts_with("key test (") && by.len() > 40, "{by}");
        assert!(version["changed_at"].as_str().unwrap().ends_with('Z'), "{version}");
    }
    assert_eq!(
        (&versions[1]["definition"]["name"], &versions[0]["definition"]["name"]),
        (&json!("cold"), &json!("frost"))
    );
    assert_eq!(versions[1]["definition"]["devices"], json!({ "pattern": "*" }));
    // A version is a rule that could be made again.
    let mut again = versions[1]["definition"].clone();
    again["name"] = "cold again".into();
    create(&server, &key, &again).await;

    let query = "SELECT actor, action, reason FROM admin_actions WHERE target = $1 ORDER BY action_id";
    let rows = database.owner.query(query, &[&made["rule_id"].as_str().unwrap()]).await.unwrap();
    let actions: Vec<(&str, &str)> = rows.iter().map(|row| (row.get(1), row.get(2))).collect();
    assert_eq!(actions, [("rule.created", "cold"), ("rule.changed", "name, cooldown_seconds")]);
    for row in &rows {
        assert_eq!(row.get::<_, &str>(0), versions[0]["changed_by"].as_str().unwrap());
    }
}

#[tokio::test]
async fn two_changes_at_once_both_stand() {
    let (_database, _house, server, key) = ground().await;
    let made = create(&server, &key, &cold("cold")).await;
    let path = path(&made);
    let (severity, metric) = (json!({ "severity": "critical" }), json!({ "metric": "pressure" }));
    let both = tokio::join!(
        call(&server, Method::PATCH, &path, &key, &severity),
        call(&server, Method::PATCH, &path, &key, &metric)
    );
    assert_eq!((both.0.status.as_u16(), both.1.status.as_u16()), (200, 200));
    let rule = server.get(&path, &key).await.json();
    assert_eq!(
        (&rule["severity"], &rule["metric"], &rule["version"]),
        (&json!("critical"), &json!("pressure"), &json!(3))
    );
}

#[tokio::test]
async fn what_cannot_be_used_is_refused_with_the_name_of_the_member() {
    let (database, house, server, key) = ground().await;
    let stranger = House::build(&database.owner, "b").await;
    let made = create(&server, &key, &cold("cold")).await;
    let archive = "UPDATE destinations SET archived_at = now() WHERE destination_id = $1";
    let archived = Uuid::now_v7();
    let insert = "INSERT INTO destinations (destination_id, tenant_id, name, kind, settings, archived_at)
                  VALUES ($1, $2, 'old', 'nats', '{}', now())";
    database.owner.execute(insert, &[&archived, &house.tenant.0]).await.unwrap();
    let nobody = Uuid::now_v7();
    for (member, value, said) in [
        ("name", json!(""), "must not be empty"),
        ("metric", json!(""), "must not be empty"),
        ("severity", json!("loud"), "critical, error, warning, info"),
        ("devices", json!([]), "object"),
        ("condition", json!({ "kind": "above_threshold" }), "threshold"),
        ("condition", json!({ "kind": "phase_of_the_moon" }), "rate_of_change"),
        ("condition.threshold", json!("high"), "not right"),
        ("cooldown_seconds", json!(-1), "whole number"),
        ("resolve_after_seconds", json!(1.5), "whole number"),
        ("reminder_seconds", json!(0), "from 1"),
        ("escalations", json!([{ "severity": "info", "after_seconds": 60 }]), "worse"),
        ("labels.team", json!(7), "must be a text"),
        ("runbook_url", json!("wiki"), "https://"),
        ("destination_ids", json!(["the hub"]), "UUIDs"),
        ("destination_ids", json!([nobody]), &nobody.to_string()),
        // It is there, and looks as if it were not.
        ("destination_ids", json!([stranger.destination]), "there is no"),
        ("destination_ids", json!([house.destination, archived]), "archived"),
        ("treshold", json!(80), "there are name, metric, devices"),
    ] {
        let mut rule = cold("broken");
        let mut place = &mut rule;
        for name in member.split('.') {
            place = &mut place[name];
        }
        *place = value;
        for (method, path) in [(Method::POST, "/api/rules"), (Method::PATCH, path(&made).as_str())] {
            let problem = assert_problem(&call(&server, method.clone(), path, &key, &rule).await, 400);
            assert_eq!(problem["member"], member, "{problem}");
            assert!(problem["detail"].as_str().unwrap().contains(said), "{problem}");
        }
    }
    for missing in ["name", "metric", "severity", "condition"] {
        let mut rule = cold("broken");
        rule.as_object_mut().unwrap().remove(missing);
        let problem = assert_problem(&call(&server, Method::POST, "/api/rules", &key, &rule).await, 400);
        assert_eq!(
            (&problem["member"], true),
            (&json!(missing), problem["detail"].to_string().contains("missing"))
        );
    }
    for (method, path) in [(Method::POST, "/api/rules".to_owned()), (Method::PATCH, path(&made))] {
        let taken = json!({ "name": "a-hot" });
        let body = if method == Method::POST { cold("a-hot") } else { taken };
        let problem = assert_problem(&call(&server, method.clone(), &path, &key, &body).await, 409);
        assert_eq!(problem["member"], "name");
        let answer = send(server.request(method, &path).bearer_auth(&key).body("{\"name\":")).await;
        assert!(assert_problem(&answer, 400)["detail"].as_str().unwrap().contains("not JSON"));
    }
    assert_eq!(count(&database.owner, "SELECT count(*) FROM rules WHERE tenant_id = 1").await, 2);
    assert_eq!(server.get(&path(&made), &key).await.json()["version"], 1);

    // A destination that was archived meanwhile is in no other change's way.
    let routed = json!({ "destination_ids": [house.destination] });
    call(&server, Method::PATCH, &path(&made), &key, &routed).await;
    database.owner.execute(archive, &[&house.destination]).await.unwrap();
    let answer = call(&server, Method::PATCH, &path(&made), &key, &json!({ "severity": "info" })).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["version"]), (200, &json!(3)));
}

#[tokio::test]
async fn a_rule_of_another_tenant_looks_like_one_that_is_not_there() {
    let (database, house, server, key) = ground().await;
    let stranger = House::build(&database.owner, "b").await;
    let theirs = key_with(&database.owner, stranger.tenant, &[Scope::Admin]).await;
    let points = json!({ "points": [{ "ts": 1, "value": 90 }] });
    for (key, rule) in [(&theirs, house.rule), (&key, Uuid::now_v7())] {
        for (method, tail, body) in [
            (Method::GET, "", &json!({})),
            (Method::PATCH, "", &json!({ "severity": "info" })),
            (Method::DELETE, "", &json!({})),
            (Method::POST, "/test", &points),
        ] {
            let answer = call(&server, method, &format!("/api/rules/{rule}{tail}"), key, body).await;
            assert_eq!(assert_problem(&answer, 404)["detail"], "there is no such rule");
        }
    }
    assert_eq!(names(&server.get("/api/rules?state=any", &theirs).await.json()), ["b-hot"]);
    // Each tenant has names of its own.
    create(&server, &theirs, &cold("a-hot")).await;
    assert_eq!(server.get(&format!("/api/rules/{}", house.rule), &key).await.json()["version"], 1);
}

#[tokio::test]
async fn who_may_read_may_not_change_and_who_may_write_may_not_read() {
    let (database, house, server, _) = ground().await;
    let writer = key_with(&database.owner, house.tenant, &[Scope::Write]).await;
    let one = format!("/api/rules/{}", house.rule);
    let test = json!({ "points": [{ "ts": 1, "value": 90 }] });
    let try_out = json!({ "rule": cold("cold"), "points": [{ "ts": 1, "value": 90 }] });
    for (method, path, body, scope, status) in [
        (Method::GET, "/api/rules".to_owned(), json!({}), "read", 200),
        (Method::GET, one.clone(), json!({}), "read", 200),
        (Method::POST, format!("{one}/test"), test, "read", 200),
        (Method::POST, "/api/rules/test".to_owned(), try_out, "read", 200),
        (Method::POST, "/api/rules".to_owned(), cold("cold"), "write", 201),
        (Method::PATCH, one.clone(), json!({ "severity": "info" }), "write", 200),
        (Method::DELETE, one.clone(), json!({}), "write", 200),
    ] {
        let (good, bad) = if scope == "read" { (&house.key, &writer) } else { (&writer, &house.key) };
        let refused = call(&server, method.clone(), &path, bad, &body).await;
        assert_eq!(assert_problem(&refused, 403)["scope"], scope, "{method} {path}");
        let nobody = send(server.request(method.clone(), &path).json(&body)).await;
        assert_problem(&nobody, 401);
        let answer = call(&server, method.clone(), &path, good, &body).await;
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
    }
}

#[tokio::test]
async fn a_rule_that_tells_nobody_is_loud_about_it() {
    let (database, house, server, key) = ground().await;
    let made = create(&server, &key, &cold("cold")).await;
    assert!(made["warnings"][0].as_str().unwrap().contains("nobody is told"), "{made}");
    let routed = json!({ "destination_ids": [house.destination] });
    let routed = call(&server, Method::PATCH, &path(&made), &key, &routed).await.json();
    assert_eq!(routed["warnings"], json!([]));
    // Nobody touched the rule, and still nobody is told.
    database.owner.execute("UPDATE destinations SET archived_at = now()", &[]).await.unwrap();
    for rule in server.get("/api/rules", &key).await.json()["rules"].as_array().unwrap() {
        assert!(rule["warnings"][0].as_str().unwrap().contains("archived: nobody is told"), "{rule}");
    }
    let archived = call(&server, Method::DELETE, &path(&made), &key, &json!({})).await.json();
    assert_eq!(archived["warnings"], json!([]), "an archived rule need not tell anybody");
}

#[tokio::test]
async fn a_list_of_rules_has_filters_and_pages() {
    let (database, _house, server, key) = ground().await;
    for number in 1..=4 {
        let mut rule = cold(&format!("cold {number}"));
        rule["metric"] = if number % 2 == 0 { "pressure" } else { "temperature" }.into();
        create(&server, &key, &rule).await;
    }
    let fault = "UPDATE rules SET state = 'faulted', fault = 'it panicked' WHERE name = 'cold 2'";
    database.owner.execute(fault, &[]).await.unwrap();
    database.owner.execute("UPDATE rules SET state = 'archived' WHERE name = 'cold 1'", &[]).await.unwrap();
    for (query, expected) in [
        ("", &["cold 4", "cold 3", "cold 2", "a-hot"][..]),
        ("?state=any", &["cold 4", "cold 3", "cold 2", "cold 1", "a-hot"]),
        ("?state=archived", &["cold 1"]),
        ("?state=faulted", &["cold 2"]),
        ("?state=active&metric=pressure", &["cold 4"]),
        ("?metric=pressure", &["cold 4", "cold 2"]),
        ("?name=cold%203", &["cold 3"]),
        ("?name=cold%201", &[]),
    ] {
        assert_eq!(names(&server.get(&format!("/api/rules{query}"), &key).await.json()), expected, "{query}");
    }
    let first = server.get("/api/rules?limit=3", &key).await.json();
    assert_eq!(names(&first), ["cold 4", "cold 3", "cold 2"]);
    assert_eq!(first["rules"][2]["fault"], "it panicked");
    let next = first["next"].as_str().unwrap();
    let second = server.get(&format!("/api/rules?limit=3&before={next}"), &key).await.json();
    assert_eq!((names(&second), &second["next"]), (vec!["a-hot"], &Value::Null));
    assert_problem(&server.get("/api/rules?state=opn", &key).await, 400);
    // A change gives a faulted rule another chance.
    let mended = call(&server, Method::PATCH, &path(&first["rules"][2]), &key, &json!({})).await.json();
    assert_eq!(
        (&mended["state"], &mended["fault"], &mended["version"]),
        (&json!("active"), &Value::Null, &json!(1))
    );
}
