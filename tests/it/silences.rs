//! Silences: made, listed, ended, on the record; and what can't be silenced.

use serde_json::{Value, json};
use tokio_postgres::Client;
use uuid::Uuid;
use watchbell::api::scope::Scope;
use watchbell::runtime::Roles;

use super::support::app::{TestApp, reading};
use super::support::command::watchbell;
use super::support::database::TestDatabase;
use super::support::house::{House, key_with};
use super::support::server::{TestServer, assert_problem};

/// A house, a key of it that may write, and the service.
async fn house(name: &str) -> (TestDatabase, House, String, TestServer) {
    let database = TestDatabase::new().await;
    let house = House::build(&database.owner, name).await;
    let writer = key_with(&database.owner, house.tenant, &[Scope::Read, Scope::Write]).await;
    let server = TestServer::start(&database.config).await;
    (database, house, writer, server)
}

fn of_north() -> Value {
    json!({ "devices": { "pattern": "pump-*", "tags": { "site": "north" } }, "duration_seconds": 3600, "reason": "service" })
}

async fn actions(owner: &Client) -> Vec<(String, String, String, Option<String>)> {
    let query = "SELECT action, target, actor, reason FROM admin_actions WHERE action LIKE 'silence.%' ORDER BY action_id";
    let rows = owner.query(query, &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1), row.get(2), row.get(3))).collect()
}

async fn config_version(owner: &Client) -> i64 {
    owner.query_one("SELECT version FROM config_version", &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn a_silence_is_made_shown_and_ended_and_each_change_is_on_the_record() {
    let (database, house, writer, server) = house("a").await;
    let mut wish = of_north();
    wish["rule_id"] = json!(house.rule);
    let version = config_version(&database.owner).await;
    let made = server.post("/api/silences", &writer, &wish).await;
    assert_eq!(made.status, 201, "{made:?}");
    let silence = made.json();
    let id = silence["silence_id"].as_str().unwrap().to_owned();
    assert_eq!(made.header("location"), format!("/api/silences/{id}"));
    assert_eq!(silence["devices"], wish["devices"]);
    assert_eq!((&silence["state"], &silence["rule"]), (&json!("active"), &json!("a-hot")));
    assert!(silence["created_by"].as_str().unwrap().starts_with("key test ("), "{silence}");
    let time = |name: &str| silence[name].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert_eq!(time("ends_at").duration_since(time("starts_at")).as_secs(), 3600);
    let after = config_version(&database.owner).await;
    assert!(after > version, "detection hears of it");
    let path = format!("/api/silences/{id}");
    assert_eq!(server.get(&path, &writer).await.json(), silence);

    let ended = server.delete(&path, &writer).await;
    assert_eq!(ended.status, 200, "{ended:?}");
    let ended = ended.json();
    assert_eq!((&ended["state"], &ended["ended_by"]), (&json!("ended"), &silence["created_by"]));
    assert!(config_version(&database.owner).await > after, "detection hears of that, too");
    assert_eq!(server.delete(&path, &writer).await.json(), ended, "ending it twice changes nothing");
    let who = silence["created_by"].as_str().unwrap().to_owned();
    assert_eq!(
        actions(&database.owner).await,
        [
            ("silence.created".to_owned(), id.clone(), who.clone(), Some("service".to_owned())),
            ("silence.ended".to_owned(), id, who, None),
        ]
    );
}

#[tokio::test]
async fn active_silences_come_first_then_pending_then_ended_ones_page_by_page() {
    let (database, _, writer, server) = house("a").await;
    let mut ids = Vec::new();
    for (starts, ends) in [(-2, -1), (1, 2), (-1, 1), (-4, -3), (2, 3), (-1, 2)] {
        let id = Uuid::now_v7();
        let insert = "INSERT INTO silences (silence_id, tenant_id, device_pattern, starts_at, ends_at, created_by, reason)
             SELECT $1, tenant_id, 'pump-*', now() + $2::int * interval '1 hour', now() + $3::int * interval '1 hour', 'me', 'x'
             FROM tenants";
        database.owner.execute(insert, &[&id, &starts, &ends]).await.unwrap();
        ids.push(id.to_string());
    }
    let [ended, pending, active, older_ended, later_pending, newer_active] = ids.try_into().unwrap();
    let listed = async |query: &str| {
        let page = server.get(&format!("/api/silences?{query}"), &writer).await.json();
        let ids = page["silences"].as_array().unwrap().iter();
        let ids: Vec<String> = ids.map(|one| one["silence_id"].as_str().unwrap().to_owned()).collect();
        (ids, page["next"].as_str().map(ToOwned::to_owned))
    };
    let expected = [&newer_active, &active, &later_pending, &pending, &older_ended, &ended].map(Clone::clone);
    assert_eq!(listed("limit=6").await, (expected.to_vec(), None));
    let (mut seen, mut query) = (Vec::new(), "limit=1".to_owned());
    loop {
        let (page, next) = listed(&query).await;
        seen.extend(page);
        let Some(next) = next else { break };
        query = format!("limit=1&before={next}");
    }
    assert_eq!(seen, expected);
    assert_eq!(listed("state=active").await.0, expected[..2]);
    assert_eq!(listed("state=pending").await.0, expected[2..4]);
    assert_eq!(listed("state=ended").await.0, expected[4..]);
    assert_problem(&server.get("/api/silences?state=over", &writer).await, 400);

    let path = format!("/api/silences/{later_pending}");
    assert_eq!(server.delete(&path, &writer).await.json()["state"], "ended", "before it has begun");
}

#[tokio::test]
async fn what_must_not_be_silenced_is_refused_and_named() {
    let (database, house, writer, server) = house("a").await;
    let stranger = House::build(&database.owner, "stranger").await;
    let now = jiff::Timestamp::now();
    let (hour_ago, in_an_hour) =
        (now - jiff::SignedDuration::from_hours(1), now + jiff::SignedDuration::from_hours(1));
    for (field, value, named) in [
        ("devices", Value::Null, "nobody silences everything"),
        ("devices", json!({}), "nobody silences everything"),
        ("devices", json!({ "pattern": "**", "tags": {} }), "nobody silences everything"),
        ("devices", json!({ "pattern": "" }), "`devices.pattern`"),
        ("devices", json!({ "tags": { "site": 1 } }), "JSON object"),
        ("devices", json!({ "ids": ["pump-1"] }), "`ids`"),
        ("reason", Value::Null, "JSON object"),
        ("reason", json!("  "), "`reason`"),
        ("duration_seconds", json!(0), "`duration_seconds`"),
        ("duration_seconds", json!(-1), "JSON object"),
        ("duration_seconds", json!(32_000_000), "`duration_seconds`"),
        ("duration_seconds", Value::Null, "`ends_at` must be given"),
        ("ends_at", json!(in_an_hour), "not both"),
        ("starts_at", json!(now - jiff::SignedDuration::from_hours(2)), "in the future"),
        ("starts_at", json!("yesterday"), "JSON object"),
        ("rule_id", json!(stranger.rule), "`rule_id` must be the id of a rule that is there"),
        ("rule_id", json!(Uuid::now_v7()), "`rule_id` must be the id of a rule that is there"),
        ("until", json!(in_an_hour), "`until`"),
    ] {
        let mut wish = of_north();
        wish[field] = value;
        let answer = server.post("/api/silences", &writer, &wish).await;
        let problem = assert_problem(&answer, 400);
        assert!(problem["detail"].as_str().unwrap().contains(named), "{wish}: {problem}");
    }
    let mut over = of_north();
    over["duration_seconds"] = Value::Null;
    over["ends_at"] = json!(hour_ago);
    assert_problem(&server.post("/api/silences", &writer, &over).await, 400);
    let mut of_no_reason = of_north();
    of_no_reason.as_object_mut().unwrap().remove("reason");
    let problem = assert_problem(&server.post("/api/silences", &writer, &of_no_reason).await, 400);
    assert!(problem["detail"].as_str().unwrap().contains("`reason`"), "{problem}");
    database.owner.execute("UPDATE rules SET state = 'archived'", &[]).await.unwrap();
    let mut archived = of_north();
    archived["rule_id"] = json!(house.rule);
    assert_problem(&server.post("/api/silences", &writer, &archived).await, 400);
    let count = "SELECT count(*) FROM silences";
    assert_eq!(database.owner.query_one(count, &[]).await.unwrap().get::<_, i64>(0), 0);
    assert_eq!(actions(&database.owner).await, []);
}

#[tokio::test]
async fn only_a_writer_of_the_tenant_silences_and_a_foreign_silence_is_not_there() {
    let (database, ours, writer, server) = house("ours").await;
    let theirs = House::build(&database.owner, "theirs").await;
    let stranger = key_with(&database.owner, theirs.tenant, &[Scope::Admin]).await;
    let made = server.post("/api/silences", &writer, &of_north()).await.json();
    let path = format!("/api/silences/{}", made["silence_id"].as_str().unwrap());
    assert_problem(&server.post("/api/silences", &ours.key, &of_north()).await, 403);
    assert_problem(&server.delete(&path, &ours.key).await, 403);
    assert_problem(&server.post("/api/silences", "nonsense", &of_north()).await, 401);
    assert_problem(&server.delete(&path, "nonsense").await, 401);
    let foreign = server.delete(&path, &stranger).await;
    assert_problem(&foreign, 404);
    let unknown = server.delete(&format!("/api/silences/{}", Uuid::now_v7()), &stranger).await;
    assert_eq!(foreign.text, unknown.text);
    assert_problem(&server.get(&path, &stranger).await, 404);
    assert_eq!(server.get("/api/silences", &stranger).await.json()["silences"], json!([]));
    assert_problem(&server.delete("/api/silences/1", &writer).await, 400);
    assert_eq!(server.get(&path, &ours.key).await.json(), made, "it is as it was");
}

#[tokio::test]
async fn two_people_who_end_a_silence_at_once_end_it_once() {
    let (database, house, writer, server) = house("a").await;
    let other = key_with(&database.owner, house.tenant, &[Scope::Admin]).await;
    for _ in 0..10 {
        let made = server.post("/api/silences", &writer, &of_north()).await.json();
        let path = format!("/api/silences/{}", made["silence_id"].as_str().unwrap());
        let (one, two) = tokio::join!(server.delete(&path, &writer), server.delete(&path, &other));
        assert_eq!((one.status.as_u16(), two.status.as_u16()), (200, 200));
        assert_eq!(one.json(), two.json(), "both hear the same");
    }
    let ended =
        actions(&database.owner).await.iter().filter(|(action, ..)| action == "silence.ended").count();
    assert_eq!(ended, 10);
}

#[tokio::test]
async fn the_commands_silence_list_and_end() {
    let (database, _, writer, server) = house("a").await;
    let url = secrecy::ExposeSecret::expose_secret(&database.config.database.url).to_owned();
    let run = async |arguments: &[&str]| watchbell(arguments, [("DATABASE_URL", &url)]).await;
    let create = ["silences", "create", "--tenant", "a", "--reason", "service"];
    let made =
        run(&[&create[..], &["--rule", "a-hot", "--tag", "site:north", "--for", "2h", "--json"]].concat())
            .await;
    assert_eq!(made.code, Some(0), "{made:?}");
    let made = made.json();
    assert_eq!((&made["rule"], &made["devices"]["tags"]), (&json!("a-hot"), &json!({ "site": "north" })));
    let id = made["silence_id"].as_str().unwrap();
    assert_eq!(server.get(&format!("/api/silences/{id}"), &writer).await.json(), made);
    let table = run(&["silences", "list", "--tenant", "a"]).await;
    assert!(table.out.contains(id) && table.out.contains("rule a-hot, site:north"), "{table:?}");

    for (arguments, code, named) in [
        (&["--for", "2h"][..], 2, "--rule"),
        (&["--rule", "a-hot"], 2, "--until"),
        (&["--rule", "cold", "--for", "2h"], 1, "`cold`"),
        (&["--device", "*", "--for", "2h"], 1, "nobody silences everything"),
        (&["--device", "pump-1", "--until", "2020-01-01T00:00:00Z"], 1, "future"),
        (&["--device", "pump-1", "--for", "long"], 2, "90m"),
    ] {
        let refused = run(&[&create[..], arguments].concat()).await;
        assert_eq!(refused.code, Some(code), "{arguments:?}: {refused:?}");
        assert!(refused.errors.contains(named), "{arguments:?}: {refused:?}");
    }

    House::build(&database.owner, "other").await;
    let foreign = run(&["silences", "end", id, "--tenant", "other"]).await;
    assert_eq!(foreign.code, Some(1), "{foreign:?}");
    let ended = run(&["silences", "end", id, "--reason", "done early", "--json"]).await.json();
    assert_eq!(ended["state"], "ended");
    let last = actions(&database.owner).await.pop().unwrap();
    assert_eq!((last.0.as_str(), last.3.as_deref()), ("silence.ended", Some("done early")));
    let listed = run(&["silences", "list", "--tenant", "a", "--state", "active", "--json"]).await.json();
    assert_eq!(listed["silences"], json!([]));
}

#[tokio::test]
async fn what_is_silenced_is_kept_and_marked_and_nobody_is_told_until_the_silence_ends() {
    let mut app = TestApp::new(&[]).await;
    app.start(Roles::all()).await;
    let address = app.running.as_ref().unwrap().api_address.unwrap();
    let wish = json!({ "devices": { "pattern": "pump-*" }, "duration_seconds": 3600, "reason": "service" });
    let url = format!("http://{address}/api/silences");
    let client = reqwest::Client::new();
    let made = client.post(&url).header("X-API-Key", &app.api_key).json(&wish).send().await.unwrap();
    assert_eq!(made.status(), 201);
    let silence: Value = made.json().await.unwrap();
    app.publish(Value::from(vec![
        reading("pump-1", "temperature", 91.0, 0),
        reading("fan-1", "temperature", 91.0, 0),
    ]))
    .await;
    app.wait_for_count("SELECT count(*) FROM alerts", 2).await;
    app.wait_for_count("SELECT count(*) FROM deliveries WHERE status = 'delivered'", 1).await;
    let silenced = app.get("/api/alerts?silenced=true").await;
    let alert = &silenced["alerts"][0];
    assert_eq!((&alert["device"], &alert["silence_id"]), (&json!("pump-1"), &silence["silence_id"]));
    assert_eq!(alert["told"], "nothing");
    let told = app.get("/api/alerts?silenced=false").await;
    assert_eq!(told["alerts"][0]["device"], "fan-1");
    assert_eq!(app.count("SELECT count(*) FROM notifications").await, 1);
    app.assert_verified().await;

    let id = silence["silence_id"].as_str().unwrap();
    let ended = client.delete(format!("{url}/{id}")).header("X-API-Key", &app.api_key).send().await.unwrap();
    assert_eq!(ended.status(), 200);
    let still = "SELECT count(*) FROM deliveries WHERE status = 'delivered' AND event = 'still_burning'";
    app.wait_for_count(still, 1).await;
    app.assert_verified().await;
    app.stop().await;
}
