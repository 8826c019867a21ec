//! Judging: each reading of a flush against the rules that watch its series, and the time in which nothing came. Pure, but
//! for the ids it draws.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::conditions::{Judgement, Look, judge, silence};
use super::effects::Effects;
use super::episode::{Level, after};
use super::memory::{Memory, Series, Setup};
use super::owed::OwedFlush;
use super::rollup::Rollup;
use super::scene::{Moment, Scene};
use super::watch::{State, Watch};
use crate::model::alert::{AlertState, Decision};
use crate::model::condition::Check;
use crate::model::ids::{RuleId, SeriesId};
use crate::model::reading::{Reading, UnixMicros};

/// A rule that panicked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault(pub RuleId);

/// What was judged and is not settled yet.
#[derive(Debug, Default)]
pub struct Judged {
    /// The flushes that it covers.
    pub flushes: Vec<i64>,
    /// Their readings.
    pub readings: usize,
    /// By series and minute.
    pub rollups: HashMap<(SeriesId, UnixMicros), Rollup>,
    /// What it led to.
    pub effects: Effects,
    /// States that changed.
    pub touched: HashSet<(SeriesId, RuleId)>,
}

impl Judged {
    /// Whether there is nothing to settle.
    pub fn is_empty(&self) -> bool {
        self.flushes.is_empty() && self.touched.is_empty() && !self.effects.is_urgent()
    }

    /// Whether somebody is waiting for it.
    pub fn is_urgent(&self) -> bool {
        self.effects.is_urgent()
    }

    /// Judges every reading of a flush. The series in it have been met.
    ///
    /// # Errors
    /// The rule that panicked. What is in memory can't be trusted then.
    pub fn judge(&mut self, memory: &mut Memory, flush: &OwedFlush, moment: Moment) -> Result<(), Fault> {
        for run in flush.readings.chunk_by(|a, b| a.series == b.series) {
            self.roll_up(run);
            let Some(id) = run.first().map(|reading| reading.series) else { continue };
            let Memory { setup, series, active, unsettled, .. } = &mut *memory;
            // If its series is gone, nobody can have a rule on it.
            let Some(found) = series.get_mut(&id) else { continue };
            if !found.is_unsettled {
                found.is_unsettled = true;
                unsettled.push(id);
            }
            let judging = Cell::new(None);
            guarded(&judging, || judge_run(self, setup, id, found, run, flush.arrived, moment, &judging))?;
            if found.is_active() {
                active.insert(id);
            }
        }
        self.readings += flush.readings.len();
        self.flushes.push(flush.id);
        Ok(())
    }

    /// Looks at all that time alone decides. `heard_until`: everything that the broker accepted before is judged; `None`: nobody
    /// knows, and so nobody is silent.
    ///
    /// # Errors
    /// The rule that panicked.
    pub fn tick(
        &mut self,
        memory: &mut Memory,
        heard_until: Option<UnixMicros>,
        moment: Moment,
    ) -> Result<(), Fault> {
        let Memory { setup, series, active, unsettled, .. } = &mut *memory;
        active.retain(|id| series.get(id).is_some_and(Series::is_active));
        for id in active.iter() {
            let Some(found) = series.get_mut(id) else { continue };
            let before = self.touched.len() + self.effects.lives.len();
            let judging = Cell::new(None);
            guarded(&judging, || tick_series(self, setup, *id, found, heard_until, moment, &judging))?;
            let changed = self.touched.len() + self.effects.lives.len() > before;
            if changed && !found.is_unsettled {
                found.is_unsettled = true;
                unsettled.push(*id);
            }
        }
        Ok(())
    }

    /// All that is known is judged: tells of what burned when its cooldown was over and burns still.
    pub fn tell_again(&mut self, memory: &mut Memory, moment: Moment) {
        for (id, rule) in std::mem::take(&mut self.effects.cooldowns_over) {
            let Memory { setup, series, .. } = &mut *memory;
            let Some(found) = series.get_mut(&id) else { continue };
            let Series { device, tags, watches, .. } = found;
            let Some(watch) = watches.iter_mut().find(|watch| watch.rule.id == rule) else { continue };
            let scene = setup.scene(&watch.rule, id, device, tags, moment);
            if let Some(state) = &mut watch.state {
                state.tell_again(&scene, &mut self.effects);
            }
        }
    }

    /// What a rule was in that is archived, or selects the series no more, is over; people who were told of it are told so.
    pub fn bury_orphans(&mut self, memory: &mut Memory, moment: Moment) {
        for (id, rule, state) in std::mem::take(&mut memory.orphans) {
            let Some(series) = memory.series.get_mut(&id) else { continue };
            if !series.is_unsettled {
                series.is_unsettled = true;
                memory.unsettled.push(id);
            }
            self.touched.insert((id, rule));
            let Some(life) = state.life.filter(|life| life.state != AlertState::Resolved) else { continue };
            self.effects.end_without_rule(&memory.setup, id, series.tenant, life, moment);
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
}

/// A panic is the fault of the rule that was being judged.
fn guarded(judging: &Cell<Option<RuleId>>, work: impl FnOnce()) -> Result<(), Fault> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| match judging.get() {
        Some(rule) => Fault(rule),
        // Not a rule's: the process ends, and its supervisor starts another.
        None => std::panic::resume_unwind(panic),
    })
}

#[expect(clippy::too_many_arguments, reason = "the parts of memory that are borrowed apart from each other")]
fn judge_run(
    judged: &mut Judged,
    setup: &Setup,
    id: SeriesId,
    series: &mut Series,
    run: &[Reading],
    arrived: UnixMicros,
    moment: Moment,
    judging: &Cell<Option<RuleId>>,
) {
    let Series { device, tags, watches, last, arrived: series_arrived, was_heard, window, .. } = series;
    for reading in run {
        let is_late = last.is_some_and(|(ts, _)| reading.ts < ts);
        for watch in watches.iter_mut() {
            judging.set(Some(watch.rule.id));
            let check = &watch.rule.condition.check;
            let is_silence = matches!(check, Check::NoData { .. });
            if is_late && !watch.rule.condition.is_of_one_point() && !is_silence {
                continue;
            }
            let mut look =
                Look { ts: reading.ts, value: reading.value, previous: *last, window: window.as_mut() };
            let judgement = judge(check, &mut look);
            let was_silent = match last {
                Some((heard, value)) if is_silence && !is_late => silence(check, *heard, reading.ts)
                    .map(|(since, evidence)| (since, Decision { ts: *heard, value: *value, evidence })),
                _ => None,
            };
            // The way of nearly every reading.
            if watch.state.is_none() && was_silent.is_none() && !matches!(judgement, Judgement::Breach(_)) {
                continue;
            }
            let before = watch.state.as_ref().map(|state| state.mark());
            let Watch { rule, state } = watch;
            let scene = setup.scene(rule, id, device, tags, moment);
            let state = state.get_or_insert_default();
            let effects = &mut judged.effects;
            if is_late {
                judge_late(state, &scene, reading, judgement, effects);
            } else {
                if let Some((since, decision)) = was_silent {
                    be_silent(state, &scene, since, decision, effects);
                }
                state.advance(&scene, reading.ts, effects);
                if let Some(level) = level(judgement, reading) {
                    state.judge(&scene, reading.ts, level, effects);
                }
            }
            let after = Some(state.mark());
            if watch.state.as_ref().is_some_and(|state| state.is_at_rest(&watch.rule, reading.ts)) {
                watch.state = None;
            }
            if before != after || watch.state.is_none() {
                judged.touched.insert((id, watch.rule.id));
            }
        }
        judging.set(None);
        if let Some(window) = window {
            window.add(reading.ts, reading.value);
        }
        if !is_late {
            *last = Some((reading.ts, reading.value));
        }
    }
    *series_arrived = if *was_heard { arrived.max(*series_arrived) } else { arrived };
    *was_heard = true;
}

/// A reading that came late: a breach of one point is one all the same, and whoever sends is not silent.
fn judge_late(
    state: &mut State,
    scene: &Scene<'_>,
    reading: &Reading,
    judgement: Judgement,
    effects: &mut Effects,
) {
    match judgement {
        Judgement::Breach(evidence) => {
            let decision = Decision { ts: reading.ts, value: reading.value, evidence };
            state.judge_late(scene, decision, effects);
        }
        Judgement::Clear if matches!(scene.rule.condition.check, Check::NoData { .. }) => {
            if let Some(since) = state.episode.fires_since.or(state.episode.holds_since) {
                state.judge(scene, since, Level::Clear, effects);
                // Its own clock stands still while only late readings come: it does not have to be clear for long.
                state.wait(scene, after(since, scene.rule.resolve_after_micros), effects);
            }
        }
        _ => {}
    }
}

/// Nothing came from the time of the decision on, and from `since` on that is too long.
fn be_silent(
    state: &mut State,
    scene: &Scene<'_>,
    since: UnixMicros,
    decision: Decision,
    effects: &mut Effects,
) {
    // Said already of this silence, by a tick: one silence is one judgement, however often it is looked at.
    let episode = &state.episode;
    let is_said = episode.holds_since.is_some_and(|holds| holds >= since)
        || state.last_breach.is_some_and(|last| last >= since)
        || episode.decision.as_ref().is_some_and(|said| said.ts == decision.ts);
    if episode.raised && is_said {
        return;
    }
    state.wait(scene, since, effects);
    state.judge(scene, since, Level::Breach(decision), effects);
}

fn level(judgement: Judgement, reading: &Reading) -> Option<Level> {
    match judgement {
        Judgement::Breach(evidence) => {
            Some(Level::Breach(Decision { ts: reading.ts, value: reading.value, evidence }))
        }
        Judgement::Between => Some(Level::Between),
        Judgement::Clear => Some(Level::Clear),
        Judgement::Unknown => None,
    }
}

fn tick_series(
    judged: &mut Judged,
    setup: &Setup,
    id: SeriesId,
    series: &mut Series,
    heard_until: Option<UnixMicros>,
    moment: Moment,
    judging: &Cell<Option<RuleId>>,
) {
    let now = heard_until.and_then(|heard_until| series.now(heard_until));
    let is_quiet = heard_until.is_some_and(|until| after(series.arrived, QUIET) <= until);
    let Series { device, tags, watches, last, .. } = series;
    for watch in watches.iter_mut() {
        judging.set(Some(watch.rule.id));
        let Watch { rule, state } = watch;
        let was_silent = match (now, &last) {
            (Some(now), Some((heard, value))) => silence(&rule.condition.check, *heard, now)
                .map(|(since, evidence)| (since, Decision { ts: *heard, value: *value, evidence })),
            _ => None,
        };
        if state.is_none() && was_silent.is_none() {
            continue;
        }
        let before = state.as_ref().map(|state| state.mark());
        let scene = setup.scene(rule, id, device, tags, moment);
        let state = state.get_or_insert_default();
        let effects = &mut judged.effects;
        if let Some((since, decision)) = was_silent {
            be_silent(state, &scene, since, decision, effects);
        }
        if let Some(now) = now {
            state.wait(&scene, now, effects);
            if is_quiet && state.episode.burns() {
                state.promote(&scene, now, effects);
            }
        }
        state.look_at_the_clock(&scene, now, effects);
        let after = Some(state.mark());
        let is_at_rest = now.is_some_and(|now| state.is_at_rest(rule, now));
        if is_at_rest {
            watch.state = None;
        }
        if before != after || is_at_rest {
            judged.touched.insert((id, watch.rule.id));
        }
    }
    judging.set(None);
}

/// An old breach of which nothing was heard for this long burns still, in microseconds: whoever publishes a recording has
/// published the rest of it by then.
const QUIET: i64 = 60_000_000;

#[cfg(test)]
mod tests;
