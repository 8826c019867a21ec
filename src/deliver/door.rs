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

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A door with a clock that stands still, and what is noted at it.
    struct Scene {
        door: Door,
        retry: RetryPolicy,
        pace: Pace,
        now: Instant,
    }

    impl Scene {
        fn new() -> Self {
            let retry = RetryPolicy {
                first_delay_ms: 1000,
                factor: 2.0,
                max_delay_ms: 5000,
                jitter: 0.0,
                horizon_seconds: 3600,
            };
            Self { door: Door::new(), retry, pace: Pace::unlimited(3), now: Instant::now() }
        }

        fn note(&mut self, sign: &Sign, notification: NotificationId) -> Option<Change> {
            let probe = self.door.probes();
            self.note_as(sign, notification, probe)
        }

        fn note_as(&mut self, sign: &Sign, notification: NotificationId, probe: bool) -> Option<Change> {
            let Self { retry, pace, now, .. } = self;
            let hold = 60 * SECOND;
            let seen = Seen { notification, probe, retry, pace, hold, chance: 0.0, now: *now };
            self.door.note(sign, seen)
        }

        /// Fails for so many notifications, each another.
        fn fail(&mut self, times: usize) {
            for _ in 0..times {
                self.note(&sick(), id());
            }
        }

        fn slots(&self) -> usize {
            self.door.slots(8, 0, self.now)
        }

        /// For how many seconds nothing may start.
        fn shut_for(&self) -> u64 {
            self.door.opens_at(self.now).map_or(0, |at| (at - self.now).as_secs())
        }
    }

    fn id() -> NotificationId {
        NotificationId(uuid::Uuid::now_v7())
    }

    fn sick() -> Sign {
        Sign::Sick("it answered 503".to_owned(), None)
    }

    #[test]
    fn it_breaks_after_so_many_notifications_in_a_row_and_a_success_begins_anew() {
        let mut scene = Scene::new();
        scene.fail(2);
        assert_eq!(scene.note(&Sign::Accepted, id()), None, "nothing to write while all is well");
        scene.fail(2);
        assert_eq!(scene.slots(), 8);
        let change = scene.note(&sick(), id()).unwrap();
        let reason = "it answered 503".to_owned();
        assert_eq!(change.breaker, Some(Breaker::Open { opened: 0, wait: SECOND, reason }));
        assert!(change.news);
        assert_eq!((scene.slots(), scene.shut_for()), (0, 1));
    }

    #[test]
    fn one_notification_that_always_fails_breaks_nothing() {
        let mut scene = Scene::new();
        let poison = id();
        for _ in 0..100 {
            assert_eq!(scene.note(&sick(), poison), None);
        }
        assert_eq!(scene.slots(), 8);
    }

    #[test]
    fn a_probe_that_fails_waits_longer_up_to_the_cap_and_one_that_succeeds_opens_it() {
        let mut scene = Scene::new();
        scene.fail(3);
        for wait in [2, 4, 5, 5] {
            scene.now += SECOND * scene.shut_for() as u32;
            assert_eq!((scene.slots(), scene.door.slots(8, 1, scene.now)), (1, 0), "a single probe");
            let change = scene.note(&sick(), id()).unwrap();
            assert!(!change.news);
            assert_eq!(scene.shut_for(), wait);
        }
        let change = scene.note(&Sign::Accepted, id()).unwrap();
        assert_eq!((change.breaker, change.news, scene.slots()), (Some(Breaker::Close), true, 8));
        scene.fail(2);
        assert_eq!(scene.slots(), 8, "it counts from the beginning");
    }

    #[test]
    fn what_was_under_way_when_it_broke_makes_it_no_worse() {
        let mut scene = Scene::new();
        scene.fail(3);
        assert_eq!(scene.note_as(&sick(), id(), false), None);
        assert_eq!(scene.shut_for(), 1);
        assert!(scene.note_as(&Sign::Accepted, id(), false).is_some(), "a success is believed");
    }

    #[test]
    fn a_held_destination_stays_held_whatever_its_probe_is_answered_but_an_acceptance() {
        let mut scene = Scene::new();
        scene.note(&Sign::Hold("it answered 401".to_owned()), id());
        for sign in [sick(), Sign::Refused, Sign::Sick("it answered 503".to_owned(), Some(90 * SECOND))] {
            scene.now += SECOND * scene.shut_for() as u32;
            assert_eq!(scene.slots(), 1);
            let change = scene.note(&sign, id()).unwrap();
            assert_eq!(change.state, Some(("held", None)));
            assert_eq!(change.breaker, None);
            assert!(scene.shut_for() >= 60, "{}", scene.shut_for());
        }
        assert_eq!(scene.shut_for(), 90, "what it asked for counts too");
        scene.now += 90 * SECOND;
        assert_eq!(scene.note(&Sign::Accepted, id()).unwrap().state, Some(("active", None)));
        assert_eq!(scene.slots(), 8);
    }

    #[test]
    fn a_pause_is_kept_grows_and_is_capped_by_the_horizon() {
        let mut scene = Scene::new();
        let minute = Sign::Busy(60 * SECOND);
        assert!(scene.note(&minute, id()).unwrap().news);
        assert_eq!((scene.slots(), scene.shut_for()), (0, 60));
        assert_eq!(scene.note(&Sign::Busy(SECOND), id()), None, "never earlier");
        let change = scene.note(&Sign::Busy(400 * 86_400 * SECOND), id()).unwrap();
        assert_eq!((change.pause, change.news), (Some(3600 * SECOND), false));
        assert_eq!(scene.shut_for(), 3600);
        scene.now += 3600 * SECOND;
        assert_eq!(scene.slots(), 8);
    }

    #[test]
    fn nothing_but_a_person_takes_it_out_of_parked() {
        let mut scene = Scene::new();
        scene.note(&Sign::Park("it answered 410".to_owned()), id());
        for sign in [Sign::Accepted, sick(), Sign::Busy(SECOND), Sign::Hold("it answered 401".to_owned())] {
            assert_eq!(scene.note(&sign, id()), None);
        }
        assert_eq!((scene.slots(), scene.door.state(scene.now)), (0, "parked"));
    }
}
