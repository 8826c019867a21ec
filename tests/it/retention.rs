//! The life of days: made when a reading needs one, dropped when it was kept long enough.

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use watchbell::audit::verify::verify;
use watchbell::config::Config;
use watchbell::db::pool::{self, Pool, Role as DatabaseRole};
use watchbell::ingest::retention::Retention;
use watchbell::runtime::{Role, Roles};

use super::support::app::{TestApp, temperature};
use super::support::bench::DetectorBench;
use super::support::database::TestDatabase;

const DAY: i64 = 86_400;

fn days_ago(days: i64) -> Date {
    let at = Timestamp::now() - SignedDuration::from_hours(24 * days);
    at.to_zoned(jiff::tz::TimeZone::UTC).date()
}

/// Makes the partitions of these days, so many days ago, of readings and rollups.
async fn make_days(owner: &Client, days: &[i64]) {
    for day in days {
        for parent in ["readings", "readings_1m"] {
            owner.execute("SELECT ensure_partition($1, $2)", &[&parent, &days_ago(*day)]).await.unwrap();
        }
    }
}

async fn has_day(owner: &Client, table: &str, days: i64) -> bool {
    let name = format!("{table}_{}", days_ago(days).strftime("%Y%m%d"));
    owner.query_one("SELECT to_regclass($1) IS NOT NULL", &[&name]).await.unwrap().get(0)
}

/// Those of `days`, so many days ago, for which there is a partition.
async fn kept(owner: &Client, table: &str, days: &[i64]) -> Vec<i64> {
    let mut kept = Vec::new();
    for day in days {
        if has_day(owner, table, *day).await {
            kept.push(*day);
        }
    }
    kept
}

fn retention(config: &Config, readings_keep_days: u32, rollups_keep_days: u32) -> Retention {
    let pool = Pool::new(&config.database, DatabaseRole::Worker, 1).unwrap();
    let mut ingest = config.ingest.clone();
    (ingest.readings_keep_days, ingest.rollups_keep_days) = (readings_keep_days, rollups_keep_days);
    Retention::new(pool, ingest)
}

#[tokio::test]
async fn a_reading_of_89_days_ago_makes_its_day_and_one_of_91_is_rejected() {
    let mut app = TestApp::new(&[]).await;
    app.start(Roles::of(&[Role::Ingest, Role::Detect])).await;
    app.publish(temperature(20.0, 89 * DAY)).await;
    app.publish(temperature(21.0, 91 * DAY)).await;
    app.wait_until_judged().await;
    let owner = app.owner();
    assert!(has_day(owner, "readings", 89).await && has_day(owner, "readings_1m", 89).await);
    assert!(!has_day(owner, "readings", 91).await && !has_day(owner, "readings_1m", 91).await);
    assert_eq!(app.count("SELECT count(*) FROM readings WHERE value = 20").await, 1);
    assert_eq!(app.count("SELECT count(*) FROM readings").await, 1);
    assert_eq!(app.count("SELECT count(*) FROM rejected_readings WHERE reason = 'too_old'").await, 1);
    app.assert_verified().await;
}

#[tokio::test]
async fn whole_days_that_were_kept_long_enough_are_dropped_and_no_other() {
    let database = TestDatabase::new().await;
    let owner = &database.owner;
    let days = [0, 1, 90, 99, 100, 101, 102, 150, 151, 152];
    make_days(owner, &days).await;
    let dropped = retention(&database.config, 100, 150).once().await.unwrap();
    // The day 100 days ago ended less than 100 days ago.
    assert_eq!(kept(owner, "readings", &days).await, [0, 1, 90, 99, 100]);
    assert_eq!(kept(owner, "readings_1m", &days).await, [0, 1, 90, 99, 100, 101, 102, 150]);
    let readings = [152, 151, 150, 102, 101].map(|day| ("readings", days_ago(day)));
    let rollups = [152, 151].map(|day| ("readings_1m", days_ago(day)));
    assert_eq!(dropped, [&readings[..], &rollups].concat(), "the oldest first, each once");
    assert_eq!(retention(&database.config, 100, 150).once().await.unwrap(), []);
    assert_eq!(retention(&database.config, 0, 0).once().await.unwrap(), [], "0 keeps them for ever");
}

#[tokio::test]
async fn a_service_that_starts_drops_what_is_due() {
    let mut app =
        TestApp::new(&[("ingest.readings_keep_days", "91"), ("ingest.rollups_keep_days", "0")]).await;
    make_days(app.owner(), &[200]).await;
    app.start(Roles::of(&[Role::Api])).await;
    let there = format!("readings_{}", days_ago(200).strftime("%Y%m%d"));
    app.wait_for_count(&format!("SELECT count(*) FROM pg_class WHERE relname = '{there}'"), 0).await;
    assert!(has_day(app.owner(), "readings_1m", 200).await);
}

#[tokio::test]
async fn a_day_in_use_is_not_waited_for_and_goes_the_next_time() {
    let database = TestDatabase::new().await;
    let owner = &database.owner;
    make_days(owner, &[500]).await;
    let reader = pool::connect_owner(&database.config.database).await.unwrap();
    reader.batch_execute("BEGIN; SELECT count(*) FROM readings").await.unwrap();
    let retention = retention(&database.config, 100, 100);
    // Rollups are not held up by it.
    assert_eq!(retention.once().await.unwrap(), [("readings_1m", days_ago(500))]);
    assert!(has_day(owner, "readings", 500).await);
    reader.batch_execute("COMMIT").await.unwrap();
    assert_eq!(retention.once().await.unwrap(), [("readings", days_ago(500))]);
}

#[tokio::test]
async fn rollups_that_an_unjudged_batch_reaches_into_are_kept_and_readings_are_not_needed() {
    let database = TestDatabase::new().await;
    let owner = &database.owner;
    make_days(owner, &[92, 120, 121, 122]).await;
    // Stored 30 days ago and not judged yet: it may hold readings of 120 days ago, not of 122.
    let owed =
        "INSERT INTO flushes (readings, batch, flushed_at) VALUES (1, 'b', now() - interval '30 days')";
    owner.execute(owed, &[]).await.unwrap();
    let retention = retention(&database.config, 91, 91);
    retention.once().await.unwrap();
    assert_eq!(kept(owner, "readings", &[92, 120, 121, 122]).await, [0i64; 0]);
    assert_eq!(kept(owner, "readings_1m", &[92, 120, 121, 122]).await, [92, 120, 121]);
    owner.execute("DELETE FROM flushes", &[]).await.unwrap();
    retention.once().await.unwrap();
    assert_eq!(kept(owner, "readings_1m", &[92, 120, 121]).await, [0i64; 0]);
}

#[tokio::test]
async fn a_batch_out_of_quarantine_is_judged_although_its_day_is_gone() {
    let mut bench = DetectorBench::new(TestApp::new(&[]).await, 120 * 24 * 60).await;
    bench.commit(&[(0.0, 20.0), (0.5, 21.0)]).await;
    let owner = bench.app.owner();
    owner.execute("UPDATE flushes SET quarantine_reason = 'by a person'", &[]).await.unwrap();
    retention(&bench.app.config(), 91, 91).once().await.unwrap();
    assert!(!has_day(owner, "readings_1m", 120).await);
    owner.execute("UPDATE flushes SET quarantine_reason = NULL", &[]).await.unwrap();
    bench.settle_through_errors().await;
    assert_eq!(bench.app.count("SELECT sum(count)::bigint FROM readings_1m").await, 2);
    assert_eq!(bench.app.count("SELECT count(*) FROM flushes").await, 0);
    bench.app.assert_verified().await;
}

async fn rollup_differences(config: &Config) -> i64 {
    let mut owner = pool::connect_owner(&config.database).await.unwrap();
    let checks = verify(&mut owner).await.unwrap();
    checks.iter().find(|check| check.name.contains("rollup")).unwrap().found
}

#[tokio::test]
async fn verify_compares_the_days_of_which_readings_and_rollups_are_kept() {
    for (readings_keep_days, rollups_keep_days) in [(91, 0), (0, 91)] {
        let mut bench = DetectorBench::new(TestApp::new(&[]).await, 120 * 24 * 60).await;
        let recent = 119.0 * 24.0 * 60.0;
        bench.judge(&[(0.0, 20.0), (0.5, 21.0), (recent, 20.0)]).await;
        bench.app.assert_verified().await;
        let dropped =
            retention(&bench.app.config(), readings_keep_days, rollups_keep_days).once().await.unwrap();
        assert_eq!(dropped.len(), 1, "{dropped:?}");
        bench.app.assert_verified().await;
        // It still looks at the others.
        let broken = "UPDATE readings_1m SET count = count + 1 WHERE minute > now() - interval '2 days'";
        assert_eq!(bench.app.owner().execute(broken, &[]).await.unwrap(), 1);
        assert_eq!(rollup_differences(&bench.app.config()).await, 1);
    }
}

#[tokio::test]
async fn nobody_drops_more_than_is_due() {
    let database = TestDatabase::new().await;
    let owner = &database.owner;
    make_days(owner, &[200]).await;
    let refused = async |sql: &str| {
        let error = owner.query(sql, &[]).await.unwrap_err();
        error.code().cloned().unwrap_or_else(|| panic!("{sql}: {error}"))
    };
    owner.batch_execute("SET ROLE watchbell_worker").await.unwrap();
    for sql in [
        "SELECT drop_expired_partition('readings', 90, 90)",
        "SELECT drop_expired_partition('readings', 1, 0)",
        "SELECT drop_expired_partition('readings', NULL, 90)",
        "SELECT drop_expired_partition('readings', 91, NULL)",
        "SELECT drop_expired_partition('notifications', 400, 90)",
        "SELECT drop_expired_partition('tenants', 400, 90)",
        "SELECT drop_expired_partition(NULL, 400, 90)",
    ] {
        assert_eq!(refused(sql).await, SqlState::RAISE_EXCEPTION, "{sql}");
    }
    assert_eq!(refused("DROP TABLE readings").await, SqlState::INSUFFICIENT_PRIVILEGE);
    owner.batch_execute("RESET ROLE; SET ROLE watchbell_api").await.unwrap();
    let by_api = refused("SELECT drop_expired_partition('readings', 100, 90)").await;
    assert_eq!(by_api, SqlState::INSUFFICIENT_PRIVILEGE);
    owner.batch_execute("RESET ROLE").await.unwrap();
    assert!(has_day(owner, "readings", 200).await);
}

#[tokio::test]
async fn what_is_accepted_is_kept() {
    let load = |key: &str, days: &str| {
        let name = format!("WATCHBELL__INGEST__{}_KEEP_DAYS", key.to_uppercase());
        Config::from_sources(None, [(name, days.to_owned())].into()).map_err(|error| error.to_string())
    };
    for key in ["readings", "rollups"] {
        let error = load(key, "90").unwrap_err();
        assert!(error.contains(&format!("`ingest.{key}_keep_days` must be more than")), "{error}");
        assert!(load(key, "91").is_ok() && load(key, "0").is_ok());
        assert!(load(key, "1000000").is_err());
    }
}
