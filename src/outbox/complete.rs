//! Completing: outcomes go on the record, and rows leave the outbox or wait for their next attempt. One statement for what was
//! delivered; and if there is any, one for what was not, one for what its worker has not in flight any more, and one that releases
//! what waited for those that left. The first are sent at once.

use std::collections::HashSet;

use deadpool_postgres::GenericClient;
use futures_util::future::join4;
use jiff::Timestamp;
use tokio_postgres::Statement;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::chain::release;
use crate::db::error::DatabaseError;
use crate::model::delivery::{Completion, Outcome};
use crate::model::ids::{NotificationId, WorkerId};

const LOCK_IN_ORDER: &str = include_str!("../../sql/queries/outbox/lock_in_order.sql");
const COMPLETE_DELIVERED: &str = include_str!("../../sql/queries/outbox/complete_delivered.sql");
const COMPLETE_FAILED: &str = include_str!("../../sql/queries/outbox/complete_failed.sql");
const INSERT_ATTEMPTS: &str = include_str!("../../sql/queries/outbox/insert_attempts.sql");
const IS_ANYTHING_BLOCKED: &str = "SELECT EXISTS (SELECT FROM outbox_blocked)";
const COMPLETE_LATE: &str = include_str!("../../sql/queries/outbox/complete_late.sql");

/// Writes what became of attempts. One whose row somebody took over meanwhile is kept as a late record: it can't undo
/// what the other does, except that a known acceptance ends a row that nobody has in flight.
///
/// # Errors
/// If the database is away; nothing is written then, and the same call may be repeated.
pub async fn complete(
    client: &impl GenericClient,
    worker: WorkerId,
    completions: &[&Completion],
) -> Result<Completed, DatabaseError> {
    let mut completed = Completed::default();
    if completions.is_empty() {
        return Ok(completed);
    }
    let mut ordered = completions.to_vec();
    ordered.sort_unstable_by_key(|completion| (completion.notification, completion.number));
    let ids: Vec<_> = ordered.iter().map(|completion| completion.notification.0).collect();
    let (delivered, failed): (Vec<_>, Vec<_>) =
        ordered.into_iter().partition(|completion| completion.outcome == Outcome::Delivered);
    // Prepared before: who is looked for in the queue behind them must not be sent in front of them.
    let (locking, delivering, failing, looking) = (
        client.prepare_cached(LOCK_IN_ORDER).await?,
        client.prepare_cached(COMPLETE_DELIVERED).await?,
        client.prepare_cached(COMPLETE_FAILED).await?,
        client.prepare_cached(IS_ANYTHING_BLOCKED).await?,
    );
    let (locked, ended, waiting, blocked) = join4(
        async {
            // Whoever locks many rows does it in one order: one statement alone has it, two have not.
            if delivered.is_empty() || failed.is_empty() {
                return Ok(0);
            }
            client.execute(&locking, &[&ids]).await
        },
        complete_delivered(client, &delivering, worker, &delivered),
        complete_failed(client, &failing, worker, &failed),
        // With a snapshot of its own: it sees what somebody made wait while the others waited for a lock.
        client.query_one(&looking, &[]),
    )
    .await;
    locked?;
    let (mut written, failed_written) = (ended?, waiting?);
    let mut any_waits: bool = blocked?.try_get(0)?;
    written.fenced.extend(failed_written.fenced);
    written.gone.extend(failed_written.gone);
    if written.fenced.len() < completions.len() {
        let mut others = [delivered, failed].concat();
        others.retain(|completion| !written.has(completion));
        completed.late = complete_late(client, worker, &others, &mut written.gone).await?;
        any_waits = true;
    }
    if any_waits {
        completed.released = release(client, &written.gone).await?;
    }
    Ok(completed)
}

/// What came of completing.
#[derive(Debug, Default)]
pub struct Completed {
    /// Of these an answer came after somebody took the row over: it is kept as late.
    pub late: Vec<NotificationId>,
    /// So many are due now that waited for what left.
    pub released: i64,
}

/// What is on record now.
#[derive(Debug, Default)]
struct Written {
    /// The attempts that this worker still had in flight.
    fenced: HashSet<(Uuid, i32)>,
    /// What left the outbox.
    gone: Vec<Uuid>,
}

impl Written {
    fn has(&self, completion: &Completion) -> bool {
        self.fenced.contains(&(completion.notification.0, completion.number))
    }
}

/// The common case: each left the outbox, if this worker still had it in flight.
async fn complete_delivered(
    client: &impl GenericClient,
    statement: &Statement,
    worker: WorkerId,
    completions: &[&Completion],
) -> Result<Written, DatabaseError> {
    let mut written = Written::default();
    if completions.is_empty() {
        return Ok(written);
    }
    let columns = Columns::of(completions);
    let Columns { ids, numbers, tenants, destinations, started, finished, codes, .. } = &columns;
    let Columns { warnings, answers, hashes, external, .. } = &columns;
    let row = client
        .query_one(
            statement,
            &[
                &worker.0,
                ids,
                numbers,
                tenants,
                destinations,
                started,
                finished,
                codes,
                warnings,
                answers,
                hashes,
                external,
            ],
        )
        .await?;
    let ended: Vec<Uuid> = row.try_get::<_, Option<_>>(0)?.unwrap_or_default();
    let numbers: Vec<i32> = row.try_get::<_, Option<_>>(1)?.unwrap_or_default();
    written.gone.extend(&ended);
    written.fenced.extend(ended.into_iter().zip(numbers));
    if written.fenced.len() == completions.len() {
        return Ok(written);
    }
    // Somebody took others of them over.
    let ended: Vec<&Completion> = completions.iter().copied().filter(|one| written.has(one)).collect();
    let statement = client.prepare_cached(INSERT_ATTEMPTS).await?;
    client.execute(&statement, &Columns::of(&ended).all(&worker.0)).await?;
    Ok(written)
}

/// Each waits for its next attempt, or is given up, if this worker still had it in flight.
async fn complete_failed(
    client: &impl GenericClient,
    statement: &Statement,
    worker: WorkerId,
    completions: &[&Completion],
) -> Result<Written, DatabaseError> {
    let mut written = Written::default();
    if completions.is_empty() {
        return Ok(written);
    }
    let columns = Columns::of(completions);
    let waits: Vec<_> = completions.iter().map(|c| wait_seconds(&c.outcome)).collect();
    let reasons: Vec<_> = completions.iter().map(|c| dead_reason(&c.outcome)).collect();
    let mut parameters = columns.all(&worker.0);
    parameters.extend([&waits as Parameter<'_>, &reasons]);
    for row in client.query(statement, &parameters).await? {
        let id = row.try_get(0)?;
        written.fenced.insert((id, row.try_get(1)?));
        if row.try_get(2)? {
            written.gone.push(id);
        }
    }
    Ok(written)
}

/// What this worker has not in flight any more. Returns the late ones.
async fn complete_late(
    client: &impl GenericClient,
    worker: WorkerId,
    completions: &[&Completion],
    gone: &mut Vec<Uuid>,
) -> Result<Vec<NotificationId>, DatabaseError> {
    let statement = client.prepare_cached(COMPLETE_LATE).await?;
    let columns = Columns::of(completions);
    let mut late = Vec::new();
    for row in client.query(&statement, &columns.all(&worker.0)).await? {
        let id = row.try_get(0)?;
        if row.try_get(1)? {
            late.push(NotificationId(id));
        } else {
            gone.push(id);
        }
    }
    Ok(late)
}

type Parameter<'a> = &'a (dyn ToSql + Sync);

/// Completions, column by column.
struct Columns<'a> {
    ids: Vec<Uuid>,
    numbers: Vec<i32>,
    tenants: Vec<i32>,
    destinations: Vec<Uuid>,
    outcomes: Vec<&'static str>,
    started: Vec<Timestamp>,
    finished: Vec<Timestamp>,
    codes: Vec<Option<i32>>,
    errors: Vec<Option<&'a str>>,
    warnings: Vec<Option<&'a str>>,
    answers: Vec<Option<&'a str>>,
    hashes: Vec<&'a [u8]>,
    external: Vec<Option<&'a str>>,
}

impl<'a> Columns<'a> {
    fn of(completions: &[&'a Completion]) -> Self {
        let each = || completions.iter();
        Self {
            ids: each().map(|c| c.notification.0).collect(),
            numbers: each().map(|c| c.number).collect(),
            tenants: each().map(|c| c.tenant.0).collect(),
            destinations: each().map(|c| c.destination.0).collect(),
            outcomes: each().map(|c| c.outcome.as_str()).collect(),
            started: each().map(|c| c.record.started_at).collect(),
            finished: each().map(|c| c.record.finished_at).collect(),
            codes: each().map(|c| c.record.status_code.map(i32::from)).collect(),
            errors: each().map(|c| c.record.error.as_deref()).collect(),
            warnings: each().map(|c| c.record.warning.as_deref()).collect(),
            answers: each().map(|c| c.record.answer.as_deref()).collect(),
            hashes: each().map(|c| c.record.body_sha256.as_slice()).collect(),
            external: each().map(|c| c.record.external_id.as_deref()).collect(),
        }
    }

    fn all<'b>(&'b self, worker: &'b Uuid) -> Vec<Parameter<'b>> {
        let Self { ids, numbers, tenants, destinations, outcomes, started, finished, .. } = self;
        let Self { codes, errors, warnings, answers, hashes, external, .. } = self;
        vec![
            worker,
            ids,
            numbers,
            tenants,
            destinations,
            outcomes,
            started,
            finished,
            codes,
            errors,
            warnings,
            answers,
            hashes,
            external,
        ]
    }
}

fn wait_seconds(outcome: &Outcome) -> f64 {
    match outcome {
        Outcome::Retry { after } | Outcome::Ambiguous { after } | Outcome::Hold { after } => {
            after.as_secs_f64()
        }
        Outcome::Delivered | Outcome::Dead { .. } => 0.0,
    }
}

fn dead_reason(outcome: &Outcome) -> Option<&str> {
    match outcome {
        Outcome::Dead { reason } => Some(reason),
        _ => None,
    }
}
