//! What the active detector knows: rules, destinations, silences, and the series it has met with what their rules are in.
//!
//! Invariant: it agrees with the database as of the versions it was loaded with, plus what is judged and not settled yet. What
//! is not settled is forgotten, and met again, when something changed behind its back ([`Memory::forget_unsettled`]).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::scene::{Moment, Scene, theirs};
use super::watch::{State, Watch};
use super::window::Window;
use crate::model::condition::Check;
use crate::model::destination::Destination;
use crate::model::ids::{DestinationId, RuleId, SeriesId, TenantId};
use crate::model::reading::UnixMicros;
use crate::model::rule::Rule;
use crate::model::selector::Tags;
use crate::model::silence::Silence;

/// A reading may be this long on its way to the broker, in microseconds, before its device counts as silent.
const GRACE: i64 = 1_000_000;

/// What people have set.
#[derive(Debug, Default)]
pub struct Setup {
    /// By what they watch.
    pub rules: HashMap<(TenantId, String), Vec<Arc<Rule>>>,
    /// Rules that can't be judged: what they are in is left as it is.
    pub faulted: HashSet<RuleId>,
    /// Those that can be told.
    pub destinations: HashMap<DestinationId, Destination>,
    /// Those that have not ended long ago.
    pub silences: Vec<Silence>,
}

impl Setup {
    /// Where a rule meets a series.
    pub fn scene<'a>(
        &'a self,
        rule: &'a Arc<Rule>,
        series: SeriesId,
        device: &'a str,
        tags: &'a Tags,
        moment: Moment,
    ) -> Scene<'a> {
        let all_destinations = &self.destinations;
        Scene { rule, series, device, tags, all_destinations, silences: &self.silences, moment }
    }

    /// The rules that watch a series.
    pub fn watching(
        &self,
        tenant: TenantId,
        metric: &str,
        device: &str,
        tags: &Tags,
    ) -> impl Iterator<Item = &Arc<Rule>> {
        let of_metric = self.rules.get(&(tenant, metric.to_owned())).into_iter().flatten();
        of_metric.filter(move |rule| rule.devices.selects(device, tags))
    }

    /// Rules that tell nobody.
    pub fn unrouted(&self) -> impl Iterator<Item = &Arc<Rule>> {
        let nobody =
            |rule: &&Arc<Rule>| theirs(&self.destinations, rule.tenant, &rule.destinations).is_empty();
        self.rules.values().flatten().filter(nobody)
    }

    /// What is looked for in silence.
    pub fn silent_metrics(&self) -> impl Iterator<Item = &(TenantId, String)> {
        let waits = |rules: &[Arc<Rule>]| {
            rules.iter().any(|rule| matches!(rule.condition.check, Check::NoData { .. }))
        };
        self.rules.iter().filter(move |(_, rules)| waits(rules)).map(|(key, _)| key)
    }
}

/// A series as detection needs it.
#[derive(Debug)]
pub struct Series {
    /// Whose.
    pub tenant: TenantId,
    /// The device's external id.
    pub device: String,
    /// The device's tags.
    pub tags: Tags,
    /// What is measured.
    pub metric: String,
    /// In what.
    pub unit: Option<String>,
    /// The rules that watch it, and what they are in.
    pub watches: Vec<Watch>,
    /// The latest reading judged.
    pub last: Option<(UnixMicros, f64)>,
    /// When the last one came, late ones too, on the database's clock.
    pub arrived: UnixMicros,
    /// Whether `arrived` is known, of a reading that was judged; else it is the latest that it can be.
    pub was_heard: bool,
    /// Its minutes, if a rule compares with them.
    pub window: Option<Window>,
    /// Whether it has changed since the last settlement.
    pub is_unsettled: bool,
}

impl Series {
    /// Its own time, when everything that came before `heard_until` is judged: its clock has gone on since its last reading. So a
    /// device whose clock is wrong is silent no sooner than others.
    pub fn now(&self, heard_until: UnixMicros) -> Option<UnixMicros> {
        let (last, _) = self.last?;
        let passed = heard_until.0.saturating_sub(GRACE).saturating_sub(self.arrived.0);
        Some(UnixMicros(last.0.saturating_add(passed.max(0))))
    }

    /// Whether time alone may change something.
    pub fn is_active(&self) -> bool {
        self.watches
            .iter()
            .any(|watch| watch.state.is_some() || matches!(watch.rule.condition.check, Check::NoData { .. }))
    }
}

/// What the active detector knows.
#[derive(Debug, Default)]
pub struct Memory {
    /// Of what is set up.
    pub config_version: i64,
    /// Of the alerts that people changed.
    pub alerts_version: i64,
    /// What people have set.
    pub setup: Setup,
    /// Met since the load.
    pub series: HashMap<SeriesId, Series>,
    /// Those for which time alone may change something; a few too many.
    pub active: HashSet<SeriesId>,
    /// Those that have changed since the last settlement.
    pub unsettled: Vec<SeriesId>,
    /// What a rule was in that is archived by now, or selects the series no more: its alert is over.
    pub orphans: Vec<(SeriesId, RuleId, State)>,
}

impl Memory {
    /// What is judged is settled.
    pub fn keep(&mut self) {
        for id in self.unsettled.drain(..) {
            if let Some(series) = self.series.get_mut(&id) {
                series.is_unsettled = false;
            }
        }
    }

    /// What is judged will not be settled: those series are met again.
    pub fn forget_unsettled(&mut self) {
        for id in self.unsettled.drain(..) {
            self.series.remove(&id);
        }
        for (id, ..) in self.orphans.drain(..) {
            self.series.remove(&id);
        }
    }

    /// A rule on a series.
    pub fn watch(&self, series: SeriesId, rule: RuleId) -> Option<&Watch> {
        self.series.get(&series)?.watches.iter().find(|watch| watch.rule.id == rule)
    }

    /// Forgets series until there is room: those heard longest ago first, and a tenth more than must be, so that it is not every
    /// second's work. They are met again when they are heard. What is not settled stays, and so does that for which time alone
    /// may change something. Returns how many are forgotten.
    pub fn make_room(&mut self, most_series: usize, most_minutes: usize) -> usize {
        let (before, mut minutes) = (self.series.len(), self.buckets());
        if before <= most_series && minutes <= most_minutes {
            return 0;
        }
        let can_go = self.series.iter().filter(|(_, series)| !series.is_unsettled && !series.is_active());
        let mut can_go: Vec<_> = can_go.map(|(id, series)| (series.arrived, *id)).collect();
        can_go.sort_unstable();
        for (_, id) in can_go {
            if self.series.len() <= most_series - most_series / 10
                && minutes <= most_minutes - most_minutes / 10
            {
                break;
            }
            let gone = self.series.remove(&id);
            minutes -= gone.and_then(|series| series.window).map_or(0, |window| window.len());
        }
        before - self.series.len()
    }

    /// Minutes that all windows hold together.
    pub fn buckets(&self) -> usize {
        self.series.values().filter_map(|series| series.window.as_ref()).map(Window::len).sum()
    }
}

#[cfg(test)]
mod tests;
