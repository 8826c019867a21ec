//! The destinations that this worker knows, and what each may be given now.
//!
//! Invariant: a lane never gets more slots than its destination has free, and none behind a shut door (`door.rs`).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use tokio::time::Instant;
use tokio_postgres::GenericClient;

use super::destinations;
use super::door::{Change, Door, Gate, Seen, Sign};
use super::policy::{self, Pace, Place};
use super::secrets::{SecretError, SecretKey};
use super::send::Target;
use crate::config;
use crate::db::error::DatabaseError;
use crate::model::destination::Kind;
use crate::model::ids::{DestinationId, NotificationId, WorkerId};
use crate::outbox::claim::Lane;
use crate::outbox::expire::Shut;
use crate::outbox::floors::Floors;
use crate::retry::RetryPolicy;
use crate::telemetry::metrics::{ByState, Metrics};

const CONFIG_VERSION: &str = include_str!("../../sql/queries/deliver/config_version.sql");
const LOAD_GATES: &str = include_str!("../../sql/queries/deliver/load_gates.sql");
const FIND_PLACE: &str = include_str!("../../sql/queries/deliver/find_place.sql");
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
    /// Where requests to it go, none if it is no receiver of requests; or why it can't be used.
    pub target: Result<Option<Target>, String>,
    /// The service's, overlaid with its own.
    pub policy: RetryPolicy,
    /// How fast and how wide it is sent to.
    pub pace: Pace,
    /// The tenant's name.
    pub tenant: String,
    /// One deadline over everything that an attempt takes.
    pub timeout: Duration,
    /// How long an attempt may hold its row.
    pub lease: Duration,
    /// How long it is held when it refuses us as a whole.
    pub hold: Duration,
}

#[derive(Debug)]
struct Entry {
    known: Arc<Known>,
    door: Door,
    in_flight: usize,
    floors: Floors,
    /// Nothing more was due, and nobody has said since that something may be.
    is_dry: bool,
}

/// The attempt by which a destination spoke.
#[derive(Debug, Clone, Copy)]
pub struct Spoken {
    /// Of this notification.
    pub notification: NotificationId,
    /// It was a probe.
    pub probe: bool,
    /// A random number in 0..1.
    pub chance: f64,
}

/// When lanes were looked at: what was told to all of them later counts for more than what was found then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AsOf {
    stirs: u64,
    sweeps: u64,
}

/// All lanes of a worker.
#[derive(Debug)]
pub struct Lanes {
    now: AsOf,
    entries: HashMap<DestinationId, Entry>,
    order: Vec<DestinationId>,
    /// Who was given something last: the next turn begins behind it.
    served: Option<DestinationId>,
    place: Option<Place>,
    config_version: Option<i64>,
    refreshed_at: Option<Instant>,
}

impl Lanes {
    /// Knows nothing yet.
    pub fn new() -> Self {
        Self {
            now: AsOf { stirs: 0, sweeps: 0 },
            entries: HashMap::new(),
            order: Vec::new(),
            served: None,
            place: None,
            config_version: None,
            refreshed_at: None,
        }
    }

    /// Whether it is time to look at the destinations again: once a second.
    pub fn is_stale(&self) -> bool {
        self.refreshed_at.is_none_or(|at| at.elapsed() >= REFRESH_EVERY)
    }

    /// Looks at the states of the destinations, and loads everything of them if something else changed.
    ///
    /// # Errors
    /// If the database is away.
    pub async fn refresh(
        &mut self,
        client: &impl GenericClient,
        settings: &config::Deliver,
        key: Option<&SecretKey>,
        worker: Option<WorkerId>,
        metrics: &Metrics,
    ) -> Result<(), DatabaseError> {
        let version: i64 = client.query_one(CONFIG_VERSION, &[]).await?.get(0);
        if self.config_version != Some(version) {
            let rows = client.query(LOAD_DESTINATIONS, &[]).await?;
            let mut entries = HashMap::with_capacity(rows.len());
            for row in &rows {
                let id = DestinationId(row.get(0));
                let known = Arc::new(known(row, id, settings, key));
                let entry = match self.entries.remove(&id) {
                    Some(mut entry) => {
                        if entry.known.pace != known.pace {
                            // What it had to wait for was another pace.
                            entry.door.wait_for(Duration::ZERO, Instant::now());
                        }
                        Entry { known, ..entry }
                    }
                    None => {
                        Entry { known, door: Door::new(), in_flight: 0, floors: Floors::NONE, is_dry: false }
                    }
                };
                entries.insert(id, entry);
            }
            self.order = rows.iter().map(|row| DestinationId(row.get(0))).collect();
            self.entries = entries;
            self.config_version = Some(version);
        }
        // Few are not active: they are looked at one by one.
        let rows = client.query(LOAD_GATES, &[]).await?;
        // What is left of a pause is counted from the answer, which may be late: from the question it would be too short.
        let now = Instant::now();
        let mut gates: HashMap<DestinationId, (Gate, Option<Instant>)> =
            rows.iter().map(|row| (DestinationId(row.get(0)), gate(row, now))).collect();
        let mut states: HashMap<&'static str, i64> = HashMap::new();
        for (id, entry) in &mut self.entries {
            let (gate, paused_until) = gates.remove(id).unwrap_or((Gate::Open, None));
            entry.door.set(gate, paused_until);
            *states.entry(entry.door.state(now)).or_default() += 1;
        }
        for state in ["active", "paused", "broken", "held", "parked"] {
            let count = states.get(state).copied().unwrap_or_default();
            metrics.destinations.get_or_create(&ByState { state }).set(count);
        }
        self.place = None;
        if let Some(worker) = worker
            && self.entries.values().any(|entry| entry.known.pace.concurrency.is_some())
            && let Some(row) = client.query_opt(FIND_PLACE, &[&worker.0]).await?
        {
            let (workers, older): (i32, i32) = (row.get(0), row.get(1));
            let new = row.get::<_, f64>(2) < (2 * REFRESH_EVERY).as_secs_f64();
            self.place = Some(Place { workers: workers.unsigned_abs(), older: older.unsigned_abs(), new });
        }
        self.refreshed_at = Some(now);
        Ok(())
    }

    /// What may be claimed now, beginning behind the lane that was served last: those that are due take turns, however many are not.
    pub fn free(&self, settings: &config::Deliver) -> Vec<Lane> {
        let served = self.served.and_then(|served| self.order.iter().position(|id| *id == served));
        let (tail, head) = self.order.split_at(served.map_or(0, |served| served + 1));
        let now = Instant::now();
        head.iter()
            .chain(tail)
            .filter_map(|id| {
                let entry = self.entries.get(id)?;
                let share = match entry.known.pace.concurrency {
                    None => settings.concurrency_per_destination,
                    Some(slots) => self.place.map_or(0, |place| place.share(slots)) as usize,
                };
                let slots = entry.door.slots(share, entry.in_flight, now);
                let slots = i32::try_from(slots).unwrap_or(i32::MAX);
                let Entry { floors, is_dry, .. } = *entry;
                let lane = Lane { destination: *id, slots, lease: entry.known.lease, floors, is_dry };
                (slots > 0 && !is_dry).then_some(lane)
            })
            .collect()
    }

    /// The present, for [`Self::note_claimed`].
    pub fn as_of(&self) -> AsOf {
        self.now
    }

    /// So many requests to these may be about to start.
    pub fn reserve(&mut self, lanes: &[Lane]) {
        for lane in lanes {
            if let Some(entry) = self.entries.get_mut(&lane.destination) {
                entry.in_flight += lane.slots.unsigned_abs() as usize;
            }
        }
    }

    /// What was reserved is free again.
    pub fn release(&mut self, lanes: &[Lane]) {
        for lane in lanes {
            if let Some(entry) = self.entries.get_mut(&lane.destination) {
                entry.in_flight = entry.in_flight.saturating_sub(lane.slots.unsigned_abs() as usize);
            }
        }
    }

    /// What a claim, which is committed, found out about these when it looked.
    pub fn note_claimed(&mut self, lanes: &[Lane], as_of: AsOf) {
        for lane in lanes {
            if let Some(entry) = self.entries.get_mut(&lane.destination) {
                if as_of.sweeps == self.now.sweeps {
                    entry.floors.rise_to(lane.floors);
                }
                if as_of == self.now {
                    entry.is_dry = lane.is_dry;
                }
            }
        }
    }

    /// Something may be due in any of them.
    pub fn stir(&mut self) {
        self.now.stirs += 1;
        for entry in self.entries.values_mut() {
            entry.is_dry = false;
        }
    }

    /// Something may be due in any of them, however long ago: floors are forgotten.
    pub fn sweep(&mut self) {
        self.stir();
        self.now.sweeps += 1;
        for entry in self.entries.values_mut() {
            entry.floors = Floors::NONE;
        }
    }

    /// Whether leave must be asked for before something is claimed for it: it is probed, or it has a rate.
    pub fn needs_leave(&self, id: DestinationId) -> bool {
        self.entries.get(&id).is_some_and(|entry| entry.door.probes() || entry.known.pace.rate.is_some())
    }

    /// Its pace.
    pub fn pace(&self, id: DestinationId) -> Option<&Pace> {
        self.entries.get(&id).map(|entry| &entry.known.pace)
    }

    /// At its pace, nothing may start for this long.
    pub fn wait_for(&mut self, id: DestinationId, time: Duration, now: Instant) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.door.wait_for(time, now);
        }
    }

    /// When time alone opens a door next.
    pub fn opens_at(&self, now: Instant) -> Option<Instant> {
        self.entries.values().filter_map(|entry| entry.door.opens_at(now)).min()
    }

    /// The destinations behind whose doors the horizons should be looked at now.
    pub fn expiring(&mut self, now: Instant) -> Vec<Shut> {
        let expires = |(id, entry): (&DestinationId, &mut Entry)| {
            let horizon_seconds = entry.known.policy.horizon_seconds;
            let reason = match entry.door.state(now) {
                "broken" => "it failed too often in a row and was left alone",
                _ => "it asked for a pause that is longer",
            };
            let shut = Shut { destination: *id, horizon_seconds, reason };
            entry.door.expires(Duration::from_secs(horizon_seconds), now).then_some(shut)
        };
        self.entries.iter_mut().filter_map(expires).collect()
    }

    /// There were more of them than were looked at.
    pub fn expire_on(&mut self, shut: &[Shut]) {
        for shut in shut {
            if let Some(entry) = self.entries.get_mut(&shut.destination) {
                entry.door.expire_on();
            }
        }
    }

    /// A request to it starts. The flag: its door is shut, so that only a probe may.
    pub fn start(&mut self, id: DestinationId) -> Option<(Arc<Known>, bool)> {
        let entry = self.entries.get_mut(&id)?;
        entry.in_flight += 1;
        self.served = Some(id);
        Some((Arc::clone(&entry.known), entry.door.probes()))
    }

    /// A request to it ended.
    pub fn finish(&mut self, id: DestinationId) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.in_flight = entry.in_flight.saturating_sub(1);
        }
    }

    /// What a request said of its destination: what must be written, if anything.
    pub fn note(&mut self, id: DestinationId, sign: &Sign, spoken: Spoken) -> Option<Change> {
        let entry = self.entries.get_mut(&id)?;
        let Spoken { notification, probe, chance } = spoken;
        let Known { policy: retry, pace, hold, .. } = &*entry.known;
        let hold = *hold;
        entry.door.note(sign, Seen { notification, probe, retry, pace, hold, chance, now: Instant::now() })
    }

    /// What it knows may be wrong: everything is loaded again at the next look.
    pub fn distrust(&mut self) {
        self.config_version = None;
        self.refreshed_at = None;
        self.sweep();
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
    let read = policy::read(&settings.retry, settings.breaker_failures, &row.get(5));
    let (policy, pace) = read.unwrap_or_else(|error| {
        tracing::error!(destination_id = %id, %error, "the destination's policy can't be read, the service's is used");
        (settings.retry.clone(), Pace::unlimited(settings.breaker_failures))
    });
    let kind = Kind::from_columns(row.get(2), &row.get(3)).map_err(|error| error.to_string());
    let target = match (&kind, &secret) {
        (Ok(kind), Ok(secret)) => destinations::target(kind, secret.as_ref()),
        (Err(error), _) => Err(error.clone()),
        (_, Err(error)) => Err(error.to_string()),
    };
    let seconds = match &kind {
        Ok(Kind::WorkflowEngine { .. }) => settings.workflow_timeout_seconds,
        _ => settings.request_timeout_seconds,
    };
    let timeout = Duration::from_secs(seconds);
    let lease = Duration::from_secs(settings.lease_seconds).max(timeout + LEASE_BEYOND_TIMEOUT);
    let hold = Duration::from_secs(settings.hold_seconds);
    Known { name: row.get(1), kind, secret, target, policy, pace, tenant: row.get(6), timeout, lease, hold }
}

fn gate(row: &tokio_postgres::Row, now: Instant) -> (Gate, Option<Instant>) {
    let after = |column| now + Duration::from_secs_f64(row.get(column));
    let opened: i32 = row.get(3);
    let gate = match row.get(1) {
        "held" => Gate::Held { until: after(2) },
        "parked" => Gate::Parked,
        _ if opened > 0 => Gate::Broken { until: after(4), opened: opened.unsigned_abs() },
        _ => Gate::Open,
    };
    (gate, Some(after(5)).filter(|until| *until > now))
}
