//! Judging: each reading of a flush against the rules that watch its series. Pure, but for the ids it draws.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::conditions::{Judgement, judge};
use super::cooldown::Cooldown;
use super::memory::{Burning, Memory, Series};
use super::owed::OwedFlush;
use super::rollup::Rollup;
use crate::model::alert::{Alert, Evidence};
use crate::model::destination::Destination;
use crate::model::ids::{AlertId, DestinationId, NotificationId, RuleId, SeriesId, TenantId};
use crate::model::notification::{Event, Notification};
use crate::model::reading::{Reading, UnixMicros};
use crate::model::rule::Rule;
use crate::notice::render::render;
use crate::notice::told::Notice;

/// The moment of judging, on both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// A breach before this one pages nobody once it is over.
    pub notify_from: UnixMicros,
    /// This process's clock.
    pub instant: Instant,
}

/// What is remembered of a rule and series.
#[derive(Debug, Clone, Copy)]
pub struct State {
    /// Whose.
    pub tenant: TenantId,
    /// When it fired.
    pub cooldown: Cooldown,
    /// The alert of an old breach that may still burn.
    pub burning: Option<AlertId>,
}

/// What was judged and is not settled yet.
#[derive(Debug, Default)]
pub struct Judged {
    /// The flushes that it covers.
    pub flushes: Vec<i64>,
    /// Their readings.
    pub readings: usize,
    /// By series and minute.
    pub rollups: HashMap<(SeriesId, UnixMicros), Rollup>,
    /// What fired.
    pub alerts: Vec<Alert>,
    /// Alerts marked historical whose breach burns still.
    pub promoted: HashSet<AlertId>,
    /// What is owed for the two.
    pub notifications: Vec<Notification>,
    /// States that changed.
    pub states: HashMap<(RuleId, SeriesId), State>,
    /// Breaches that a cooldown kept silent.
    pub cooled_down: u64,
}

impl Judged {
    /// Whether there is nothing to settle.
    pub fn is_empty(&self) -> bool {
        self.flushes.is_empty() && self.promoted.is_empty()
    }

    /// Whether somebody is waiting for it.
    pub fn is_urgent(&self) -> bool {
        !self.alerts.is_empty() || !self.promoted.is_empty()
    }

    /// Judges every reading of a flush. The series in it have been met.
    pub fn judge(&mut self, memory: &mut Memory, flush: &OwedFlush, moment: Moment) {
        for run in flush.readings.chunk_by(|a, b| a.series == b.series) {
            self.roll_up(run);
            self.judge_series(memory, run, moment);
        }
        self.readings += flush.readings.len();
        self.flushes.push(flush.id);
    }

    /// Pages for old breaches of which nothing was heard for `quiet`: the last that is known of them is that they burn.
    pub fn promote_quiet(&mut self, memory: &mut Memory, quiet: Duration, moment: Moment) {
        let is_quiet = |burning: &Burning| moment.instant.duration_since(burning.seen) >= quiet;
        let keys: Vec<_> = memory.burning.iter().filter(|(_, b)| is_quiet(b)).map(|(key, _)| *key).collect();
        for key in keys {
            let Some(rule) = memory.rule(key.0) else {
                memory.burning.remove(&key);
                continue;
            };
            // Met again before it is told: a restart forgets series that bring nothing.
            if memory.series.contains_key(&key.1) {
                self.promote(memory, &rule, key.1);
            }
        }
    }

    fn roll_up(&mut self, run: &[Reading]) {
        for minute in run.chunk_by(|a, b| a.ts.minute() == b.ts.minute()) {
            let [first, others @ ..] = minute else { continue };
            let rollup = self.rollups.entry((first.series, first.ts.minute()));
            let rollup = rollup
                .and_modify(|rollup| rollup.add(first.ts, first.value))
                .or_insert_with(|| Rollup::of(first.ts, first.value));
            for reading in others {
                rollup.add(reading.ts, reading.value);
            }
        }
    }

    /// Judges readings of one series. What they mean for alerts is worked out when all of them are judged, in the same order.
    fn judge_series(&mut self, memory: &mut Memory, run: &[Reading], moment: Moment) {
        let Some(series) = run.first().and_then(|reading| memory.series.get_mut(&reading.series)) else {
            // Its series is gone: nobody can have a rule on it.
            return;
        };
        let rules = Arc::clone(&series.rules);
        let burns = !memory.burning.is_empty();
        let mut found = Vec::new();
        for reading in run {
            let late = series.last_ts.is_some_and(|last| reading.ts < last);
            series.last_ts = series.last_ts.max(Some(reading.ts));
            for rule in rules.iter() {
                match judge(&rule.condition, reading.ts, reading.value, series.window.as_mut(), late) {
                    Judgement::Unknown => {}
                    // Only what came in order says that it is over.
                    Judgement::Clear if late => {}
                    Judgement::Clear => {
                        if burns || !found.is_empty() {
                            found.push((reading, rule, late, None));
                        }
                    }
                    Judgement::Breach(evidence) => found.push((reading, rule, late, Some(evidence))),
                }
            }
            if let Some(window) = &mut series.window {
                window.add(reading.ts, reading.value);
            }
        }
        for (reading, rule, late, evidence) in found {
            match evidence {
                Some(evidence) => self.breach(memory, rule, reading, evidence, late, moment),
                None => self.put_out(memory, rule, reading.series),
            }
        }
    }

    fn breach(
        &mut self,
        memory: &mut Memory,
        rule: &Arc<Rule>,
        reading: &Reading,
        evidence: Evidence,
        late: bool,
        moment: Moment,
    ) {
        let key = (rule.id, reading.series);
        let old = reading.ts < moment.notify_from;
        let fires = memory.cooldowns.entry(key).or_default().fires(reading.ts, rule.cooldown_micros);
        if !fires {
            self.cooled_down += 1;
            if late {
                return;
            }
            if !old {
                self.promote(memory, rule, reading.series);
            } else if let Some(burning) = memory.burning.get_mut(&key) {
                burning.seen = moment.instant;
            }
            return;
        }
        let alert = Alert {
            id: AlertId::new(),
            tenant: rule.tenant,
            rule: rule.id,
            rule_version: rule.version,
            series: reading.series,
            severity: rule.severity,
            breached_at: reading.ts,
            value: reading.value,
            evidence,
            late,
            historical: old,
        };
        if !old {
            self.notify(memory, rule, &alert);
        }
        if !late {
            // This one tells, or waits, instead of the one before it.
            memory.burning.remove(&key);
            if old {
                memory.burning.insert(key, Burning { alert: alert.clone(), seen: moment.instant });
            }
        }
        self.remember(memory, rule, reading.series);
        self.alerts.push(alert);
    }

    /// An old breach is over: it stays historical.
    fn put_out(&mut self, memory: &mut Memory, rule: &Rule, series: SeriesId) {
        if memory.burning.remove(&(rule.id, series)).is_some() {
            self.remember(memory, rule, series);
        }
    }

    /// An old breach burns still: it pages after all.
    fn promote(&mut self, memory: &mut Memory, rule: &Rule, series: SeriesId) {
        if let Some(burning) = memory.burning.remove(&(rule.id, series)) {
            self.notify(memory, rule, &burning.alert);
            self.promoted.insert(burning.alert.id);
            self.remember(memory, rule, series);
        }
    }

    fn remember(&mut self, memory: &Memory, rule: &Rule, series: SeriesId) {
        let key = (rule.id, series);
        let cooldown = memory.cooldowns.get(&key).copied().unwrap_or_default();
        let burning = memory.burning.get(&key).map(|burning| burning.alert.id);
        self.states.insert(key, State { tenant: rule.tenant, cooldown, burning });
    }

    fn notify(&mut self, memory: &Memory, rule: &Rule, alert: &Alert) {
        let Some(series) = memory.series.get(&alert.series) else { return };
        for destination in told(&memory.destinations, rule) {
            let id = NotificationId::new();
            let notice = notice(id, alert, rule, series);
            self.notifications.push(Notification {
                id,
                tenant: rule.tenant,
                alert: alert.id,
                destination: destination.id,
                event: Event::Opened,
                lane_class: rule.severity.lane_class(),
                body: render(&destination.kind, &notice),
            });
        }
    }
}

/// A destination of another tenant is nobody's business, whatever the rule says; one that is named twice is told once.
fn told<'a>(
    destinations: &'a HashMap<DestinationId, Destination>,
    rule: &'a Rule,
) -> impl Iterator<Item = &'a Destination> {
    let first = |place: usize, id: &DestinationId| !rule.destinations[..place].contains(id);
    let named = rule.destinations.iter().enumerate().filter(move |(place, id)| first(*place, id));
    named.filter_map(|(_, id)| destinations.get(id)).filter(|destination| destination.tenant == rule.tenant)
}

fn notice<'a>(id: NotificationId, alert: &'a Alert, rule: &'a Rule, series: &'a Series) -> Notice<'a> {
    Notice {
        id,
        event: Event::Opened,
        alert,
        rule: &rule.name,
        device: &series.device,
        metric: &series.metric,
        unit: series.unit.as_deref(),
    }
}
