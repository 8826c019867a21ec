//! A database of an earlier version, with data in it, becomes one of this version.

use refinery_core::{Migration, Runner};
use tokio_postgres::Client;
use uuid::Uuid;
use watchbell::db::{migrations, partitions};

use super::support::database::TestDatabase;
use super::support::house::House;

const FILES: [(&str, &str); 7] = [
    ("V0001__access", include_str!("../../sql/migrations/0001_access.sql")),
    ("V0002__readings", include_str!("../../sql/migrations/0002_readings.sql")),
    ("V0003__alerts", include_str!("../../sql/migrations/0003_alerts.sql")),
    ("V0004__delivery", include_str!("../../sql/migrations/0004_delivery.sql")),
    ("V0005__storage", include_str!("../../sql/migrations/0005_storage.sql")),
    ("V0006__rollup_room", include_str!("../../sql/migrations/0006_rollup_room.sql")),
    ("V0007__detection", include_str!("../../sql/migrations/0007_detection.sql")),
];

/// A database as the first `count` migrations leave it.
async fn as_of(count: usize) -> TestDatabase {
    let mut database = TestDatabase::empty().await;
    let known: Vec<_> =
        FILES[..count].iter().map(|(name, sql)| Migration::unapplied(name, sql).unwrap()).collect();
    Runner::new(&known).run_async(&mut database.owner).await.unwrap();
    database
}

async fn tenant(owner: &Client, name: &str) -> i32 {
    let sql = "INSERT INTO tenants (name) VALUES ($1) RETURNING tenant_id";
    owner.query_one(sql, &[&name]).await.unwrap().get(0)
}

#[tokio::test]
async fn a_database_with_tenants_in_it_is_migrated_and_nobody_is_over_the_quota() {
    let mut database = as_of(4).await;
    let owner = &mut database.owner;
    let (large, small) = (tenant(owner, "large").await, tenant(owner, "small").await);
    let grow =
        "INSERT INTO devices (tenant_id, external_id) SELECT $1, 'd' || n FROM generate_series(1, $2) AS n";
    owner.execute(grow, &[&large, &60_000]).await.unwrap();
    owner.execute(grow, &[&small, &1]).await.unwrap();
    assert!(!migrations::migrate(owner).await.unwrap().is_empty());
    let sql = "SELECT device_count, series_count, max_devices, max_series FROM tenants ORDER BY name";
    let rows = owner.query(sql, &[]).await.unwrap();
    let rows: Vec<[i32; 4]> = rows.iter().map(|row| std::array::from_fn(|column| row.get(column))).collect();
    assert_eq!(rows, [[60_000, 0, 120_000, 1_000_000], [1, 0, 100_000, 1_000_000]]);
    owner.batch_execute("DELETE FROM devices WHERE external_id <> 'd1'").await.unwrap();
    let left = owner.query_one("SELECT sum(device_count)::int FROM tenants", &[]).await.unwrap();
    assert_eq!(left.get::<_, i32>(0), 2, "what is deleted counts no more");
}

/// An alert of the days when alerts had no life.
async fn alert(
    owner: &Client,
    tenant: i32,
    rule: Uuid,
    series: i32,
    minutes_ago: i32,
    historical: bool,
) -> Uuid {
    let id = Uuid::now_v7();
    owner
        .execute(
            "INSERT INTO alerts (alert_id, tenant_id, rule_id, rule_version, series_id, severity, breached_at, value,
                                 evidence, historical)
             VALUES ($1, $2, $3, 1, $4, 'critical', date_trunc('minute', now()) - make_interval(mins => $5), 81.5,
                     '{\"condition\": \"above_threshold\", \"threshold\": 80}', $6)",
            &[&id, &tenant, &rule, &series, &minutes_ago, &historical],
        )
        .await
        .unwrap();
    let opened =
        "INSERT INTO alert_events (alert_id, tenant_id, kind, actor) VALUES ($1, $2, 'opened', 'detector')";
    owner.execute(opened, &[&id, &tenant]).await.unwrap();
    id
}

#[tokio::test]
async fn alerts_that_had_no_life_get_one_the_last_of_each_goes_on_and_the_others_are_over() {
    let mut database = as_of(6).await;
    let owner = &mut database.owner;
    let tenant = tenant(owner, "acme").await;
    let series: i32 = owner
        .query_one(
            "WITH d AS (INSERT INTO devices (tenant_id, external_id) VALUES ($1, 'pump-1') RETURNING device_id)
             INSERT INTO series (tenant_id, device_id, metric) SELECT $1, device_id, 'temperature' FROM d
             RETURNING series_id",
            &[&tenant],
        )
        .await
        .unwrap()
        .get(0);
    let rule = Uuid::now_v7();
    owner
        .execute(
            "INSERT INTO rules (rule_id, tenant_id, name, metric, condition, severity)
             VALUES ($1, $2, 'hot', 'temperature', '{\"kind\": \"above_threshold\", \"threshold\": 80}', 'critical')",
            &[&rule, &tenant],
        )
        .await
        .unwrap();
    let mut alerts = Vec::new();
    for (minutes_ago, historical) in [(90, true), (60, false), (30, false)] {
        alerts.push(alert(owner, tenant, rule, series, minutes_ago, historical).await);
    }
    owner
        .execute(
            "INSERT INTO rule_state (rule_id, series_id, tenant_id, last_fired_at)
             SELECT rule_id, series_id, tenant_id, max(breached_at) FROM alerts GROUP BY 1, 2, 3",
            &[],
        )
        .await
        .unwrap();
    migrations::migrate(owner).await.unwrap();
    let states = owner.query("SELECT alert_id, state FROM alerts ORDER BY breached_at", &[]).await.unwrap();
    let states: Vec<(Uuid, &str)> = states.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(states, [(alerts[0], "resolved"), (alerts[1], "resolved"), (alerts[2], "open")]);
    let kept =
        owner.query_one("SELECT alert_id, fires_since IS NOT NULL FROM rule_state", &[]).await.unwrap();
    assert_eq!((kept.get::<_, Uuid>(0), kept.get::<_, bool>(1)), (alerts[2], true));
    let events = "SELECT kind, disposition FROM alert_events WHERE alert_id = $1 ORDER BY event_id";
    let events = owner.query(events, &[&alerts[0]]).await.unwrap();
    let events: Vec<(&str, Option<&str>)> = events.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(events, [("opened", Some("historical")), ("resolved", None)]);
}

/// Takes one out of the outbox, and returns which are due now of those that waited.
async fn leave(owner: &Client, id: Uuid) -> Vec<Uuid> {
    let due = "SELECT notification_id FROM outbox WHERE status <> 'in_flight' AND next_attempt_at <= now() ORDER BY 1";
    let before = owner.query(due, &[]).await.unwrap();
    let before: Vec<Uuid> = before.iter().map(|row| row.get(0)).collect();
    owner.execute("DELETE FROM outbox WHERE notification_id = $1", &[&id]).await.unwrap();
    owner.execute("SELECT release_waiting(ARRAY[$1::uuid])", &[&id]).await.unwrap();
    let after = owner.query(due, &[]).await.unwrap();
    after.iter().map(|row| row.get(0)).filter(|one| !before.contains(one) && *one != id).collect()
}

#[tokio::test]
async fn what_was_owed_before_there_were_chains_is_heard_in_its_order() {
    let mut database = as_of(7).await;
    let owner = &mut database.owner;
    partitions::ensure_ahead(owner).await.unwrap();
    let house = House::build(owner, "acme").await;
    // An alert on each of three series.
    let mut alerts = Vec::new();
    for name in ["one", "two", "three"] {
        let alert = house.alert(owner).await;
        let apart = "WITH s AS (INSERT INTO series (tenant_id, device_id, metric)
                                SELECT tenant_id, device_id, $2 FROM devices RETURNING series_id)
                     UPDATE alerts SET series_id = s.series_id FROM s WHERE alert_id = $1";
        owner.execute(apart, &[&alert, &name]).await.unwrap();
        alerts.push(alert);
    }
    let (first, second, third) = (alerts[0], alerts[1], alerts[2]);
    // Of the first: opened; what is in flight; resolved, tried and to be tried again later.
    let opened = house.notification(owner, first).await;
    let flying = house.notification(owner, first).await;
    let resolved = house.notification(owner, first).await;
    // Of the second: opened; one that tells of the second and the third; resolved. Of the third: resolved.
    let alone = house.notification(owner, second).await;
    let group = house.notification(owner, second).await;
    for alert in [second, third] {
        let tell = "INSERT INTO notification_alerts (notification_id, alert_id, tenant_id, episode) VALUES ($1, $2, $3, 1)";
        owner.execute(tell, &[&group, &alert, &house.tenant.0]).await.unwrap();
    }
    let over = [house.notification(owner, second).await, house.notification(owner, third).await];
    let fly = "UPDATE outbox SET status = 'in_flight', attempts = 1, leased_by = gen_random_uuid(), leased_at = now(),
               next_attempt_at = now() + interval '1 minute' WHERE notification_id = $1";
    owner.execute(fly, &[&flying]).await.unwrap();
    let later =
        "UPDATE outbox SET status = 'retrying', attempts = 1, next_attempt_at = now() + interval '1 hour'
                 WHERE notification_id = $1";
    owner.execute(later, &[&resolved]).await.unwrap();
    migrations::migrate(owner).await.unwrap();

    let waits = "SELECT notification_id, array_agg(after_id ORDER BY after_id) FROM outbox_blocked GROUP BY 1 ORDER BY 1";
    let waits = owner.query(waits, &[]).await.unwrap();
    let waits: Vec<(Uuid, Vec<Uuid>)> = waits.iter().map(|row| (row.get(0), row.get(1))).collect();
    let expected = [
        (resolved, vec![opened, flying]),
        (group, vec![alone]),
        (over[0], vec![group]),
        (over[1], vec![group]),
    ];
    assert_eq!(waits, expected);
    let at_infinity = "SELECT array_agg(notification_id ORDER BY notification_id) FROM outbox WHERE next_attempt_at = 'infinity'";
    let at_infinity: Vec<Uuid> = owner.query_one(at_infinity, &[]).await.unwrap().get(0);
    assert_eq!(at_infinity, [resolved, group, over[0], over[1]]);
    let ends = "SELECT array_agg(last_notification_id ORDER BY last_notification_id) FROM chains";
    assert_eq!(
        owner.query_one(ends, &[]).await.unwrap().get::<_, Vec<Uuid>>(0),
        [resolved, over[0], over[1]]
    );

    assert!(leave(owner, flying).await.is_empty(), "what opened is still owed");
    assert!(leave(owner, opened).await.is_empty(), "it was to be tried in an hour");
    let in_an_hour = "SELECT count(*) FROM outbox WHERE next_attempt_at BETWEEN now() + interval '50 minutes' AND now() + interval '1 hour'";
    assert_eq!(owner.query_one(in_an_hour, &[]).await.unwrap().get::<_, i64>(0), 1);
    assert_eq!(leave(owner, alone).await, [group]);
    assert_eq!(leave(owner, group).await, over);
    assert_eq!(
        owner.query_one("SELECT count(*) FROM outbox_blocked", &[]).await.unwrap().get::<_, i64>(0),
        0
    );
}
