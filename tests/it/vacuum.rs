//! Vacuum of the live tables: they stay small under a churn of rows, and an old snapshot makes nobody work in vain for long.

use std::time::{Duration, Instant};

use deadpool_postgres::Object;
use jiff::Timestamp;
use uuid::Uuid;
use watchbell::db::pool::{self, Pool, Role};
use watchbell::model::delivery::{Attempt, Completion, Outcome, Record};
use watchbell::model::ids::WorkerId;
use watchbell::outbox::claim::{Lane, claim};
use watchbell::outbox::complete::complete;
use watchbell::outbox::floors::Floors;
use watchbell::outbox::heartbeat::register;
use watchbell::outbox::vacuum::Vacuum;
use watchbell::runtime::{Role as Stage, Roles};

use super::support::app::TestApp;
use super::support::wait::until;

const DEAD: &str = "SELECT pg_stat_get_dead_tuples('outbox'::regclass)";
const VACUUMED: &str = "SELECT vacuum_count FROM pg_stat_user_tables WHERE relname = 'outbox'";
const AT_ONCE: i32 = 500;

/// Somebody who claims and completes, and nobody else who vacuums.
struct Churn {
    app: TestApp,
    client: Object,
    worker: WorkerId,
}

impl Churn {
    async fn new() -> Self {
        let app = TestApp::new(&[]).await;
        app.owner().batch_execute("ALTER TABLE outbox SET (autovacuum_enabled = false)").await.unwrap();
        let client = Pool::new(&app.config().database, Role::Worker, 1).unwrap().get().await.unwrap();
        let worker = WorkerId(Uuid::now_v7());
        register(&client, worker, "here", Duration::from_secs(600)).await.unwrap();
        Self { app, client, worker }
    }

    /// As the service has it, looking as often as it is asked to.
    fn vacuum(&self, every: Duration) -> Vacuum {
        Vacuum::new(Pool::new(&self.app.config().database, Role::Owner, 1).unwrap(), every)
    }

    /// So many times, 500 are owed, claimed, and completed.
    async fn turn(&mut self, times: usize) {
        for _ in 0..times {
            self.app.owe_very_many(self.app.destination, AT_ONCE, 0).await;
            let transaction = self.client.transaction().await.unwrap();
            let lease = Duration::from_secs(60);
            let lane = Lane {
                destination: self.app.destination,
                slots: AT_ONCE,
                lease,
                floors: Floors::NONE,
                is_dry: false,
            };
            let attempts = claim(&transaction, self.worker, &mut [lane], AT_ONCE as usize).await.unwrap();
            transaction.commit().await.unwrap();
            assert_eq!(attempts.len(), AT_ONCE as usize);
            let completions: Vec<Completion> = attempts.into_iter().map(delivered).collect();
            let transaction = self.client.transaction().await.unwrap();
            complete(&transaction, self.worker, &completions).await.unwrap();
            transaction.commit().await.unwrap();
        }
        // What died is counted at once, and not within the second.
        self.client.batch_execute("SELECT pg_stat_force_next_flush()").await.unwrap();
    }

    async fn bytes(&self) -> i64 {
        self.app.count("SELECT pg_relation_size('outbox')").await
    }
}

fn delivered(attempt: Attempt) -> Completion {
    let now = Timestamp::now();
    let record = Record {
        started_at: now,
        finished_at: now,
        status_code: Some(200),
        error: None,
        warning: None,
        answer: None,
        body_sha256: [0; 32],
        external_id: None,
    };
    let Attempt { notification, tenant, destination, number, .. } = attempt;
    Completion { notification, tenant, destination, number, outcome: Outcome::Delivered, record }
}

#[tokio::test]
async fn a_table_that_is_vacuumed_stays_small_under_a_churn_of_rows_and_grows_without() {
    let (mut kept, mut left) = (Churn::new().await, Churn::new().await);
    let mut vacuum = kept.vacuum(Duration::ZERO);
    for _ in 0..6 {
        kept.turn(5).await;
        assert_eq!(vacuum.step().await.unwrap(), 1);
        left.turn(5).await;
    }
    let (kept, left) = (kept.bytes().await, left.bytes().await);
    assert!(kept * 3 < left, "{kept} and {left}");
}

#[tokio::test]
async fn nothing_is_vacuumed_for_a_few_dead_rows() {
    let mut churn = Churn::new().await;
    let mut vacuum = churn.vacuum(Duration::ZERO);
    churn.turn(2).await;
    assert!(churn.app.count(DEAD).await >= 500);
    assert_eq!(vacuum.step().await.unwrap(), 0);
    assert_eq!(churn.app.count(VACUUMED).await, 0);
}

#[tokio::test]
async fn while_an_old_snapshot_keeps_the_dead_it_is_tried_less_and_less_often_and_as_before_when_it_is_gone()
{
    let mut churn = Churn::new().await;
    let every = Duration::from_millis(10);
    let mut vacuum = churn.vacuum(every);
    let old = pool::connect_owner(&churn.app.database.config.database).await.unwrap();
    old.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM outbox").await.unwrap();
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
    old.batch_execute("COMMIT").await.unwrap();
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
    let (mut one, mut other) = (churn.vacuum(Duration::ZERO), churn.vacuum(Duration::from_secs(600)));
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
    let mut vacuum = churn.vacuum(Duration::ZERO);
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
