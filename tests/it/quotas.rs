//! How many devices and series a tenant may have: what is beyond is rejected, and everybody else goes on.

use serde_json::{Value, json};
use tokio_postgres::Client;
use watchbell::api::key_store;
use watchbell::db::pool;
use watchbell::ingest::pull::MESSAGES;
use watchbell::model::tenant::TenantName;
use watchbell::runtime::{Role, Roles};

use super::support::app::{TestApp, reading};
use super::support::command::{Finished, watchbell};
use super::support::faults::slow_registration;
use super::support::wait::until;

const OVER: &str = "SELECT count(*) FROM rejected_readings WHERE reason = 'quota'";

async fn started(max_devices: i32, max_series: i32) -> TestApp {
    started_with(&[], max_devices, max_series).await
}

async fn started_with(settings: &[(&str, &str)], max_devices: i32, max_series: i32) -> TestApp {
    let mut app = TestApp::new(settings).await;
    limit(app.owner(), max_devices, max_series).await;
    app.start(Roles::of(&[Role::Ingest, Role::Detect])).await;
    app
}

async fn limit(owner: &Client, max_devices: i32, max_series: i32) {
    let sql = "UPDATE tenants SET max_devices = $1, max_series = $2 WHERE name = 'acme'";
    assert_eq!(owner.execute(sql, &[&max_devices, &max_series]).await.unwrap(), 1);
}

/// Readings of `temperature`, one each of `device-<from>` up to `device-<until - 1>`.
fn fleet(from: usize, until: usize) -> Value {
    (from..until).map(|n| reading(&format!("device-{n}"), "temperature", 20.0, 5)).collect()
}

/// What the tenant has by its counters, and by counting.
async fn assert_counted(app: &TestApp) {
    let wrong = "SELECT count(*) FROM tenants t
        WHERE device_count <> (SELECT count(*) FROM devices d WHERE d.tenant_id = t.tenant_id)
           OR series_count <> (SELECT count(*) FROM series s WHERE s.tenant_id = t.tenant_id)";
    assert_eq!(app.count(wrong).await, 0, "the counters are what there is");
}

async fn tenants(app: &TestApp, arguments: &[&str]) -> Finished {
    watchbell(&[&["tenants"], arguments].concat(), &app.environment).await
}

#[tokio::test]
async fn a_device_beyond_the_quota_is_rejected_and_those_that_are_there_go_on() {
    let app = started(3, 1_000).await;
    app.publish(fleet(0, 3)).await;
    app.wait_until_judged().await;
    app.publish(fleet(0, 5)).await;
    app.publish(reading("device-1", "pressure", 7.0, 5)).await;
    app.wait_until_judged().await;
    assert_eq!(app.count("SELECT count(*) FROM devices").await, 3);
    assert_eq!(app.count("SELECT count(*) FROM readings").await, 7, "3, the same 3 later, and a new metric");
    let sql = "SELECT tenant_id, subject, detail, convert_from(payload, 'UTF8')::jsonb
               FROM rejected_readings WHERE reason = 'quota' ORDER BY payload";
    let rejects = app.owner().query(sql, &[]).await.unwrap();
    assert_eq!(rejects.len(), 2);
    for (reject, device) in rejects.iter().zip(["device-3", "device-4"]) {
        assert_eq!((reject.get(0), reject.get(1)), (app.tenant.0, &*app.subject));
        let detail: &str = reject.get(2);
        for said in ["device", "(3)", "watchbell tenants set", "--max-devices"] {
            assert!(detail.contains(said), "{said} is not in: {detail}");
        }
        let payload: Value = reject.get(3);
        assert_eq!(payload["device"], device);
        assert_eq!(payload["value"], 20.0);
    }
    let metrics = app.running.as_ref().unwrap().metrics.render().unwrap();
    for counted in [
        "watchbell_readings_rejected_total{reason=\"quota\"} 2",
        "watchbell_series_cache_hits_total 3",
        "watchbell_series_cache_misses_total 6",
    ] {
        assert!(metrics.contains(counted), "{metrics}");
    }
    assert_counted(&app).await;
    app.assert_verified().await;
}

#[tokio::test]
async fn a_series_beyond_the_quota_is_rejected_and_brings_no_device() {
    let app = started(1_000, 4).await;
    let metrics = |device: &str, count: usize| -> Value {
        (0..count).map(|n| reading(device, &format!("metric-{n}"), 1.0, 5)).collect()
    };
    app.publish(metrics("pump", 6)).await;
    app.wait_until_judged().await;
    app.publish(metrics("other-pump", 1)).await;
    app.wait_until_judged().await;
    assert_eq!(app.count("SELECT count(*) FROM series").await, 4);
    assert_eq!(
        app.count("SELECT count(*) FROM devices").await,
        1,
        "a device without a series uses up nothing"
    );
    assert_eq!(app.count("SELECT count(*) FROM readings").await, 4);
    let said =
        "SELECT count(*) FROM rejected_readings WHERE reason = 'quota' AND detail LIKE '%(4)%--max-series%'";
    assert_eq!(app.count(said).await, 3);
    assert_counted(&app).await;
}

#[tokio::test]
async fn a_flood_of_new_names_slows_nobody_and_is_told_in_few_words() {
    let app = started_with(&[("ingest.tenant_cache_seconds", "3600")], 1, 1_000).await;
    let other = TenantName::parse("other").unwrap();
    key_store::ensure_tenant(app.owner(), &other, "test").await.unwrap();
    app.publish(fleet(0, 2)).await;
    app.wait_until_judged().await;
    assert_eq!(app.count(OVER).await, 1);
    // Whoever registers locks its tenant. This one is known to be full: nobody tries, or it would wait for us.
    let registering = pool::connect_owner(&app.database.config.database).await.unwrap();
    let lock = "BEGIN; SELECT FROM tenants WHERE name = 'acme' FOR NO KEY UPDATE";
    registering.batch_execute(lock).await.unwrap();
    for round in 0..20 {
        app.publish(fleet(100 * round, 100 * round + 100)).await;
        let subject = app.subject.replace("acme", "other");
        let message = fleet(round, round + 1).to_string();
        app.broker.publish(subject, message.into()).await.unwrap().await.unwrap();
    }
    app.wait_until_judged().await;
    let stored = "SELECT count(*) FROM readings JOIN series USING (series_id)
        JOIN tenants ON tenants.tenant_id = series.tenant_id WHERE name";
    assert_eq!(app.count(&format!("{stored} = 'other'")).await, 20, "untouched");
    assert_eq!(app.count(&format!("{stored} = 'acme'")).await, 2, "the known one goes on");
    assert_eq!(app.count(OVER).await, 1 + 20 * 20, "a message leaves 20 rejects");
    assert_counted(&app).await;
}

#[tokio::test]
async fn two_processes_that_register_at_once_stay_within_the_quota() {
    let app = TestApp::new(&[]).await;
    limit(app.owner(), 50, 1_000).await;
    app.make_stream().await;
    slow_registration(app.owner()).await;
    // More than one process asks for (`pull::MESSAGES`): each gets names of its own.
    let messages = MESSAGES + 2_000;
    app.publish_all((0..messages).map(|n| fleet(n, n + 1).to_string())).await;
    let gate = pool::connect_owner(&app.database.config.database).await.unwrap();
    gate.batch_execute("BEGIN; LOCK TABLE devices IN SHARE ROW EXCLUSIVE MODE").await.unwrap();
    let services = [app.spawn("ingest"), app.spawn("ingest,detect")];
    let waiting = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'";
    app.wait_for_count(waiting, 2).await;
    gate.batch_execute("COMMIT").await.unwrap();
    app.wait_until_judged().await;
    assert_eq!(app.count("SELECT count(*) FROM devices").await, 50);
    assert_eq!(app.count("SELECT count(*) FROM readings").await, 50);
    assert_eq!(app.count(OVER).await, i64::try_from(messages).unwrap() - 50);
    assert_counted(&app).await;
    for service in services {
        assert_eq!(service.terminate().await, Some(0));
    }
}

#[tokio::test]
async fn what_another_process_registered_last_is_no_newcomer_here() {
    let app = started(2, 1_000).await;
    app.publish(fleet(0, 3)).await;
    app.wait_until_judged().await;
    assert_eq!(app.count(OVER).await, 1);
    // As another process would: the device is there, and this process, for which the tenant is full, has never met it.
    let sql = "WITH d AS (INSERT INTO devices (tenant_id, external_id) VALUES ($1, 'elsewhere') RETURNING device_id)
               INSERT INTO series (tenant_id, device_id, metric) SELECT $1, device_id, 'temperature' FROM d";
    app.owner().execute(sql, &[&app.tenant.0]).await.unwrap();
    app.publish(reading("elsewhere", "temperature", 21.0, 5)).await;
    app.wait_until_judged().await;
    assert_eq!(app.count("SELECT count(*) FROM readings WHERE value = 21").await, 1);
    assert_eq!(app.count(OVER).await, 1);
}

#[tokio::test]
async fn a_quota_that_is_raised_acts_soon_and_stands_on_the_record() {
    let app = started(2, 1_000).await;
    app.publish(fleet(0, 3)).await;
    app.wait_until_judged().await;
    assert_eq!(app.count("SELECT count(*) FROM devices").await, 2);
    let set = tenants(&app, &["set", "acme", "--max-devices", "5", "--reason", "bought more"]).await;
    assert_eq!(set.code, Some(0), "{set:?}");
    until("the third device", async || {
        app.publish(fleet(0, 3)).await;
        app.wait_until_judged().await;
        (app.count("SELECT count(*) FROM devices").await == 3).then_some(())
    })
    .await;
    let listed = tenants(&app, &["list", "--json"]).await.json();
    let created_at = listed["created_at"].clone();
    assert!(created_at.as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
    let expected = json!({ "tenant": "acme", "devices": 3, "max_devices": 5, "series": 3, "max_series": 1_000,
                           "created_at": created_at });
    assert_eq!(listed, expected);
    let sql = "SELECT actor <> '', target, reason FROM admin_actions WHERE action = 'tenant.quota_set'";
    let record = app.owner().query_one(sql, &[]).await.unwrap();
    assert_eq!((record.get(0), record.get(1)), (true, "acme"));
    assert_eq!(record.get::<_, &str>(2), "max_devices 2 to 5; max_series 1000 to 1000; bought more");
}

#[tokio::test]
async fn the_commands_say_what_is_wrong_and_print_a_table() {
    let app = TestApp::new(&[]).await;
    let unknown = tenants(&app, &["set", "nobody", "--max-series", "5"]).await;
    assert_eq!((unknown.code, unknown.line()), (Some(1), "watchbell: there is no tenant `nobody`"));
    for nonsense in
        [&["set", "acme"][..], &["set", "acme", "--max-devices", "-1"], &["set", "a b", "--max-series", "5"]]
    {
        assert_eq!(tenants(&app, nonsense).await.code, Some(2), "{nonsense:?}");
    }
    let set = tenants(&app, &["set", "acme", "--max-series", "7", "--json"]).await.json();
    assert_eq!((&set["max_devices"], &set["max_series"]), (&json!(100_000), &json!(7)));
    let table = tenants(&app, &["list"]).await.out;
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["TENANT", "DEVICES", "OF", "SERIES", "OF", "CREATED"]);
    assert_eq!(rows[1][..5], ["acme", "0", "100000", "0", "7"]);
}
