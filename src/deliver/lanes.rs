//! The destinations that this worker knows, and what each may be given now.
//!
//! Invariant: a lane never gets more slots than its destination has free, one that is held gets none until its time is
//! over and a single probe then, and one that is parked gets none.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use tokio::time::Instant;
use tokio_postgres::GenericClient;

use super::secrets::{SecretError, SecretKey};
use crate::config;
use crate::db::error::DatabaseError;
use crate::model::destination::Kind;
use crate::model::ids::DestinationId;
use crate::outbox::claim::Lane;
use crate::retry::RetryPolicy;

const CONFIG_VERSION: &str = include_str!("../../sql/queries/deliver/config_version.sql");
const LOAD_GATES: &str = include_str!("../../sql/queries/deliver/load_gates.sql");
const LOAD_DESTINATIONS: &str = include_str!("../../sql/queries/deliver/load_destinations.sql");

/// Changes of destinations are looked for this often.
const REFRESH_EVERY: Duration = Duration::from_secs(1);

/// A lease is at least this much longer than what an attempt may take.
const LEASE_BEYOND_TIMEOUT: Duration = Duration::from_secs(5);

/// A destination as delivery needs it.
#[derive(Debug)]
pub struct Known {
    /// For people.
    pub name: String,
    /// Kind and settings, or why they can't be read.
    pub kind: Result<Kind, String>,
    /// Opened, or why it can't be.
    pub secret: Result<Option<SecretString>, SecretError>,
    /// The service's, overlaid with its own.
    pub policy: RetryPolicy,
    /// The tenant's name.
    pub tenant: String,
    /// One deadline over everything that an attempt takes.
    pub timeout: Duration,
    /// How long an attempt may hold its row.
    pub lease: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gate {
    Open,
    Held { until: Instant },
    Parked,
}

#[derive(Debug)]
struct Entry {
    known: Arc<Known>,
    gate: Gate,
    in_flight: usize,
}

/// All lanes of a worker.
#[derive(Debug)]
pub struct Lanes {
    entries: HashMap<DestinationId, Entry>,
    order: Vec<DestinationId>,
    next: usize,
    config_version: Option<i64>,
    refreshed_at: Option<Instant>,
}

impl Lanes {
    /// Knows nothing yet.
    pub fn new() -> Self {
        Self { entries: HashMap::new(), order: Vec::new(), next: 0, config_version: None, refreshed_at: None }
    }

    /// Looks at the states of the destinations, and loads everything of them if something else changed; once a second at
    /// most.
    ///
    /// # Errors
    /// If the database is away.
    pub async fn refresh(
        &mut self,
        client: &impl GenericClient,
        settings: &config::Deliver,
        key: Option<&SecretKey>,
    ) -> Result<(), DatabaseError> {
        if self.refreshed_at.is_some_and(|at| at.elapsed() < REFRESH_EVERY) {
            return Ok(());
        }
        let version: i64 = client.query_one(CONFIG_VERSION, &[]).await?.get(0);
        if self.config_version != Some(version) {
            let rows = client.query(LOAD_DESTINATIONS, &[]).await?;
            let mut entries = HashMap::with_capacity(rows.len());
            for row in &rows {
                let id = DestinationId(row.get(0));
                let in_flight = self.entries.get(&id).map_or(0, |entry| entry.in_flight);
                let known = Arc::new(known(row, id, settings, key));
                entries.insert(id, Entry { known, gate: Gate::Open, in_flight });
            }
            self.order = rows.iter().map(|row| DestinationId(row.get(0))).collect();
            self.entries = entries;
            self.config_version = Some(version);
        }
        // Few are not active: they are looked at one by one.
        let mut gates: HashMap<DestinationId, Gate> = client
            .query(LOAD_GATES, &[])
            .await?
            .iter()
            .map(|row| (DestinationId(row.get(0)), gate(row)))
            .collect();
        for (id, entry) in &mut self.entries {
            entry.gate = gates.remove(id).unwrap_or(Gate::Open);
        }
        self.refreshed_at = Some(Instant::now());
        Ok(())
    }

    /// What may be claimed now, another destination first at every call.
    pub fn free(&mut self, settings: &config::Deliver) -> Vec<Lane> {
        if self.order.is_empty() {
            return Vec::new();
        }
        self.next = (self.next + 1) % self.order.len();
        let (tail, head) = self.order.split_at(self.next);
        let now = Instant::now();
        head.iter()
            .chain(tail)
            .filter_map(|id| {
                let entry = self.entries.get(id)?;
                let allowed = match entry.gate {
                    Gate::Open => settings.concurrency_per_destination,
                    Gate::Held { until } if until <= now => 1,
                    Gate::Held { .. } | Gate::Parked => 0,
                };
                let slots = i32::try_from(allowed.saturating_sub(entry.in_flight)).unwrap_or(i32::MAX);
                (slots > 0).then_some(Lane { destination: *id, slots, lease: entry.known.lease })
            })
            .collect()
    }

    /// A request to it starts.
    pub fn start(&mut self, id: DestinationId) -> Option<Arc<Known>> {
        let entry = self.entries.get_mut(&id)?;
        entry.in_flight += 1;
        Some(Arc::clone(&entry.known))
    }

    /// A request to it ended.
    pub fn finish(&mut self, id: DestinationId) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.in_flight = entry.in_flight.saturating_sub(1);
        }
    }

    /// It waits for this long, then one request tries whether it is well. Whether that is news.
    pub fn hold(&mut self, id: DestinationId, time: Duration) -> bool {
        self.shut(id, Gate::Held { until: Instant::now() + time })
    }

    /// It waits for a person. Whether that is news.
    pub fn park(&mut self, id: DestinationId) -> bool {
        self.shut(id, Gate::Parked)
    }

    fn shut(&mut self, id: DestinationId, gate: Gate) -> bool {
        let Some(entry) = self.entries.get_mut(&id) else { return false };
        if entry.gate == Gate::Parked {
            // Only a person takes it out of there.
            return false;
        }
        let before = std::mem::replace(&mut entry.gate, gate);
        std::mem::discriminant(&before) != std::mem::discriminant(&gate)
    }

    /// It is well. Whether it was held.
    pub fn release(&mut self, id: DestinationId) -> bool {
        match self.entries.get_mut(&id) {
            Some(entry) if matches!(entry.gate, Gate::Held { .. }) => {
                entry.gate = Gate::Open;
                true
            }
            _ => false,
        }
    }

    /// What it knows may be wrong: everything is loaded again at the next look.
    pub fn distrust(&mut self) {
        self.config_version = None;
        self.refreshed_at = None;
    }
}

impl Default for Lanes {
    fn default() -> Self {
        Self::new()
    }
}

fn known(
    row: &tokio_postgres::Row,
    id: DestinationId,
    settings: &config::Deliver,
    key: Option<&SecretKey>,
) -> Known {
    let sealed: Option<Vec<u8>> = row.get(4);
    let secret = match (sealed, key) {
        (None, _) => Ok(None),
        (Some(sealed), Some(key)) => key.open(id, &sealed).map(Some),
        (Some(_), None) => Err(SecretError::NoKey),
    };
    let policy = settings.retry.overlaid(&row.get(5)).unwrap_or_else(|error| {
        tracing::error!(destination_id = %id, %error, "the destination's retry policy can't be read, the service's is used");
        settings.retry.clone()
    });
    let kind = Kind::from_columns(row.get(2), &row.get(3)).map_err(|error| error.to_string());
    let seconds = match &kind {
        Ok(Kind::WorkflowEngine { .. }) => settings.workflow_timeout_seconds,
        _ => settings.request_timeout_seconds,
    };
    let timeout = Duration::from_secs(seconds);
    let lease = Duration::from_secs(settings.lease_seconds).max(timeout + LEASE_BEYOND_TIMEOUT);
    Known { name: row.get(1), kind, secret, policy, tenant: row.get(6), timeout, lease }
}

fn gate(row: &tokio_postgres::Row) -> Gate {
    match row.get(1) {
        "held" => Gate::Held { until: Instant::now() + Duration::from_secs_f64(row.get(2)) },
        _ => Gate::Parked,
    }
}
