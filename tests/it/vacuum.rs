//! Vacuum of the live tables: they stay small under a churn of rows, and an old snapshot makes nobody work in vain for long.

use std::time::{Duration, Instant};

use watchbell::db::pool::{self, Pool, Role};
use watchbell::outbox::vacuum::Vacuum;
use watchbell::runtime::{Role as Stage, Roles};

use super::support::churn::Churn;
use super::support::wait::until;

const DEAD: &str = "SELECT pg_stat_get_dead_tuples('outbox'::regclass)";
const VACUUMED: &str = "SELECT vacuum_count FROM pg_stat_user_tables WHERE relname = 'outbox'";

/// As the service has it, looking as often as it is asked to.
fn vacuum(churn: &Churn, every: Duration) -> Vacuum {
    Vacuum::new(Pool::new(&churn.app.database.config.database, Role::Owner, 1).unwrap(), every)
}

async fn bytes(churn: &Churn) -> i64 {
    churn.app.count("SELECT pg_relation_size('outbox')").await
}

#[tokio::test]
async fn a_table_that_is_vacuumed_stays_small_under_a_churn_of_rows_and_grows_without() {
    let (mut kept, mut left) = (Churn::new().await, Churn::new().await);
    let mut vacuum = vacuum(&kept, Duration::ZERO);
    for _ in 0..6 {
        kept.turn(5).await;
        assert_eq!(vacuum.step().await.unwrap(), 1);
        left.turn(5).await;
    }
    let (kept, left) = (bytes(&kept).await, bytes(&left).await);
    assert!(kept * 3 < left, "{kept} and {left}");
}

#[tokio::test]
async fn nothing_is_vacuumed_for_a_few_dead_rows() {
    let mut churn = Churn::new().await;
    let mut vacuum = vacuum(&churn, Duration::ZERO);
    churn.turn(1).await;
    assert!(churn.app.count(DEAD).await >= 500);
    assert_eq!(vacuum.step().await.unwrap(), 0);
    assert_eq!(churn.app.count(VACUUMED).await, 0);
}

#[tokio::test]
async fn while_an_old_snapshot_keeps_the_dead_it_is_tried_less_and_less_often_and_as_before_when_it_is_gone()
{
    let mut churn = Churn::new().await;
    // Well beyond what a vacuum itself takes.
    let every = Duration::from_millis(50);
    let mut vacuum = vacuum(&churn, every);
    let old = churn.old_snapshot().await;
    churn.turn(6).await;
    let (start, mut tried) = (Instant::now(), 0);
    until("six tries", async || {
        tried += vacuum.step().await.unwrap();
        (tried == 6).then_some(())
    })
    .await;
    // 2, 4, 8, 16 and 32 times as long.
    assert!(start.elapsed() >= 62 * every, "{:?}", start.elapsed());
    assert!(churn.app.count(DEAD).await >= 3_000);
    drop(old);
    until("they are gone", async || {
        vacuum.step().await.unwrap();
        (churn.app.count(DEAD).await < 100).then_some(())
    })
    .await;
    churn.turn(6).await;
    assert_eq!(vacuum.step().await.unwrap(), 1, "the pause is the usual one again");
}

#[tokio::test]
async fn what_one_process_has_just_vacuumed_another_leaves_alone() {
    let mut churn = Churn::new().await;
    let (mut one, mut other) = (vacuum(&churn, Duration::ZERO), vacuum(&churn, Duration::from_secs(600)));
    churn.turn(6).await;
    assert_eq!(one.step().await.unwrap(), 1);
    churn.turn(6).await;
    assert!(churn.app.count(DEAD).await >= 3_000);
    assert_eq!(other.step().await.unwrap(), 0);
    assert_eq!(churn.app.count(VACUUMED).await, 1);
}

#[tokio::test]
async fn a_table_in_somebody_elses_hands_is_not_waited_for() {
    let mut churn = Churn::new().await;
    let mut vacuum = vacuum(&churn, Duration::ZERO);
    churn.turn(6).await;
    let other = pool::connect_owner(&churn.app.database.config.database).await.unwrap();
    other.batch_execute("BEGIN; LOCK TABLE outbox IN SHARE UPDATE EXCLUSIVE MODE").await.unwrap();
    assert_eq!(vacuum.step().await.unwrap(), 1, "it was tried");
    assert_eq!(churn.app.count(VACUUMED).await, 0);
    other.batch_execute("COMMIT").await.unwrap();
    vacuum.step().await.unwrap();
    assert_eq!(churn.app.count(VACUUMED).await, 1);
}

#[tokio::test]
async fn a_running_service_vacuums_what_was_delivered() {
    let mut churn = Churn::new().await;
    churn.app.start(Roles::of(&[Stage::Deliver])).await;
    let app = &mut churn.app;
    app.owe_very_many(app.destination, 3_000, 0).await;
    app.owner().batch_execute("DELETE FROM outbox; SELECT pg_stat_force_next_flush()").await.unwrap();
    app.wait_for_more(VACUUMED, 0).await;
    app.stop().await;
}
