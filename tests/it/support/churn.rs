//! Rows that come and go through the very functions that a worker calls, without anything being sent.

use std::time::Duration;

use deadpool_postgres::Object;
use jiff::Timestamp;
use tokio_postgres::Client;
use uuid::Uuid;
use watchbell::db::pool::{self, Pool, Role};
use watchbell::model::delivery::{Attempt, Completion, Outcome, Record};
use watchbell::model::ids::WorkerId;
use watchbell::outbox::claim::{Lane, claim, read_bodies};
use watchbell::outbox::complete::complete;
use watchbell::outbox::floors::Floors;
use watchbell::outbox::heartbeat::register;

use super::app::TestApp;

const AT_ONCE: usize = 500;
const FLUSH: &str = "SELECT pg_stat_force_next_flush()";

/// Somebody who claims and completes, where nobody else vacuums.
pub struct Churn {
    pub app: TestApp,
    /// As a worker knows it.
    pub lane: Lane,
    client: Object,
    worker: WorkerId,
}

impl Churn {
    pub async fn new() -> Self {
        let app = TestApp::new(&[]).await;
        app.owner().batch_execute("ALTER TABLE outbox SET (autovacuum_enabled = false)").await.unwrap();
        let client = Pool::new(&app.config().database, Role::Worker, 1).unwrap().get().await.unwrap();
        let worker = WorkerId(Uuid::now_v7());
        register(&client, worker, "here", Duration::from_secs(600)).await.unwrap();
        let lane = Lane {
            destination: app.destination,
            slots: AT_ONCE as i32,
            lease: Duration::from_secs(60),
            floors: Floors::NONE,
            is_dry: false,
        };
        Self { app, lane, client, worker }
    }

    /// Sees all rows that there are now, until it is dropped.
    pub async fn old_snapshot(&self) -> Client {
        let old = pool::connect_owner(&self.app.database.config.database).await.unwrap();
        old.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM outbox").await.unwrap();
        old
    }

    /// So many times, 500 are owed, claimed, and completed.
    pub async fn turn(&mut self, times: usize) {
        for _ in 0..times {
            self.app.owe_very_many(self.app.destination, AT_ONCE as i32, 0).await;
            let attempts = self.claim().await;
            assert_eq!(attempts.len(), AT_ONCE);
            self.complete(attempts).await;
        }
        self.count_now().await;
    }

    /// Claims what is due.
    pub async fn claim(&mut self) -> Vec<Attempt> {
        let transaction = self.client.transaction().await.unwrap();
        let lanes = std::slice::from_mut(&mut self.lane);
        let mut attempts = claim(&transaction, self.worker, lanes, 2 * AT_ONCE).await.unwrap();
        read_bodies(&transaction, &mut attempts).await.unwrap();
        transaction.commit().await.unwrap();
        attempts
    }

    /// They were delivered.
    pub async fn complete(&mut self, attempts: Vec<Attempt>) {
        let delivered: Vec<Completion> = attempts.into_iter().map(delivered).collect();
        let completions: Vec<&Completion> = delivered.iter().collect();
        let transaction = self.client.transaction().await.unwrap();
        complete(&transaction, self.worker, &completions).await.unwrap();
        transaction.commit().await.unwrap();
    }

    /// What this and the test did stands in PostgreSQL's statistics at once, and not within the second.
    pub async fn count_now(&self) {
        self.client.batch_execute(FLUSH).await.unwrap();
        self.app.owner().batch_execute(FLUSH).await.unwrap();
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
