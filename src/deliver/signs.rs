//! What attempts said of their destinations, written down where all processes see it; and news of it, logged.

use std::collections::BTreeMap;
use std::time::Duration;

use deadpool_postgres::GenericClient;
use uuid::Uuid;

use super::door::{Breaker, Change};
use crate::db::error::DatabaseError;
use crate::model::ids::DestinationId;

const NOTE_SIGNS: &str = include_str!("../../sql/queries/deliver/note_signs.sql");

/// The changes of a turn, by destination: one statement writes them, and none is run when there are none.
#[derive(Debug, Default)]
pub struct Signs {
    changes: BTreeMap<Uuid, Change>,
}

impl Signs {
    /// Adds what came later to what came before.
    pub fn add(&mut self, id: DestinationId, change: Change) {
        log(id, &change);
        let known = self.changes.entry(id.0).or_default();
        // The last sign of a destination counts, but only a person takes it out of `parked`.
        if known.state.as_ref().is_none_or(|(state, _)| *state != "parked") {
            known.state = match (change.state, known.state.take()) {
                // Held again for the same reason.
                (Some(("held", None)), Some(("held", reason))) => Some(("held", reason)),
                (later, earlier) => later.or(earlier),
            };
        }
        known.breaker = change.breaker.or(known.breaker.take());
        known.pause = known.pause.max(change.pause);
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Writes them.
    ///
    /// # Errors
    /// If the database is away.
    pub async fn write(&self, client: &impl GenericClient, hold: Duration) -> Result<(), DatabaseError> {
        if self.is_empty() {
            return Ok(());
        }
        let each = || self.changes.values();
        let ids: Vec<_> = self.changes.keys().copied().collect();
        let states: Vec<_> = each().map(|change| change.state.as_ref().map(|(state, _)| *state)).collect();
        let reasons: Vec<_> =
            each().map(|change| change.state.as_ref().and_then(|(_, reason)| reason.as_deref())).collect();
        let holds = vec![hold.as_secs_f64(); ids.len()];
        let (mut waits, mut opened, mut failures) = (Vec::new(), Vec::new(), Vec::new());
        for change in each() {
            let (wait, before, failure) = match &change.breaker {
                Some(Breaker::Open { opened, wait, reason }) => {
                    (Some(wait.as_secs_f64()), i32::try_from(*opened).ok(), Some(reason.as_str()))
                }
                Some(Breaker::Close) => (Some(0.0), None, None),
                None => (None, None, None),
            };
            waits.push(wait);
            opened.push(before);
            failures.push(failure);
        }
        let pauses: Vec<_> = each().map(|change| change.pause.map(|pause| pause.as_secs_f64())).collect();
        let statement = client.prepare_cached(NOTE_SIGNS).await?;
        client
            .execute(&statement, &[&ids, &states, &reasons, &holds, &waits, &opened, &failures, &pauses])
            .await?;
        Ok(())
    }
}

/// An event once: what goes on as it was is not told again.
fn log(id: DestinationId, change: &Change) {
    if !change.news {
        return;
    }
    match &change.state {
        Some(("active", _)) => tracing::info!(destination_id = %id, "destination can be used again"),
        Some((state, reason)) => {
            tracing::error!(destination_id = %id, state, reason, "destination can't be used, somebody must look at it");
        }
        None => {}
    }
    match &change.breaker {
        Some(Breaker::Open { wait, reason, .. }) => {
            tracing::warn!(destination_id = %id, reason, wait_ms = wait.as_millis() as u64, "destination is not well, it is left alone for a while");
        }
        Some(Breaker::Close) => tracing::info!(destination_id = %id, "destination is well again"),
        None => {}
    }
    if let Some(pause) = change.pause {
        tracing::info!(destination_id = %id, pause_ms = pause.as_millis() as u64, "destination asked for a pause");
    }
}
