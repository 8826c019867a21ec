//! Vacuum: what was delivered leaves dead rows behind, and under load the live tables need it every few seconds, while autovacuum
//! naps for a minute: the table would grow, and claims would walk over what is gone.
//!
//! Invariants: it waits for no lock and lets nobody wait for one, and its failure stops nothing else. As long as somebody's old
//! snapshot keeps the dead rows, it tries again less and less often. How many are dead is what PostgreSQL counted, so that several
//! processes see each other's rows and each other's vacuum.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::db::error::DatabaseError;
use crate::db::pool::Pool;

const READ_DEAD_ROWS: &str = include_str!("../../sql/queries/outbox/read_dead_rows.sql");

/// How often is looked, and a table vacuumed at most, by all processes together.
pub const EVERY: Duration = Duration::from_secs(3);
/// The longest pause after those that removed little: as long as autovacuum naps.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Fewer dead rows than this are not worth it,
const LEAST_DEAD: i64 = 2_000;
/// nor fewer than one for so many live ones: their index entries are all read.
const LIVE_A_DEAD: i64 = 20;

/// Vacuums the live tables when enough of their rows are dead.
pub struct Vacuum {
    pool: Pool,
    every: Duration,
    tables: [Table; 2],
}

struct Table {
    name: &'static str,
    /// Between this process's last try and its next.
    pause: Duration,
    tried_at: Option<Instant>,
}

/// What the statistics say of a table.
struct Seen {
    dead: i64,
    live: i64,
    /// Since anybody vacuumed it.
    age: Option<Duration>,
}

impl Vacuum {
    /// Works through `pool`, of the owner: nobody else may vacuum. It looks `every` so often: [`EVERY`].
    pub fn new(pool: Pool, every: Duration) -> Self {
        let table = |name| Table { name, pause: every, tried_at: None };
        Self { pool, every, tables: [table("outbox"), table("outbox_blocked")] }
    }

    /// Looks again and again until cancelled.
    pub async fn run(mut self, cancel: CancellationToken) {
        loop {
            // A vacuum that is cut off here ends by itself: it is one statement, which ends in time.
            let looked = async {
                tokio::time::sleep(self.every).await;
                self.step().await
            };
            tokio::select! {
                looked = looked => {
                    if let Err(error) = looked {
                        tracing::warn!(%error, "failed to vacuum what is owed, trying again");
                    }
                }
                () = cancel.cancelled() => return,
            }
        }
    }

    /// Looks once; returns how many tables it tried to vacuum.
    ///
    /// # Errors
    /// If the database is away or refuses.
    pub async fn step(&mut self) -> Result<usize, DatabaseError> {
        let mut tried = 0;
        for table in &mut self.tables {
            if table.tried_at.is_none_or(|at| at.elapsed() >= table.pause) {
                tried += usize::from(table.step(&self.pool, self.every).await?);
            }
        }
        Ok(tried)
    }
}

impl Table {
    async fn step(&mut self, pool: &Pool, every: Duration) -> Result<bool, DatabaseError> {
        let client = pool.get().await?;
        let read = async || {
            let statement = client.prepare_cached(READ_DEAD_ROWS).await?;
            let row = client.query_one(&statement, &[&self.name]).await?;
            let age =
                row.try_get::<_, Option<f64>>(2)?.map(|seconds| Duration::from_secs_f64(seconds.max(0.0)));
            Ok::<_, DatabaseError>(Seen { dead: row.try_get(0)?, live: row.try_get(1)?, age })
        };
        let before = read().await?;
        if before.dead < LEAST_DEAD.max(before.live / LIVE_A_DEAD)
            || before.age.is_some_and(|age| age < every)
        {
            return Ok(false);
        }
        self.tried_at = Some(Instant::now());
        // Until it has shown to be of use: what fails, or finds the table in somebody's hands, is tried less often too.
        self.pause = LONGEST_PAUSE.min(2 * self.pause);
        client.batch_execute("SET lock_timeout = '100ms'").await?;
        // To cut off the table's end it would need a lock that keeps claims out.
        client
            .batch_execute(&format!("VACUUM (SKIP_LOCKED, TRUNCATE false, PARALLEL 0) {}", self.name))
            .await?;
        let after = read().await?;
        let removed = before.dead - after.dead;
        if removed >= before.dead / 2 {
            self.pause = every;
        }
        tracing::debug!(
            table = self.name,
            dead = before.dead,
            removed,
            pause_ms = self.pause.as_millis() as u64,
            "vacuumed"
        );
        Ok(true)
    }
}
