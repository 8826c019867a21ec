//! Devices over HTTP and as commands: which there are, and their tags.

use reqwest::Method;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use watchbell::api::scope::Scope;

use crate::support::command::watchbell;
use crate::support::database::TestDatabase;
use crate::support::house::{House, key_with};
use crate::support::server::{Answer, TestServer, assert_problem, send};

async fn tag(server: &TestServer, key: &str, device: &str, tags: &Value) -> Answer {
    send(server.request(Method::PUT, &format!("/api/devices/{device}/tags")).bearer_auth(key).json(tags))
        .await
}

fn names(page: &Value) -> Vec<&str> {
    page["devices"].as_array().unwrap().iter().map(|device| device["device"].as_str().unwrap()).collect()
}

/// A tenant `a` with a device `a-pump` and those with these names; a server; and a key that may read and write.
async fn ground(devices: &[&str]) -> (TestDatabase, House, TestServer, String) {
    let database = TestDatabase::new().await;
    let house = House::build(&database.owner, "a").await;
    for device in devices {
        let insert = "INSERT INTO devices (tenant_id, external_id) VALUES ($1, $2)";
        database.owner.execute(insert, &[&house.tenant.0, device]).await.unwrap();
    }
    let server = TestServer::start(&database.config).await;
    let key = key_with(&database.owner, house.tenant, &[Scope::Read, Scope::Write]).await;
    (database, house, server, key)
}

async fn config_version(database: &TestDatabase) -> i64 {
    database.owner.query_one("SELECT version FROM config_version", &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn tags_are_replaced_by_whoever_may_and_stand_on_the_record() {
    let (database, house, server, key) = ground(&["hall 2/pump"]).await;
    let before = config_version(&database).await;
    let tags = json!({ "site": "north", "floor": "2" });
    let answer = tag(&server, &key, "hall%202%2Fpump", &tags).await;
    assert_eq!(answer.json(), json!({ "device": "hall 2/pump", "tags": tags }));
    // Detection compares it: rules and silences select anew.
    assert!(config_version(&database).await > before);
    let before = config_version(&database).await;
    tag(&server, &key, "hall%202%2Fpump", &tags).await;
    assert_eq!(config_version(&database).await, before, "the same tags again are no change");
    tag(&server, &key, "hall%202%2Fpump", &json!({ "site": "south" })).await;

    let page = server.get("/api/devices", &house.key).await.json();
    assert_eq!(names(&page), ["a-pump", "hall 2/pump"]);
    assert_eq!(page["devices"][1]["tags"], json!({ "site": "south" }));
    assert_eq!(page["devices"][0]["metrics"], json!(["temperature"]));
    for time in ["first_seen", "last_seen"] {
        assert!(page["devices"][0][time].as_str().unwrap().ends_with('Z'), "{page}");
    }
    let query =
        "SELECT actor, reason FROM admin_actions WHERE action = 'device.tagged' AND target = 'hall 2/pump'
                 ORDER BY action_id";
    let rows = database.owner.query(query, &[]).await.unwrap();
    assert_eq!(rows.len(), 2);
    assert!(rows[0].get::<_, &str>(0).starts_with("key test ("));
    assert_eq!(rows[1].get::<_, &str>(1), r#"{"floor":"2","site":"north"} to {"site":"south"}"#);
}

#[tokio::test]
async fn tags_that_cannot_be_used_are_refused_and_a_foreign_device_is_not_there() {
    let (database, house, server, key) = ground(&[]).await;
    let stranger = House::build(&database.owner, "b").await;
    let theirs = key_with(&database.owner, stranger.tenant, &[Scope::Admin]).await;
    for (tags, member) in [
        (json!({ "site": 1 }), "site"),
        (json!({ "site": "" }), "site"),
        (json!({ "site": "a\u{0}b" }), "site"),
        (json!(["site"]), ""),
        (Value::Null, ""),
    ] {
        let problem = assert_problem(&tag(&server, &key, "a-pump", &tags).await, 400);
        assert_eq!(problem["member"], member, "{problem}");
    }
    let good = json!({ "site": "north" });
    let foreign = assert_problem(&tag(&server, &theirs, "a-pump", &good).await, 404);
    let unknown = assert_problem(&tag(&server, &key, "nobody", &good).await, 404);
    assert_eq!(foreign, unknown);
    let reader = assert_problem(&tag(&server, &house.key, "a-pump", &good).await, 403);
    assert_eq!(reader["scope"], "write");
    assert_eq!(names(&server.get("/api/devices", &theirs).await.json()), ["b-pump"]);
    let tags = "SELECT count(*) FROM devices WHERE tags <> '{}'";
    assert_eq!(database.owner.query_one(tags, &[]).await.unwrap().get::<_, i64>(0), 0);
}

#[tokio::test]
async fn a_list_of_devices_has_filters_and_pages() {
    let (_database, _house, server, key) = ground(&["pump-1", "pump-2", "fan_1", "fanx1"]).await;
    tag(&server, &key, "pump-1", &json!({ "site": "north" })).await;
    tag(&server, &key, "fan_1", &json!({ "site": "south" })).await;
    for (query, expected) in [
        ("", &["a-pump", "fan_1", "fanx1", "pump-1", "pump-2"][..]),
        ("?pattern=pump-*", &["pump-1", "pump-2"]),
        ("?pattern=fan_1", &["fan_1"]),
        ("?pattern=*pump", &["a-pump"]),
        ("?tag=site", &["fan_1", "pump-1"]),
        ("?tag=site=north", &["pump-1"]),
        ("?tag=site=north&pattern=fan*", &[]),
        ("?tag=floor", &[]),
    ] {
        assert_eq!(
            names(&server.get(&format!("/api/devices{query}"), &key).await.json()),
            expected,
            "{query}"
        );
    }
    let first = server.get("/api/devices?limit=2", &key).await.json();
    assert_eq!((names(&first), &first["next"]), (vec!["a-pump", "fan_1"], &json!("fan_1")));
    let second = server.get("/api/devices?limit=3&after=fan_1", &key).await.json();
    assert_eq!((names(&second), &second["next"]), (vec!["fanx1", "pump-1", "pump-2"], &Value::Null));
    assert_problem(&server.get("/api/devices?before=x", &key).await, 400);
}

#[tokio::test]
async fn the_commands_list_devices_and_tag_them() {
    let (database, ..) = ground(&["pump-1"]).await;
    let url = database.config.database.url.expose_secret().to_owned();
    let run = async |arguments: &[&str]| watchbell(arguments, [("DATABASE_URL", &url)]).await;
    let tagged = run(&["devices", "tag", "--tenant", "a", "pump-1", "site=north", "floor=2", "--json"]).await;
    assert_eq!(tagged.json(), json!({ "device": "pump-1", "tags": { "floor": "2", "site": "north" } }));
    let listed = run(&["devices", "list", "--tenant", "a", "--tag", "site=north", "--json"]).await;
    assert_eq!(names(&listed.json()), ["pump-1"]);
    let table = run(&["devices", "list", "--tenant", "a", "--pattern", "pump-*"]).await.out;
    assert!(table.contains("pump-1") && table.contains("floor=2 site=north"), "{table}");
    assert_eq!(run(&["devices", "tag", "--tenant", "a", "pump-1", "--clear"]).await.out, "pump-1  -\n");
    for (arguments, code, said) in [
        (&["devices", "tag", "--tenant", "a", "pump-1"][..], 2, "--clear"),
        (&["devices", "tag", "--tenant", "a", "pump-1", "site"], 1, "site=north"),
        (&["devices", "tag", "--tenant", "a", "pump-1", "a=1", "a=2"], 1, "twice"),
        (&["devices", "tag", "--tenant", "a", "pump-9", "a=1"], 1, "no device `pump-9`"),
        (&["devices", "list", "--tenant", "z"], 1, "no tenant `z`"),
    ] {
        let refused = run(arguments).await;
        assert_eq!(refused.code, Some(code), "{refused:?}");
        assert!(refused.errors.contains(said), "{refused:?}");
    }
}
