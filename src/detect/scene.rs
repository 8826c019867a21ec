//! What a change of an alert is decided by beside the readings: the rule, the series, who is told, who wants silence, and
//! the time. Pure.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;

use crate::model::destination::Destination;
use crate::model::ids::{DestinationId, SeriesId, SilenceId, TenantId};
use crate::model::reading::UnixMicros;
use crate::model::rule::Rule;
use crate::model::selector::Tags;
use crate::model::silence::Silence;

/// An alert that is judged so much later than it fired is marked `late`, in microseconds.
const LATE_AFTER: i64 = 60_000_000;

/// The moment of judging, on this process's clock.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// Now.
    pub timestamp: Timestamp,
    /// What fired before this one pages nobody once it is over.
    pub notify_from: UnixMicros,
    /// What fired before this one is late.
    pub late_before: UnixMicros,
}

impl Moment {
    /// At `now`; what fired longer than `notify_max_age` (microseconds) ago is old.
    pub fn at(timestamp: Timestamp, notify_max_age: i64) -> Self {
        let now = UnixMicros::from(timestamp);
        Self {
            timestamp,
            notify_from: UnixMicros(now.0.saturating_sub(notify_max_age)),
            late_before: UnixMicros(now.0.saturating_sub(LATE_AFTER)),
        }
    }

    /// Now.
    pub fn now(&self) -> UnixMicros {
        self.timestamp.into()
    }
}

/// Where a rule meets a series.
#[derive(Debug)]
pub struct Scene<'a> {
    /// The rule.
    pub rule: &'a Arc<Rule>,
    /// The series.
    pub series: SeriesId,
    /// The device's external id.
    pub device: &'a str,
    /// The device's tags.
    pub tags: &'a Tags,
    /// All that can be told.
    pub all_destinations: &'a HashMap<DestinationId, Destination>,
    /// All silences that have not ended long ago.
    pub silences: &'a [Silence],
    /// The moment of judging.
    pub moment: Moment,
}

impl Scene<'_> {
    /// Whom the rule names. A destination of another tenant is nobody's business, whatever the rule says; one that is named
    /// twice is told once; one that is archived is told nothing.
    pub fn destinations(&self) -> Vec<DestinationId> {
        self.still_there(&self.rule.destinations)
    }

    /// Those of `named` that can be told.
    pub fn still_there(&self, named: &[DestinationId]) -> Vec<DestinationId> {
        theirs(self.all_destinations, self.rule.tenant, named)
    }

    /// The silence that keeps an alert which fires at `at` from being told.
    pub fn silence_at(&self, at: UnixMicros) -> Option<SilenceId> {
        let keeps = |silence: &&Silence| {
            silence.tenant == self.rule.tenant
                && silence.rule.is_none_or(|rule| rule == self.rule.id)
                && (silence.starts_at..silence.ends_at).contains(&at)
                && silence.devices.selects(self.device, self.tags)
        };
        self.silences.iter().find(keeps).map(|silence| silence.id)
    }

    /// Whether somebody does not want to hear of it now.
    pub fn is_silenced_now(&self) -> bool {
        !self.silences.is_empty() && self.silence_at(self.moment.now()).is_some()
    }
}

/// Those of `named` that can be told and belong to the tenant, each once.
pub fn theirs(
    all: &HashMap<DestinationId, Destination>,
    tenant: TenantId,
    named: &[DestinationId],
) -> Vec<DestinationId> {
    let mut destinations = Vec::with_capacity(named.len());
    for id in named {
        let is_theirs = all.get(id).is_some_and(|found| found.tenant == tenant);
        if is_theirs && !destinations.contains(id) {
            destinations.push(*id);
        }
    }
    destinations
}
