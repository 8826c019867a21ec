//! Claiming: due rows, lane by lane, each with a budget, so that a million due rows of one destination delay no other.

use std::collections::HashMap;
use std::time::Duration;

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use uuid::Uuid;

use super::chain::release;
use super::floors::Floors;
use crate::db::error::DatabaseError;
use crate::model::delivery::Attempt;
use crate::model::ids::{DestinationId, NotificationId, TenantId, WorkerId};

const READ_BODIES: &str = include_str!("../../sql/queries/outbox/read_bodies.sql");
const CLAIM: &str = include_str!("../../sql/queries/outbox/claim.sql");

/// What a destination may be given now, and how far it was claimed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lane {
    /// Which.
    pub destination: DestinationId,
    /// Requests that may be started; a lease never waits in a queue of ours.
    pub slots: i32,
    /// How long an attempt may hold its row.
    pub lease: Duration,
    /// Where to look from.
    pub floors: Floors,
    /// A claim found less than it may be given: nothing more was due.
    pub is_dry: bool,
}

/// What a claim found in a lane.
#[derive(Debug, Clone, Copy, Default)]
struct Found {
    rows: i32,
    /// The class it came to, and how far in it.
    last: Option<(i16, Timestamp)>,
}

/// Claims due rows of these lanes for `worker`, at most `total`, in the order of the lanes when there are more; severity first, and in
/// each severity first attempts before retries. A row whose lease ran out is taken over, and its former holder's attempt is recorded
/// as `unknown`. One that was accepted after all leaves the outbox, and releases what waited for it. What it finds out about the
/// lanes is true once the transaction is committed.
///
/// # Errors
/// If the database is away.
pub async fn claim(
    transaction: &Transaction<'_>,
    worker: WorkerId,
    lanes: &mut [Lane],
    total: usize,
) -> Result<Vec<Attempt>, DatabaseError> {
    if lanes.is_empty() || total == 0 {
        return Ok(Vec::new());
    }
    let destinations: Vec<_> = lanes.iter().map(|lane| lane.destination.0).collect();
    let slots: Vec<_> = lanes.iter().map(|lane| lane.slots).collect();
    let leases: Vec<_> = lanes.iter().map(|lane| lane.lease.as_secs_f64()).collect();
    let floors: Vec<_> = lanes.iter().flat_map(|lane| lane.floors.iter()).collect();
    let statement = transaction.prepare_cached(CLAIM).await?;
    let limit = i64::try_from(total).unwrap_or(i64::MAX);
    let rows =
        transaction.query(&statement, &[&worker.0, &destinations, &slots, &leases, &floors, &limit]).await?;
    let mut found: HashMap<DestinationId, Found> = HashMap::new();
    let mut attempts = Vec::with_capacity(rows.len());
    let (mut gone, mut empty_before) = (Vec::new(), Timestamp::UNIX_EPOCH);
    for row in &rows {
        let Some(notification) = row.try_get(0)? else {
            empty_before = row.try_get(7)?;
            continue;
        };
        let destination = DestinationId(row.try_get(2)?);
        let found = found.entry(destination).or_default();
        found.rows += 1;
        let Some(number) = row.try_get(3)? else {
            gone.push(notification);
            continue;
        };
        let (class, floor) = (row.try_get(6)?, row.try_get(7)?);
        found.last = found.last.max(Some((class, floor)));
        attempts.push(Attempt {
            notification: NotificationId(notification),
            tenant: TenantId(row.try_get(1)?),
            destination,
            number,
            age: Duration::from_secs_f64(row.try_get::<_, f64>(4)?.max(0.0)),
            held: Duration::from_secs_f64(row.try_get::<_, f64>(5)?.max(0.0)),
            body: String::new(),
        });
    }
    let looked_at_all = attempts.len() + gone.len() < total;
    for lane in lanes {
        let found = found.get(&lane.destination).copied().unwrap_or_default();
        lane.is_dry = looked_at_all && found.rows < lane.slots;
        if lane.is_dry || found.last.is_some() {
            lane.floors.raise(if lane.is_dry { None } else { found.last }, empty_before);
        }
    }
    release(transaction, &gone).await?;
    read_bodies(transaction, &mut attempts).await?;
    Ok(attempts)
}

/// A statement of its own: it opens the days of these only, however long the history is.
async fn read_bodies(transaction: &Transaction<'_>, attempts: &mut [Attempt]) -> Result<(), DatabaseError> {
    let ids: Vec<_> = attempts.iter().map(|attempt| attempt.notification.0).collect();
    let (Some(lowest), Some(highest)) = (ids.iter().min(), ids.iter().max()) else { return Ok(()) };
    let statement = transaction.prepare_cached(READ_BODIES).await?;
    let rows = transaction.query(&statement, &[&ids, lowest, highest]).await?;
    let mut bodies: HashMap<Uuid, String> = rows
        .iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect::<Result<_, DatabaseError>>()?;
    for attempt in attempts {
        let missing =
            || DatabaseError::Unreadable(format!("notification {} has no body", attempt.notification));
        attempt.body = bodies.remove(&attempt.notification.0).ok_or_else(missing)?;
    }
    Ok(())
}
