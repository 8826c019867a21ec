//! The worker: a turn completes what has ended and claims what may start, in one transaction; between turns requests run.
//!
//! Its unit is [`Worker::step`], so that a test drives it without sleeping; [`Worker::run`] steps it for ever.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::{Id, JoinError, JoinHandle, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::attempt::{Channels, Ended, deliver};
use super::lanes::{Lanes, Spoken};
use super::leave;
use super::secrets::SecretKey;
use super::signs::Signs;
use crate::config;
use crate::db::error::DatabaseError;
use crate::db::pool::Pool;
use crate::model::delivery::{Attempt, Completion, Outcome};
use crate::model::ids::{DestinationId, WorkerId};
use crate::outbox::claim::claim;
use crate::outbox::complete::complete;
use crate::outbox::expire::{Shut, expire};
use crate::telemetry::metrics::{ByOutcome, Metrics};

/// What is due is looked for at least this often: a lost wake-up costs a second.
const POLL_EVERY: Duration = Duration::from_secs(1);
/// After a failed turn.
const PAUSE: Duration = Duration::from_millis(250);
/// What ended waits so long, at most, for others that end too.
const GATHER: Duration = Duration::from_millis(5);
/// What died while its destination was left alone is buried so many at a time.
const EXPIRE_AT_ONCE: i64 = 500;
/// Between the end of a request and the end of its lease, at the least.
const LEASE_MARGIN: Duration = Duration::from_secs(1);

/// What a turn did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It completed or started so many attempts.
    Worked(usize),
    /// Nothing ended and nothing is due.
    Idle,
}

/// Somebody looks for what is over its horizon behind these doors.
struct Expiring {
    shut: Vec<Shut>,
    looking: JoinHandle<Result<usize, DatabaseError>>,
}

/// Gives up what is over its horizon; returns how many.
async fn expire_behind(pool: Pool, shut: Vec<Shut>) -> Result<usize, DatabaseError> {
    let mut client = pool.get().await?;
    let transaction = client.transaction().await?;
    let expired = expire(&transaction, &shut, EXPIRE_AT_ONCE).await?;
    transaction.commit().await?;
    for id in &expired {
        tracing::error!(notification_id = %id, "given up without another attempt, it is a dead letter");
    }
    Ok(expired.len())
}

/// Delivers what is owed.
pub struct Worker {
    pool: Pool,
    settings: config::Deliver,
    key: Option<SecretKey>,
    channels: Channels,
    id: watch::Receiver<Option<WorkerId>>,
    lanes: Lanes,
    requests: JoinSet<Ended>,
    /// To whom each of them goes: a task that panics can't say.
    receivers: HashMap<Id, DestinationId>,
    /// Ended and not on the record yet; at most as many as requests may be under way.
    ended: Vec<Ended>,
    /// The database refused what is in one of them: they are written one by one until it is found.
    cautious: bool,
    /// Beside the turns.
    expiring: Option<Expiring>,
    /// The earliest retry that this worker itself has scheduled.
    due: Option<Instant>,
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
            channels,
            id,
            lanes: Lanes::new(),
            requests: JoinSet::new(),
            receivers: HashMap::new(),
            ended: Vec::new(),
            cautious: false,
            expiring: None,
            due: None,
            metrics,
        }
    }

    /// Takes turns until cancelled; then lets the requests under way end and puts them on the record. `owed` rings when
    /// something was enqueued here; it only saves waiting for the poll.
    pub async fn run(mut self, owed: Arc<Notify>, cancel: CancellationToken) {
        let mut swept_at = Instant::now();
        while !cancel.is_cancelled() {
            // Armed before the look.
            let ring = owed.notified();
            if swept_at.elapsed() >= POLL_EVERY {
                self.lanes.sweep();
                swept_at = Instant::now();
            }
            let wait = match self.turn().await {
                Ok(Step::Worked(_)) if self.requests.is_empty() => continue,
                Ok(_) => self.until_due(),
                Err(error) => {
                    tracing::error!(%error, "delivery failed to reach its tables, trying again");
                    PAUSE
                }
            };
            tokio::select! {
                () = ring => self.lanes.stir(),
                () = self.enough_ended(), if !self.requests.is_empty() => {}
                () = tokio::time::sleep(wait) => self.lanes.stir(),
                () = cancel.cancelled() => {}
            }
        }
        if let Err(error) = self.drain().await {
            tracing::warn!(%error, "failed to record the last attempts, they will be found as unknown");
        }
    }

    /// One turn that looks at everything: what ended goes on the record, what may start is claimed and started.
    ///
    /// # Errors
    /// If the database is away; what ended is kept for the next turn.
    pub async fn step(&mut self) -> Result<Step, DatabaseError> {
        self.lanes.sweep();
        let step = self.turn().await?;
        let expired = self.end_expiring().await;
        Ok(if expired > 0 { Step::Worked(expired) } else { step })
    }

    /// One turn, for the lanes in which something may be due.
    async fn turn(&mut self) -> Result<Step, DatabaseError> {
        self.collect_ended();
        if self.expiring.as_ref().is_some_and(|expiring| expiring.looking.is_finished()) {
            self.end_expiring().await;
        }
        let result = self.take_turn().await;
        self.begin_expiring();
        if let Err(error) = &result {
            // What the lanes were told is not in the database.
            self.lanes.distrust();
            self.suspect(error);
        }
        result
    }

    /// One outcome that can't be written must not keep the others from the record: it is found and set aside. Its row's
    /// lease runs out, and the attempt is recorded as unknown.
    fn suspect(&mut self, error: &DatabaseError) {
        if !error.is_data_error() || self.ended.is_empty() {
            return;
        }
        if self.cautious {
            let ended = self.ended.remove(0);
            let notification_id = ended.completion.notification;
            tracing::error!(%notification_id, %error, "an outcome can't be written, its attempt will be found as unknown");
        }
        self.cautious = true;
    }

    async fn take_turn(&mut self) -> Result<Step, DatabaseError> {
        let mut client = self.pool.get().await?;
        let id = *self.id.borrow();
        self.lanes.refresh(&**client, &self.settings, self.key.as_ref(), id, &self.metrics).await?;
        let free = self.settings.concurrency.saturating_sub(self.requests.len());
        let claimed_at = Instant::now();
        let transaction = client.transaction().await?;
        let written = if self.cautious { self.ended.len().min(1) } else { self.ended.len() };
        let completions: Vec<&Completion> =
            self.ended[..written].iter().map(|ended| &ended.completion).collect();
        let late = complete(&transaction, id.unwrap_or_default(), &completions).await?;
        self.record_signs(&transaction, written).await?;
        // After the signs: a destination that was held just now is given nothing.
        let mut lanes = if free > 0 { self.lanes.free(&self.settings) } else { Vec::new() };
        let leave = leave::ask(&transaction, &mut self.lanes, &mut lanes).await?;
        let attempts = match id {
            Some(id) => claim(&transaction, id, &mut lanes, free).await?,
            None => Vec::new(),
        };
        leave::take(&transaction, &mut self.lanes, leave, &attempts).await?;
        transaction.commit().await?;
        self.lanes.note_claimed(&lanes);
        for id in late {
            tracing::warn!(notification_id = %id, "an answer came after the row was taken over, it is kept as late");
        }
        let worked = written + attempts.len();
        self.conclude(written);
        for attempt in attempts {
            self.start(attempt, claimed_at);
        }
        Ok(if worked > 0 { Step::Worked(worked) } else { Step::Idle })
    }

    /// Waits for the requests under way and records how they ended; claims nothing.
    ///
    /// # Errors
    /// If the database is away.
    pub async fn drain(&mut self) -> Result<(), DatabaseError> {
        while let Some(ended) = self.requests.join_next_with_id().await {
            self.note_ended(ended);
        }
        self.end_expiring().await;
        if !self.ended.is_empty() {
            let mut client = self.pool.get().await?;
            let transaction = client.transaction().await?;
            let completions: Vec<&Completion> = self.ended.iter().map(|ended| &ended.completion).collect();
            let id = *self.id.borrow();
            complete(&transaction, id.unwrap_or_default(), &completions).await?;
            let written = completions.len();
            self.record_signs(&transaction, written).await?;
            transaction.commit().await?;
            self.conclude(written);
        }
        Ok(())
    }

    fn start(&mut self, attempt: Attempt, claimed_at: Instant) {
        let Some((known, probe)) = self.lanes.start(attempt.destination) else { return };
        // Whatever delays it, it is not under way any more when its lease is over.
        let deadline = (Instant::now() + known.timeout).min(claimed_at + known.lease - LEASE_MARGIN);
        self.metrics.deliveries_in_flight.inc();
        let destination = attempt.destination;
        let task = self.requests.spawn(deliver(self.channels.clone(), known, attempt, probe, deadline));
        self.receivers.insert(task.id(), destination);
    }

    fn collect_ended(&mut self) {
        while let Some(ended) = self.requests.try_join_next_with_id() {
            self.note_ended(ended);
        }
    }

    /// Waits until a turn is worth its commit: until half of what is under way has ended, or what ended first has waited long enough
    /// for others. A turn for each request would cost more than the requests.
    async fn enough_ended(&mut self) {
        self.next_ended().await;
        let gathered = async {
            while self.requests.len() > self.ended.len() {
                self.next_ended().await;
            }
        };
        // Whoever is cut off here loses nothing: what ended is noted.
        let _ = tokio::time::timeout(GATHER, gathered).await;
    }

    async fn next_ended(&mut self) {
        if let Some(ended) = self.requests.join_next_with_id().await {
            self.note_ended(ended);
        }
    }

    fn note_ended(&mut self, ended: Result<(Id, Ended), JoinError>) {
        self.metrics.deliveries_in_flight.dec();
        let task = match &ended {
            Ok((task, _)) => *task,
            Err(error) => error.id(),
        };
        if let Some(destination) = self.receivers.remove(&task) {
            self.lanes.finish(destination);
        }
        match ended {
            Ok((_, ended)) => self.ended.push(ended),
            // A panic: its row's lease runs out and the attempt is recorded as unknown.
            Err(error) => tracing::error!(%error, "a request's task failed"),
        }
    }

    /// After the commit: counts what is on the record now, and remembers when the next retry is due.
    fn conclude(&mut self, written: usize) {
        self.cautious &= self.ended.len() > written;
        for Ended { completion, owed, .. } in self.ended.drain(..written) {
            let outcome = completion.outcome.as_str();
            self.metrics.delivery_attempts.get_or_create(&ByOutcome { outcome }).inc();
            let (notification_id, attempt) = (completion.notification, completion.number);
            match &completion.outcome {
                Outcome::Delivered => {
                    self.metrics.delivery_seconds.observe(owed.as_secs_f64());
                    if let Some(warning) = &completion.record.warning {
                        tracing::warn!(%notification_id, attempt, warning, "delivered, with a warning");
                    } else {
                        tracing::debug!(%notification_id, attempt, "delivered");
                    }
                }
                Outcome::Retry { after } | Outcome::Ambiguous { after } => {
                    let due = Instant::now() + *after;
                    self.due = Some(self.due.map_or(due, |earlier| earlier.min(due)));
                    let error = completion.record.error.as_deref();
                    tracing::info!(%notification_id, attempt, error, retry_in_ms = after.as_millis() as u64, "not delivered, will be tried again");
                }
                Outcome::Hold => {
                    tracing::info!(%notification_id, attempt, "not delivered, waits with its destination")
                }
                Outcome::Dead { reason } => {
                    tracing::error!(%notification_id, attempt, reason, "given up, it is a dead letter")
                }
            }
        }
    }

    async fn record_signs(
        &mut self,
        transaction: &deadpool_postgres::Transaction<'_>,
        written: usize,
    ) -> Result<(), DatabaseError> {
        let hold = Duration::from_secs(self.settings.hold_seconds);
        let mut signs = Signs::default();
        for Ended { completion, sign, probe, chance, .. } in &self.ended[..written] {
            let id = completion.destination;
            let notification = completion.notification;
            let spoken = Spoken { notification, probe: *probe, hold, chance: *chance };
            if let Some(change) = self.lanes.note(id, sign, spoken) {
                signs.add(id, change);
            }
        }
        signs.write(transaction, hold).await
    }

    /// Horizons go on while a destination is left alone, and no attempt finds out that they are over. Everything that waits there
    /// is looked at, so that it is done beside the turns: nobody else waits for it.
    fn begin_expiring(&mut self) {
        if self.expiring.is_some() {
            return;
        }
        let shut = self.lanes.expiring(Instant::now());
        if shut.is_empty() {
            return;
        }
        let looking = tokio::spawn(expire_behind(self.pool.clone(), shut.clone()));
        self.expiring = Some(Expiring { shut, looking });
    }

    /// Waits for who looks, if anybody does; returns how many were given up.
    async fn end_expiring(&mut self) -> usize {
        let Some(Expiring { shut, looking }) = self.expiring.take() else { return 0 };
        let expired = match looking.await {
            Ok(Ok(expired)) => expired,
            Ok(Err(error)) => {
                tracing::error!(%error, "failed to look for what is over its horizon, trying again later");
                0
            }
            Err(error) => {
                tracing::error!(%error, "the look for what is over its horizon failed");
                0
            }
        };
        if expired as i64 == EXPIRE_AT_ONCE {
            self.lanes.expire_on(&shut);
        }
        expired
    }

    fn until_due(&mut self) -> Duration {
        let now = Instant::now();
        if self.due.is_some_and(|due| due <= now) {
            // It became due while the turn was taken.
            self.due = None;
            self.lanes.stir();
            return Duration::ZERO;
        }
        let next = [self.due, self.lanes.opens_at(now)].into_iter().flatten().min();
        next.map_or(POLL_EVERY, |next| POLL_EVERY.min(next - now))
    }
}
