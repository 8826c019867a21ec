//! The worker: turns put on the record what has ended and claim what may start; between them, and beside them, requests run.
//!
//! Its unit is [`Worker::step`], so that a test drives it without sleeping; [`Worker::run`] steps it for ever.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::attempt::{Channels, Ended, Start, deliver};
use super::doubt::Doubts;
use super::expiring::Expiring;
use super::lanes::{Lanes, Spoken};
use super::requests::{Finished, Requests};
use super::secrets::SecretKey;
use super::signs::Signs;
use super::tally;
use super::turn::{Turn, Turned};
use crate::config;
use crate::db::error::DatabaseError;
use crate::db::pool::Pool;
use crate::model::delivery::{Attempt, Outcome};
use crate::model::ids::WorkerId;
use crate::outbox::claim::Lane;
use crate::outbox::turn::Failed;
use crate::telemetry::metrics::Metrics;

/// What is due is looked for at least this often: a lost wake-up costs a second.
const POLL_EVERY: Duration = Duration::from_secs(1);
/// After a failed turn.
const PAUSE: Duration = Duration::from_millis(250);
/// What ended waits so long, at most, for others that end too.
const GATHER: Duration = Duration::from_millis(5);
/// While one waits for its commit, the next can be under way.
const TURNS_AT_ONCE: usize = 2;
/// Between the end of a request and the end of its lease, at the least.
const LEASE_MARGIN: Duration = Duration::from_secs(1);

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It completed or started so many attempts.
    Worked(usize),
    /// Nothing ended and nothing is due.
    Idle,
}

/// Delivers what is owed.
pub struct Worker {
    pool: Pool,
    settings: config::Deliver,
    key: Option<SecretKey>,
    channels: Arc<Channels>,
    id: watch::Receiver<Option<WorkerId>>,
    lanes: Lanes,
    requests: Requests<Ended>,
    /// Ended and in no turn yet; at most as many as requests may be under way.
    ended: Vec<Ended>,
    /// What they said of their destinations, as long as it is not written: a door that is shut already is not news again.
    signs: Signs,
    /// When the first of them ended.
    gathering_since: Option<Instant>,
    /// Plain turns under way.
    turns: FuturesUnordered<BoxFuture<'static, Turned>>,
    /// Rows that they hold.
    held: usize,
    /// The database refused what is in one that ended: they are written one by one until it is found.
    cautious: bool,
    /// Beside the turns.
    doubts: Doubts,
    /// Beside them too.
    expiring: Option<Expiring>,
    /// The earliest retry that this worker itself has scheduled.
    due: Option<Instant>,
    /// The next turn begins as soon as it may: something may be due.
    looks: bool,
    /// When to look, whether anybody rings or not.
    look_at: Instant,
    /// After a turn that failed.
    rests_until: Option<Instant>,
    metrics: Arc<Metrics>,
}

impl Worker {
    /// A worker that claims under the id that its heartbeat publishes.
    pub fn new(
        pool: Pool,
        settings: config::Deliver,
        key: Option<SecretKey>,
        channels: Channels,
        id: watch::Receiver<Option<WorkerId>>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            pool,
            settings,
            key,
            channels: Arc::new(channels),
            id,
            lanes: Lanes::new(),
            requests: Requests::new(),
            ended: Vec::new(),
            signs: Signs::default(),
            gathering_since: None,
            turns: FuturesUnordered::new(),
            held: 0,
            cautious: false,
            doubts: Doubts::default(),
            expiring: None,
            due: None,
            looks: false,
            look_at: Instant::now(),
            rests_until: None,
            metrics,
        }
    }

    /// Takes turns until cancelled; then lets the requests under way end and puts them on the record. `owed` rings when
    /// something was enqueued here; it only saves waiting for the poll.
    pub async fn run(mut self, owed: Arc<Notify>, cancel: CancellationToken) {
        let mut swept_at = Instant::now();
        while !cancel.is_cancelled() {
            let now = Instant::now();
            if now >= swept_at + POLL_EVERY {
                self.lanes.sweep();
                swept_at = now;
            }
            if now >= self.look_at {
                self.look();
                self.look_at = now + POLL_EVERY;
            }
            self.collect_ended();
            let rests = self.rests_until.is_some_and(|until| until > now);
            let may_begin = !rests && self.turns.len() < TURNS_AT_ONCE;
            if may_begin && (self.looks || self.gathered_at().is_some_and(|at| at <= now)) {
                self.looks = false;
                let begun = self.begin_turn().await;
                self.heed(begun);
                continue;
            }
            let begins_at = if rests { self.rests_until } else { self.gathered_at().filter(|_| may_begin) };
            let wake_at = begins_at.map_or(self.look_at, |at| at.min(self.look_at));
            let enough = self.enough();
            tokio::select! {
                Some(turned) = self.turns.next(), if !self.turns.is_empty() => {
                    let ended = self.end_plain_turn(turned);
                    self.heed(ended);
                }
                () = self.requests.wait_for(enough), if may_begin && !self.requests.is_empty() => {}
                () = owed.notified() => self.look(),
                () = tokio::time::sleep_until(wake_at) => {}
                () = cancel.cancelled() => {}
            }
        }
        self.drain().await;
    }

    /// One turn that looks at everything: what ended goes on the record, what may start is claimed and started.
    ///
    /// # Errors
    /// If the database is away; what ended is kept for the next turn.
    pub async fn step(&mut self) -> Result<Step, DatabaseError> {
        self.lanes.sweep();
        self.collect_ended();
        let mut worked = 0;
        self.looks = true;
        while self.looks {
            self.looks = false;
            worked += self.begin_turn().await?;
            worked += self.end_plain_turns().await?;
        }
        let expired = match self.expiring.take() {
            Some(expiring) => expiring.end(&mut self.lanes).await,
            None => 0,
        };
        Ok(if worked + expired > 0 { Step::Worked(worked + expired) } else { Step::Idle })
    }

    /// Waits for the requests under way and records how each of them ended, as soon as it has; claims nothing more. Whoever cuts this off
    /// throws away nothing that is known.
    async fn drain(&mut self) {
        loop {
            self.collect_ended();
            match self.record_ended().await {
                Ok(()) if self.requests.is_empty() => break,
                Ok(()) => {
                    self.requests.wait_for(1).await;
                    // And for those that end with it.
                    let all = self.requests.wait_for(self.requests.len());
                    let _ = tokio::time::timeout(GATHER, all).await;
                }
                Err(error) => {
                    tracing::warn!(%error, "failed to record the last attempts, trying again");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        if let Some(expiring) = self.expiring.take() {
            expiring.end(&mut self.lanes).await;
        }
    }

    /// What turns under way have claimed is sent; what they could not write is written with the rest.
    async fn record_ended(&mut self) -> Result<(), DatabaseError> {
        self.end_plain_turns().await?;
        while !self.ended.is_empty() {
            let written = if self.cautious { 1 } else { self.ended.len() };
            self.note_signs(written);
            let turn = self.next_turn(written, Vec::new(), 0);
            match self.take_alone(turn).await {
                // Each time one is found, or set aside.
                Err(error) if error.is_data_error() => {}
                other => drop(other?),
            }
        }
        Ok(())
    }

    /// Begins a turn, for the lanes in which something may be due. One that goes alone is over then: how much was done.
    async fn begin_turn(&mut self) -> Result<usize, DatabaseError> {
        if self.expiring.as_ref().is_some_and(Expiring::is_finished)
            && let Some(expiring) = self.expiring.take()
        {
            expiring.end(&mut self.lanes).await;
        }
        if self.lanes.is_stale() {
            self.refresh().await.inspect_err(|_| self.lanes.distrust())?;
        }
        let id = *self.id.borrow();
        let written = if self.cautious { self.ended.len().min(1) } else { self.ended.len() };
        self.note_signs(written);
        // After the signs: a destination that was held just now is given nothing.
        let waiting = self.ended.len() - written;
        let free = self.settings.concurrency.saturating_sub(self.requests.len() + self.held + waiting);
        // Who writes them one by one would claim more than he can write.
        let claims = free > 0 && id.is_some() && !self.cautious;
        let lanes = if claims { self.lanes.free(&self.settings) } else { Vec::new() };
        let goes_alone = self.cautious
            || !self.signs.is_empty()
            || lanes.iter().any(|lane| self.lanes.needs_leave(lane.destination))
            || !self.ended[..written].iter().all(|ended| ended.is_held_by(id));
        if goes_alone {
            let before = self.end_plain_turns().await?;
            let turn = self.next_turn(written, lanes, free);
            return Ok(before + self.take_alone(turn).await?);
        }
        let turn = self.next_turn(written, lanes, free);
        if !turn.is_empty() {
            self.held += turn.holds();
            self.lanes.reserve(&turn.lanes);
            self.turns.push(Box::pin(turn.take(self.pool.clone())));
        }
        Ok(0)
    }

    async fn refresh(&mut self) -> Result<(), DatabaseError> {
        let client = self.pool.get().await?;
        let id = *self.id.borrow();
        self.lanes.refresh(&**client, &self.settings, self.key.as_ref(), id, &self.metrics).await
    }

    /// A turn for the first of those that ended.
    fn next_turn(&mut self, written: usize, lanes: Vec<Lane>, free: usize) -> Turn {
        let slots: usize = lanes.iter().map(|lane| lane.slots.unsigned_abs() as usize).sum();
        let ended = self.ended.drain(..written).collect();
        if self.ended.is_empty() {
            self.gathering_since = None;
        }
        Turn {
            worker: self.id.borrow().unwrap_or_default(),
            ended,
            lanes,
            total: free.min(slots),
            as_of: self.lanes.as_of(),
            began_at: Instant::now(),
            cautious: self.cautious,
        }
    }

    async fn take_alone(&mut self, turn: Turn) -> Result<usize, DatabaseError> {
        let hold = self.hold();
        let turned = turn.take_alone(&self.pool, &mut self.lanes, &self.signs, hold).await;
        if turned.result.is_ok() {
            self.signs = Signs::default();
        }
        self.end_turn(turned, true)
    }

    /// Waits for all that are under way.
    async fn end_plain_turns(&mut self) -> Result<usize, DatabaseError> {
        let mut worked = 0;
        while let Some(turned) = self.turns.next().await {
            worked += self.end_plain_turn(turned)?;
        }
        Ok(worked)
    }

    fn end_plain_turn(&mut self, turned: Turned) -> Result<usize, DatabaseError> {
        // Others that looked meanwhile found its slots taken.
        self.looks |= turned.turn.as_of != self.lanes.as_of();
        self.held -= turned.turn.holds();
        self.lanes.release(&turned.turn.lanes);
        self.end_turn(turned, false)
    }

    /// After the commit: what it claimed is started. Who went alone had leave for what he claimed behind a door, as a probe. Returns how
    /// much was done.
    fn end_turn(&mut self, Turned { turn, result }: Turned, had_leave: bool) -> Result<usize, DatabaseError> {
        let taken = match result {
            Ok(taken) => taken,
            Err(Failed { error, in_doubt }) => {
                if !in_doubt.is_empty() {
                    self.doubts.settle(self.pool.clone(), turn.worker, in_doubt, Arc::clone(&self.metrics));
                }
                // What the lanes were told is not in the database.
                self.lanes.distrust();
                let cautious = turn.cautious;
                self.ended.splice(..0, turn.ended);
                self.gathering_since.get_or_insert_with(Instant::now);
                self.suspect(&error, cautious);
                return Err(error);
            }
        };
        self.lanes.note_claimed(&turn.lanes, turn.as_of);
        for id in taken.completed.late {
            tracing::warn!(notification_id = %id, "an answer came after the row was taken over, it is kept as late");
        }
        self.cautious &= !(turn.cautious && self.ended.is_empty());
        tally::tell(&turn.ended, &self.metrics);
        self.remember_retries(&turn);
        let worked = turn.ended.len() + taken.attempts.len();
        for attempt in taken.attempts {
            self.start(attempt, turn.worker, turn.began_at, had_leave);
        }
        if taken.completed.released > 0 {
            self.look();
        }
        self.begin_expiring();
        Ok(worked)
    }

    /// One outcome that can't be written must not keep the others from the record: it is found and set aside. Its row's
    /// lease runs out, and the attempt is recorded as unknown.
    fn suspect(&mut self, error: &DatabaseError, cautious: bool) {
        if !error.is_data_error() || self.ended.is_empty() {
            return;
        }
        if cautious {
            let ended = self.ended.remove(0);
            let notification_id = ended.completion.notification;
            tracing::error!(%notification_id, %error, "an outcome can't be written, its attempt will be found as unknown");
        }
        // If there is another one among the rest, that is found the same way.
        self.cautious = !cautious;
    }

    fn start(&mut self, attempt: Attempt, claimed_by: WorkerId, claimed_at: Instant, had_leave: bool) {
        let Some((known, is_shut)) = self.lanes.start(attempt.destination) else { return };
        // What was claimed before the door shut is no probe: it says nothing new.
        let probe = is_shut && had_leave;
        let leased_until = claimed_at + known.lease;
        // Whatever delays it, it is not under way any more when its lease is over.
        let deadline = (Instant::now() + known.timeout).min(leased_until - LEASE_MARGIN);
        let start = Start { claimed_by, leased_until, deadline, probe };
        self.metrics.deliveries_in_flight.inc();
        let destination = attempt.destination;
        self.requests.start(destination, deliver(Arc::clone(&self.channels), known, attempt, start));
    }

    fn collect_ended(&mut self) {
        for Finished { destination, at, ended } in self.requests.take_finished() {
            self.metrics.deliveries_in_flight.dec();
            self.lanes.finish(destination);
            // Of one whose task failed the row's lease runs out, and the attempt is recorded as unknown.
            if let Some(ended) = ended {
                self.gathering_since.get_or_insert(at);
                self.ended.push(ended);
            }
        }
    }

    /// When a turn is worth its commit: when half of what is under way has ended, or what ended first has waited long enough for
    /// others. A turn for each request would cost more than the requests.
    fn gathered_at(&self) -> Option<Instant> {
        let since = self.gathering_since?;
        Some(if self.ended.len() >= self.requests.len() { since } else { since + GATHER })
    }

    /// How many more have to end for a turn to be worth it at once; of the first the time is noted.
    fn enough(&self) -> usize {
        match self.ended.len() {
            0 => 1,
            ended => self.requests.len().saturating_sub(ended).div_ceil(2).max(1),
        }
    }

    /// Something may be due: the next turn looks.
    fn look(&mut self) {
        self.lanes.stir();
        self.looks = true;
    }

    /// What a turn means for when to look next.
    fn heed(&mut self, turned: Result<usize, DatabaseError>) {
        let now = Instant::now();
        match turned {
            Ok(worked) => {
                // Where nothing is under way, nothing else calls for the next one.
                self.looks |= worked > 0 && self.requests.is_empty();
                self.rests_until = None;
                let due = self.due.take_if(|due| *due <= now);
                let next = [due, self.due, self.lanes.opens_at(now)].into_iter().flatten().min();
                self.look_at = next.map_or(self.look_at, |next| next.min(self.look_at));
            }
            Err(error) => {
                tracing::error!(%error, "delivery failed to reach its tables, trying again");
                self.rests_until = Some(now + PAUSE);
                self.looks = true;
            }
        }
    }

    fn remember_retries(&mut self, turn: &Turn) {
        for ended in &turn.ended {
            if let Outcome::Retry { after } | Outcome::Ambiguous { after } | Outcome::Hold { after } =
                ended.completion.outcome
            {
                let due = Instant::now() + after;
                self.due = Some(self.due.map_or(due, |earlier| earlier.min(due)));
            }
        }
    }

    /// How long a hold is.
    fn hold(&self) -> Duration {
        Duration::from_secs(self.settings.hold_seconds)
    }

    /// What the first of those that ended say of their destinations.
    fn note_signs(&mut self, written: usize) {
        for Ended { completion, sign, start, chance, .. } in &self.ended[..written] {
            let id = completion.destination;
            let notification = completion.notification;
            let spoken = Spoken { notification, probe: start.probe, chance: *chance };
            if let Some(change) = self.lanes.note(id, sign, spoken) {
                self.signs.add(id, change);
            }
        }
    }

    fn begin_expiring(&mut self) {
        if self.expiring.is_none() {
            self.expiring = Expiring::begin(self.lanes.expiring(Instant::now()), &self.pool);
        }
    }
}
