//! The history of deliveries: dropped by days that hold nothing owed; dead letters that nobody sent again are abandoned; chains
//! are forgotten with what was told in them.

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
use super::support::wait::until;

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

/// Owes one again, without a word of why.
async fn owe(owner: &Client, house: &House, id: Uuid) {
    let insert = "INSERT INTO outbox (notification_id, destination_id, tenant_id) VALUES ($1, $2, $3)";
    owner.execute(insert, &[&id, &house.destination, &house.tenant.0]).await.unwrap();
}

async fn another(database: &TestDatabase) -> Client {
    watchbell::db::pool::connect_owner(&database.config.database).await.unwrap()
}

/// Waits until somebody waits for a lock.
async fn until_one_waits(looker: &Client) {
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    until("somebody to wait for a lock", async || {
        (looker.query_one(waits, &[]).await.unwrap().get::<_, i64>(0) == 1).then_some(())
    })
    .await;
}

async fn count(owner: &Client, query: &str) -> i64 {
    owner.query_one(query, &[]).await.unwrap().get(0)
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
    delivered(owner, &house, 0).await;
    assert_eq!(once(&database, 30, 400).await, Expired { abandoned: 1, ..Expired::default() });
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
    delivered(owner, &house, 0).await;
    let mut reader = watchbell::db::pool::connect_owner(&database.config.database).await.unwrap();
    let reading = reader.transaction().await.unwrap();
    reading.query("SELECT * FROM notifications", &[]).await.unwrap();
    assert_eq!(once(&database, 0, 10).await, Expired::default());
    reading.rollback().await.unwrap();
    assert_eq!(once(&database, 0, 10).await.dropped.len(), 1);
}

#[tokio::test]
async fn nobody_stands_behind_a_day_that_can_not_be_dropped_because_it_is_read() {
    let mut database = TestDatabase::new().await;
    let house = House::build(&database.owner, "a").await;
    delivered(&database.owner, &house, 20).await;
    delivered(&database.owner, &house, 0).await;
    // Long, and only in the last of the three.
    let mut reader = another(&database).await;
    let reading = reader.transaction().await.unwrap();
    reading.query("SELECT * FROM delivery_attempts", &[]).await.unwrap();
    let (looker, worker) = (another(&database).await, another(&database).await);
    let work = async {
        until_one_waits(&looker).await;
        worker.query("SELECT * FROM notifications", &[]).await.unwrap();
    };
    let (expired, ()) = tokio::join!(once(&database, 0, 10), work);
    assert_eq!(expired, Expired::default());
    assert_eq!(tables_of(&database.owner, 20).await, 3, "all or nothing");
    reading.rollback().await.unwrap();
    assert_eq!(once(&database, 0, 10).await.dropped.len(), 1);
    assert_verified(&mut database).await;
}

#[tokio::test]
async fn two_processes_drop_each_day_once_and_one_that_finds_the_other_at_it_leaves_it_alone() {
    let mut database = TestDatabase::new().await;
    let house = House::build(&database.owner, "a").await;
    for days in [0, 18, 19, 20] {
        delivered(&database.owner, &house, days).await;
    }
    let mut other = another(&database).await;
    let at_it = other.transaction().await.unwrap();
    at_it
        .execute("SELECT pg_advisory_xact_lock(hashtext('watchbell.drop_expired_history'))", &[])
        .await
        .unwrap();
    assert_eq!(once(&database, 0, 10).await, Expired::default());
    at_it.rollback().await.unwrap();
    let (one, two) = tokio::join!(once(&database, 0, 10), once(&database, 0, 10));
    let rest = once(&database, 0, 10).await;
    assert_eq!(one.dropped.len() + two.dropped.len() + rest.dropped.len(), 3, "{one:?} {two:?} {rest:?}");
    assert_verified(&mut database).await;
}

#[tokio::test]
async fn a_clock_that_jumped_ahead_of_all_that_was_told_drops_nothing() {
    let database = TestDatabase::new().await;
    let owner = &database.owner;
    let house = House::build(owner, "a").await;
    // To the database it is 500 days later than to those who told.
    for days in [500, 505] {
        delivered(owner, &house, days).await;
    }
    assert_eq!(once(&database, 0, 10).await, Expired::default());
    delivered(owner, &house, 0).await;
    assert_eq!(once(&database, 0, 10).await.dropped.len(), 2, "it was the time that had passed");
}

#[tokio::test]
async fn what_is_owed_with_an_old_id_while_its_day_is_about_to_be_dropped_keeps_it() {
    let mut database = TestDatabase::new().await;
    let house = House::build(&database.owner, "a").await;
    delivered(&database.owner, &house, 20).await;
    delivered(&database.owner, &house, 0).await;
    let mut wrong_clock = another(&database).await;
    let owing = wrong_clock.transaction().await.unwrap();
    let copy = "INSERT INTO notifications (notification_id, tenant_id, alert_id, destination_id, event, body)
                SELECT $1, tenant_id, alert_id, destination_id, event, body FROM notifications ORDER BY notification_id LIMIT 1";
    let at = SystemTime::from(ago(20)).duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let id = Uuid::new_v7(uuid::Timestamp::from_unix(NoContext, at.as_secs(), 0));
    owing.execute(copy, &[&id]).await.unwrap();
    let insert = "INSERT INTO outbox (notification_id, destination_id, tenant_id) VALUES ($1, $2, $3)";
    owing.execute(insert, &[&id, &house.destination, &house.tenant.0]).await.unwrap();
    let looker = another(&database).await;
    let commit = async {
        until_one_waits(&looker).await;
        owing.commit().await.unwrap();
    };
    let (expired, ()) = tokio::join!(once(&database, 0, 10), commit);
    assert_eq!(expired, Expired::default());
    assert_eq!(tables_of(&database.owner, 20).await, 3);
    assert_verified(&mut database).await;
}

#[tokio::test]
async fn what_somebody_is_about_to_send_again_is_not_abandoned() {
    let mut database = TestDatabase::new().await;
    let house = House::build(&database.owner, "a").await;
    let id = dead(&database.owner, &house, 40).await;
    delivered(&database.owner, &house, 0).await;
    let mut client = Pool::new(&database.config.database, Role::Api, 1).unwrap().get().await.unwrap();
    let scoped = watchbell::db::tenant_scope::begin_change(&mut client, house.tenant.0).await.unwrap();
    let why = Reason::parse("mended").unwrap();
    let redriven = redrive(&*scoped, NotificationId(id), "somebody", &why, false).await.unwrap();
    assert_eq!(redriven, Redriven::Owed);
    assert_eq!(once(&database, 30, 10).await, Expired::default(), "it waits for nobody");
    scoped.commit().await.unwrap();
    assert_eq!(once(&database, 30, 10).await, Expired::default());
    assert_eq!(tables_of(&database.owner, 40).await, 3);
    assert_verified(&mut database).await;
}

#[tokio::test]
async fn a_day_stays_as_long_as_something_young_waits_for_what_it_holds() {
    let mut database = TestDatabase::new().await;
    let owner = &database.owner;
    let house = House::build(owner, "a").await;
    let (earlier, later) = (told(owner, &house, 20).await, told(owner, &house, 0).await);
    owe(owner, &house, earlier).await;
    owe(owner, &house, later).await;
    let block = "INSERT INTO outbox_blocked (after_id, notification_id, tenant_id) VALUES ($1, $2, $3)";
    owner.execute(block, &[&earlier, &later, &house.tenant.0]).await.unwrap();
    let wait = "UPDATE outbox SET next_attempt_at = 'infinity' WHERE notification_id = $1";
    owner.execute(wait, &[&later]).await.unwrap();
    assert_eq!(once(&database, 0, 10).await, Expired::default());
    house.attempt(owner, earlier, 1, false, "delivered").await;
    house.settle(owner, earlier).await;
    owner.execute("SELECT release_waiting(ARRAY[$1::uuid])", &[&earlier]).await.unwrap();
    assert_eq!(once(&database, 0, 10).await.dropped.len(), 1);
    assert_eq!(count(owner, "SELECT count(*) FROM outbox_blocked").await, 0);
    assert_verified(&mut database).await;
}

#[tokio::test]
async fn a_part_that_a_person_made_is_nothing_to_drop_and_in_nobodys_way() {
    let database = TestDatabase::new().await;
    let owner = &database.owner;
    let house = House::build(owner, "a").await;
    owner
        .batch_execute("CREATE TABLE notifications_elsewhere PARTITION OF notifications DEFAULT")
        .await
        .unwrap();
    for days in [0, 20] {
        delivered(owner, &house, days).await;
    }
    assert_eq!(once(&database, 0, 10).await.dropped.len(), 1);
    assert_eq!(
        count(owner, "SELECT count(*) FROM pg_class WHERE relname = 'notifications_elsewhere'").await,
        1
    );
}

/// The chain of a series ends with this notification.
async fn end_chain(owner: &Client, house: &House, series: i32, last: Uuid) {
    let insert = "INSERT INTO chains (destination_id, rule_id, series_id, tenant_id, last_notification_id)
                  VALUES ($1, $2, $3, $4, $5)";
    owner.execute(insert, &[&house.destination, &house.rule, &series, &house.tenant.0, &last]).await.unwrap();
}

#[tokio::test]
async fn a_chain_is_forgotten_with_the_day_of_its_last_notification_unless_somebody_has_it() {
    let mut database = TestDatabase::new().await;
    let owner = &database.owner;
    let house = House::build(owner, "a").await;
    // One that is gone, one that can be sent again, one that is owed, one of today.
    let gone = told(owner, &house, 20).await;
    house.attempt(owner, gone, 1, false, "delivered").await;
    let (again, owed) = (dead(owner, &house, 19).await, told(owner, &house, 18).await);
    owe(owner, &house, owed).await;
    let young = told(owner, &house, 0).await;
    house.attempt(owner, young, 1, false, "delivered").await;
    // More than fit in one transaction.
    let insert = "INSERT INTO chains SELECT $1, $2, n, $3, $4 FROM generate_series(10, 2500) AS n";
    owner.execute(insert, &[&house.destination, &house.rule, &house.tenant.0, &gone]).await.unwrap();
    for (series, last) in [(1, gone), (2, again), (3, owed), (4, young)] {
        end_chain(owner, &house, series, last).await;
    }
    assert_eq!(once(&database, 0, 400).await, Expired::default());
    let mut producer = another(&database).await;
    let owing = producer.transaction().await.unwrap();
    owing.execute("SELECT FROM chains WHERE series_id = 1 FOR NO KEY UPDATE", &[]).await.unwrap();
    let expired = once(&database, 0, 10).await;
    assert_eq!((expired.dropped.len(), expired.chains), (1, 2491), "the other is passed by");
    owing.rollback().await.unwrap();
    assert_eq!(once(&database, 0, 10).await, Expired { chains: 1, ..Expired::default() });
    let left = "SELECT array_agg(series_id ORDER BY series_id) FROM chains";
    assert_eq!(owner.query_one(left, &[]).await.unwrap().get::<_, Vec<i32>>(0), [2, 3, 4]);
    assert_verified(&mut database).await;
}

#[tokio::test]
async fn who_wants_a_chain_while_it_is_forgotten_writes_it_anew() {
    let database = TestDatabase::new().await;
    let owner = &database.owner;
    let house = House::build(owner, "a").await;
    let gone = told(owner, &house, 20).await;
    delivered(owner, &house, 0).await;
    end_chain(owner, &house, 1, gone).await;
    assert_eq!(once(&database, 0, 10).await.dropped.len(), 1);
    end_chain(owner, &house, 1, gone).await;
    let mut retention = another(&database).await;
    let forgetting = retention.transaction().await.unwrap();
    assert_eq!(forgetting.query_one("SELECT prune_chains(10)", &[]).await.unwrap().get::<_, i64>(0), 1);
    let (producer, looker, next) = (another(&database).await, another(&database).await, Uuid::now_v7());
    let produce = async {
        let lock = "SELECT FROM lock_chains(ARRAY[$1::uuid], ARRAY[$2::uuid], ARRAY[1], ARRAY[NULL]::uuid[])";
        assert_eq!(producer.execute(lock, &[&house.destination, &house.rule]).await.unwrap(), 0);
        let upsert = include_str!("../../sql/queries/outbox/upsert_chains.sql");
        let (to, about) = (vec![house.destination], vec![house.rule]);
        producer.execute(upsert, &[&to, &about, &vec![1], &vec![house.tenant.0], &vec![next]]).await.unwrap();
    };
    let finish = async {
        until_one_waits(&looker).await;
        forgetting.commit().await.unwrap();
    };
    tokio::join!(produce, finish);
    let last = owner.query_one("SELECT last_notification_id FROM chains", &[]).await.unwrap();
    assert_eq!(last.get::<_, Uuid>(0), next);
}
