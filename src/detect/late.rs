//! Breaches that came after a later reading of their series had been judged. Each is an alert of its own that is over at once,
//! because what came after it was judged before; unless an alert tells it already, or the cooldown of one. A later alert
//! has not told it.
//!
//! Which alerts there are is known when they are settled, from their rows: memory keeps the latest life only.

use std::collections::BTreeMap;
use std::sync::Arc;

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use uuid::Uuid;

use super::effects::Effects;
use super::episode::after;
use super::memory::Memory;
use super::scene::Moment;
use super::watch::open_late;
use crate::db::error::DatabaseError;
use crate::model::alert::Decision;
use crate::model::ids::{AlertId, RuleId, SeriesId};
use crate::model::reading::UnixMicros;
use crate::model::rule::Rule;

const LOAD_STRETCHES: &str = include_str!("../../sql/queries/detect/load_stretches.sql");

/// Nobody has told it yet, as far as memory goes.
#[derive(Debug, Clone)]
pub struct LateBreach {
    /// What it is about.
    pub series: SeriesId,
    /// What it breaks.
    pub rule: Arc<Rule>,
    /// The reading.
    pub decision: Decision,
    /// When it was judged.
    pub moment: Moment,
}

/// What an alert tells, in the readings' own time.
#[derive(Debug, Clone, Copy)]
pub struct Stretch {
    /// Which.
    pub alert: AlertId,
    /// Of which rule.
    pub rule: RuleId,
    /// On which series.
    pub series: SeriesId,
    /// From its breach on.
    pub breached_at: UnixMicros,
    /// A cooldown runs from here.
    pub fired_at: UnixMicros,
    /// `None`: it burns.
    pub ended_at: Option<UnixMicros>,
}

impl Stretch {
    fn to(&self, cooldown: i64) -> UnixMicros {
        let end = self.ended_at.unwrap_or(UnixMicros(i64::MAX));
        // What is over at once tells itself.
        end.max(after(self.fired_at, cooldown.max(1)))
    }
}

/// The alerts that are stored and may tell some of these breaches.
///
/// # Errors
/// If the database is away.
pub async fn load_stretches(
    transaction: &Transaction<'_>,
    late: &[LateBreach],
) -> Result<Vec<Stretch>, DatabaseError> {
    let mut spans: BTreeMap<(RuleId, SeriesId), (UnixMicros, UnixMicros)> = BTreeMap::new();
    for breach in late {
        let ts = breach.decision.ts;
        // Whatever began earlier, but for the last of those, was over by then.
        let reach = breach.rule.cooldown_micros.saturating_add(breach.rule.condition.for_micros);
        let since = UnixMicros(ts.0.saturating_sub(reach));
        let span = spans.entry((breach.rule.id, breach.series)).or_insert((since, ts));
        *span = (span.0.min(since), span.1.max(ts));
    }
    let rules: Vec<Uuid> = spans.keys().map(|(rule, _)| rule.0).collect();
    let series: Vec<i32> = spans.keys().map(|(_, series)| series.0).collect();
    let since: Vec<Timestamp> = spans.values().map(|(since, _)| since.to_timestamp()).collect();
    let until: Vec<Timestamp> = spans.values().map(|(_, until)| until.to_timestamp()).collect();
    let statement = transaction.prepare_cached(LOAD_STRETCHES).await?;
    let rows = transaction.query(&statement, &[&rules, &series, &since, &until]).await?;
    let time = |at: Option<Timestamp>| at.map(UnixMicros::from);
    Ok(rows
        .iter()
        .map(|row| Stretch {
            alert: AlertId(row.get("alert_id")),
            rule: RuleId(row.get("rule_id")),
            series: SeriesId(row.get("series_id")),
            breached_at: row.get::<_, Timestamp>("breached_at").into(),
            fired_at: row.get::<_, Timestamp>("fired_at").into(),
            ended_at: time(row.get("ended_at")),
        })
        .collect())
}

/// Opens an alert for each late breach that no alert tells: none of the stored ones, and none of those that are settled with it.
pub fn open_untold(memory: &Memory, stored: &[Stretch], effects: &mut Effects) {
    let mut by_watch: BTreeMap<(RuleId, SeriesId), (Vec<LateBreach>, Vec<Stretch>)> = BTreeMap::new();
    for breach in std::mem::take(&mut effects.late) {
        by_watch.entry((breach.rule.id, breach.series)).or_default().0.push(breach);
    }
    let settled_with_it = effects.alerts.iter().map(|(alert, _)| Stretch {
        alert: alert.id,
        rule: alert.rule,
        series: alert.series,
        breached_at: alert.breached_at,
        fired_at: alert.fired_at,
        ended_at: None,
    });
    for mut stretch in stored.iter().copied().chain(settled_with_it) {
        if let Some((_, stretches)) = by_watch.get_mut(&(stretch.rule, stretch.series)) {
            // Memory is ahead of the row.
            stretch.ended_at =
                effects.lives.get(&stretch.alert).map_or(stretch.ended_at, |life| life.ended_at);
            stretches.push(stretch);
        }
    }
    for (mut breaches, mut stretches) in by_watch.into_values() {
        breaches.sort_by_key(|breach| breach.decision.ts);
        stretches.sort_by_key(|stretch| stretch.breached_at);
        let mut stretches = stretches.iter().peekable();
        let mut told_to = UnixMicros(i64::MIN);
        for breach in breaches {
            let (ts, cooldown) = (breach.decision.ts, breach.rule.cooldown_micros);
            while let Some(stretch) = stretches.next_if(|stretch| stretch.breached_at <= ts) {
                told_to = told_to.max(stretch.to(cooldown));
            }
            if ts < told_to {
                effects.late_breaches_covered += 1;
                continue;
            }
            told_to = after(ts, cooldown.max(1));
            let Some(series) = memory.series.get(&breach.series) else { continue };
            let scene =
                memory.setup.scene(&breach.rule, breach.series, &series.device, &series.tags, breach.moment);
            open_late(&scene, breach.decision, effects);
        }
    }
}
