//! A destination's door: whether requests may go to it now, and how what it says opens and shuts it. Pure: time and chance
//! are given.
//!
//! Invariants: behind a shut door nothing is started; when its time is over a single request, the probe, finds out whether it
//! may stay open. Only a person takes a destination out of `Parked`. What was under way when it shut says nothing new, except
//! that a success is always believed.

use std::time::Duration;

use tokio::time::Instant;

use super::policy::Pace;
use crate::model::ids::NotificationId;
use crate::retry::RetryPolicy;

/// What an attempt says of the destination as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sign {
    /// Nothing.
    Nothing,
    /// It can be used: it accepted one.
    Accepted,
    /// It is there, and refused this one notification.
    Refused,
    /// It is there, and asks to be left alone for this long.
    Busy(Duration),
    /// It is not well: no answer, or one that says so. It may have asked to be left alone for a while.
    Sick(String, Option<Duration>),
    /// It can't be used until somebody looks at it, and it is tried now and then.
    Hold(String),
    /// It can't be used until somebody looks at it.
    Park(String),
}

/// Whether requests may go to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// They may.
    Open,
    /// It failed too often in a row: none before, then a probe.
    Broken {
        /// The breaker's wait is over then.
        until: Instant,
        /// How often it opened without a success since.
        opened: u32,
    },
    /// It refused us: none before, then a probe.
    Held {
        /// The hold is over then.
        until: Instant,
    },
    /// It is gone.
    Parked,
}

/// What is to be written of a destination.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Change {
    /// Its state and the reason; a hold without a reason goes on for the one it had.
    pub state: Option<(&'static str, Option<String>)>,
    /// Its breaker.
    pub breaker: Option<Breaker>,
    /// Nothing is sent for this long.
    pub pause: Option<Duration>,
    /// Whether a person should hear of it.
    pub news: bool,
}

/// What becomes of a breaker.
#[derive(Debug, Clone, PartialEq)]
pub enum Breaker {
    /// It opens, or goes on being open.
    Open {
        /// How often it had opened before.
        opened: u32,
        /// For how long.
        wait: Duration,
        /// The failure.
        reason: String,
    },
    /// It closes.
    Close,
}

/// What an attempt was, to its destination.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// Of which notification.
    pub notification: NotificationId,
    /// Whether it was started as a probe.
    pub probe: bool,
    /// The wait of the breaker is that of the retries.
    pub retry: &'a RetryPolicy,
    /// When it breaks.
    pub pace: &'a Pace,
    /// How long a hold is.
    pub hold: Duration,
    /// A random number in 0..1.
    pub chance: f64,
    /// The time.
    pub now: Instant,
}

/// One destination's.
#[derive(Debug)]
pub struct Door {
    gate: Gate,
    paused_until: Option<Instant>,
    /// At its pace, no request may start before.
    next_at: Option<Instant>,
    /// The notifications that failed since the last success: one that can never be accepted must not shut out the others,
    /// however often it is tried.
    failed: Vec<NotificationId>,
    /// Behind a shut door the horizons go on: when to look next for those that are over.
    expire_at: Option<Instant>,
}

impl Door {
    /// An open one.
    pub fn new() -> Self {
        Self { gate: Gate::Open, paused_until: None, next_at: None, failed: Vec::new(), expire_at: None }
    }

    /// As the database has it.
    pub fn set(&mut self, gate: Gate, paused_until: Option<Instant>) {
        if gate == Gate::Open && self.gate != Gate::Open {
            // Another process found it well, or a person did.
            self.failed.clear();
        }
        (self.gate, self.paused_until) = (gate, paused_until);
    }

    /// How many requests may start, of `share` that may be under way.
    pub fn slots(&self, share: usize, in_flight: usize, now: Instant) -> usize {
        let waits = |until: Option<Instant>| until.is_some_and(|until| until > now);
        if waits(self.paused_until) || waits(self.next_at) {
            return 0;
        }
        let allowed = match self.gate {
            Gate::Open => share,
            Gate::Held { until } | Gate::Broken { until, .. } if until <= now => share.min(1),
            Gate::Held { .. } | Gate::Broken { .. } | Gate::Parked => 0,
        };
        allowed.saturating_sub(in_flight)
    }

    /// Whether a request that starts now is a probe.
    pub fn probes(&self) -> bool {
        matches!(self.gate, Gate::Held { .. } | Gate::Broken { .. })
    }

    /// When it may open next, if time alone opens it.
    pub fn opens_at(&self, now: Instant) -> Option<Instant> {
        let until = match self.gate {
            Gate::Parked => return None,
            Gate::Open => None,
            Gate::Held { until } | Gate::Broken { until, .. } => Some(until),
        };
        [until, self.paused_until, self.next_at].into_iter().flatten().max().filter(|at| *at > now)
    }

    /// At its pace, nothing may start for this long.
    pub fn wait_for(&mut self, time: Duration, now: Instant) {
        self.next_at = (!time.is_zero()).then(|| now + time);
    }

    /// Whether the horizons of those who wait behind it should be looked at now: time goes on for them while it is shut,
    /// unless it is held.
    pub fn expires(&mut self, horizon: Duration, now: Instant) -> bool {
        let shut = match self.gate {
            Gate::Held { .. } | Gate::Parked => false,
            Gate::Broken { until, .. } if until > now => true,
            Gate::Open | Gate::Broken { .. } => self.paused_until.is_some_and(|until| until > now),
        };
        if !shut || self.expire_at.is_some_and(|at| at > now) {
            return false;
        }
        let pause = (horizon / 100).clamp(Duration::from_secs(1), Duration::from_secs(60));
        self.expire_at = Some(now + pause);
        true
    }

    /// There were more of them than were looked at.
    pub fn expire_on(&mut self) {
        self.expire_at = None;
    }

    /// As people call it.
    pub fn state(&self, now: Instant) -> &'static str {
        match self.gate {
            Gate::Parked => "parked",
            Gate::Held { .. } => "held",
            Gate::Broken { .. } => "broken",
            Gate::Open if self.paused_until.is_some_and(|until| until > now) => "paused",
            Gate::Open => "active",
        }
    }

    /// An attempt ended: what it changes, if anything.
    pub fn note(&mut self, sign: &Sign, seen: Seen<'_>) -> Option<Change> {
        if self.gate == Gate::Parked || *sign == Sign::Nothing {
            return None;
        }
        let mut change = match sign {
            Sign::Park(reason) => {
                self.gate = Gate::Parked;
                Change { state: Some(("parked", Some(reason.clone()))), news: true, ..Change::default() }
            }
            Sign::Hold(reason) => {
                let news = !matches!(self.gate, Gate::Held { .. });
                self.failed.clear();
                self.gate = Gate::Held { until: seen.now + seen.hold };
                Change { state: Some(("held", Some(reason.clone()))), news, ..Change::default() }
            }
            Sign::Accepted => self.open(true),
            // It is well enough to refuse. Whether it accepts our credentials again is not known.
            Sign::Refused | Sign::Busy(_) => self.well_or_held(seen),
            Sign::Sick(reason, _) => self.sick(reason, seen),
            Sign::Nothing => Change::default(),
        };
        if let Sign::Busy(asked) | Sign::Sick(_, Some(asked)) = sign {
            let asked = (*asked).min(Duration::from_secs(seen.retry.horizon_seconds));
            let until = seen.now + asked;
            if !asked.is_zero() && self.paused_until.is_none_or(|known| known < until) {
                change.news |= self.paused_until.is_none_or(|known| known <= seen.now);
                change.pause = Some(asked);
                self.paused_until = Some(until);
            }
        }
        (change != Change::default()).then_some(change)
    }

    fn open(&mut self, accepted: bool) -> Change {
        self.failed.clear();
        let before = std::mem::replace(&mut self.gate, Gate::Open);
        match before {
            Gate::Held { .. } if accepted => {
                Change { state: Some(("active", None)), news: true, ..Change::default() }
            }
            Gate::Broken { .. } => Change { breaker: Some(Breaker::Close), news: true, ..Change::default() },
            _ => Change::default(),
        }
    }

    fn well_or_held(&mut self, seen: Seen<'_>) -> Change {
        match self.gate {
            Gate::Held { .. } => self.held_again(seen),
            _ => self.open(false),
        }
    }

    /// A held destination is released by an acceptance, and by nothing else: another failure does not say that its
    /// credentials are right again, and a person was told that they are not.
    fn held_again(&mut self, seen: Seen<'_>) -> Change {
        if !seen.probe {
            return Change::default();
        }
        self.gate = Gate::Held { until: seen.now + seen.hold };
        Change { state: Some(("held", None)), ..Change::default() }
    }

    fn sick(&mut self, reason: &str, seen: Seen<'_>) -> Change {
        let opened = match self.gate {
            Gate::Held { .. } => return self.held_again(seen),
            Gate::Broken { opened, .. } if seen.probe => opened,
            Gate::Open if seen.pace.breaker_failures > 0 => {
                if !self.failed.contains(&seen.notification) {
                    self.failed.push(seen.notification);
                }
                if self.failed.len() < seen.pace.breaker_failures as usize {
                    return Change::default();
                }
                0
            }
            Gate::Broken { .. } | Gate::Open | Gate::Parked => return Change::default(),
        };
        let wait = seen.retry.delay(opened.saturating_add(1), seen.chance);
        self.gate = Gate::Broken { until: seen.now + wait, opened: opened.saturating_add(1) };
        let breaker = Breaker::Open { opened, wait, reason: reason.to_owned() };
        Change { breaker: Some(breaker), news: opened == 0, ..Change::default() }
    }
}

impl Default for Door {
    fn default() -> Self {
        Self::new()
    }
}
