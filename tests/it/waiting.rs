//! What waits behind another: who sees it, when its horizon begins, and when it is due.

use reqwest::Method;
use secrecy::ExposeSecret;
use tokio_postgres::Client;
use uuid::Uuid;
use watchbell::db::pool::{Pool, Role};
use watchbell::db::tenant_scope;
use watchbell::dev::hub::Answer;
use watchbell::model::ids::{DestinationId, NotificationId};
use watchbell::outbox::expire::{Shut, expire};
use watchbell::outbox::redrive::{Reason, Redriven, redrive};

use super::support::app::TestApp;
use super::support::command::watchbell;
use super::support::courier::Courier;
use super::support::database::TestDatabase;
use super::support::house::House;
use super::support::server::{TestServer, send};

/// Makes one wait for another, as an enqueue does.
async fn make_wait(owner: &Client, later: Uuid, earlier: Uuid) {
    let block = "INSERT INTO outbox_blocked SELECT $2, notification_id, tenant_id FROM outbox WHERE notification_id = $1";
    owner.execute(block, &[&later, &earlier]).await.unwrap();
    let wait = "UPDATE outbox SET next_attempt_at = 'infinity' WHERE notification_id = $1";
    owner.execute(wait, &[&later]).await.unwrap();
}

/// Takes one out of the outbox, and releases what waited for it.
async fn leave(owner: &Client, id: Uuid) {
    owner.execute("DELETE FROM outbox WHERE notification_id = $1", &[&id]).await.unwrap();
    owner.execute("SELECT release_waiting(ARRAY[$1::uuid])", &[&id]).await.unwrap();
}

/// For how many others one waits.
async fn waits_for(owner: &Client, id: Uuid) -> i64 {
    let query = "SELECT count(*) FROM outbox_blocked WHERE notification_id = $1";
    owner.query_one(query, &[&id]).await.unwrap().get(0)
}

/// When one is due, in seconds from now; `None`: it waits for others.
async fn due_in(owner: &Client, id: Uuid) -> Option<f64> {
    let query = "SELECT CASE WHEN isfinite(next_attempt_at) THEN extract(epoch FROM next_attempt_at - now())::float8 END
                 FROM outbox WHERE notification_id = $1";
    owner.query_one(query, &[&id]).await.unwrap().get(0)
}

#[tokio::test]
async fn what_waits_says_for_what_to_programs_and_people() {
    let database = TestDatabase::new().await;
    let house = House::build(&database.owner, "acme").await;
    let alert = house.alert(&database.owner).await;
    let earlier = house.notification(&database.owner, alert).await;
    let later = house.notification(&database.owner, alert).await;
    make_wait(&database.owner, later, earlier).await;
    let server = TestServer::start(&database.config).await;

    let listed = server.get("/api/deliveries", &house.key).await.json();
    let waits: Vec<_> = listed["deliveries"].as_array().unwrap().iter().map(|d| &d["waits_for"]).collect();
    assert_eq!(waits, [&serde_json::json!([earlier]), &serde_json::json!([])], "the newest first");
    let whole = server.get(&format!("/api/deliveries/{later}"), &house.key).await.json();
    assert_eq!(whole["delivery"]["waits_for"], serde_json::json!([earlier]));
    assert!(whole["delivery"]["next_attempt_at"].is_null());

    let visit = async |path: String| {
        send(server.request(Method::GET, &path).basic_auth("anybody", Some(&house.key))).await.text
    };
    let link = format!("href=\"/deliveries/{earlier}\"");
    let page = visit(format!("/alerts/{alert}")).await;
    assert!(page.contains(&format!("{link}>waits for an earlier one")), "{page}");
    let page = visit(format!("/deliveries/{later}")).await;
    assert!(page.contains("<dt>Waits for</dt>") && page.contains(&link), "{page}");
    let page = visit(format!("/deliveries/{earlier}")).await;
    assert!(!page.contains("Waits for"), "{page}");

    let url = database.config.database.url.expose_secret();
    let run = async |arguments: &[&str]| {
        let finished = watchbell(arguments, [("DATABASE_URL", url)]).await;
        assert_eq!(finished.code, Some(0), "{finished:?}");
        finished.out
    };
    let says = format!("waits for {earlier}");
    let later = later.to_string();
    for arguments in
        [&["deliveries", "list", "--tenant", "acme"][..], &["alerts", "show", &alert.to_string()][..]]
    {
        let out = run(arguments).await;
        let saying: Vec<_> = out.lines().filter(|line| line.contains(&says)).collect();
        assert!(saying.len() == 1 && saying[0].starts_with(&later), "{out}");
    }
    let out = run(&["deliveries", "show", &later]).await;
    assert!(out.contains(&format!("waits for     {earlier}")), "{out}");
}

/// The rows that this transaction has read of what is owed and its chains.
const FETCHED: &str =
    "SELECT sum(coalesce(idx_tup_fetch, 0) + seq_tup_read)::int8 FROM pg_stat_xact_user_tables
    WHERE relname IN ('chains', 'outbox') OR relname LIKE 'notification%'";

/// The function keeps the plans that were made when it was first called, mostly while next to nothing is owed.
#[tokio::test]
async fn what_leaves_releases_what_waited_without_a_walk_over_all_that_is_owed() {
    let app = TestApp::new(&[]).await;
    app.owner().batch_execute("VACUUM ANALYZE outbox, outbox_blocked").await.unwrap();
    let mut worker = Pool::new(&app.config().database, Role::Worker, 1).unwrap().get().await.unwrap();
    let waiting = async |owed: usize| {
        let ids = app.owe(app.destination, owed).await;
        make_wait(app.owner(), ids[1], ids[0]).await;
        (ids[0], ids[1])
    };
    let (first, _) = waiting(2).await;
    leave(&worker, first).await;
    let (earlier, later) = waiting(5_000).await;
    let transaction = worker.transaction().await.unwrap();
    transaction.execute("SELECT release_waiting(ARRAY[$1::uuid])", &[&earlier]).await.unwrap();
    let fetched: i64 = transaction.query_one(FETCHED, &[]).await.unwrap().get(0);
    transaction.commit().await.unwrap();
    assert!(due_in(app.owner(), later).await.is_some());
    assert!(fetched < 100, "{fetched}");
}

/// The same holds for whoever owes something: what is owed already in its chains is looked up before.
#[tokio::test]
async fn what_is_owed_in_a_chain_is_found_without_a_walk_over_all_chains_and_all_that_is_owed() {
    let app = TestApp::new(&[]).await;
    app.owner().batch_execute("VACUUM ANALYZE chains, outbox, outbox_blocked, notifications").await.unwrap();
    let mut worker = Pool::new(&app.config().database, Role::Worker, 1).unwrap().get().await.unwrap();
    let owe = async |count: i32| {
        app.owe_very_many(app.destination, count, 0).await;
        let link = "INSERT INTO chains (destination_id, rule_id, series_id, tenant_id, last_notification_id)
            SELECT destination_id, destination_id, row_number() OVER (ORDER BY notification_id), tenant_id, notification_id
            FROM outbox ON CONFLICT DO NOTHING";
        app.owner().execute(link, &[]).await.unwrap();
    };
    // Its ten chains, with the alert that each is about: what was owed of it was never sent.
    let lock = "WITH ten AS (
            SELECT array_agg(destination_id) AS destinations, array_agg(rule_id) AS rules, array_agg(series_id) AS series,
                   array_agg(last_notification_id) AS alerts
            FROM (SELECT * FROM chains ORDER BY destination_id, rule_id, series_id LIMIT 10) AS c)
        SELECT count(*) FROM ten, lock_chains(destinations, rules, series, alerts)";
    owe(10).await;
    assert_eq!(worker.query_one(lock, &[]).await.unwrap().get::<_, i64>(0), 20);
    owe(5_000).await;
    let transaction = worker.transaction().await.unwrap();
    assert_eq!(transaction.query_one(lock, &[]).await.unwrap().get::<_, i64>(0), 20);
    let fetched: i64 = transaction.query_one(FETCHED, &[]).await.unwrap().get(0);
    assert!(fetched < 500, "{fetched}");
}

#[tokio::test]
async fn the_horizon_of_what_waited_begins_when_it_may_first_be_sent() {
    let app = TestApp::new(&[]).await;
    let ids = app.owe(app.destination, 2).await;
    make_wait(app.owner(), ids[1], ids[0]).await;
    let age = "UPDATE outbox SET enqueued_at = now() - interval '4 days' WHERE notification_id = $1";
    app.owner().execute(age, &[&ids[1]]).await.unwrap();
    let mut courier = Courier::new(&app.config()).await;
    app.hub.push_answer(Answer::ByTheRules);
    app.hub.set_default(Answer::status(503));
    courier.step_until(&app, "SELECT count(*) FROM outbox WHERE attempts > 1", 1).await;
    // How long it has been owed is not forgotten for that.
    let old = "SELECT count(*) FROM outbox WHERE enqueued_at < now() - interval '3 days'";
    assert_eq!(app.count(old).await, 1);
    app.hub.set_default(Answer::ByTheRules);
    courier.step_until(&app, "SELECT count(*) FROM outbox", 0).await;
    let outcomes = app.outcomes(ids[1]).await;
    assert_eq!((outcomes[0].as_str(), outcomes.last().unwrap().as_str()), ("retry", "delivered"));
    app.assert_verified().await;
}

#[tokio::test]
async fn what_waited_for_one_that_expires_is_released_and_has_its_own_whole_horizon() {
    let database = TestDatabase::new().await;
    let owner = &database.owner;
    let house = House::build(owner, "acme").await;
    let alert = house.alert(owner).await;
    let (earlier, later) = (house.notification(owner, alert).await, house.notification(owner, alert).await);
    make_wait(owner, later, earlier).await;
    let let_pass = "UPDATE outbox SET enqueued_at = enqueued_at - interval '4 days'";
    owner.execute(let_pass, &[]).await.unwrap();
    let pool = Pool::new(&database.config.database, Role::Worker, 1).unwrap();
    let shut = Shut {
        destination: DestinationId(house.destination),
        horizon_seconds: 3 * 86_400,
        reason: "left alone",
    };
    let once = async || {
        let mut client = pool.get().await.unwrap();
        let transaction = client.transaction().await.unwrap();
        let gone = expire(&transaction, std::slice::from_ref(&shut), 10).await.unwrap();
        transaction.commit().await.unwrap();
        gone
    };
    assert_eq!(once().await, [NotificationId(earlier)]);
    assert_eq!(waits_for(owner, later).await, 0);
    assert!(due_in(owner, later).await.unwrap() <= 0.0, "due at once");
    assert_eq!(once().await, [], "nobody has tried it yet");
    owner.execute(let_pass, &[]).await.unwrap();
    assert_eq!(once().await, [NotificationId(later)]);
}

#[tokio::test]
async fn what_was_to_be_tried_again_later_is_due_no_earlier_for_having_waited() {
    let database = TestDatabase::new().await;
    let owner = &database.owner;
    let house = House::build(owner, "acme").await;
    let alert = house.alert(owner).await;
    let mut ids = Vec::new();
    // Opened and resolved are dead, opened again is owed.
    for (event, episode) in [("opened", 1), ("resolved", 1), ("reopened", 2)] {
        let id = house.notification(owner, alert).await;
        let tell = "UPDATE notifications SET event = $2, episode = $3 WHERE notification_id = $1";
        owner.execute(tell, &[&id, &event, &episode]).await.unwrap();
        house.attempt(owner, id, 1, false, if episode == 1 { "dead" } else { "retry" }).await;
        ids.push(id);
    }
    for id in &ids[..2] {
        house.settle(owner, *id).await;
        let bury = "INSERT INTO dead_letters (notification_id, tenant_id, destination_id, reason, attempts)
                    VALUES ($1, $2, $3, 'refused', 1)";
        owner.execute(bury, &[id, &house.tenant.0, &house.destination]).await.unwrap();
    }
    let asked = "UPDATE outbox SET status = 'retrying', attempts = 1, next_attempt_at = now() + interval '60 seconds'";
    owner.execute(asked, &[]).await.unwrap();
    let mut client = Pool::new(&database.config.database, Role::Api, 1).unwrap().get().await.unwrap();
    for id in &ids[..2] {
        let scoped = tenant_scope::begin_change(&mut client, house.tenant.0).await.unwrap();
        let why = Reason::parse("mended").unwrap();
        let redriven = redrive(&*scoped, NotificationId(*id), "somebody", &why, false).await.unwrap();
        assert_eq!(redriven, Redriven::Owed);
        scoped.commit().await.unwrap();
    }
    assert_eq!((waits_for(owner, ids[2]).await, due_in(owner, ids[2]).await), (2, None));
    leave(owner, ids[0]).await;
    assert!(due_in(owner, ids[1]).await.unwrap() <= 0.0, "what was dead is due at once");
    leave(owner, ids[1]).await;
    let due = due_in(owner, ids[2]).await.unwrap();
    assert!((1.0..=60.0).contains(&due), "{due}");
}

#[tokio::test]
async fn what_waited_for_one_that_was_accepted_while_it_waited_itself_waits_for_what_that_waited_for() {
    let app = TestApp::new(&[]).await;
    let ids = app.owe(app.destination, 3).await;
    make_wait(app.owner(), ids[1], ids[0]).await;
    make_wait(app.owner(), ids[2], ids[1]).await;
    app.owner()
        .execute("UPDATE outbox SET attempts = 1 WHERE notification_id = $1", &[&ids[1]])
        .await
        .unwrap();
    leave(app.owner(), ids[1]).await;
    assert_eq!((waits_for(app.owner(), ids[2]).await, due_in(app.owner(), ids[2]).await), (1, None));
    leave(app.owner(), ids[0]).await;
    assert_eq!(waits_for(app.owner(), ids[2]).await, 0);
    assert!(due_in(app.owner(), ids[2]).await.unwrap() <= 0.0);
}
