//! What a settlement writes: rollups, states, alerts, their lives, their timelines. One statement each, arrays in.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use super::effects::TimelineEvent;
use super::memory::{Memory, Series};
use super::rollup::Rollup;
use super::watch::State;
use crate::db::error::DatabaseError;
use crate::model::alert::{Alert, Life};
use crate::model::evidence::Evidence;
use crate::model::ids::{AlertId, RuleId, SeriesId};
use crate::model::reading::UnixMicros;
use crate::model::rule::Rule;
use crate::notice::sentence::sentence;

const UPSERT_ROLLUPS: &str = include_str!("../../sql/queries/detect/upsert_rollups.sql");
const UPSERT_STATE: &str = include_str!("../../sql/queries/detect/upsert_rule_state.sql");
const DELETE_STATE: &str = include_str!("../../sql/queries/detect/delete_rule_state.sql");
const INSERT_ALERTS: &str = include_str!("../../sql/queries/detect/insert_alerts.sql");
const UPDATE_ALERTS: &str = include_str!("../../sql/queries/detect/update_alerts.sql");
const INSERT_EVENTS: &str = include_str!("../../sql/queries/detect/insert_events.sql");

fn timestamp(at: UnixMicros) -> Timestamp {
    at.to_timestamp()
}

/// Merges rollups into those that are there.
///
/// # Errors
/// If the database is away or refuses.
pub async fn rollups(
    transaction: &Transaction<'_>,
    rollups: &HashMap<(SeriesId, UnixMicros), Rollup>,
) -> Result<(), DatabaseError> {
    if rollups.is_empty() {
        return Ok(());
    }
    let mut sorted: Vec<_> = rollups.iter().collect();
    // Neighbours in the index, and one order for all who ever write them.
    sorted.sort_unstable_by_key(|(key, _)| **key);
    let keys = || sorted.iter().map(|(key, _)| *key);
    let rollups = || sorted.iter().map(|(_, rollup)| *rollup);
    let series: Vec<_> = keys().map(|(series, _)| series.0).collect();
    let minutes: Vec<_> = keys().map(|(_, minute)| timestamp(*minute)).collect();
    let counts: Vec<_> = rollups().map(|rollup| rollup.count).collect();
    let means: Vec<_> = rollups().map(|rollup| rollup.mean).collect();
    let m2s: Vec<_> = rollups().map(|rollup| rollup.m2).collect();
    let lowest: Vec<_> = rollups().map(|rollup| rollup.lowest).collect();
    let highest: Vec<_> = rollups().map(|rollup| rollup.highest).collect();
    let last_values: Vec<_> = rollups().map(|rollup| rollup.last_value).collect();
    let last_times: Vec<_> = rollups().map(|rollup| timestamp(rollup.last_ts)).collect();
    let statement = transaction.prepare_cached(UPSERT_ROLLUPS).await?;
    transaction
        .execute(
            &statement,
            &[&series, &minutes, &counts, &means, &m2s, &lowest, &highest, &last_values, &last_times],
        )
        .await?;
    Ok(())
}

/// Writes the states that changed; those at rest leave the table.
///
/// # Errors
/// If the database is away or refuses.
pub async fn states(
    transaction: &Transaction<'_>,
    memory: &Memory,
    touched: &HashSet<(SeriesId, RuleId)>,
) -> Result<(), DatabaseError> {
    let mut sorted: Vec<_> = touched.iter().copied().collect();
    sorted.sort_unstable();
    let (mut rest_rules, mut rest_series) = (Vec::new(), Vec::new());
    let mut rows: Vec<(SeriesId, &Arc<Rule>, &State)> = Vec::new();
    for (series, rule) in sorted {
        match memory.watch(series, rule).and_then(|watch| Some((&watch.rule, watch.state.as_deref()?))) {
            Some((rule, state)) => rows.push((series, rule, state)),
            None => {
                rest_rules.push(rule.0);
                rest_series.push(series.0);
            }
        }
    }
    if !rest_rules.is_empty() {
        let statement = transaction.prepare_cached(DELETE_STATE).await?;
        transaction.execute(&statement, &[&rest_rules, &rest_series]).await?;
    }
    if rows.is_empty() {
        return Ok(());
    }
    let rules: Vec<_> = rows.iter().map(|(_, rule, _)| rule.id.0).collect();
    let series: Vec<_> = rows.iter().map(|(series, ..)| series.0).collect();
    let tenants: Vec<_> = rows.iter().map(|(_, rule, _)| rule.tenant.0).collect();
    let versions: Vec<_> = rows.iter().map(|(_, rule, _)| rule.version).collect();
    let states = || rows.iter().map(|(.., state)| *state);
    let episodes = || states().map(|state| &state.episode);
    let raised: Vec<_> = episodes().map(|episode| episode.raised).collect();
    let recent: Vec<_> = episodes().map(|episode| episode.recent.cast_signed()).collect();
    let holds: Vec<_> = episodes().map(|episode| episode.holds_since.map(timestamp)).collect();
    let fires: Vec<_> = episodes().map(|episode| episode.fires_since.map(timestamp)).collect();
    let clear: Vec<_> = episodes().map(|episode| episode.clear_since.map(timestamp)).collect();
    let decisions = || episodes().map(|episode| episode.decision.as_ref());
    let decided: Vec<_> = decisions().map(|decision| decision.map(|d| timestamp(d.ts))).collect();
    let values: Vec<_> = decisions().map(|decision| decision.map(|d| d.value)).collect();
    let evidence = decisions().map(|decision| decision.map(|d| as_json(&d.evidence)).transpose());
    let evidence: Vec<Option<Value>> = evidence.collect::<Result<_, _>>()?;
    let fired: Vec<_> = states().map(|state| state.cooldown_from.map(timestamp)).collect();
    let told_through: Vec<_> = states().map(|state| state.told_through.map(timestamp)).collect();
    let alerts: Vec<_> = states().map(|state| state.life.as_ref().map(|life| life.alert.0)).collect();
    let statement = transaction.prepare_cached(UPSERT_STATE).await?;
    transaction
        .execute(
            &statement,
            &[
                &rules,
                &series,
                &tenants,
                &versions,
                &raised,
                &recent,
                &holds,
                &fires,
                &clear,
                &decided,
                &values,
                &evidence,
                &fired,
                &told_through,
                &alerts,
            ],
        )
        .await?;
    Ok(())
}

/// Writes what opened.
///
/// # Errors
/// If the database is away or refuses.
pub async fn alerts(
    transaction: &Transaction<'_>,
    opened: &[(Alert, Arc<Rule>)],
    lives: &HashMap<AlertId, Life>,
    series: &HashMap<SeriesId, Series>,
) -> Result<(), DatabaseError> {
    let opened: Vec<_> = opened
        .iter()
        .filter_map(|(alert, rule)| Some((alert, rule, lives.get(&alert.id)?, series.get(&alert.series)?)))
        .collect();
    if opened.is_empty() {
        return Ok(());
    }
    let alerts = || opened.iter().map(|(alert, ..)| *alert);
    let ids: Vec<_> = alerts().map(|alert| alert.id.0).collect();
    let tenants: Vec<_> = alerts().map(|alert| alert.tenant.0).collect();
    let rules: Vec<_> = alerts().map(|alert| alert.rule.0).collect();
    let versions: Vec<_> = alerts().map(|alert| alert.rule_version).collect();
    let series: Vec<_> = alerts().map(|alert| alert.series.0).collect();
    let breached: Vec<_> = alerts().map(|alert| timestamp(alert.breached_at)).collect();
    let fired: Vec<_> = alerts().map(|alert| timestamp(alert.fired_at)).collect();
    let decided: Vec<_> = alerts().map(|alert| timestamp(alert.decision.ts)).collect();
    let values: Vec<_> = alerts().map(|alert| alert.decision.value).collect();
    let evidence: Vec<_> =
        alerts().map(|alert| as_json(&alert.decision.evidence)).collect::<Result<_, _>>()?;
    let classes: Vec<_> = alerts().map(|alert| alert.decision.evidence.class().as_str()).collect();
    let summaries: Vec<_> = opened
        .iter()
        .map(|(alert, rule, _, series)| {
            sentence(alert, &series.device, &series.metric, series.unit.as_deref(), &rule.name)
        })
        .collect();
    let tags: Vec<_> = alerts().map(|alert| json!(alert.tags)).collect();
    let points: Vec<_> = alerts().map(|alert| json!(alert.points)).collect();
    let late: Vec<_> = alerts().map(|alert| alert.late).collect();
    let severities: Vec<_> = opened.iter().map(|(_, _, life, _)| life.severity.as_str()).collect();
    let historical: Vec<_> = opened.iter().map(|(_, _, life, _)| life.historical).collect();
    let statement = transaction.prepare_cached(INSERT_ALERTS).await?;
    transaction
        .execute(
            &statement,
            &[
                &ids,
                &tenants,
                &rules,
                &versions,
                &series,
                &breached,
                &fired,
                &decided,
                &values,
                &evidence,
                &classes,
                &summaries,
                &tags,
                &points,
                &late,
                &severities,
                &historical,
            ],
        )
        .await?;
    Ok(())
}

/// Writes how lives stand.
///
/// # Errors
/// If the database is away or refuses.
pub async fn lives(
    transaction: &Transaction<'_>,
    lives: &HashMap<AlertId, Life>,
) -> Result<(), DatabaseError> {
    let mut sorted: Vec<&Life> = lives.values().collect();
    // One order for all who ever lock them.
    sorted.sort_unstable_by_key(|life| life.alert);
    let ids: Vec<_> = sorted.iter().map(|life| life.alert.0).collect();
    let states: Vec<_> = sorted.iter().map(|life| life.state.as_str()).collect();
    let severities: Vec<_> = sorted.iter().map(|life| life.severity.as_str()).collect();
    let episodes: Vec<_> = sorted.iter().map(|life| life.episodes).collect();
    let ended: Vec<_> = sorted.iter().map(|life| life.ended_at.map(timestamp)).collect();
    let historical: Vec<_> = sorted.iter().map(|life| life.historical).collect();
    let silences: Vec<_> = sorted.iter().map(|life| life.silence.map(|silence| silence.0)).collect();
    let told: Vec<_> = sorted.iter().map(|life| life.told.as_str()).collect();
    let told_at: Vec<_> = sorted.iter().map(|life| life.told_at).collect();
    let (who, whom): (Vec<Uuid>, Vec<Uuid>) = sorted
        .iter()
        .flat_map(|life| life.told_destinations.iter().map(|destination| (life.alert.0, destination.0)))
        .unzip();
    let statement = transaction.prepare_cached(UPDATE_ALERTS).await?;
    transaction
        .execute(
            &statement,
            &[
                &ids,
                &states,
                &severities,
                &episodes,
                &ended,
                &historical,
                &silences,
                &told,
                &told_at,
                &who,
                &whom,
            ],
        )
        .await?;
    Ok(())
}

/// Writes lines of timelines.
///
/// # Errors
/// If the database is away or refuses.
pub async fn events(transaction: &Transaction<'_>, events: &[TimelineEvent]) -> Result<(), DatabaseError> {
    if events.is_empty() {
        return Ok(());
    }
    let alerts: Vec<_> = events.iter().map(|event| event.alert.0).collect();
    let tenants: Vec<_> = events.iter().map(|event| event.tenant.0).collect();
    let kinds: Vec<_> = events.iter().map(|event| event.kind.as_str()).collect();
    let happened: Vec<_> = events.iter().map(|event| timestamp(event.happened_at)).collect();
    let episodes: Vec<_> = events.iter().map(|event| event.episode).collect();
    let dispositions: Vec<_> = events.iter().map(|event| event.disposition.map(|d| d.as_str())).collect();
    let notes: Vec<_> = events.iter().map(|event| event.note.as_deref()).collect();
    let statement = transaction.prepare_cached(INSERT_EVENTS).await?;
    transaction
        .execute(&statement, &[&alerts, &tenants, &kinds, &happened, &episodes, &dispositions, &notes])
        .await?;
    Ok(())
}

fn as_json(evidence: &Evidence) -> Result<Value, DatabaseError> {
    serde_json::to_value(evidence).map_err(|error| DatabaseError::Unreadable(error.to_string()))
}
