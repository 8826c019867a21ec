//! Claims of which nobody here knows whether they were committed: the connection ended before the answer. If they were, they are owed
//! again, beside the turns, as soon as the database is there: they need not wait for the end of a lease.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::db::error::DatabaseError;
use crate::db::pool::Pool;
use crate::model::delivery::Fence;
use crate::model::ids::WorkerId;
use crate::outbox::rescue::rescue_unanswered;
use crate::telemetry::metrics::Metrics;

/// Between two tries.
const PAUSE: Duration = Duration::from_secs(1);

/// Those of a worker. Nobody looks any more when it is dropped; then it is dead, and others rescue what it had.
#[derive(Debug, Default)]
pub struct Doubts {
    looking: JoinSet<()>,
}

impl Doubts {
    /// Looks what came of these until that is known.
    pub fn settle(&mut self, pool: Pool, worker: WorkerId, claimed: Vec<Fence>, metrics: Arc<Metrics>) {
        while self.looking.try_join_next().is_some() {}
        self.looking.spawn(async move {
            loop {
                match look(&pool, worker, &claimed).await {
                    Ok(0) => break,
                    Ok(attempts) => {
                        metrics.deliveries_rescued.inc_by(attempts);
                        tracing::warn!(
                            attempts,
                            "a claim was committed and not answered, they are owed again"
                        );
                        break;
                    }
                    Err(error) => {
                        tracing::warn!(%error, "failed to look whether a claim was committed, trying again");
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
        });
    }
}

async fn look(pool: &Pool, worker: WorkerId, claimed: &[Fence]) -> Result<u64, DatabaseError> {
    rescue_unanswered(&mut pool.get().await?, worker, claimed).await
}
