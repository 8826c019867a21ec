//! Partitions are made by whoever needs them first, and needed by several processes at once.

use tokio_postgres::Client;
use watchbell::db::pool;

use super::support::database::TestDatabase;
use super::support::wait::until;

const MAKE: &str = "SELECT ensure_partition('readings', '2031-02-03')";

async fn make(client: &Client) -> bool {
    client.query_one(MAKE, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn a_process_that_waited_for_another_to_make_a_partition_goes_on() {
    let database = TestDatabase::new().await;
    let first = &database.owner;
    let second = pool::connect_owner(&database.config.database).await.unwrap();
    first.batch_execute("BEGIN").await.unwrap();
    assert!(make(first).await);
    let waiting = tokio::spawn(async move { make(&second).await });
    until("the second one waits", async || {
        let row = first
            .query_one(
                "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
                   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
                &[],
            )
            .await
            .unwrap();
        (row.get::<_, i64>(0) > 0).then_some(())
    })
    .await;
    first.batch_execute("COMMIT").await.unwrap();
    assert!(!waiting.await.unwrap(), "it was there by then");
}

#[tokio::test]
async fn a_partition_is_made_once_and_holds_its_day() {
    let database = TestDatabase::new().await;
    let owner = &database.owner;
    assert!(make(owner).await);
    assert!(!make(owner).await);
    for (ts, fits) in [
        ("2031-02-02 23:59:59.999999Z", false),
        ("2031-02-03 00:00Z", true),
        ("2031-02-03 23:59:59.999999Z", true),
        ("2031-02-04 00:00Z", false),
    ] {
        let insert = format!("INSERT INTO readings (series_id, ts, value) VALUES (1, '{ts}', 1)");
        assert_eq!(owner.batch_execute(&insert).await.is_ok(), fits, "{ts}");
    }
}
