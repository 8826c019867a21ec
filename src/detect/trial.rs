//! A rule on trial: readings and time go in, what happened and who was told comes out, in short. For tests.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::judge::Judged;
use super::late::open_untold;
use super::memory::{Memory, Series};
use super::owed::OwedFlush;
use super::scene::Moment;
use super::watch::Watch;
use super::window::Window;
use crate::model::condition::Condition;
use crate::model::destination::{Destination, Kind};
use crate::model::ids::{DestinationId, RuleId, SeriesId, SilenceId, TenantId};
use crate::model::reading::{Reading, UnixMicros};
use crate::model::rule::{Escalation, Rule, Severity};
use crate::model::selector::{DevicePattern, Selector, Tags};
use crate::model::silence::Silence;

const SERIES: SeriesId = SeriesId(7);
const TENANT: TenantId = TenantId(1);

/// Times are seconds after the trial began; the clock of the people stands at what was said last.
pub struct Trial {
    pub memory: Memory,
    pub judged: Judged,
    pub rule: RuleId,
    now: f64,
    flushes: i64,
    told_so_far: usize,
    happened_so_far: usize,
}

pub fn second(seconds: f64) -> UnixMicros {
    UnixMicros(1_790_000_040_000_000 + (seconds * 1e6) as i64)
}

/// A rule with a destination, a cooldown of 900 s and no waiting; `settings` change it: `cooldown`, `resolve_after`,
/// `reminder` in seconds, `escalations`, `unrouted`; everything else is the condition.
fn rule(mut settings: Value, destination: DestinationId) -> Rule {
    let members = settings.as_object_mut().unwrap();
    let mut seconds = |name: &str| members.remove(name).map(|value| value.as_i64().unwrap() * 1_000_000);
    let (cooldown, resolve_after, reminder) =
        (seconds("cooldown"), seconds("resolve_after"), seconds("reminder"));
    let escalations = members.remove("escalations").unwrap_or_else(|| json!([]));
    let is_unrouted = members.remove("unrouted").is_some();
    let condition = Condition::from_json(settings).unwrap();
    Rule {
        id: RuleId::new(),
        version: 1,
        tenant: TENANT,
        name: "rule".into(),
        metric: "temperature".to_owned(),
        devices: Selector { ids: None, pattern: DevicePattern::new("*"), tags: Tags::new() },
        escalations: Escalation::list_from_json(escalations, &condition.check, Severity::Warning).unwrap(),
        condition,
        severity: Severity::Warning,
        cooldown_micros: cooldown.unwrap_or(900_000_000),
        resolve_after_micros: resolve_after.unwrap_or(0),
        reminder_micros: reminder,
        labels: Tags::new(),
        runbook_url: None,
        destinations: if is_unrouted { Vec::new() } else { vec![destination] },
    }
}

impl Trial {
    pub fn of(settings: Value) -> Self {
        let destination = DestinationId::new();
        let rule = Arc::new(rule(settings, destination));
        let mut memory = Memory::default();
        let kind = Kind::Nats {};
        memory.setup.destinations.insert(
            destination,
            Destination { id: destination, tenant: TENANT, name: "night shift".to_owned(), kind },
        );
        let window = rule.condition.window_minutes().map(|span| Window::new(span, []));
        let id = rule.id;
        let series = Series {
            tenant: TENANT,
            device: "pump-1".to_owned(),
            tags: Tags::new(),
            metric: "temperature".to_owned(),
            unit: None,
            watches: vec![Watch { rule, state: None }],
            last: None,
            arrived: second(-1e6),
            was_heard: true,
            window,
            is_unsettled: false,
        };
        if series.is_active() {
            memory.active.insert(SERIES);
        }
        memory.series.insert(SERIES, series);
        let judged = Judged::default();
        Self { memory, judged, rule: id, now: 0.0, flushes: 0, told_so_far: 0, happened_so_far: 0 }
    }

    fn moment(&self) -> Moment {
        Moment::at(Timestamp::from_microsecond(second(self.now).0).unwrap(), 86_400_000_000)
    }

    /// Readings `(second, value)` that come in one batch at the last of their times, or now if that is later.
    pub fn readings(&mut self, readings: &[(f64, f64)]) {
        let latest = readings.iter().map(|(at, _)| *at).fold(self.now, f64::max);
        self.readings_at(latest, readings);
    }

    /// The same, that come at this time.
    pub fn readings_at(&mut self, arrived: f64, readings: &[(f64, f64)]) {
        self.now = arrived;
        self.flushes += 1;
        let reading = |(at, value): &(f64, f64)| Reading { series: SERIES, ts: second(*at), value: *value };
        let readings = readings.iter().map(reading).collect();
        let flush = OwedFlush { id: self.flushes, arrived: second(arrived), readings };
        let moment = self.moment();
        self.judged.judge(&mut self.memory, &flush, moment).unwrap();
        open_untold(&self.memory, &[], &mut self.judged.effects);
        self.judged.tell_again(&mut self.memory, moment);
    }

    /// Each of these readings comes alone, when it was taken; with a tick before it.
    pub fn live(&mut self, readings: &[(f64, f64)]) {
        for reading in readings {
            self.tick(reading.0);
            self.readings(&[*reading]);
        }
    }

    /// It is so late, and everything that was sent is judged.
    pub fn tick(&mut self, now: f64) {
        self.now = now;
        let moment = self.moment();
        // What is heard runs a second behind: a reading may be on its way.
        self.judged.tick(&mut self.memory, Some(second(now + 1.0)), moment).unwrap();
        self.judged.tell_again(&mut self.memory, moment);
    }

    pub fn silence(&mut self, from: f64, until: f64) {
        self.memory.setup.silences.push(Silence {
            id: SilenceId::new(),
            tenant: TENANT,
            rule: Some(self.rule),
            devices: Selector { ids: None, pattern: DevicePattern::new("pump-*"), tags: Tags::new() },
            starts_at: second(from),
            ends_at: second(until),
        });
    }

    /// What a person does to the alert that is open.
    pub fn life(&mut self) -> &mut crate::model::alert::Life {
        let state = self.memory.series.get_mut(&SERIES).unwrap().watches[0].state.as_mut();
        state.unwrap().life.as_mut().unwrap()
    }

    pub fn is_at_rest(&self) -> bool {
        self.memory.series[&SERIES].watches[0].state.is_none()
    }

    /// What happened since it was asked last: `kind second disposition`.
    pub fn happened(&mut self) -> Vec<String> {
        let events = &self.judged.effects.events;
        let new = events[self.happened_so_far..].iter().map(|event| {
            let at = (event.happened_at.0 - second(0.0).0) / 1_000_000;
            let disposition = event.disposition.map(|d| format!(" {}", d.as_str())).unwrap_or_default();
            format!("{} {at}{disposition}", event.kind.as_str())
        });
        let new = new.collect();
        self.happened_so_far = events.len();
        new
    }

    /// What was told since it was asked last.
    pub fn told(&mut self) -> Vec<&'static str> {
        let tells = &self.judged.effects.tells;
        let new = tells[self.told_so_far..].iter().map(|tell| tell.event.as_str()).collect();
        self.told_so_far = tells.len();
        new
    }

    /// The alerts: when the breach began, when it fired, whether late.
    pub fn alerts(&self) -> Vec<(i64, i64, bool)> {
        let at = |ts: UnixMicros| (ts.0 - second(0.0).0) / 1_000_000;
        let alerts = self.judged.effects.alerts.iter();
        alerts.map(|(alert, _)| (at(alert.breached_at), at(alert.fired_at), alert.late)).collect()
    }
}
