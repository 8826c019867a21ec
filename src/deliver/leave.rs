//! Leave to send: what all processes together may send to a destination that is probed, or that has a rate.
//!
//! Invariant: leave is given on the destination's row, in the transaction that claims. The row is locked from the asking to the
//! commit, and what was really claimed is written on it, so that two processes never use the same leave, and leave that
//! was not used is not lost. Nobody waits for the lock: who finds it taken comes again. A destination that is open and has
//! no rate needs no leave, and costs nothing here.

use std::collections::HashMap;
use std::time::Duration;

use deadpool_postgres::GenericClient;
use tokio::time::Instant;

use super::lanes::Lanes;
use crate::db::error::DatabaseError;
use crate::model::delivery::Attempt;
use crate::model::ids::DestinationId;
use crate::outbox::claim::Lane;

const ASK_LEAVE: &str = include_str!("../../sql/queries/deliver/ask_leave.sql");
const TAKE_LEAVE: &str = include_str!("../../sql/queries/deliver/take_leave.sql");

/// Lanes that were given leave.
#[derive(Debug, Default)]
pub struct Leave(Vec<Lane>);

/// Takes out of `free` what may not be used now: a lane that needs leave keeps as many slots as it was given.
///
/// # Errors
/// If the database is away.
pub async fn ask(
    client: &impl GenericClient,
    lanes: &mut Lanes,
    free: &mut Vec<Lane>,
) -> Result<Leave, DatabaseError> {
    let (asking, mut rest): (Vec<Lane>, Vec<Lane>) =
        free.iter().copied().partition(|lane| lanes.needs_leave(lane.destination));
    if asking.is_empty() {
        return Ok(Leave::default());
    }
    let ids: Vec<_> = asking.iter().map(|lane| lane.destination.0).collect();
    let slots: Vec<_> = asking.iter().map(|lane| lane.slots).collect();
    let (rates, bursts) = paces(lanes, &asking);
    let statement = client.prepare_cached(ASK_LEAVE).await?;
    let now = Instant::now();
    let mut given = HashMap::new();
    for row in client.query(&statement, &[&ids, &slots, &rates, &bursts]).await? {
        let (id, slots) = (DestinationId(row.get(0)), row.get::<_, i32>(1));
        if slots > 0 {
            given.insert(id, slots);
        } else {
            // Others were first.
            lanes.wait_for(id, Duration::from_secs_f64(row.get(2)), now);
        }
    }
    let given: Vec<Lane> = asking
        .into_iter()
        .filter_map(|lane| Some(Lane { slots: *given.get(&lane.destination)?, ..lane }))
        .collect();
    // In front: few are asked for, and what was locked for them should be used.
    rest.splice(0..0, given.iter().copied());
    *free = rest;
    Ok(Leave(given))
}

/// Writes down what was used.
///
/// # Errors
/// If the database is away.
pub async fn take(
    client: &impl GenericClient,
    lanes: &mut Lanes,
    leave: Leave,
    claimed: &[Attempt],
) -> Result<(), DatabaseError> {
    if leave.0.is_empty() {
        return Ok(());
    }
    let used = |lane: &Lane| claimed.iter().filter(|attempt| attempt.destination == lane.destination).count();
    let taken: Vec<(Lane, i32)> = leave
        .0
        .iter()
        .map(|lane| (*lane, i32::try_from(used(lane)).unwrap_or(i32::MAX)))
        .filter(|(_, used)| *used > 0)
        .collect();
    if taken.is_empty() {
        return Ok(());
    }
    let (asking, requests): (Vec<Lane>, Vec<i32>) = taken.into_iter().unzip();
    let ids: Vec<_> = asking.iter().map(|lane| lane.destination.0).collect();
    let leases: Vec<_> = asking.iter().map(|lane| lane.lease.as_secs_f64()).collect();
    let (rates, bursts) = paces(lanes, &asking);
    let statement = client.prepare_cached(TAKE_LEAVE).await?;
    let now = Instant::now();
    for row in client.query(&statement, &[&ids, &requests, &rates, &bursts, &leases]).await? {
        lanes.wait_for(DestinationId(row.get(0)), Duration::from_secs_f64(row.get(1)), now);
    }
    Ok(())
}

fn paces(lanes: &Lanes, asking: &[Lane]) -> (Vec<Option<f64>>, Vec<i32>) {
    let pace = |lane: &Lane| match lanes.pace(lane.destination) {
        Some(pace) => (pace.rate, i32::try_from(pace.burst).unwrap_or(i32::MAX)),
        None => (None, 1),
    };
    asking.iter().map(pace).unzip()
}
