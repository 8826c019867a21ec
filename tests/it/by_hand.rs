//! What people say of an alert: that they take it on, that it is over. And who hears of that.

use reqwest::Method;
use serde_json::{Value, json};
use tokio_postgres::Client;
use uuid::Uuid;
use watchbell::api::scope::Scope;
use watchbell::config::Config;
use watchbell::runtime::Roles;

use super::support::app::{TestApp, temperature};
use super::support::command::watchbell;
use super::support::database::TestDatabase;
use super::support::house::{House, key_with};
use super::support::server::{TestServer, assert_problem, send};

/// A house with an open alert, a key of it that may write, and the service.
struct Scene {
    database: TestDatabase,
    house: House,
    writer: String,
    server: TestServer,
    alert: Uuid,
}

impl Scene {
    async fn new() -> Self {
        let database = TestDatabase::new().await;
        let house = House::build(&database.owner, "a").await;
        let writer = key_with(&database.owner, house.tenant, &[Scope::Write]).await;
        let alert = house.alert(&database.owner).await;
        let server = TestServer::start(&database.config).await;
        Self { database, house, writer, server, alert }
    }

    fn owner(&self) -> &Client {
        &self.database.owner
    }

    fn path(&self, word: &str) -> String {
        format!("/api/alerts/{}/{word}", self.alert)
    }

    /// The destination was told that the alert is open.
    async fn tell(&self) {
        let told = "UPDATE alerts SET told = 'open', told_at = now() - interval '1 hour', told_destination_ids = ARRAY[$1::uuid]";
        self.owner().execute(told, &[&self.house.destination]).await.unwrap();
    }

    /// Its row.
    async fn row(&self) -> Value {
        let query = "SELECT to_jsonb(a) FROM alerts a WHERE alert_id = $1";
        self.owner().query_one(query, &[&self.alert]).await.unwrap().get(0)
    }

    /// Its timeline as `kind by whom: note`.
    async fn timeline(&self) -> Vec<String> {
        let query = "SELECT kind || coalesce(': ' || note, '') FROM alert_events WHERE alert_id = $1 ORDER BY event_id";
        let rows = self.owner().query(query, &[&self.alert]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    async fn count(&self, query: &str) -> i64 {
        self.owner().query_one(query, &[]).await.unwrap().get(0)
    }
}

const NOTIFICATIONS: &str = "SELECT count(*) FROM notifications";
const OWED: &str = "SELECT count(*) FROM outbox";
const VERSION: &str = "SELECT alerts_version FROM config_version";

#[tokio::test]
async fn an_alert_is_taken_on_and_resolved_with_who_when_and_what_they_said() {
    let scene = Scene::new().await;
    let version = scene.count(VERSION).await;
    let taken =
        scene.server.post(&scene.path("acknowledge"), &scene.writer, &json!({ "note": "on my way" })).await;
    assert_eq!(taken.status, 200, "{taken:?}");
    let taken = taken.json();
    assert_eq!(taken["alert"]["state"], "acknowledged");
    let who = taken["alert"]["acknowledged_by"].as_str().unwrap().to_owned();
    assert!(who.starts_with("key test ("), "{who}");
    assert!(taken["alert"]["acknowledged_at"].is_string() && taken["alert"]["resolved_at"].is_null());
    assert_eq!(scene.count(VERSION).await, version + 1, "detection hears of it");
    assert_eq!(scene.row().await["changed_version"], version + 1);

    let resolved = scene.server.post(&scene.path("resolve"), &scene.writer, &json!({})).await.json();
    assert_eq!(
        (&resolved["alert"]["state"], &resolved["alert"]["resolved_by"]),
        (&json!("resolved"), &json!(who))
    );
    assert_eq!(resolved["alert"]["acknowledged_by"], who.as_str());
    let events = resolved["events"].as_array().unwrap();
    let lines: Vec<_> =
        events.iter().map(|e| (e["kind"].as_str().unwrap(), e["actor"].as_str().unwrap())).collect();
    assert_eq!(lines, [("opened", "detector"), ("acknowledged", who.as_str()), ("resolved", who.as_str())]);
    assert_eq!(events[1]["note"], "on my way");
    assert_eq!(scene.count(NOTIFICATIONS).await, 0, "nobody was told that it is open");
}

#[tokio::test]
async fn saying_it_twice_changes_nothing_and_what_is_over_is_not_taken_on() {
    let scene = Scene::new().await;
    scene.tell().await;
    let say = async |word: &str| {
        let empty = scene.server.request(Method::POST, &scene.path(word)).bearer_auth(&scene.writer);
        send(empty).await
    };
    for (word, lines) in [("acknowledge", 2), ("resolve", 3)] {
        let first = say(word).await;
        assert_eq!(first.status, 200, "{first:?}");
        let (row, version) = (scene.row().await, scene.count(VERSION).await);
        let second = say(word).await;
        assert_eq!((second.status.as_u16(), second.json()), (200, first.json()));
        assert_eq!((scene.row().await, scene.count(VERSION).await), (row, version));
        assert_eq!(scene.timeline().await.len(), lines);
    }
    assert_eq!(scene.count(NOTIFICATIONS).await, 1, "told once");
    let problem = assert_problem(&say("acknowledge").await, 409);
    assert!(problem["detail"].as_str().unwrap().contains("resolved"), "{problem}");
    assert_eq!(scene.timeline().await.len(), 3);
}

#[tokio::test]
async fn only_a_writer_of_the_tenant_says_something_and_a_foreign_alert_is_not_there() {
    let scene = Scene::new().await;
    let theirs = House::build(scene.owner(), "theirs").await;
    let stranger = key_with(scene.owner(), theirs.tenant, &[Scope::Admin]).await;
    let before = scene.row().await;
    for word in ["acknowledge", "resolve"] {
        let path = scene.path(word);
        let nothing = json!({});
        assert_problem(&scene.server.post(&path, &scene.house.key, &nothing).await, 403);
        assert_problem(&scene.server.post(&path, "nonsense", &nothing).await, 401);
        let foreign = scene.server.post(&path, &stranger, &nothing).await;
        assert_problem(&foreign, 404);
        let unknown = format!("/api/alerts/{}/{word}", Uuid::now_v7());
        assert_eq!(scene.server.post(&unknown, &stranger, &nothing).await.text, foreign.text);
        assert_problem(
            &scene.server.post(&format!("/api/alerts/1/{word}"), &scene.writer, &nothing).await,
            400,
        );
        for bad in [
            json!([]),
            json!({ "note": 1 }),
            json!({ "note": " " }),
            json!({ "reason": "x" }),
            json!({ "note": "x".repeat(1001) }),
        ] {
            assert_problem(&scene.server.post(&path, &scene.writer, &bad).await, 400);
        }
        let large = json!({ "note": "x".repeat(1_100_000) });
        assert_problem(&scene.server.post(&path, &scene.writer, &large).await, 413);
        let get = scene.server.get(&path, &scene.writer).await;
        assert_problem(&get, 405);
    }
    assert_eq!(scene.row().await, before);
    assert_eq!(scene.timeline().await, ["opened"]);
}

#[tokio::test]
async fn of_two_people_at_once_both_keep_their_word() {
    let scene = Scene::new().await;
    let other = key_with(scene.owner(), scene.house.tenant, &[Scope::Admin]).await;
    scene.tell().await;
    let (acknowledge, resolve, nothing) = (scene.path("acknowledge"), scene.path("resolve"), json!({}));
    let (one, two) = tokio::join!(
        scene.server.post(&acknowledge, &scene.writer, &nothing),
        scene.server.post(&acknowledge, &other, &nothing)
    );
    assert_eq!((one.status.as_u16(), two.status.as_u16()), (200, 200));
    assert_eq!(one.json()["alert"]["acknowledged_by"], two.json()["alert"]["acknowledged_by"]);
    assert_eq!(scene.timeline().await, ["opened", "acknowledged"]);
    let (one, two) = tokio::join!(
        scene.server.post(&resolve, &scene.writer, &nothing),
        scene.server.post(&resolve, &other, &nothing)
    );
    assert_eq!((one.status.as_u16(), two.status.as_u16()), (200, 200));
    assert_eq!(one.json()["alert"]["resolved_by"], two.json()["alert"]["resolved_by"]);
    assert_eq!(scene.timeline().await, ["opened", "acknowledged", "resolved"]);
    assert_eq!((scene.count(NOTIFICATIONS).await, scene.count(OWED).await), (1, 1), "told once");

    let mut taken_on = 0;
    for _ in 0..10 {
        let alert = scene.house.alert(scene.owner()).await;
        let path = |word: &str| format!("/api/alerts/{alert}/{word}");
        let (acknowledge, resolve) = (path("acknowledge"), path("resolve"));
        let (one, two) = tokio::join!(
            scene.server.post(&acknowledge, &scene.writer, &nothing),
            scene.server.post(&resolve, &other, &nothing)
        );
        assert_eq!((two.status.as_u16(), &two.json()["alert"]["state"]), (200, &json!("resolved")));
        let words = scene.server.get(&format!("/api/alerts/{alert}"), &scene.house.key).await.json();
        let words = words["events"].as_array().unwrap().len();
        match one.status.as_u16() {
            200 => assert_eq!(words, 3),
            status => assert_eq!((status, words), (409, 2)),
        }
        taken_on += i32::from(one.status == 200);
    }
    println!("{taken_on} of 10 were taken on before they were resolved");
}

#[tokio::test]
async fn those_who_were_told_that_it_is_open_are_told_that_it_is_over() {
    let mut scene = Scene::new().await;
    let environment = [
        ("DATABASE_URL", secrecy::ExposeSecret::expose_secret(&scene.database.config.database.url)),
        ("WATCHBELL__API__PUBLIC_URL", "https://watchbell.example/"),
    ];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    scene.server = TestServer::start(&Config::from_sources(None, environment).unwrap()).await;
    scene.tell().await;
    let add = "INSERT INTO destinations (destination_id, tenant_id, name, kind, settings, archived_at)
         VALUES ($1, $2, $3, 'nats', '{}', CASE WHEN $4::bool THEN now() END)";
    let (gone, events) = (Uuid::now_v7(), Uuid::now_v7());
    for (id, name, archived) in [(gone, "gone", true), (events, "events", false)] {
        scene.owner().execute(add, &[&id, &scene.house.tenant.0, &name, &archived]).await.unwrap();
    }
    let stranger = House::build(scene.owner(), "stranger").await;
    let told = vec![scene.house.destination, gone, events, stranger.destination];
    let tell =
        "UPDATE alerts SET told_destination_ids = $1, episodes = 3, severity = 'warning', points = '[]'";
    scene.owner().execute(tell, &[&told]).await.unwrap();

    let resolved =
        scene.server.post(&scene.path("resolve"), &scene.writer, &json!({ "note": "mended" })).await.json();
    assert_eq!(resolved["alert"]["told"], "resolved");
    assert_eq!(resolved["alert"]["told_at"], resolved["alert"]["resolved_at"]);
    assert_eq!(resolved["alert"]["link"], format!("https://watchbell.example/alerts/{}", scene.alert));
    let deliveries = resolved["deliveries"].as_array().unwrap();
    let mut heard: Vec<_> =
        deliveries.iter().map(|d| (d["destination"].as_str(), d["event"].as_str())).collect();
    heard.sort_unstable();
    assert_eq!(heard, [(Some("a-hub"), Some("resolved")), (Some("events"), Some("resolved"))]);
    let query = "SELECT n.body, n.episode, o.lane_class::int, n.xid = a.xid
                 FROM notifications n JOIN outbox o USING (notification_id)
                 JOIN alert_events a ON a.alert_id = n.alert_id AND a.kind = 'resolved'";
    let rows = scene.owner().query(query, &[]).await.unwrap();
    assert_eq!(rows.len(), 2);
    for row in rows {
        let body: Value = serde_json::from_str(row.get(0)).unwrap();
        let alert = if body["payload"].is_null() { &body["alert"] } else { &body["payload"] };
        assert_eq!((&alert["state"], &alert["episode"]), (&json!("resolved"), &json!(3)), "{body}");
        assert_eq!(alert["by"], resolved["alert"]["resolved_by"], "{body}");
        assert_eq!(alert["link"], resolved["alert"]["link"], "{body}");
        assert!(alert["summary"].as_str().unwrap().contains("a-pump"), "{body}");
        assert_eq!((row.get::<_, i32>(1), row.get::<_, i32>(2)), (3, 4));
        assert!(row.get::<_, bool>(3), "in the transaction that resolved it");
    }
}

#[tokio::test]
async fn who_can_not_be_told_is_not_resolved_behind_their_back() {
    let scene = Scene::new().await;
    scene.tell().await;
    let owe = "owe_notifications(uuid[], uuid[], uuid[], text[], int[], smallint[], text[], uuid[], uuid[], uuid[])";
    let revoke = format!("REVOKE EXECUTE ON FUNCTION {owe} FROM watchbell_api");
    scene.owner().batch_execute(&revoke).await.unwrap();
    let before = scene.row().await;
    assert_problem(&scene.server.post(&scene.path("resolve"), &scene.writer, &json!({})).await, 500);
    assert_eq!((scene.row().await, scene.timeline().await), (before, vec!["opened".to_owned()]));
    let grant = format!("GRANT EXECUTE ON FUNCTION {owe} TO watchbell_api");
    scene.owner().batch_execute(&grant).await.unwrap();
    assert_eq!(scene.server.post(&scene.path("resolve"), &scene.writer, &json!({})).await.status, 200);
    assert_eq!((scene.count(NOTIFICATIONS).await, scene.count(OWED).await), (1, 1));
}

#[tokio::test]
async fn who_heard_that_it_is_over_already_does_not_hear_it_again() {
    let scene = Scene::new().await;
    scene.tell().await;
    // It was resolved, told so, and fired again within its cooldown: nobody was told that.
    scene.owner().execute("UPDATE alerts SET told = 'resolved', episodes = 2", &[]).await.unwrap();
    assert_eq!(scene.server.post(&scene.path("resolve"), &scene.writer, &json!({})).await.status, 200);
    assert_eq!(scene.count(NOTIFICATIONS).await, 0);
}

#[tokio::test]
async fn the_commands_list_show_acknowledge_and_resolve() {
    let scene = Scene::new().await;
    scene.tell().await;
    let url = secrecy::ExposeSecret::expose_secret(&scene.database.config.database.url).to_owned();
    let run = async |arguments: &[&str]| watchbell(arguments, [("DATABASE_URL", &url)]).await;
    let id = scene.alert.to_string();
    let listed = run(&["alerts", "list", "--tenant", "a", "--state", "open", "--json"]).await.json();
    assert_eq!(listed["alerts"][0]["alert_id"], id.as_str());
    let none = run(&["alerts", "list", "--tenant", "a", "--tag", "site:north", "--json"]).await.json();
    assert_eq!(none["alerts"], json!([]));
    let table = run(&["alerts", "list", "--tenant", "a"]).await;
    assert!(table.out.contains(&id) && table.out.contains("a-pump"), "{table:?}");

    let taken = run(&["alerts", "acknowledge", &id, "--note", "by hand"]).await;
    assert_eq!((taken.code, taken.out.as_str()), (Some(0), format!("alert {id} is acknowledged\n").as_str()));
    let again = run(&["alerts", "acknowledge", &id]).await;
    assert!(again.code == Some(0) && again.out.contains("since before"), "{again:?}");
    let resolved = run(&["alerts", "resolve", &id, "--tenant", "a", "--json"]).await.json();
    assert_eq!(resolved["alert"]["state"], "resolved");
    assert_eq!(scene.count(OWED).await, 1, "those who were told are told");
    let over = run(&["alerts", "acknowledge", &id]).await;
    assert!(over.code == Some(1) && over.line().contains("is resolved"), "{over:?}");

    let shown = run(&["alerts", "show", &id]).await;
    assert!(shown.out.contains("by hand") && shown.out.contains("a-hub"), "{shown:?}");
    let shown = run(&["alerts", "show", &id, "--json"]).await.json();
    let seen = scene.server.get(&format!("/api/alerts/{id}"), &scene.house.key).await.json();
    assert_eq!(shown, seen);
    House::build(scene.owner(), "other").await;
    for refused in [
        &["alerts", "show", &id, "--tenant", "other"][..],
        &["alerts", "resolve", &id, "--tenant", "other"],
        &["alerts", "show", &Uuid::now_v7().to_string()],
        &["alerts", "list", "--tenant", "nobody"],
    ] {
        let refused = run(refused).await;
        assert!(refused.code == Some(1) && refused.line().contains("there is no"), "{refused:?}");
    }
}

#[tokio::test]
async fn the_receiver_hears_that_it_is_over_while_the_service_runs() {
    let mut app = TestApp::new(&[]).await;
    app.start(Roles::all()).await;
    app.publish(temperature(91.0, 1)).await;
    app.wait_for_count("SELECT count(*) FROM deliveries WHERE status = 'delivered'", 1).await;
    let alerts = app.get("/api/alerts").await;
    let alert = alerts["alerts"][0].clone();
    assert_eq!((&alert["state"], &alert["told"]), (&json!("open"), &json!("open")), "{alert}");
    let id = alert["alert_id"].as_str().unwrap();
    let address = app.running.as_ref().unwrap().api_address.unwrap();
    let post = reqwest::Client::new()
        .post(format!("http://{address}/api/alerts/{id}/resolve"))
        .header("X-API-Key", &app.api_key);
    assert_eq!(post.send().await.unwrap().status(), 200);
    app.wait_for_count("SELECT count(*) FROM deliveries WHERE status = 'delivered'", 2).await;
    let heard: Vec<Value> =
        app.hub.received().iter().map(|post| serde_json::from_slice(&post.body).unwrap()).collect();
    assert_eq!(heard[0]["event_type"], "alert.opened");
    assert_eq!(heard[1]["event_type"], "alert.resolved");
    assert_eq!(heard[1]["payload"]["alert_id"], id);
    assert_eq!(heard[1]["payload"]["value"], heard[0]["payload"]["value"]);
    // What detection does next starts from there: a clear reading is no second end.
    app.publish(temperature(20.0, 0)).await;
    app.wait_for_count("SELECT sum(count)::bigint FROM readings_1m", 2).await;
    assert_eq!(app.count("SELECT count(*) FROM notifications").await, 2);
    assert_eq!(app.count("SELECT count(*) FROM alert_events WHERE kind = 'resolved'").await, 1);
    app.assert_verified().await;
    app.stop().await;
}
