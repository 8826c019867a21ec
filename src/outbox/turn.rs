//! A turn in the database: what ended is completed and what may start is claimed, in one transaction of two round trips.

use deadpool_postgres::Object;
use futures_util::future::{join, join3};

use super::claim::{Lane, claim, read_bodies};
use super::complete::{Completed, complete};
use crate::db::error::DatabaseError;
use crate::db::transaction::{Transaction, begin, commit};
use crate::model::delivery::{Attempt, Completion, Fence};
use crate::model::ids::WorkerId;

/// What came of it.
#[derive(Debug, Default)]
pub struct Taken {
    /// Of what ended.
    pub completed: Completed,
    /// To be started.
    pub attempts: Vec<Attempt>,
}

/// It failed.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Failed {
    /// How.
    pub error: DatabaseError,
    /// What is claimed all the same if the commit was carried out: it was sent, and not answered, or not to the end.
    pub in_doubt: Vec<Fence>,
}

impl From<DatabaseError> for Failed {
    /// Nothing is claimed.
    fn from(error: DatabaseError) -> Self {
        Self { error, in_doubt: Vec::new() }
    }
}

/// Completes and claims, all of it sent at once: only for who knows that nobody took these over, because what turns out to be accepted
/// late might be claimed again. What it releases is left to the next turn. What the lanes learned is true when this succeeds.
///
/// # Errors
/// If the database is away; nothing is written then, or all of it.
pub async fn take(
    client: Object,
    worker: WorkerId,
    completions: &[&Completion],
    lanes: &mut [Lane],
    total: usize,
) -> Result<Taken, Failed> {
    let transaction = Transaction::on(client);
    let client = transaction.client()?;
    let (begun, completed, attempts) =
        join3(begin(client), complete(client, worker, completions), claim(client, worker, lanes, total))
            .await;
    begun?;
    let taken = Taken { completed: completed?, attempts: attempts? };
    end(transaction, taken).await
}

/// Reads what is to be sent, and commits.
///
/// # Errors
/// If the database is away; nothing is written then, or all of it.
pub async fn end(transaction: Transaction, mut taken: Taken) -> Result<Taken, Failed> {
    let client = transaction.client()?;
    let claimed = taken.attempts.iter().map(|attempt| (attempt.notification, attempt.number)).collect();
    let (read, committed) = join(read_bodies(client, &mut taken.attempts), commit(client)).await;
    if let Err(error) = read.and(committed) {
        return Err(Failed { error, in_doubt: claimed });
    }
    transaction.is_over();
    Ok(taken)
}
