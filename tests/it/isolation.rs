//! What the API role can do with SQL alone: nothing but look at one tenant.

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use uuid::Uuid;

use crate::support::database::TestDatabase;
use crate::support::house::House;

/// Relations of the schema that belong to no tenant and that everybody may see.
const PUBLIC: [&str; 1] = ["refinery_schema_history"];

/// Two tenants; each has a row in everything that belongs to tenants.
async fn two_tenants(owner: &Client) -> [House; 2] {
    let mut houses = Vec::new();
    for name in ["first", "second"] {
        let house = House::build(owner, name).await;
        let alert = house.alert(owner).await;
        let dead = house.notification(owner, alert).await;
        house.attempt(owner, dead, 1, false, "dead").await;
        house.settle(owner, dead).await;
        let die = "INSERT INTO dead_letters (notification_id, tenant_id, destination_id, reason, attempts)
                   VALUES ($1, $2, $3, 'test', 1)";
        owner.execute(die, &[&dead, &house.tenant.0, &house.destination]).await.unwrap();
        house.notification(owner, alert).await;
        for (sql, id) in [
            ("INSERT INTO readings (series_id, ts, value) VALUES ($1, now(), 1)", house.series),
            (
                "INSERT INTO readings_1m (series_id, minute, last_ts, count, mean, m2, lowest, highest, last_value)
                 VALUES ($1, date_trunc('minute', now()), now(), 1, 1, 0, 1, 1, 1)",
                house.series,
            ),
            (
                "INSERT INTO rule_state (rule_id, series_id, tenant_id, last_fired_at)
                 SELECT r.rule_id, $1, tenant_id, now() FROM series s JOIN rules r USING (tenant_id)
                 WHERE s.series_id = $1",
                house.series,
            ),
            (
                "INSERT INTO silences (silence_id, tenant_id, device_pattern, ends_at, created_by, reason)
                 VALUES (gen_random_uuid(), $1, 'pump', now() + interval '1 hour', 'test', 'test')",
                house.tenant.0,
            ),
            (
                "INSERT INTO notification_alerts (notification_id, alert_id, tenant_id, episode)
                 SELECT notification_id, alert_id, tenant_id, 1 FROM notifications WHERE tenant_id = $1 LIMIT 1",
                house.tenant.0,
            ),
            (
                "INSERT INTO chains (destination_id, rule_id, series_id, tenant_id, last_notification_id)
                 SELECT destination_id, gen_random_uuid(), 1, tenant_id, notification_id FROM outbox WHERE tenant_id = $1",
                house.tenant.0,
            ),
            (
                "INSERT INTO outbox_blocked (after_id, notification_id, tenant_id)
                 SELECT gen_random_uuid(), notification_id, tenant_id FROM outbox WHERE tenant_id = $1",
                house.tenant.0,
            ),
            (
                "INSERT INTO rejected_readings (tenant_id, subject, reason, detail, payload)
                 VALUES ($1, 's', 'r', 'd', 'p')",
                house.tenant.0,
            ),
        ] {
            assert_eq!(owner.execute(sql, &[&id]).await.unwrap(), 1, "{sql}");
        }
        houses.push(house);
    }
    owner.execute("INSERT INTO flushes (readings, batch) VALUES (1, 'b')", &[]).await.unwrap();
    let lease = "INSERT INTO leases VALUES ('l', gen_random_uuid(), 1, now())";
    owner.execute(lease, &[]).await.unwrap();
    let watermark = "INSERT INTO watermarks (stream, heard_until) VALUES ('s', now())";
    owner.execute(watermark, &[]).await.unwrap();
    let worker = "INSERT INTO workers VALUES (gen_random_uuid(), 'h', 1, now(), now())";
    owner.execute(worker, &[]).await.unwrap();
    houses.try_into().unwrap_or_else(|_| unreachable!())
}

async fn relations(owner: &Client) -> Vec<String> {
    let sql = "SELECT relname::text FROM pg_class
               WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm') ORDER BY 1";
    owner.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

/// Rows that are seen, or `None` if looking is forbidden.
async fn visible(client: &Client, relation: &str) -> Option<i64> {
    match client.query_one(&format!("SELECT count(*) FROM {relation}"), &[]).await {
        Ok(row) => Some(row.get(0)),
        Err(error) => {
            assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{relation}: {error:?}");
            None
        }
    }
}

async fn act_as_tenant(client: &Client, tenant: i32) {
    client.batch_execute(&format!("SET watchbell.tenant_id = '{tenant}'")).await.unwrap();
}

#[tokio::test]
async fn another_tenant_sees_nothing_straight_through_sql_as_the_api_role() {
    let database = TestDatabase::new().await;
    let client = &database.owner;
    let [first, second] = two_tenants(client).await;
    let relations = relations(client).await;
    for relation in &relations {
        // `readings_named` shows its owner nothing either: it asks for the tenant of the transaction.
        let rows = visible(client, relation).await.unwrap();
        assert!(rows > 0 || relation == "readings_named" || relation.contains("_20"), "{relation} is empty");
    }
    client.batch_execute("SET ROLE watchbell_api").await.unwrap();
    let mut shown = Vec::new();
    for relation in relations.iter().filter(|relation| !PUBLIC.contains(&relation.as_str())) {
        client.batch_execute("RESET watchbell.tenant_id").await.unwrap();
        let without_tenant = visible(client, relation).await;
        assert!(matches!(without_tenant, None | Some(0)), "{relation} without a tenant: {without_tenant:?}");
        for house in [&first, &second] {
            act_as_tenant(client, house.tenant.0).await;
            let Some(rows) = visible(client, relation).await else { continue };
            let own = format!("{relation} WHERE tenant_id = {}", house.tenant);
            assert!(rows > 0, "{relation} shows its tenant nothing");
            assert_eq!(visible(client, &own).await, Some(rows), "{relation} shows another tenant's rows");
            shown.push(relation.as_str());
        }
    }
    // Each came twice, once a tenant.
    shown.dedup();
    assert_eq!(
        shown,
        [
            "admin_actions",
            "alert_events",
            "alerts",
            "api_keys",
            "chains",
            "dead_letters",
            "deliveries",
            "delivery_attempts",
            "destinations",
            "devices",
            "notification_alerts",
            "notifications",
            "outbox",
            "outbox_blocked",
            "readings_named",
            "rejected_readings",
            "rule_state",
            "rule_versions",
            "rules",
            "series",
            "silences",
            "tenants",
        ]
    );
}

#[tokio::test]
async fn the_api_role_reads_no_secret_and_no_table_of_all_tenants() {
    let database = TestDatabase::new().await;
    let client = &database.owner;
    let [first, _] = two_tenants(client).await;
    client.batch_execute("SET ROLE watchbell_api").await.unwrap();
    act_as_tenant(client, first.tenant.0).await;
    for sql in [
        "SELECT secret FROM destinations",
        "SELECT * FROM destinations",
        "SELECT hash FROM api_keys",
        "SELECT * FROM readings",
        "SELECT * FROM readings_1m",
        "SELECT * FROM flushes",
        "SELECT * FROM leases",
        "SELECT * FROM workers",
        "SELECT * FROM watermarks",
        "SELECT * FROM config_version",
    ] {
        assert_forbidden(client, sql).await;
    }
}

#[tokio::test]
async fn the_api_role_changes_no_history_and_makes_no_partition() {
    let database = TestDatabase::new().await;
    let client = &database.owner;
    let [first, second] = two_tenants(client).await;
    let relations = relations(client).await;
    client.batch_execute("SET ROLE watchbell_api").await.unwrap();
    act_as_tenant(client, first.tenant.0).await;
    for relation in relations {
        for statement in ["DELETE FROM", "TRUNCATE", "INSERT INTO"] {
            let values = if statement == "INSERT INTO" { "DEFAULT VALUES" } else { "" };
            assert_unchangeable(client, &format!("{statement} {relation} {values}")).await;
        }
        // A right on a single column would be enough.
        let rights = client
            .query_one(
                "SELECT has_any_column_privilege($1::text, 'UPDATE'), has_any_column_privilege($1, 'INSERT')",
                &[&relation],
            )
            .await
            .unwrap();
        let (changes, adds) = (["devices", "rules", "silences"], ["admin_actions", "rules", "silences"]);
        assert_eq!(rights.get::<_, bool>(0), changes.contains(&relation.as_str()), "UPDATE {relation}");
        assert_eq!(rights.get::<_, bool>(1), adds.contains(&relation.as_str()), "INSERT INTO {relation}");
    }
    assert_forbidden(client, "SELECT ensure_partition('readings', '2030-01-01')").await;
    assert_forbidden(client, "CREATE TABLE mine ()").await;
    // What it may change is of its own tenant, and not who did it.
    for sql in [
        "UPDATE rules SET version = 7",
        "UPDATE devices SET external_id = 'mine'",
        "UPDATE silences SET created_by = 'nobody'",
        "UPDATE alerts SET state = 'resolved'",
        "INSERT INTO notifications (notification_id) VALUES (gen_random_uuid())",
    ] {
        assert_forbidden(client, sql).await;
    }
    for sql in [
        "UPDATE rules SET state = 'archived'",
        "UPDATE devices SET tags = '{}'",
        "UPDATE silences SET ends_at = now()",
    ] {
        client.batch_execute("BEGIN").await.unwrap();
        assert_eq!(client.execute(sql, &[]).await.unwrap(), 1, "{sql} changes another tenant's, too");
        client.batch_execute("ROLLBACK").await.unwrap();
    }
    // It records what was done through it: of its own tenant, and of now.
    let record = "INSERT INTO admin_actions (action_id, tenant_id, actor, action, target) VALUES ($1, $2, 'a', 'b', 'c')";
    client.execute(record, &[&Uuid::now_v7(), &first.tenant.0]).await.unwrap();
    let foreign = client.execute(record, &[&Uuid::now_v7(), &second.tenant.0]).await.unwrap_err();
    assert_eq!(foreign.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE));
    let dated_back = "INSERT INTO admin_actions (action_id, tenant_id, actor, action, target, at)
                      VALUES (gen_random_uuid(), current_tenant_id(), 'a', 'b', 'c', '2000-01-01')";
    assert_forbidden(client, dated_back).await;
}

#[tokio::test]
async fn a_tenant_ends_with_its_transaction() {
    use watchbell::db::pool::{Pool, Role};
    use watchbell::db::tenant_scope;
    let database = TestDatabase::new().await;
    let [first, _] = two_tenants(&database.owner).await;
    let pool = Pool::new(&database.config.database, Role::Api, 1).unwrap();
    let mut connection = pool.get().await.unwrap();
    let transaction = tenant_scope::begin(&mut connection, first.tenant.0).await.unwrap();
    let count = "SELECT count(*) FROM alerts";
    assert_eq!(transaction.query_one(count, &[]).await.unwrap().get::<_, i64>(0), 1);
    transaction.commit().await.unwrap();
    assert_eq!(connection.query_one(count, &[]).await.unwrap().get::<_, i64>(0), 0);
}

async fn assert_forbidden(client: &Client, sql: &str) {
    let error = client.batch_execute(sql).await.expect_err(sql);
    assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{sql}: {error:?}");
}

/// Forbidden; or a view that nobody can change, which PostgreSQL says before it looks at rights.
async fn assert_unchangeable(client: &Client, sql: &str) {
    let error = client.batch_execute(sql).await.expect_err(sql);
    let codes = [
        SqlState::INSUFFICIENT_PRIVILEGE,
        SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
        SqlState::WRONG_OBJECT_TYPE,
    ];
    assert!(codes.contains(error.code().unwrap()), "{sql}: {error:?}");
}

#[tokio::test]
async fn no_function_with_the_owners_rights_is_open_to_everybody() {
    let database = TestDatabase::new().await;
    let query = "SELECT proname::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
                 WHERE n.nspname = 'public' AND p.prosecdef AND has_function_privilege('public', p.oid, 'EXECUTE')";
    let rows = database.owner.query(query, &[]).await.unwrap();
    let open: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert!(open.is_empty(), "{open:?}");
}

#[tokio::test]
async fn nobody_chooses_when_history_was_recorded() {
    let database = TestDatabase::new().await;
    database.owner.batch_execute("SET ROLE watchbell_worker").await.unwrap();
    for (table, column) in [
        ("delivery_attempts", "recorded_at"),
        ("delivery_attempts", "xid"),
        ("notifications", "created_at"),
        ("alerts", "opened_at"),
        ("alert_events", "at"),
        ("dead_letters", "xid"),
    ] {
        let query = "SELECT has_column_privilege('watchbell_worker', $1, $2, 'INSERT')
                         OR has_column_privilege('watchbell_worker', $1, $2, 'UPDATE')";
        let may: bool = database.owner.query_one(query, &[&table, &column]).await.unwrap().get(0);
        assert!(!may, "{table}.{column}");
    }
}
