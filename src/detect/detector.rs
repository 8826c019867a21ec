//! The detector: holds the lease or stands by; takes owed flushes, judges them, settles.
//!
//! Its unit is [`Detector::step`], so that a test drives it without sleeping; [`Detector::run`] steps it for ever.

use std::sync::Arc;
use std::time::{Duration, Instant};

use deadpool_postgres::Object;
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::days::make_partitions;
use super::judge::{Fault, Judged};
use super::load::{self, Versions};
use super::memory::Memory;
use super::owed::{self, OwedFlush};
use super::scene::Moment;
use super::settle::{Accounts, Settled, Telling, settle};
use crate::config::{self, PublicUrl};
use crate::db::error::DatabaseError;
use crate::db::lease::Lease;
use crate::db::pool::Pool;
use crate::model::alert::Disposition;
use crate::model::reading::UnixMicros;
use crate::telemetry::metrics::{ByDisposition, Metrics};

const UPKEEP: &str = include_str!("../../sql/queries/detect/upkeep.sql");

/// The lease's name.
pub const LEASE: &str = "detect";

/// Owed flushes below the floor, committed out of the order of their ids, are looked for this often; and so is what was changed,
/// and what time alone decides.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// A fifth of what the lease lives unless it is configured otherwise.
const RENEW_EVERY: Duration = Duration::from_secs(1);
/// Nothing was owed for this long: a backlog is worked off.
const LULL: Duration = Duration::from_millis(50);
/// At the end, for what was just stored.
const LAST_STEPS: Duration = Duration::from_secs(2);
/// After a failed step: long enough for another process to take the lease.
const PAUSE: Duration = Duration::from_millis(1200);

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It judged so many readings.
    Worked(usize),
    /// Nothing is owed.
    Idle,
    /// Another process detects.
    StandingBy,
}

/// Judges what ingestion committed.
pub struct Detector {
    pool: Pool,
    settings: config::Detect,
    /// Whose watermark tells what is heard.
    stream: String,
    public_url: PublicUrl,
    holder: Uuid,
    active: Option<Active>,
    /// The lease under which a step failed.
    failed: Option<Lease>,
    /// Whether flushes are judged and settled one by one, to find the one that the database refuses.
    one_by_one: bool,
    /// It has not detected yet.
    begins: bool,
    owed: Arc<Notify>,
    metrics: Arc<Metrics>,
}

struct Active {
    lease: Lease,
    memory: Memory,
    judged: Judged,
    floor: i64,
    swept_at: Option<Instant>,
    /// `None`: what is judged next is settled at once.
    settled_at: Option<Instant>,
    renewed_at: Instant,
    /// When there was something to judge.
    took_at: Instant,
}

impl Detector {
    /// A detector that stands by. It rings `owed` after each commit that owes somebody a notification.
    pub fn new(pool: Pool, config: &config::Config, owed: Arc<Notify>, metrics: Arc<Metrics>) -> Self {
        Self {
            pool,
            settings: config.detect.clone(),
            stream: config.ingest.stream.clone(),
            public_url: config.api.public_url.clone(),
            holder: Uuid::now_v7(),
            active: None,
            failed: None,
            one_by_one: false,
            begins: true,
            owed,
            metrics,
        }
    }

    /// Steps until cancelled; then settles what is judged and gives the lease back. `flushed` rings when a batch was
    /// committed here; it only saves waiting for the poll.
    pub async fn run(mut self, flushed: Arc<Notify>, cancel: CancellationToken) {
        while !cancel.is_cancelled() {
            // Armed before the look.
            let ring = flushed.notified();
            let wait = match self.step().await {
                Ok(Step::Worked(_)) => continue,
                Ok(Step::Idle) => self.until_due(),
                Ok(Step::StandingBy) => SWEEP_EVERY,
                Err(error) => {
                    tracing::error!(%error, "detection failed, what it knew is loaded again");
                    self.step_aside().await;
                    // Not woken early: it would fail as fast as batches come.
                    tokio::select! {
                        () = tokio::time::sleep(PAUSE) => continue,
                        () = cancel.cancelled() => break,
                    }
                }
            };
            tokio::select! {
                () = ring => {}
                () = tokio::time::sleep(wait) => {}
                () = cancel.cancelled() => {}
            }
        }
        self.work_off().await;
        if let Err(error) = self.stop().await {
            tracing::warn!(%error, "failed to give the detector's lease back, it expires");
        }
    }

    /// What was stored before ingestion stopped is judged, as far as that does not take long: the rest is owed to whoever detects
    /// next.
    async fn work_off(&mut self) {
        let deadline = Instant::now() + LAST_STEPS;
        if let Some(active) = &mut self.active {
            // Also what was committed out of the order of its ids.
            active.swept_at = None;
        }
        while self.active.is_some() && Instant::now() < deadline {
            if !matches!(self.step().await, Ok(Step::Worked(_))) {
                return;
            }
        }
    }

    /// Takes owed flushes, judges them, and settles when something fired or it is time to. The lease is renewed meanwhile, on
    /// a connection of its own: a step may take longer than the lease lives.
    ///
    /// # Errors
    /// If the database is away. What it knew is thrown away: the flush rows are still there.
    pub async fn step(&mut self) -> Result<Step, DatabaseError> {
        let Some(lease) = self.active.as_ref().map(|active| active.lease) else {
            return self.stand_by().await;
        };
        let pool = self.pool.clone();
        let result = tokio::select! {
            result = self.work() => result,
            lost = keep(&pool, &lease) => {
                self.lose_lease();
                return lost.map(|()| Step::StandingBy);
            }
        };
        if result.is_err() {
            self.failed = self.active.take().map(|active| active.lease);
            self.metrics.detector_active.set(0);
        }
        result
    }

    /// Takes the lease if it is free, and loads what there is to know.
    async fn stand_by(&mut self) -> Result<Step, DatabaseError> {
        let client = self.pool.get().await?;
        let time_to_live = Duration::from_secs(self.settings.lease_seconds);
        let Some(lease) = Lease::acquire(&**client, LEASE, self.holder, time_to_live).await? else {
            return Ok(Step::StandingBy);
        };
        tracing::info!(epoch = lease.epoch, "this process detects");
        if self.begins {
            // Once a process: what can't be judged goes back into quarantine.
            let released = owed::release_quarantined(&**client).await?;
            if released > 0 {
                tracing::info!(flushes = released, "trying again what was in quarantine");
            }
            self.begins = false;
        }
        let (versions, _) = self.upkeep(&client).await?;
        let memory = Memory::load(&**client, versions).await?;
        self.active = Some(Active::new(lease, memory));
        self.metrics.detector_active.set(1);
        Ok(Step::Worked(0))
    }

    /// After a failure: another process, of another version perhaps, may do better.
    async fn step_aside(&mut self) {
        if let Some(lease) = self.failed.take()
            && let Ok(client) = self.pool.get().await
            && let Err(error) = lease.release(&**client).await
        {
            tracing::debug!(%error, "failed to give the detector's lease back, it expires");
        }
    }

    /// The versions, and until when everything that came is stored. Read before the owed flushes.
    async fn upkeep(&self, client: &Object) -> Result<(Versions, Option<UnixMicros>), DatabaseError> {
        let statement = client.prepare_cached(UPKEEP).await?;
        let row = client.query_one(&statement, &[&self.stream]).await?;
        let heard_until = row.get::<_, Option<Timestamp>>(2).map(UnixMicros::from);
        Ok((Versions { config: row.get(0), alerts: row.get(1) }, heard_until))
    }

    async fn work(&mut self) -> Result<Step, DatabaseError> {
        let mut client = self.pool.get().await?;
        let Some(active) = &self.active else { return Ok(Step::StandingBy) };
        let sweep = active.swept_at.is_none_or(|at| at.elapsed() >= SWEEP_EVERY);
        let upkeep = if sweep { Some(self.upkeep(&client).await?) } else { None };
        if let Some((versions, _)) = upkeep {
            self.refresh(&client, versions).await?;
        }
        if sweep {
            self.look_after_memory();
        }
        let Some(active) = &mut self.active else { return Ok(Step::StandingBy) };
        let floor = if sweep { 0 } else { active.floor };
        let limit = if self.one_by_one { 1 } else { self.settings.readings_per_step };
        let flushes = owed::take(&client, floor, &active.judged.flushes, limit).await?;
        if sweep {
            active.swept_at = Some(Instant::now());
        }
        let runs = flushes.iter().flat_map(|flush| flush.readings.chunk_by(|a, b| a.series == b.series));
        active.memory.meet(&**client, runs.map(|run| run[0].series)).await?;
        let before = active.judged.readings;
        let moment = moment(&self.settings);
        let taken: usize = flushes.iter().map(|flush| flush.readings.len()).sum();
        // Only when it was all there is: what is not judged yet may say that nobody is silent.
        let is_all = taken < limit && flushes.len() < owed::MOST_FLUSHES;
        let heard_until = upkeep.filter(|_| is_all).map(|(_, heard_until)| heard_until);
        if let Err(Fault(rule)) = active.judge(&flushes, heard_until, moment) {
            let fault =
                format!("{} while it judged a reading; change it, and it is tried again", load::PANICKED);
            load::mark_faulted(&**client, rule, &fault).await?;
            self.retire_memory();
            return Ok(Step::Worked(0));
        }
        let worked = active.judged.readings - before;
        self.metrics.readings_judged.inc_by(worked as u64);
        let interval = Duration::from_millis(self.settings.commit_interval_ms);
        let due = active.settled_at.is_none_or(|at| at.elapsed() >= interval);
        let full = active.judged.readings >= self.settings.readings_per_step;
        if !flushes.is_empty() {
            active.took_at = Instant::now();
        }
        let worked_off = active.ends_a_backlog(&self.settings) && active.took_at.elapsed() >= LULL;
        if !active.judged.is_empty()
            && (due || full || worked_off || self.one_by_one || active.judged.is_urgent())
        {
            self.settle(&mut client).await?;
        } else if active.renewed_at.elapsed() >= RENEW_EVERY {
            if !active.lease.renew(&**client).await? {
                self.lose_lease();
                return Ok(Step::StandingBy);
            }
            active.renewed_at = Instant::now();
        }
        Ok(if flushes.is_empty() { Step::Idle } else { Step::Worked(worked) })
    }

    /// Takes up what was changed behind memory's back; what is judged and not settled is judged again.
    async fn refresh(&mut self, client: &Object, versions: Versions) -> Result<(), DatabaseError> {
        let Some(active) = self.active.as_mut().filter(|active| active.memory.versions() != versions) else {
            return Ok(());
        };
        tracing::info!("rules, silences, destinations or alerts were changed, taking that up");
        let (lease, renewed_at, settled_at) = (active.lease, active.renewed_at, active.settled_at);
        let mut memory = std::mem::take(&mut active.memory);
        memory.refresh(&***client, versions).await?;
        *active = Active { renewed_at, settled_at, ..Active::new(lease, memory) };
        Ok(())
    }

    async fn settle(&mut self, client: &mut Object) -> Result<(), DatabaseError> {
        let Some(active) = &mut self.active else { return Ok(()) };
        let mut judged = std::mem::take(&mut active.judged);
        let telling = Telling { public_url: &self.public_url, group_above: self.settings.group_above };
        let settled = match settle(client, &active.lease, &active.memory, &mut judged, telling).await {
            // Ids are of this process's clock, and it may have jumped to a day that nobody made a partition for. And a batch
            // that comes out of quarantine may be older than what is kept.
            Err(error) if error.is_missing_partition() && make_partitions(client, &judged).await? > 0 => {
                return Err(error);
            }
            Err(error) if error.is_refused() => return self.isolate(client, &judged.flushes, error).await,
            settled => settled?,
        };
        match settled {
            Settled::Committed(accounts) => {
                active.memory.keep();
                active.renewed_at = Instant::now();
                active.settled_at = Some(active.renewed_at);
                self.count(&accounts, judged.effects.late_breaches_covered);
            }
            Settled::LeaseLost => self.lose_lease(),
            Settled::Changed(versions) => self.refresh(client, versions).await?,
        }
        Ok(())
    }

    /// Keeps memory within its bounds, and shows what is in it.
    fn look_after_memory(&mut self) {
        let Some(active) = &mut self.active else { return };
        let config::Detect { series_cache_size, window_cache_minutes, .. } = self.settings;
        let forgotten = active.memory.make_room(series_cache_size, window_cache_minutes);
        if forgotten > 0 {
            tracing::debug!(
                forgotten,
                "no room for all series, those heard longest ago are read again when heard"
            );
            self.metrics.detect_series_forgotten.inc_by(forgotten as u64);
        }
        let gauge = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.metrics.rules_faulted.set(gauge(active.memory.setup.faulted.len()));
        self.metrics.rules_unrouted.set(gauge(active.memory.setup.unrouted().count()));
        self.metrics.detect_series.set(gauge(active.memory.series.len()));
        self.metrics.detect_window_minutes.set(gauge(active.memory.buckets()));
    }

    fn count(&self, accounts: &Accounts, late_breaches_covered: u64) {
        self.metrics.alerts_opened.inc_by(accounts.opened);
        self.metrics.alerts_resolved.inc_by(accounts.resolved);
        self.metrics.late_breaches_covered.inc_by(late_breaches_covered);
        for (disposition, episodes) in &accounts.episodes {
            let label = ByDisposition { disposition: disposition.as_str() };
            self.metrics.episodes.get_or_create(&label).inc_by(*episodes);
            self.metrics.episodes_fired.inc_by(*episodes);
            if *disposition == Disposition::Unrouted {
                tracing::warn!(
                    alerts = episodes,
                    "alerts opened whose rule names no destination: nobody is told"
                );
            }
        }
        if accounts.notifications > 0 {
            self.owed.notify_one();
        }
    }

    /// PostgreSQL refuses something that a flush led to: the flush is looked for, and set aside, or all others would wait
    /// behind it for ever.
    async fn isolate(
        &mut self,
        client: &Object,
        flushes: &[i64],
        error: DatabaseError,
    ) -> Result<(), DatabaseError> {
        match flushes {
            [] => return Err(error),
            [flush] => {
                owed::quarantine(&***client, *flush, &error.to_string()).await?;
                self.one_by_one = false;
            }
            _ => {
                tracing::warn!(%error, "judging the owed flushes one by one, to find the one that is refused");
                self.one_by_one = true;
            }
        }
        self.retire_memory();
        Ok(())
    }

    /// Settles what is judged and gives the lease back.
    ///
    /// # Errors
    /// If the database is away.
    pub async fn stop(&mut self) -> Result<(), DatabaseError> {
        if self.active.is_none() {
            return Ok(());
        }
        let mut client = self.pool.get().await?;
        if self.active.as_ref().is_some_and(|active| !active.judged.is_empty()) {
            self.settle(&mut client).await?;
        }
        if let Some(active) = self.active.take() {
            active.lease.release(&**client).await?;
            self.metrics.detector_active.set(0);
        }
        Ok(())
    }

    fn until_due(&self) -> Duration {
        let interval = Duration::from_millis(self.settings.commit_interval_ms);
        match &self.active {
            Some(active) if !active.judged.is_empty() => {
                let due =
                    active.settled_at.map_or(Duration::ZERO, |at| interval.saturating_sub(at.elapsed()));
                if active.ends_a_backlog(&self.settings) { due.min(LULL) } else { due }
            }
            _ => SWEEP_EVERY,
        }
    }

    fn lose_lease(&mut self) {
        tracing::warn!("another process took the detector's lease over, standing by");
        self.retire_memory();
    }

    fn retire_memory(&mut self) {
        self.active = None;
        self.metrics.detector_active.set(0);
    }
}

/// Renews the lease again and again; ends when another has it.
async fn keep(pool: &Pool, lease: &Lease) -> Result<(), DatabaseError> {
    loop {
        tokio::time::sleep(RENEW_EVERY).await;
        let renewed = async { lease.renew(&**pool.get().await?).await };
        match renewed.await {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            // The work meets the same error; what is settled is fenced in any case.
            Err(error) => tracing::debug!(%error, "failed to renew the detector's lease"),
        }
    }
}

fn moment(settings: &config::Detect) -> Moment {
    let age = i64::try_from(settings.notify_max_age_seconds).unwrap_or(i64::MAX).saturating_mul(1_000_000);
    Moment::at(Timestamp::now(), age)
}

impl Active {
    fn new(lease: Lease, memory: Memory) -> Self {
        Self {
            lease,
            memory,
            judged: Judged::default(),
            floor: 0,
            swept_at: None,
            settled_at: None,
            renewed_at: Instant::now(),
            took_at: Instant::now(),
        }
    }

    /// Judges flushes; and, if `heard_until` is there, all that time alone decides.
    fn judge(
        &mut self,
        flushes: &[OwedFlush],
        heard_until: Option<Option<UnixMicros>>,
        moment: Moment,
    ) -> Result<(), Fault> {
        self.judged.bury_orphans(&mut self.memory, moment);
        for flush in flushes {
            self.judged.judge(&mut self.memory, flush, moment)?;
            self.floor = self.floor.max(flush.id);
        }
        if let Some(heard_until) = heard_until {
            self.judged.tick(&mut self.memory, heard_until, moment)?;
        }
        self.judged.tell_again(&mut self.memory, moment);
        Ok(())
    }

    /// Whether so much is judged that it may be the end of a backlog, which is not kept waiting for the next settlement: as
    /// much as a tenth of a step. A steady load of that size has no lull.
    fn ends_a_backlog(&self, settings: &config::Detect) -> bool {
        self.judged.readings >= settings.readings_per_step / 10
    }
}
