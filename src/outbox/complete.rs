//! Completing: outcomes go on the record, and rows leave the outbox or wait for their next attempt. One statement, and
//! one that releases what waited for those that left.

use deadpool_postgres::Transaction;

use super::chain::release;
use crate::db::error::DatabaseError;
use crate::model::delivery::{Completion, Outcome};
use crate::model::ids::{NotificationId, WorkerId};

const COMPLETE: &str = include_str!("../../sql/queries/outbox/complete.sql");

/// Writes what became of attempts. One whose row somebody took over meanwhile is kept as a late record: it can't undo
/// what the other does, except that a known acceptance ends a row that nobody has in flight. Returns the late ones.
///
/// # Errors
/// If the database is away; nothing is written then, and the same call may be repeated.
pub async fn complete(
    transaction: &Transaction<'_>,
    worker: WorkerId,
    completions: &[Completion],
) -> Result<Vec<NotificationId>, DatabaseError> {
    if completions.is_empty() {
        return Ok(Vec::new());
    }
    let each = || completions.iter();
    let ids: Vec<_> = each().map(|c| c.notification.0).collect();
    let numbers: Vec<_> = each().map(|c| c.number).collect();
    let tenants: Vec<_> = each().map(|c| c.tenant.0).collect();
    let destinations: Vec<_> = each().map(|c| c.destination.0).collect();
    let outcomes: Vec<_> = each().map(|c| c.outcome.as_str()).collect();
    let waits: Vec<_> = each().map(|c| wait_seconds(&c.outcome)).collect();
    let reasons: Vec<_> = each().map(|c| dead_reason(&c.outcome)).collect();
    let started: Vec<_> = each().map(|c| c.record.started_at).collect();
    let finished: Vec<_> = each().map(|c| c.record.finished_at).collect();
    let codes: Vec<_> = each().map(|c| c.record.status_code.map(i32::from)).collect();
    let errors: Vec<_> = each().map(|c| c.record.error.as_deref()).collect();
    let warnings: Vec<_> = each().map(|c| c.record.warning.as_deref()).collect();
    let answers: Vec<_> = each().map(|c| c.record.answer.as_deref()).collect();
    let hashes: Vec<_> = each().map(|c| c.record.body_sha256.as_slice()).collect();
    let external: Vec<_> = each().map(|c| c.record.external_id.as_deref()).collect();
    let statement = transaction.prepare_cached(COMPLETE).await?;
    let rows = transaction
        .query(
            &statement,
            &[
                &worker.0,
                &ids,
                &numbers,
                &tenants,
                &destinations,
                &outcomes,
                &waits,
                &reasons,
                &started,
                &finished,
                &codes,
                &errors,
                &warnings,
                &answers,
                &hashes,
                &external,
            ],
        )
        .await?;
    let (late, gone): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row.get(1));
    let gone: Vec<_> = gone.iter().map(|row| row.get(0)).collect();
    release(transaction, &gone).await?;
    Ok(late.iter().map(|row| NotificationId(row.get(0))).collect())
}

fn wait_seconds(outcome: &Outcome) -> f64 {
    match outcome {
        Outcome::Retry { after } | Outcome::Ambiguous { after } => after.as_secs_f64(),
        // A held row is due at once: it is its destination that waits.
        Outcome::Delivered | Outcome::Dead { .. } | Outcome::Hold => 0.0,
    }
}

fn dead_reason(outcome: &Outcome) -> Option<&str> {
    match outcome {
        Outcome::Dead { reason } => Some(reason),
        _ => None,
    }
}
