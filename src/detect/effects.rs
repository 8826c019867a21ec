//! What judging leads to, and is not settled yet: alerts, the changes of their lives, the lines of their timelines, and who is
//! to be told. Plain values.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::late::LateBreach;
use super::memory::Setup;
use super::scene::{Moment, Scene, theirs};
use crate::model::alert::{Alert, AlertState, Disposition, Happening, Life, Told};
use crate::model::ids::{AlertId, DestinationId, RuleId, SeriesId, TenantId};
use crate::model::reading::UnixMicros;
use crate::model::rule::Rule;

/// A line of a timeline, before it is known whose.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    kind: Happening,
    happened_at: UnixMicros,
    disposition: Option<Disposition>,
    note: Option<String>,
}

impl Line {
    /// Something that happened then, of the readings.
    pub fn of(kind: Happening, happened_at: UnixMicros) -> Self {
        Self { kind, happened_at, disposition: None, note: None }
    }

    /// The rule fired, and that became of it.
    pub fn fired(self, disposition: Disposition) -> Self {
        Self { disposition: Some(disposition), ..self }
    }

    /// With a word for people.
    pub fn noted(self, note: impl Into<String>) -> Self {
        Self { note: Some(note.into()), ..self }
    }
}

/// A line of an alert's timeline.
#[derive(Debug, Clone, PartialEq)]
pub struct TimelineEvent {
    /// Whose.
    pub alert: AlertId,
    /// Of which tenant.
    pub tenant: TenantId,
    /// What happened.
    pub kind: Happening,
    /// When, of the readings.
    pub happened_at: UnixMicros,
    /// In which episode.
    pub episode: i32,
    /// What became of the episode, if it is its first line.
    pub disposition: Option<Disposition>,
    /// A word for people.
    pub note: Option<String>,
}

/// Somebody is to be told.
#[derive(Debug, Clone, PartialEq)]
pub struct Tell {
    /// Of what.
    pub alert: AlertId,
    /// Of which of its episodes.
    pub episode: i32,
    /// What it is about.
    pub series: SeriesId,
    /// What happened.
    pub event: Happening,
    /// Who.
    pub destinations: Vec<DestinationId>,
    /// How it stood then, if it is told as over: it may burn again by the time that is written.
    pub over: Option<Box<Life>>,
}

/// What judging led to.
#[derive(Debug, Default)]
pub struct Effects {
    /// What opened, with the rule that fired.
    pub alerts: Vec<(Alert, Arc<Rule>)>,
    /// How the lives that changed stand now; those of new alerts too.
    pub lives: HashMap<AlertId, Life>,
    /// Lines of timelines, in their order.
    pub events: Vec<TimelineEvent>,
    /// Who is to be told.
    pub tells: Vec<Tell>,
    /// Cooldowns that were over while the rule burned.
    pub cooldowns_over: HashSet<(SeriesId, RuleId)>,
    /// Breaches that came late: whether they are told is found out when they are settled.
    pub late: Vec<LateBreach>,
    /// Breaches that came late and that an alert had told.
    pub late_breaches_covered: u64,
}

impl Effects {
    /// Writes a line into an alert's timeline, and keeps how its life stands.
    pub fn happen(&mut self, scene: &Scene<'_>, life: &Life, line: Line) {
        self.keep(life);
        self.events.push(TimelineEvent {
            alert: life.alert,
            tenant: scene.rule.tenant,
            kind: line.kind,
            happened_at: line.happened_at,
            episode: life.episodes,
            disposition: line.disposition,
            note: line.note,
        });
    }

    /// Keeps how a life stands.
    pub fn keep(&mut self, life: &Life) {
        self.lives.insert(life.alert, life.clone());
    }

    /// Its rule is archived, or selects the series no more: the alert is over.
    pub fn end_without_rule(
        &mut self,
        setup: &Setup,
        series: SeriesId,
        tenant: TenantId,
        mut life: Life,
        moment: Moment,
    ) {
        life.state = AlertState::Resolved;
        if life.told == Told::Open {
            life.told = Told::Resolved;
            life.told_at = Some(moment.timestamp);
            let destinations = theirs(&setup.destinations, tenant, &life.told_destinations);
            let (alert, episode, event) = (life.alert, life.episodes, Happening::Resolved);
            let over = Some(Box::new(life.clone()));
            self.tells.push(Tell { alert, episode, series, event, destinations, over });
        }
        self.keep(&life);
        self.events.push(TimelineEvent {
            alert: life.alert,
            tenant,
            kind: Happening::Resolved,
            happened_at: moment.now(),
            episode: life.episodes,
            disposition: None,
            note: Some("its rule is archived, or does not select the device any more".to_owned()),
        });
    }

    /// Whether somebody is waiting for it.
    pub fn is_urgent(&self) -> bool {
        !self.lives.is_empty() || !self.late.is_empty()
    }
}
