//! Claiming: due rows, lane by lane, each with a budget, so that a million due rows of one destination delay no other.

use std::collections::HashMap;
use std::time::Duration;

use deadpool_postgres::GenericClient;
use jiff::Timestamp;
use tokio_postgres::Row;
use uuid::Uuid;

use super::chain::release;
use super::floors::Floors;
use crate::db::error::DatabaseError;
use crate::model::delivery::Attempt;
use crate::model::ids::{DestinationId, NotificationId, TenantId, WorkerId};

const INSERT_UNKNOWN: &str = include_str!("../../sql/queries/outbox/insert_unknown.sql");
const END_ACCEPTED: &str = include_str!("../../sql/queries/outbox/end_accepted.sql");
const READ_BODIES: &str = include_str!("../../sql/queries/outbox/read_bodies.sql");
const CLAIM: &str = include_str!("../../sql/queries/outbox/claim.sql");

/// What is due may be committed so long after it became due, and is still looked for; what takes longer is found by whoever clears the
/// floors.
const COMMIT_SLACK: Duration = Duration::from_millis(250);

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

/// Claims due rows of these lanes for `worker`, at most `total`, in the order of the lanes when there are more; severity first, and in
/// each severity first attempts before retries. A row whose lease ran out is taken over, and its former holder's attempt is recorded
/// as `unknown`. One that was accepted after all leaves the outbox, and releases what waited for it. What it finds out about the
/// lanes is true once the transaction is committed. What is to be sent is not read yet: [`read_bodies`] does it.
///
/// # Errors
/// If the database is away.
pub async fn claim(
    client: &impl GenericClient,
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
    let statement = client.prepare_cached(CLAIM).await?;
    let limit = i64::try_from(total).unwrap_or(i64::MAX);
    let rows =
        client.query(&statement, &[&worker.0, &destinations, &slots, &leases, &floors, &limit]).await?;
    let claimed = rows.iter().map(Claimed::read).collect::<Result<Vec<_>, _>>()?;
    learn(lanes, &claimed, total);
    take_over(client, &claimed).await?;
    let (ended, claimed): (Vec<_>, Vec<_>) = claimed.into_iter().partition(|row| row.accepted);
    if !ended.is_empty() {
        let ended: Vec<_> = ended.iter().map(|row| row.attempt.notification.0).collect();
        let statement = client.prepare_cached(END_ACCEPTED).await?;
        client.execute(&statement, &[&ended]).await?;
        release(client, &ended).await?;
    }
    Ok(claimed.into_iter().map(|row| row.attempt).collect())
}

/// A claimed row.
struct Claimed {
    /// Still without its body.
    attempt: Attempt,
    lane_class: i16,
    due: Timestamp,
    now: Timestamp,
    /// An earlier attempt was, as its late answer said.
    accepted: bool,
    /// Who had it in flight and let its lease run out, and since when.
    was_leased: Option<(Uuid, Timestamp)>,
}

impl Claimed {
    fn read(row: &Row) -> Result<Self, DatabaseError> {
        let (enqueued_at, now): (Timestamp, Timestamp) = (row.try_get(4)?, row.try_get(8)?);
        let worker: Option<Uuid> = row.try_get(10)?;
        let since: Option<Timestamp> = row.try_get(11)?;
        Ok(Self {
            attempt: Attempt {
                notification: NotificationId(row.try_get(0)?),
                tenant: TenantId(row.try_get(1)?),
                destination: DestinationId(row.try_get(2)?),
                number: row.try_get(3)?,
                age: Duration::try_from(now.duration_since(enqueued_at)).unwrap_or_default(),
                held: Duration::from_secs_f64(row.try_get::<_, f64>(5)?.max(0.0)),
                body: String::new(),
            },
            lane_class: row.try_get(6)?,
            due: row.try_get(7)?,
            now,
            accepted: row.try_get(9)?,
            was_leased: worker.zip(since),
        })
    }
}

/// Notes how far the lanes were claimed.
fn learn(lanes: &mut [Lane], claimed: &[Claimed], total: usize) {
    #[derive(Debug, Clone, Copy, Default)]
    struct Found {
        rows: i32,
        /// The class it came to, and how far in it.
        last: Option<(i16, Timestamp)>,
    }
    let highest = claimed.first().map_or(Timestamp::UNIX_EPOCH, |row| row.now - COMMIT_SLACK);
    let mut found: HashMap<DestinationId, Found> = HashMap::new();
    for row in claimed {
        let found = found.entry(row.attempt.destination).or_default();
        found.rows += 1;
        found.last = found.last.max(Some((row.lane_class, row.due.min(highest))));
    }
    for lane in lanes {
        let found = found.get(&lane.destination).copied().unwrap_or_default();
        // When there are as many as were asked for, the last lanes may not have been looked at.
        lane.is_dry = found.rows < lane.slots && claimed.len() < total;
        if lane.is_dry {
            lane.floors.raise(None, highest);
        } else if found.last.is_some() {
            lane.floors.raise(found.last, highest);
        }
    }
}

/// The attempts whose leases ran out go on the record.
async fn take_over(client: &impl GenericClient, claimed: &[Claimed]) -> Result<(), DatabaseError> {
    let taken: Vec<_> = claimed.iter().filter_map(|row| Some((&row.attempt, row.was_leased?))).collect();
    if taken.is_empty() {
        return Ok(());
    }
    let ids: Vec<_> = taken.iter().map(|(attempt, _)| attempt.notification.0).collect();
    let numbers: Vec<_> = taken.iter().map(|(attempt, _)| attempt.number - 1).collect();
    let tenants: Vec<_> = taken.iter().map(|(attempt, _)| attempt.tenant.0).collect();
    let destinations: Vec<_> = taken.iter().map(|(attempt, _)| attempt.destination.0).collect();
    let workers: Vec<_> = taken.iter().map(|(_, (worker, _))| *worker).collect();
    let started: Vec<_> = taken.iter().map(|(_, (_, since))| *since).collect();
    let statement = client.prepare_cached(INSERT_UNKNOWN).await?;
    client.execute(&statement, &[&ids, &numbers, &tenants, &destinations, &workers, &started]).await?;
    Ok(())
}

/// Reads what is to be sent. A statement of its own: it opens the days of these only, however long the history is.
///
/// # Errors
/// If the database is away.
pub async fn read_bodies(
    client: &impl GenericClient,
    attempts: &mut Vec<Attempt>,
) -> Result<(), DatabaseError> {
    let ids: Vec<_> = attempts.iter().map(|attempt| attempt.notification.0).collect();
    let (Some(lowest), Some(highest)) = (ids.iter().min(), ids.iter().max()) else { return Ok(()) };
    let statement = client.prepare_cached(READ_BODIES).await?;
    let rows = client.query(&statement, &[&ids, lowest, highest]).await?;
    let mut bodies: HashMap<Uuid, String> = rows
        .iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect::<Result<_, DatabaseError>>()?;
    // One that was lost must not stop the others: its lease runs out, again and again, and each time this is said.
    attempts.retain_mut(|attempt| match bodies.remove(&attempt.notification.0) {
        Some(body) => {
            attempt.body = body;
            true
        }
        None => {
            tracing::error!(notification_id = %attempt.notification, "is owed and does not exist, nothing can be sent");
            false
        }
    });
    Ok(())
}
