//! A rule that watches a series: what the two are in, and what their alert lives through. Pure.
//!
//! Cooldown: after the rule fired it opens no other alert for a while; if it fires again within that time it opens the same one
//! again and nobody is told, and if it burns when that time is over people are told again, if a reading has said so since they
//! were told. Invariant: what opens, reopens and resolves depends on the readings and their times alone: only readings move a
//! cooldown on. When people are told depends on the clock too.

use std::sync::Arc;

use super::effects::{Effects, Line, Tell};
use super::episode::{Change, Episode, Level, Timing, after};
use super::late::LateBreach;
use super::scene::Scene;
use crate::model::alert::{Alert, AlertState, Decision, Disposition, Happening, Life, Told};
use crate::model::condition::Check;
use crate::model::ids::AlertId;
use crate::model::reading::UnixMicros;
use crate::model::rule::{Rule, Severity};

/// A rule on a series.
#[derive(Debug)]
pub struct Watch {
    /// The rule.
    pub rule: Arc<Rule>,
    /// `None`: at rest.
    pub state: Option<Box<State>>,
}

/// What a rule and series are in, when not at rest.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct State {
    /// Whether it fires, and what it waits for.
    pub episode: Episode,
    /// Cooldown runs from here: when it fired, or a whole number of cooldowns later while it burns.
    pub cooldown_from: Option<UnixMicros>,
    /// The end of the latest cooldown of which people were told, by a reading or by time alone.
    pub told_through: Option<UnixMicros>,
    /// The latest breach that this process has judged. Not stored.
    pub last_breach: Option<UnixMicros>,
    /// The latest alert.
    pub life: Option<Life>,
}

/// Soon after a word that time alone brought, the end of a cooldown is no news, in microseconds.
const SOON: i64 = 5_000_000;

/// What changes of a state, but for the life: to see whether it did.
type Mark = (bool, u64, [Option<UnixMicros>; 6]);

impl State {
    /// To be compared with a later one.
    pub fn mark(&self) -> Mark {
        let episode = &self.episode;
        let times = [
            episode.holds_since,
            episode.fires_since,
            episode.clear_since,
            episode.decision.as_ref().map(|decision| decision.ts),
            self.cooldown_from,
            self.told_through,
        ];
        (episode.raised, episode.recent, times)
    }

    /// Whether nothing of it is needed any more at `now`, on the series' own clock.
    pub fn is_at_rest(&self, rule: &Rule, now: UnixMicros) -> bool {
        let is_over =
            |from: Option<UnixMicros>| from.is_none_or(|from| after(from, rule.cooldown_micros) <= now);
        self.episode.is_at_rest()
            && self.life.as_ref().is_none_or(|life| life.state == AlertState::Resolved)
            && is_over(self.cooldown_from)
    }

    /// Works off the time up to a reading at `to`, in which nothing came.
    pub fn advance(&mut self, scene: &Scene<'_>, to: UnixMicros, effects: &mut Effects) {
        self.roll_cooldown(scene, to, effects);
        self.pass(scene, to, effects);
        self.roll_cooldown(scene, to, effects);
    }

    /// Lets time pass up to `to`, in which nothing came, and nothing may come for longer.
    pub fn wait(&mut self, scene: &Scene<'_>, to: UnixMicros, effects: &mut Effects) {
        self.pass(scene, to, effects);
        self.look_at_the_cooldown(scene, to, effects);
    }

    fn pass(&mut self, scene: &Scene<'_>, to: UnixMicros, effects: &mut Effects) {
        match self.episode.advance(&timing(scene.rule), to) {
            Some(Change::Fires { at, breached_at }) => self.fire(scene, at, breached_at, effects),
            Some(Change::Ends { ended_at, .. }) => self.resolve(scene, ended_at, effects),
            None => {}
        }
        if self.episode.burns() {
            self.escalate(scene, to, None, effects);
        }
    }

    /// Takes the judgement of a reading at `ts`; [`Self::advance`] was called for that time.
    pub fn judge(&mut self, scene: &Scene<'_>, ts: UnixMicros, level: Level, effects: &mut Effects) {
        let breach = match &level {
            Level::Breach(decision) if self.episode.fires_since.is_some() => Some(decision.clone()),
            _ => None,
        };
        if matches!(level, Level::Breach(_)) {
            self.last_breach = Some(ts);
        }
        let was_clear = self.episode.clear_since.is_some();
        match self.episode.judge(&timing(scene.rule), ts, level) {
            Some(Change::Fires { at, breached_at }) => self.fire(scene, at, breached_at, effects),
            Some(Change::Ends { ended_at, .. }) => self.resolve(scene, ended_at, effects),
            None => {}
        }
        if was_clear && self.episode.burns() {
            self.burn_again(scene, ts, effects);
        }
        self.roll_cooldown(scene, ts, effects);
        if let Some(decision) = breach
            && self.episode.burns()
        {
            if ts >= scene.moment.notify_from {
                self.promote(scene, ts, effects);
            }
            self.escalate(scene, ts, Some(&decision), effects);
        }
    }

    /// A breach that came after a later reading had been judged. What the latest alert tells, or its cooldown, is told; all else
    /// is found out when it is settled (`late.rs`).
    pub fn judge_late(&self, scene: &Scene<'_>, decision: Decision, effects: &mut Effects) {
        let ts = decision.ts;
        let cools =
            self.cooldown_from.is_some_and(|from| from <= ts && ts < after(from, scene.rule.cooldown_micros));
        let is_told = self.life.as_ref().is_some_and(|life| {
            let is_before_its_end = match life.ended_at {
                Some(ended_at) => ts < ended_at,
                None => self.episode.fires_since.is_some(),
            };
            life.breached_at <= ts && is_before_its_end
        });
        if is_told || cools {
            effects.late_breaches_covered += 1;
            return;
        }
        let (rule, series, moment) = (Arc::clone(scene.rule), scene.series, scene.moment);
        effects.late.push(LateBreach { series, rule, decision, moment });
    }

    fn fire(&mut self, scene: &Scene<'_>, at: UnixMicros, breached_at: UnixMicros, effects: &mut Effects) {
        let Some(decision) = self.episode.decision.take() else {
            // It can't be told why: whatever this is made of, it begins anew with the next reading.
            self.episode = Episode::default();
            return;
        };
        // Also what began before: the clock of the device went back, or the alert has burned on since.
        let cools = self.cooldown_from.is_some_and(|from| at < after(from, scene.rule.cooldown_micros));
        match self.life.as_mut().filter(|_| cools) {
            Some(life) => {
                life.state = AlertState::Open;
                life.episodes += 1;
                life.ended_at = None;
                effects.happen(scene, life, Line::of(Happening::Reopened, at).fired(Disposition::CooledDown));
                self.escalate(scene, at, Some(&decision), effects);
                if at >= scene.moment.notify_from {
                    self.promote(scene, at, effects);
                }
            }
            None => {
                self.cooldown_from = Some(at);
                self.told_through = None;
                let life = open(scene, at, breached_at, decision, false, effects);
                self.life = Some(life);
            }
        }
    }

    fn resolve(&mut self, scene: &Scene<'_>, ended_at: UnixMicros, effects: &mut Effects) {
        if let Some(mut life) = self.life.take() {
            end_life(scene, &mut life, ended_at, effects);
            self.life = Some(life);
        }
    }

    /// Notes that a cooldown was over while it burned.
    fn roll_cooldown(&mut self, scene: &Scene<'_>, to: UnixMicros, effects: &mut Effects) {
        let cooldown = scene.rule.cooldown_micros;
        let Some(from) = self.cooldown_from else { return };
        if cooldown == 0 || !self.episode.burns() || to.0.saturating_sub(from.0) < cooldown {
            return;
        }
        let passed = to.0.saturating_sub(from.0) / cooldown;
        let from = after(from, passed * cooldown);
        self.cooldown_from = Some(from);
        self.tell_end_of_cooldown(scene, from, effects);
    }

    /// It was clear, for too short a time to be over, and burns again.
    fn burn_again(&mut self, scene: &Scene<'_>, ts: UnixMicros, effects: &mut Effects) {
        let cooldown = scene.rule.cooldown_micros;
        let is_cool = self.cooldown_from.is_none_or(|from| after(from, cooldown) <= ts);
        let is_resolved = self.life.as_ref().is_some_and(|life| life.state == AlertState::Resolved);
        // Without a cooldown an episode is told once, however often it flickers; unless somebody took it for over.
        if is_cool && (cooldown > 0 || is_resolved) {
            self.cooldown_from = Some(ts);
            self.tell_end_of_cooldown(scene, ts, effects);
        }
    }

    /// Time alone ends a cooldown too, if it is known to burn still: a silence is, and else a reading has said so.
    fn look_at_the_cooldown(&mut self, scene: &Scene<'_>, now: UnixMicros, effects: &mut Effects) {
        let cooldown = scene.rule.cooldown_micros;
        let Some(from) = self.cooldown_from.max(self.told_through) else { return };
        let is_silence = matches!(scene.rule.condition.check, Check::NoData { .. });
        let burns = self.episode.burns() && (is_silence || self.last_breach.is_some_and(|last| last > from));
        if cooldown > 0 && burns && now.0.saturating_sub(from.0) >= cooldown {
            let passed = now.0.saturating_sub(from.0) / cooldown;
            self.tell_end_of_cooldown(scene, after(from, passed * cooldown), effects);
        }
    }

    fn tell_end_of_cooldown(&mut self, scene: &Scene<'_>, at: UnixMicros, effects: &mut Effects) {
        if self.told_through.is_none_or(|told| told < at) {
            self.told_through = Some(at);
            effects.cooldowns_over.insert((scene.series, scene.rule.id));
        }
    }

    /// A cooldown was over while it burned, and all that is known is judged: tells again, if it burns still.
    pub fn tell_again(&mut self, scene: &Scene<'_>, effects: &mut Effects) {
        let (true, Some(at)) = (self.episode.burns(), self.told_through) else { return };
        let Some(life) = self.life.as_mut().filter(|life| !life.historical) else { return };
        if life.told == Told::Open && life.told_at == Some(scene.moment.timestamp) {
            // They hear of it this very moment.
            return;
        }
        match life.state {
            AlertState::Acknowledged => {}
            AlertState::Resolved => {
                // By hand, and it burns all the same.
                life.state = AlertState::Open;
                life.episodes += 1;
                let disposition = tell(scene, life, at, Happening::Reopened, effects);
                effects.happen(scene, life, Line::of(Happening::Reopened, at).fired(disposition));
            }
            AlertState::Open if scene.is_silenced_now() => {
                life.silence = scene.silence_at(scene.moment.now());
                effects.keep(life);
            }
            AlertState::Open => {
                if tell(scene, life, scene.moment.now(), Happening::StillBurning, effects)
                    == Disposition::Notified
                {
                    effects.happen(scene, life, Line::of(Happening::StillBurning, at));
                }
            }
        }
    }

    /// What was taken for old burns still, or again: it is told after all. `at`: when that is known, of the readings.
    pub fn promote(&mut self, scene: &Scene<'_>, at: UnixMicros, effects: &mut Effects) {
        let Some(life) = self.life.as_mut().filter(|life| life.historical) else { return };
        life.historical = false;
        if life.state == AlertState::Open {
            tell(scene, life, at, Happening::StillBurning, effects);
        }
        effects.happen(scene, life, Line::of(Happening::StillBurning, at));
    }

    /// What only the clock of the people decides: a silence that begins or is over, a reminder that is due. `series_now`: on the
    /// series' own clock, if that is known.
    pub fn look_at_the_clock(
        &mut self,
        scene: &Scene<'_>,
        series_now: Option<UnixMicros>,
        effects: &mut Effects,
    ) {
        let burns = self.episode.burns();
        let Some(life) = self.life.as_mut().filter(|life| burns && life.state != AlertState::Resolved) else {
            return;
        };
        let now = scene.moment.now();
        if scene.is_silenced_now() {
            if life.state == AlertState::Open && life.silence.is_none() && !life.historical {
                life.silence = scene.silence_at(now);
                effects.keep(life);
            }
            return;
        }
        if life.silence.take().is_some() {
            // Whoever has taken it on is told of nothing but what was kept from them: that it is worse.
            let event = match life.state {
                AlertState::Acknowledged => Happening::Escalated,
                _ => Happening::StillBurning,
            };
            tell(scene, life, now, event, effects);
            effects.happen(scene, life, Line::of(event, now).noted("its silence is over"));
            self.told_through = self.told_through.max(series_now.map(|now| after(now, SOON)));
            return;
        }
        if life.state != AlertState::Open {
            return;
        }
        let is_due = |every: i64| life.told_at.is_some_and(|at| after(at.into(), every) <= now);
        if life.told == Told::Open
            && scene.rule.reminder_micros.is_some_and(is_due)
            && tell(scene, life, now, Happening::Reminded, effects) == Disposition::Notified
        {
            effects.happen(scene, life, Line::of(Happening::Reminded, now));
        }
    }

    fn escalate(
        &mut self,
        scene: &Scene<'_>,
        now: UnixMicros,
        decision: Option<&Decision>,
        effects: &mut Effects,
    ) {
        let Some(life) = &mut self.life else { return };
        let since = self.episode.fires_since.unwrap_or(now);
        let severity = severity(scene.rule, since, now, decision);
        if life.state == AlertState::Resolved || !severity.is_worse_than(life.severity) {
            return;
        }
        let note = format!("from {} to {}", life.severity.as_str(), severity.as_str());
        life.severity = severity;
        let at = scene.moment.now();
        if life.told == Told::Open && scene.is_silenced_now() {
            // Told when the silence is over.
            life.silence = scene.silence_at(at);
        } else if life.told == Told::Open {
            tell(scene, life, at, Happening::Escalated, effects);
        }
        effects.happen(scene, life, Line::of(Happening::Escalated, now).noted(note));
    }
}

/// What a rule waits for.
pub fn timing(rule: &Rule) -> Timing {
    Timing {
        for_micros: rule.condition.for_micros,
        resolve_after_micros: rule.resolve_after_micros,
        m_of_n: rule.condition.m_of_n,
    }
}

/// A breach that came late and that nothing tells: an alert, and it is over. What came after it was judged before; whatever it
/// is in now, another alert says.
pub fn open_late(scene: &Scene<'_>, decision: Decision, effects: &mut Effects) {
    let ts = decision.ts;
    let mut life = open(scene, ts, ts, decision, true, effects);
    end_life(scene, &mut life, ts, effects);
}

fn open(
    scene: &Scene<'_>,
    at: UnixMicros,
    breached_at: UnixMicros,
    decision: Decision,
    out_of_order: bool,
    effects: &mut Effects,
) -> Life {
    let rule = scene.rule;
    let severity = severity(rule, breached_at, at, Some(&decision));
    let alert = Alert {
        id: AlertId::new(),
        tenant: rule.tenant,
        rule: rule.id,
        rule_version: rule.version,
        series: scene.series,
        breached_at,
        fired_at: at,
        decision,
        tags: scene.tags.clone(),
        points: Vec::new(),
        late: out_of_order || at < scene.moment.late_before,
    };
    let mut life = Life {
        alert: alert.id,
        state: AlertState::Open,
        severity,
        episodes: 1,
        breached_at,
        ended_at: None,
        historical: at < scene.moment.notify_from,
        silence: None,
        told: Told::Nothing,
        told_at: None,
        told_destinations: Vec::new(),
    };
    effects.alerts.push((alert, Arc::clone(rule)));
    let disposition = if life.historical {
        Disposition::Historical
    } else {
        tell(scene, &mut life, at, Happening::Opened, effects)
    };
    effects.happen(scene, &life, Line::of(Happening::Opened, at).fired(disposition));
    life
}

fn end_life(scene: &Scene<'_>, life: &mut Life, ended_at: UnixMicros, effects: &mut Effects) {
    life.ended_at = Some(ended_at);
    if life.state == AlertState::Resolved {
        // Somebody has resolved it before it was over.
        effects.keep(life);
        return;
    }
    life.state = AlertState::Resolved;
    tell_end(scene, life, effects);
    effects.happen(scene, life, Line::of(Happening::Resolved, ended_at));
}

/// How bad a breach is that holds since `since` at `now`.
fn severity(rule: &Rule, since: UnixMicros, now: UnixMicros, decision: Option<&Decision>) -> Severity {
    let risen = rule.escalations.iter().filter(|escalation| {
        let long = |seconds: u32| after(since, i64::from(seconds) * 1_000_000) <= now;
        let far =
            |limit: f64| decision.is_some_and(|decision| decision.evidence.is_beyond(decision.value, limit));
        escalation.after_seconds.is_some_and(long) || escalation.beyond.is_some_and(far)
    });
    // The worst is the least.
    risen.map(|escalation| escalation.severity).fold(rule.severity, Severity::min)
}

/// Tells the rule's destinations that it is open, unless somebody does not want to hear of it. `at`: on the series' own clock.
fn tell(
    scene: &Scene<'_>,
    life: &mut Life,
    at: UnixMicros,
    event: Happening,
    effects: &mut Effects,
) -> Disposition {
    life.silence = scene.silence_at(at);
    if life.silence.is_some() {
        return Disposition::Silenced;
    }
    let destinations = scene.destinations();
    if destinations.is_empty() {
        return Disposition::Unrouted;
    }
    life.told = Told::Open;
    life.told_at = Some(scene.moment.timestamp);
    for destination in &destinations {
        if !life.told_destinations.contains(destination) {
            life.told_destinations.push(*destination);
        }
    }
    effects.tells.push(Tell {
        alert: life.alert,
        episode: life.episodes,
        series: scene.series,
        event,
        destinations,
        over: None,
    });
    Disposition::Notified
}

/// Tells those who were told that it is open that it is over. A silence does not keep that from them.
pub fn tell_end(scene: &Scene<'_>, life: &mut Life, effects: &mut Effects) {
    if life.told != Told::Open {
        return;
    }
    life.told = Told::Resolved;
    life.told_at = Some(scene.moment.timestamp);
    let destinations = scene.still_there(&life.told_destinations);
    if !destinations.is_empty() {
        let event = Happening::Resolved;
        effects.tells.push(Tell {
            alert: life.alert,
            episode: life.episodes,
            series: scene.series,
            event,
            destinations,
            over: Some(Box::new(life.clone())),
        });
    }
}

#[cfg(test)]
mod pages;
#[cfg(test)]
mod tests;
