//! A turn in the database: what ended is completed and what may start is claimed, in one transaction of two round trips.

use deadpool_postgres::Object;
use futures_util::future::{join, join3};

use super::claim::{Lane, claim, read_bodies};
use super::complete::{Completed, complete};
use crate::db::error::DatabaseError;
use crate::db::transaction::{Transaction, begin, commit};
use crate::model::delivery::{Attempt, Completion};
use crate::model::ids::WorkerId;

/// What came of it.
#[derive(Debug, Default)]
pub struct Taken {
    /// Of what ended.
    pub completed: Completed,
    /// To be started.
    pub attempts: Vec<Attempt>,
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
) -> Result<Taken, DatabaseError> {
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
pub async fn end(transaction: Transaction, mut taken: Taken) -> Result<Taken, DatabaseError> {
    let client = transaction.client()?;
    let (read, committed) = join(read_bodies(client, &mut taken.attempts), commit(client)).await;
    read?;
    committed?;
    transaction.is_over();
    Ok(taken)
}
