//! What a rule would have made of given points, and why. Pure, but for the ids that judging draws; nothing is written.
//!
//! Invariant: the points go through the very judging that readings go through (`detect/judge.rs`), on a series and a memory of
//! their own, as if each had been heard at its own time. Reminders and silences are not played: they go by the clock.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::rule_draft::RuleDraft;
use super::trial::Trial;
use crate::detect::conditions::{Judgement, Look, judge};
use crate::detect::effects::Effects;
use crate::detect::judge::{Fault, Judged};
use crate::detect::memory::{Memory, Series};
use crate::detect::owed::OwedFlush;
use crate::detect::scene::Moment;
use crate::detect::watch::Watch;
use crate::detect::window::{Window, minute_of};
use crate::model::alert::{Alert, Disposition, Happening};
use crate::model::condition::{Check, Deviation};
use crate::model::destination::{Destination, Kind};
use crate::model::evidence::{Class, Evidence};
use crate::model::ids::{AlertId, DestinationId, RuleId, SeriesId, TenantId};
use crate::model::reading::{Reading, UnixMicros};
use crate::model::rule::Rule;
use crate::model::selector::{DevicePattern, Selector, Tags};
use crate::notice::sentence::sentence;

/// Nobody's: the ids end with the answer.
const TENANT: TenantId = TenantId(0);
const SERIES: SeriesId = SeriesId(0);
/// What people read in the place of the device's name.
const DEVICE: &str = "the device";

/// What a point is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// A breach.
    Breach,
    /// Clear.
    Clear,
    /// Neither: it changes nothing.
    Between,
    /// Nothing can be said.
    Unknown,
}

/// Something that would have happened to an alert.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Step {
    /// Of which alert: its place among those that opened, from 1.
    pub alert: usize,
    /// `opened`, `reopened`, `still_burning`, `escalated` or `resolved`.
    pub what: &'static str,
    /// When, on the clock of the points.
    pub at: Timestamp,
    /// Of one that fires: who would have been told, or why nobody.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disposition: Option<&'static str>,
    /// Of one that resolves: since when the points are clear.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clear_since: Option<Timestamp>,
    /// A word for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A point, judged.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JudgedPoint {
    /// As it was given.
    pub ts: Timestamp,
    /// As it was given.
    pub value: f64,
    /// What it is.
    pub judgement: Verdict,
    /// What decided that it is a breach.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Evidence>,
    /// Why it is neither a breach nor clear.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What was known with it: of the point itself, and of the time before it.
    pub leads_to: Vec<Step>,
}

/// An alert that would have opened.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WouldBe {
    /// Its place among those that opened, from 1.
    pub alert: usize,
    /// What it looks like.
    pub class: Class,
    /// When the breach began.
    pub breached_at: Timestamp,
    /// When the rule fired.
    pub fired_at: Timestamp,
    /// When it was over: since then the points are clear.
    pub ended_at: Option<Timestamp>,
    /// How bad it was in the end.
    pub severity: &'static str,
    /// How often the rule fired on it.
    pub episodes: i32,
    /// What decided it.
    pub evidence: Evidence,
    /// The sentence that people would have read.
    pub summary: String,
}

/// How many there are of each.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Summary {
    /// Points.
    pub points: usize,
    /// Breaches among them.
    pub breach: usize,
    /// Clear ones.
    pub clear: usize,
    /// Those between.
    pub between: usize,
    /// Those of which nothing can be said.
    pub unknown: usize,
    /// Alerts that would have opened.
    pub alerts: usize,
    /// Times that the rule fired: more than alerts if some opened again.
    pub episodes: usize,
    /// Alerts that would be open in the end.
    pub open: usize,
    /// The same in words.
    pub text: String,
}

/// What a rule would have made of the points.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explanation {
    /// In short.
    pub summary: Summary,
    /// What would have opened, the first first.
    pub alerts: Vec<WouldBe>,
    /// Each point.
    pub points: Vec<JudgedPoint>,
    /// Until when nothing came behind the last point.
    pub until: Timestamp,
    /// What the time without a point led to.
    pub afterwards: Vec<Step>,
}

/// Judges the points and explains.
///
/// # Errors
/// The rule panicked: a service would mark it faulted.
pub fn explain(draft: &RuleDraft, trial: &Trial) -> Result<Explanation, Fault> {
    let rule = Arc::new(rule_of(draft));
    let mut memory = memory_of(&rule);
    let mut story = Story::new(&rule);
    let span = rule.condition.window_minutes();
    let mut window = span.map(|span| Window::new(span, []));
    let mut points = Vec::with_capacity(trial.points.len());
    let mut previous = None;
    for (place, (ts, value)) in trial.points.iter().copied().enumerate() {
        let mut leads_to = Vec::new();
        if place > 0 {
            wait(&mut memory, UnixMicros(ts.0 - 1), LOOKS_BETWEEN, &mut story, &mut leads_to)?;
        }
        let check = &rule.condition.check;
        let judgement = judge(check, &mut Look { ts, value, previous, window: window.as_mut() });
        let moment = Moment::at(ts.to_timestamp(), i64::MAX);
        let mut judged = Judged::default();
        let readings = vec![Reading { series: SERIES, ts, value }];
        judged.judge(&mut memory, &OwedFlush { id: 0, arrived: ts, readings }, moment)?;
        judged.tell_again(&mut memory, moment);
        let why = match judgement {
            Judgement::Between => Some(BETWEEN.to_owned()),
            Judgement::Unknown => Some(why_unknown(check, &trial.points[..place], ts)),
            _ => None,
        };
        let (judgement, evidence) = match judgement {
            Judgement::Breach(evidence) => (Verdict::Breach, Some(evidence)),
            Judgement::Clear => (Verdict::Clear, None),
            Judgement::Between => (Verdict::Between, None),
            Judgement::Unknown => (Verdict::Unknown, None),
        };
        leads_to.extend(story.add(&judged.effects));
        points.push(JudgedPoint { ts: ts.to_timestamp(), value, judgement, evidence, why, leads_to });
        if let Some(window) = &mut window {
            window.add(ts, value);
        }
        previous = Some((ts, value));
    }
    let mut afterwards = Vec::new();
    wait(&mut memory, trial.until, LOOKS_AFTERWARDS, &mut story, &mut afterwards)?;
    let summary = story.summarize(&points);
    Ok(Explanation { summary, alerts: story.alerts, points, until: trial.until.to_timestamp(), afterwards })
}

/// A service looks each second at what time alone decides; here so often at the most between two points, and behind the last.
const LOOKS_BETWEEN: i64 = 20;
const LOOKS_AFTERWARDS: i64 = 2_000;

/// Nothing comes until then.
fn wait(
    memory: &mut Memory,
    until: UnixMicros,
    most_looks: i64,
    story: &mut Story<'_>,
    steps: &mut Vec<Step>,
) -> Result<(), Fault> {
    let Some(series) = memory.series.get_mut(&SERIES) else { return Ok(()) };
    let Some((last, _)) = series.last.filter(|(last, _)| *last < until) else { return Ok(()) };
    // A series' clock lags behind what was heard, by as much as a reading may be on its way: here nothing is on its way.
    series.arrived = UnixMicros(series.arrived.0 - SignedDuration::from_hours(1).as_micros() as i64);
    let ahead = series.now(until).map_or(0, |now| now.0 - until.0);
    let look_every = ((until.0 - last.0) / most_looks).max(1_000_000);
    let mut at = last;
    while at < until {
        at = UnixMicros(at.0.saturating_add(look_every).min(until.0));
        let moment = Moment::at(at.to_timestamp(), i64::MAX);
        let mut judged = Judged::default();
        judged.tick(memory, Some(UnixMicros(at.0 - ahead)), moment)?;
        judged.tell_again(memory, moment);
        steps.extend(story.add(&judged.effects));
    }
    Ok(())
}

/// What has happened so far.
struct Story<'a> {
    rule: &'a Rule,
    alerts: Vec<WouldBe>,
    places: HashMap<AlertId, usize>,
    episodes: usize,
}

impl<'a> Story<'a> {
    fn new(rule: &'a Rule) -> Self {
        Self { rule, alerts: Vec::new(), places: HashMap::new(), episodes: 0 }
    }

    /// Takes what judging led to; returns it as steps.
    fn add(&mut self, effects: &Effects) -> Vec<Step> {
        for (alert, _) in &effects.alerts {
            self.alerts.push(would_be(alert, self.alerts.len() + 1, self.rule));
            self.places.insert(alert.id, self.alerts.len());
        }
        let mut steps = Vec::new();
        for event in &effects.events {
            let Some(place) = self.places.get(&event.alert).copied() else { continue };
            let alert = &mut self.alerts[place - 1];
            let happened_at = event.happened_at.to_timestamp();
            let (mut at, mut clear_since) = (happened_at, None);
            match event.kind {
                Happening::Opened | Happening::Reopened => {
                    self.episodes += 1;
                    alert.episodes = event.episode;
                    alert.ended_at = None;
                }
                Happening::Resolved => {
                    alert.ended_at = Some(happened_at);
                    clear_since = Some(happened_at);
                    at = UnixMicros(event.happened_at.0.saturating_add(self.rule.resolve_after_micros))
                        .to_timestamp();
                }
                _ => {}
            }
            let disposition = event.disposition.map(Disposition::as_str);
            let (what, note) = (event.kind.as_str(), event.note.clone());
            steps.push(Step { alert: place, what, at, disposition, clear_since, note });
        }
        for (id, life) in &effects.lives {
            if let Some(place) = self.places.get(id) {
                self.alerts[place - 1].severity = life.severity.as_str();
            }
        }
        steps
    }

    fn summarize(&self, points: &[JudgedPoint]) -> Summary {
        let count = |verdict| points.iter().filter(|point| point.judgement == verdict).count();
        let (alerts, episodes) = (self.alerts.len(), self.episodes);
        let open = self.alerts.iter().filter(|alert| alert.ended_at.is_none()).count();
        let number = |n: usize, one: &str| format!("{n} {one}{}", if n == 1 { "" } else { "s" });
        let mut text = format!("{} of {} opens", number(alerts, "alert"), number(points.len(), "point"));
        if alerts != 1 {
            text.pop();
        }
        if episodes > alerts {
            text.push_str(&format!(", {} again within the cooldown", number(episodes - alerts, "time")));
        }
        if open > 0 {
            text.push_str(&format!("; {open} open in the end"));
        }
        Summary {
            points: points.len(),
            breach: count(Verdict::Breach),
            clear: count(Verdict::Clear),
            between: count(Verdict::Between),
            unknown: count(Verdict::Unknown),
            alerts,
            episodes,
            open,
            text,
        }
    }
}

const BETWEEN: &str = "it lies between a breach and what is clear: it changes nothing";

/// Why nothing can be said of a point, behind these.
fn why_unknown(check: &Check, before: &[(UnixMicros, f64)], ts: UnixMicros) -> String {
    match check {
        Check::RateOfChange { .. } => "there is no point before it to compare it with".to_owned(),
        Check::DeviationFromMean(Deviation { window_minutes, min_buckets, .. }) => {
            let (last, first) = (minute_of(ts), minute_of(ts).saturating_sub(*window_minutes));
            let mut minutes: Vec<i32> = before.iter().map(|(ts, _)| minute_of(*ts)).collect();
            minutes.retain(|minute| (first..last).contains(minute));
            minutes.dedup();
            let n = minutes.len();
            format!(
                "{n} of the {window_minutes} complete minutes before its own have a point, and {min_buckets} must"
            )
        }
        Check::Stuck { window_minutes, .. } => {
            format!("no point is from {window_minutes} minutes before it or earlier")
        }
        _ => "too little is known".to_owned(),
    }
}

fn would_be(alert: &Alert, place: usize, rule: &Rule) -> WouldBe {
    WouldBe {
        alert: place,
        class: alert.decision.evidence.class(),
        breached_at: alert.breached_at.to_timestamp(),
        fired_at: alert.fired_at.to_timestamp(),
        ended_at: None,
        severity: rule.severity.as_str(),
        episodes: 1,
        evidence: alert.decision.evidence.clone(),
        summary: sentence(alert, DEVICE, &rule.metric, None, &rule.name),
    }
}

/// The rule as detection would hold it; it selects the one device there is.
fn rule_of(draft: &RuleDraft) -> Rule {
    let micros = |seconds: u32| i64::from(seconds) * 1_000_000;
    Rule {
        id: RuleId::new(),
        version: 1,
        tenant: TENANT,
        name: draft.name.as_str().into(),
        metric: draft.metric.clone(),
        devices: Selector { ids: None, pattern: DevicePattern::new("*"), tags: Tags::new() },
        condition: draft.condition.clone(),
        severity: draft.severity,
        escalations: draft.escalations.clone(),
        cooldown_micros: micros(draft.cooldown_seconds),
        resolve_after_micros: micros(draft.resolve_after_seconds),
        reminder_micros: draft.reminder_seconds.map(micros),
        labels: draft.labels.clone(),
        runbook_url: draft.runbook_url.clone(),
        destinations: draft.destination_ids.iter().copied().map(DestinationId).collect(),
    }
}

fn memory_of(rule: &Arc<Rule>) -> Memory {
    let mut memory = Memory::default();
    for id in &rule.destinations {
        let destination = Destination { id: *id, tenant: TENANT, name: String::new(), kind: Kind::Nats {} };
        memory.setup.destinations.insert(*id, destination);
    }
    let series = Series {
        tenant: TENANT,
        device: DEVICE.to_owned(),
        tags: Tags::new(),
        metric: rule.metric.clone(),
        unit: None,
        watches: vec![Watch { rule: Arc::clone(rule), state: None }],
        last: None,
        arrived: UnixMicros(i64::MIN / 2),
        was_heard: true,
        window: rule.condition.window_minutes().map(|span| Window::new(span, [])),
        is_unsettled: false,
    };
    memory.series.insert(SERIES, series);
    memory
}

#[cfg(test)]
mod tests;
