//! The history of deliveries: dropped by days that hold nothing owed; dead letters that nobody sent again are abandoned.

use std::time::SystemTime;

use jiff::{SignedDuration, Timestamp};
use tokio_postgres::Client;
use uuid::{NoContext, Uuid};
use watchbell::audit::verify::verify;
use watchbell::db::pool::{Pool, Role};
use watchbell::model::ids::NotificationId;
use watchbell::outbox::redrive::{Reason, Redriven, redrive};
use watchbell::outbox::retention::{Expired, Retention};

use super::support::database::TestDatabase;
use super::support::house::House;

const TABLES: [&str; 3] = ["notifications", "notification_alerts", "delivery_attempts"];

fn ago(days: i64) -> Timestamp {
    Timestamp::now() - SignedDuration::from_hours(24 * days)
}

/// An alert of so many days ago that was told then.
async fn told(owner: &Client, house: &House, days: i64) -> Uuid {
    for table in TABLES {
        let day = ago(days).to_zoned(jiff::tz::TimeZone::UTC).date();
        owner.execute("SELECT ensure_partition($1, $2)", &[&table, &day]).await.unwrap();
    }
    let alert = house.alert(owner).await;
    owner
        .execute("UPDATE alert_events SET at = $2 WHERE alert_id = $1", &[&alert, &ago(days)])
        .await
        .unwrap();
    let at = SystemTime::from(ago(days)).duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let id = Uuid::new_v7(uuid::Timestamp::from_unix(NoContext, at.as_secs(), 0));
    let insert =
        "INSERT INTO notifications (notification_id, tenant_id, alert_id, destination_id, event, body)
                  VALUES ($1, $2, $3, $4, 'opened', '{}')";
    owner.execute(insert, &[&id, &house.tenant.0, &alert, &house.destination]).await.unwrap();
    id
}

async fn delivered(owner: &Client, house: &House, days: i64) {
    let id = told(owner, house, days).await;
    house.attempt(owner, id, 1, false, "delivered").await;
}

async fn dead(owner: &Client, house: &House, days: i64) -> Uuid {
    let id = told(owner, house, days).await;
    house.attempt(owner, id, 1, false, "dead").await;
    let insert =
        "INSERT INTO dead_letters (notification_id, tenant_id, destination_id, reason, attempts, died_at)
                  VALUES ($1, $2, $3, 'refused', 1, $4)";
    owner.execute(insert, &[&id, &house.tenant.0, &house.destination, &ago(days)]).await.unwrap();
    id
}

async fn once(database: &TestDatabase, dead_keep_days: u32, history_keep_days: u32) -> Expired {
    let pool = Pool::new(&database.config.database, Role::Worker, 1).unwrap();
    let mut settings = database.config.deliver.clone();
    (settings.dead_keep_days, settings.history_keep_days) = (dead_keep_days, history_keep_days);
    Retention::new(pool, settings).once().await.unwrap()
}

/// Of so many days ago, how many of the three tables have a partition.
async fn tables_of(owner: &Client, days: i64) -> i64 {
    let day = ago(days).to_zoned(jiff::tz::TimeZone::UTC).date().strftime("%Y%m%d").to_string();
    let query = "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relname = ANY ($1)";
    let names: Vec<String> = TABLES.iter().map(|table| format!("{table}_{day}")).collect();
    owner.query_one(query, &[&names]).await.unwrap().get(0)
}

async fn assert_verified(database: &mut TestDatabase) {
    let broken: Vec<_> =
        verify(&mut database.owner).await.unwrap().into_iter().filter(|check| !check.ok).collect();
    assert!(broken.is_empty(), "{broken:?}");
}

#[tokio::test]
async fn a_day_is_dropped_that_was_kept_long_enough_and_holds_nothing_that_is_owed_or_dead() {
    let mut database = TestDatabase::new().await;
    let owner = &database.owner;
    let house = House::build(owner, "a").await;
    for days in [0, 9, 10, 11, 14] {
        delivered(owner, &house, days).await;
    }
    let owed = told(owner, &house, 12).await;
    let insert = "INSERT INTO outbox (notification_id, destination_id, tenant_id) VALUES ($1, $2, $3)";
    owner.execute(insert, &[&owed, &house.destination, &house.tenant.0]).await.unwrap();
    dead(owner, &house, 13).await;
    let expired = once(&database, 0, 10).await;
    assert_eq!((expired.abandoned, expired.dropped.len()), (0, 2), "{expired:?}");
    for (days, tables) in [(0, 3), (9, 3), (10, 3), (11, 0), (12, 3), (13, 3), (14, 0)] {
        assert_eq!(tables_of(owner, days).await, tables, "{days} days ago");
    }
    // What was told on the days that are gone is nobody's debt.
    owner.batch_execute("UPDATE outbox SET next_attempt_at = now()").await.unwrap();
    assert_verified(&mut database).await;
    assert_eq!(once(&database, 0, 10).await, Expired::default());
    assert_eq!(once(&database, 0, 0).await, Expired::default());
}

#[tokio::test]
async fn a_dead_letter_that_nobody_sends_again_is_abandoned_and_its_day_can_go() {
    let mut database = TestDatabase::new().await;
    let owner = &database.owner;
    let house = House::build(owner, "a").await;
    let (old, young) = (dead(owner, &house, 31).await, dead(owner, &house, 29).await);
    assert_eq!(once(&database, 30, 400).await, Expired { abandoned: 1, dropped: Vec::new() });
    let query = "SELECT status FROM deliveries WHERE notification_id = $1";
    for (id, expected) in [(old, "abandoned"), (young, "dead")] {
        assert_eq!(owner.query_one(query, &[&id]).await.unwrap().get::<_, &str>(0), expected);
    }
    let again = async |id: Uuid| {
        let mut client = Pool::new(&database.config.database, Role::Api, 1).unwrap().get().await.unwrap();
        let scoped = watchbell::db::tenant_scope::begin_change(&mut client, house.tenant.0).await.unwrap();
        let redriven =
            redrive(&*scoped, NotificationId(id), "somebody", &Reason::parse("mended").unwrap(), false)
                .await
                .unwrap();
        scoped.commit().await.unwrap();
        redriven
    };
    assert_eq!(again(old).await, Redriven::NotDead("abandoned".to_owned()));
    assert_eq!(again(young).await, Redriven::Owed);
    assert_eq!(once(&database, 30, 20).await.dropped.len(), 1);
    assert_eq!((tables_of(owner, 31).await, tables_of(owner, 29).await), (0, 3), "one is owed again");
    assert_eq!(owner.query_one("SELECT count(*) FROM dead_letters", &[]).await.unwrap().get::<_, i64>(0), 0);
    assert_verified(&mut database).await;
}

#[tokio::test]
async fn a_day_that_somebody_reads_is_dropped_an_hour_later() {
    let database = TestDatabase::new().await;
    let owner = &database.owner;
    let house = House::build(owner, "a").await;
    delivered(owner, &house, 20).await;
    let mut reader = watchbell::db::pool::connect_owner(&database.config.database).await.unwrap();
    let reading = reader.transaction().await.unwrap();
    reading.query("SELECT * FROM notifications", &[]).await.unwrap();
    assert_eq!(once(&database, 0, 10).await, Expired::default());
    reading.rollback().await.unwrap();
    assert_eq!(once(&database, 0, 10).await.dropped.len(), 1);
}
