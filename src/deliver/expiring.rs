//! Horizons go on while a destination is left alone, and no attempt finds out that they are over. Everything that waits there is
//! looked at, so that it is done beside the turns: nobody else waits for it.

use tokio::task::JoinHandle;

use super::lanes::Lanes;
use crate::db::error::DatabaseError;
use crate::db::pool::Pool;
use crate::outbox::expire::{Shut, expire};

/// What died while its destination was left alone is buried so many at a time.
const AT_ONCE: i64 = 500;

/// Somebody looks for what is over its horizon behind these doors.
#[derive(Debug)]
pub struct Expiring {
    shut: Vec<Shut>,
    looking: JoinHandle<Result<usize, DatabaseError>>,
}

impl Expiring {
    /// Begins to look, if it is time for any of the lanes.
    pub fn begin(shut: Vec<Shut>, pool: &Pool) -> Option<Self> {
        if shut.is_empty() {
            return None;
        }
        let looking = tokio::spawn(expire_behind(pool.clone(), shut.clone()));
        Some(Self { shut, looking })
    }

    /// Whether waiting for it takes no time.
    pub fn is_finished(&self) -> bool {
        self.looking.is_finished()
    }

    /// Waits for its end; returns how many were given up.
    pub async fn end(self, lanes: &mut Lanes) -> usize {
        let expired = match self.looking.await {
            Ok(Ok(expired)) => expired,
            Ok(Err(error)) => {
                tracing::error!(%error, "failed to look for what is over its horizon, trying again later");
                0
            }
            Err(error) => {
                tracing::error!(%error, "the look for what is over its horizon failed");
                0
            }
        };
        if expired as i64 == AT_ONCE {
            lanes.expire_on(&self.shut);
        }
        expired
    }
}

/// Gives up what is over its horizon; returns how many.
async fn expire_behind(pool: Pool, shut: Vec<Shut>) -> Result<usize, DatabaseError> {
    let mut client = pool.get().await?;
    let transaction = client.transaction().await?;
    let expired = expire(&transaction, &shut, AT_ONCE).await?;
    transaction.commit().await?;
    for id in &expired {
        tracing::error!(notification_id = %id, "given up without another attempt, it is a dead letter");
    }
    Ok(expired.len())
}
