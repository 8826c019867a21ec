//! Judging: each reading of a flush against the rules that watch its series. Pure, but for the ids it draws.

use std::collections::{BTreeMap, HashMap};

use super::conditions::breach;
use super::cooldown::Cooldown;
use super::memory::Memory;
use super::owed::OwedFlush;
use super::rollup::Rollup;
use crate::model::alert::Alert;
use crate::model::ids::{AlertId, NotificationId, RuleId, SeriesId, TenantId};
use crate::model::notification::{Event, Notification};
use crate::model::reading::{Reading, UnixMicros};
use crate::notice::render::render;
use crate::notice::told::Notice;

/// What was judged and is not settled yet.
#[derive(Debug, Default)]
pub struct Judged {
    /// The flushes that it covers.
    pub flushes: Vec<i64>,
    /// Their readings.
    pub readings: usize,
    /// Sorted, so that the upsert is.
    pub rollups: BTreeMap<(SeriesId, UnixMicros), Rollup>,
    /// What fired.
    pub alerts: Vec<Alert>,
    /// What is owed for it.
    pub notifications: Vec<Notification>,
    /// Cooldowns that changed.
    pub cooldowns: HashMap<(RuleId, SeriesId), (TenantId, Cooldown)>,
    /// Breaches that a cooldown kept silent.
    pub cooled_down: u64,
}

impl Judged {
    /// Whether there is nothing to settle.
    pub fn is_empty(&self) -> bool {
        self.flushes.is_empty()
    }

    /// Judges every reading of a flush. The series in it have been met.
    pub fn judge(&mut self, memory: &mut Memory, flush: &OwedFlush) {
        for reading in &flush.readings {
            self.roll_up(reading);
            self.judge_reading(memory, reading);
        }
        self.readings += flush.readings.len();
        self.flushes.push(flush.id);
    }

    fn roll_up(&mut self, reading: &Reading) {
        self.rollups
            .entry((reading.series, reading.ts.minute()))
            .and_modify(|rollup| rollup.add(reading.ts, reading.value))
            .or_insert_with(|| Rollup::of(reading.ts, reading.value));
    }

    fn judge_reading(&mut self, memory: &mut Memory, reading: &Reading) {
        let Some(series) = memory.series.get_mut(&reading.series) else {
            // Its series is gone: nobody can have a rule on it.
            return;
        };
        let late = series.last_ts.is_some_and(|last| reading.ts < last);
        series.last_ts = series.last_ts.max(Some(reading.ts));
        for rule in &series.rules {
            let Some(evidence) = breach(&rule.condition, reading.value) else { continue };
            let key = (rule.id, reading.series);
            let cooldown = memory.cooldowns.entry(key).or_default();
            if !cooldown.fires(reading.ts, rule.cooldown_micros) {
                self.cooled_down += 1;
                continue;
            }
            self.cooldowns.insert(key, (rule.tenant, *cooldown));
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
            };
            // A destination of another tenant is nobody's business, whatever the rule says.
            let told = rule.destinations.iter().filter_map(|id| memory.destinations.get(id));
            for destination in told.filter(|destination| destination.tenant == rule.tenant) {
                let id = NotificationId::new();
                let notice = Notice {
                    id,
                    event: Event::Opened,
                    alert: &alert,
                    rule: &rule.name,
                    device: &series.device,
                    metric: &series.metric,
                    unit: series.unit.as_deref(),
                };
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
            self.alerts.push(alert);
        }
    }
}
