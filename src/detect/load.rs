//! Loading: memory as the database has it. Rules, destinations and silences as a whole, series when they are met.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use tokio_postgres::{GenericClient, Row};
use uuid::Uuid;

use super::episode::{Episode, after};
use super::memory::{Memory, Series, Setup};
use super::rules::{rule_from_row, silence_from_row};
use super::told_before::life_from_row;
use super::watch::{State, Watch};
use super::window::{Bucket, Window, minute_of};
use crate::db::error::DatabaseError;
use crate::model::alert::Decision;
use crate::model::destination::{Destination, Kind};
use crate::model::ids::{DestinationId, RuleId, SeriesId, TenantId};
use crate::model::reading::UnixMicros;
use crate::model::selector::tags_from_json;

const LOAD_RULES: &str = include_str!("../../sql/queries/detect/load_rules.sql");
const LOAD_DESTINATIONS: &str = include_str!("../../sql/queries/detect/load_destinations.sql");
const LOAD_SILENCES: &str = include_str!("../../sql/queries/detect/load_silences.sql");
const ACTIVE_SERIES: &str = include_str!("../../sql/queries/detect/active_series.sql");
const CHANGED_ALERTS: &str = include_str!("../../sql/queries/detect/changed_alerts.sql");
const LOAD_SERIES: &str = include_str!("../../sql/queries/detect/load_series.sql");
const LOAD_STATES: &str = include_str!("../../sql/queries/detect/load_states.sql");
const LOAD_WINDOWS: &str = include_str!("../../sql/queries/detect/load_windows.sql");
const MEND_RULE: &str = include_str!("../../sql/queries/detect/mend_rule.sql");
const FAULT_RULE: &str = include_str!("../../sql/queries/detect/fault_rule.sql");

/// What is set up, and what was changed by hand: raised with every change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    /// Of rules, destinations, silences and tags.
    pub config: i64,
    /// Of alerts that people changed.
    pub alerts: i64,
}

/// `devices.last_seen` is written about once a minute (`ingest/housekeeping.rs`), in microseconds.
const SEEN_EVERY: i64 = 60_000_000;

/// What stays known of a series when what people have set is loaded anew.
#[derive(Debug, Default)]
struct Kept {
    window: Option<Window>,
    heard: Option<UnixMicros>,
}

impl Kept {
    fn of(series: Series) -> Self {
        Self { window: series.window, heard: series.was_heard.then_some(series.arrived) }
    }
}

impl Memory {
    /// The versions it agrees with.
    pub fn versions(&self) -> Versions {
        Versions { config: self.config_version, alerts: self.alerts_version }
    }

    /// Everything anew. A rule that can't be read is marked `faulted` and left out, until it can be read: by a newer program,
    /// or after somebody mended it. `versions` were read before: a change in between is noticed at the next look.
    ///
    /// # Errors
    /// If the database is away.
    pub async fn load(client: &impl GenericClient, versions: Versions) -> Result<Self, DatabaseError> {
        let mut memory = Self { config_version: -1, alerts_version: versions.alerts, ..Self::default() };
        memory.refresh(client, versions).await?;
        Ok(memory)
    }

    /// What has changed behind its back. What was judged and not settled is forgotten: it must be judged again.
    ///
    /// # Errors
    /// If the database is away.
    pub async fn refresh(
        &mut self,
        client: &impl GenericClient,
        versions: Versions,
    ) -> Result<(), DatabaseError> {
        self.forget_unsettled();
        let mut kept = HashMap::new();
        if versions.config != self.config_version {
            self.setup = load_setup(client).await?;
            // The minutes are what the readings say, and when they came, whatever the rules are.
            kept = self.series.drain().map(|(id, series)| (id, Kept::of(series))).collect();
            self.active.clear();
        }
        if versions.alerts != self.alerts_version {
            for row in client.query(CHANGED_ALERTS, &[&self.alerts_version]).await? {
                let id = SeriesId(row.get(0));
                kept.extend(self.series.remove(&id).map(|series| (id, Kept::of(series))));
            }
        }
        self.config_version = versions.config;
        self.alerts_version = versions.alerts;
        let (tenants, metrics): (Vec<i32>, Vec<&str>) =
            self.setup.silent_metrics().map(|(tenant, metric)| (tenant.0, metric.as_str())).unzip();
        let rows = client.query(ACTIVE_SERIES, &[&tenants, &metrics]).await?;
        let with_window = kept.iter().filter(|(_, kept)| kept.window.is_some()).map(|(id, _)| *id);
        let ids: Vec<_> = rows.iter().map(|row| SeriesId(row.get(0))).chain(with_window).collect();
        self.meet_with(client, ids.into_iter(), kept).await
    }

    /// Meets the series among `ids` that it does not know yet. At most three statements.
    ///
    /// # Errors
    /// If the database is away.
    pub async fn meet(
        &mut self,
        client: &impl GenericClient,
        ids: impl Iterator<Item = SeriesId>,
    ) -> Result<(), DatabaseError> {
        self.meet_with(client, ids, HashMap::new()).await
    }

    async fn meet_with(
        &mut self,
        client: &impl GenericClient,
        ids: impl Iterator<Item = SeriesId>,
        mut kept: HashMap<SeriesId, Kept>,
    ) -> Result<(), DatabaseError> {
        let mut unknown: Vec<i32> = ids.filter(|id| !self.series.contains_key(id)).map(|id| id.0).collect();
        if unknown.is_empty() {
            return Ok(());
        }
        unknown.sort_unstable();
        unknown.dedup();
        let mut states: HashMap<SeriesId, Vec<(RuleId, i32, State)>> = HashMap::new();
        for row in client.query(LOAD_STATES, &[&unknown]).await? {
            let (rule, series) = (RuleId(row.get("rule_id")), SeriesId(row.get("series_id")));
            states.entry(series).or_default().push((rule, row.get("rule_version"), state(&row)?));
        }
        let (mut ids, mut spans) = (Vec::new(), Vec::new());
        for row in client.query(LOAD_SERIES, &[&unknown]).await? {
            let id = SeriesId(row.get("series_id"));
            let mut series = series(&row)?;
            series.watches = self.watches(&series, id, states.remove(&id).unwrap_or_default());
            let spans_wanted =
                series.watches.iter().filter_map(|watch| watch.rule.condition.window_minutes());
            let Kept { window, heard } = kept.remove(&id).unwrap_or_default();
            series.was_heard = heard.is_some();
            series.arrived = heard.unwrap_or(series.arrived);
            if let Some(span) = spans_wanted.max() {
                match window.filter(|window| window.span() >= span) {
                    Some(window) => series.window = Some(window),
                    None => {
                        series.window = Some(Window::new(span, []));
                        ids.push(id.0);
                        spans.push(span);
                    }
                }
            }
            if series.is_active() {
                self.active.insert(id);
            }
            self.series.insert(id, series);
        }
        if !ids.is_empty() {
            let spans_of: HashMap<i32, i32> = ids.iter().copied().zip(spans.iter().copied()).collect();
            let rows = client.query(LOAD_WINDOWS, &[&ids, &spans]).await?;
            for group in rows.chunk_by(|a, b| a.get::<_, i32>(0) == b.get::<_, i32>(0)) {
                let id: i32 = group[0].get(0);
                if let (Some(series), Some(span)) = (self.series.get_mut(&SeriesId(id)), spans_of.get(&id)) {
                    series.window = Some(Window::new(*span, group.iter().map(bucket)));
                }
            }
        }
        Ok(())
    }

    /// The rules that watch a series, with what they were in. What a rule was in that does not watch it any more is an orphan.
    fn watches(
        &mut self,
        series: &Series,
        id: SeriesId,
        mut states: Vec<(RuleId, i32, State)>,
    ) -> Vec<Watch> {
        let watching = self.setup.watching(series.tenant, &series.metric, &series.device, &series.tags);
        let watches = watching
            .map(|rule| {
                let place = states.iter().position(|(of, ..)| *of == rule.id);
                let state = place.map(|place| {
                    let (_, version, mut state) = states.swap_remove(place);
                    if version != rule.version {
                        // What waited under another definition waits anew.
                        state.episode.recent = 0;
                        if state.episode.fires_since.is_none() {
                            state.episode = Episode::default();
                        }
                    }
                    Box::new(state)
                });
                Watch { rule: Arc::clone(rule), state }
            })
            .collect();
        let orphans = states.into_iter().filter(|(rule, ..)| !self.setup.faulted.contains(rule));
        self.orphans.extend(orphans.map(|(rule, _, state)| (id, rule, state)));
        watches
    }
}

async fn load_setup(client: &impl GenericClient) -> Result<Setup, DatabaseError> {
    let mut setup = Setup::default();
    for row in client.query(LOAD_RULES, &[]).await? {
        let id: Uuid = row.get("rule_id");
        let known_fault: Option<&str> = row.get("known_fault");
        match rule_from_row(&row) {
            // A rule that panicked does not get better by being read.
            Ok(_) if known_fault.is_some_and(|fault| fault.starts_with(PANICKED)) => {
                setup.faulted.insert(RuleId(id));
            }
            Ok(rule) => {
                if known_fault.is_some() {
                    tracing::info!(rule_id = %id, "rule can be read again");
                    client.execute(MEND_RULE, &[&id]).await?;
                }
                setup.rules.entry((rule.tenant, rule.metric.clone())).or_default().push(Arc::new(rule));
            }
            Err(fault) => {
                setup.faulted.insert(RuleId(id));
                // Known already: said when it was found.
                if known_fault != Some(&fault) {
                    mark_faulted(client, RuleId(id), &fault).await?;
                }
            }
        }
    }
    for row in client.query(LOAD_DESTINATIONS, &[]).await? {
        let id = DestinationId(row.get(0));
        match Kind::from_columns(row.get(3), &row.get(4)) {
            Ok(kind) => {
                let destination = Destination { id, tenant: TenantId(row.get(1)), name: row.get(2), kind };
                setup.destinations.insert(id, destination);
            }
            Err(error) => {
                tracing::error!(destination_id = %id, %error, "destination can't be read, nobody is told there")
            }
        }
    }
    for row in client.query(LOAD_SILENCES, &[]).await? {
        match silence_from_row(&row) {
            Ok(silence) => setup.silences.push(silence),
            Err(error) => tracing::error!(error, "silence can't be read, it keeps nothing from being told"),
        }
    }
    warn_of_unrouted(&setup);
    Ok(setup)
}

/// How the fault of a rule that panicked begins.
pub const PANICKED: &str = "it panicked";

/// Takes a rule out of detection, and says so.
///
/// # Errors
/// If the database is away.
pub async fn mark_faulted(
    client: &impl GenericClient,
    rule: RuleId,
    fault: &str,
) -> Result<(), DatabaseError> {
    tracing::error!(rule_id = %rule, fault, "rule can't be judged, it is marked faulted");
    client.execute(FAULT_RULE, &[&rule.0, &fault]).await?;
    Ok(())
}

fn warn_of_unrouted(setup: &Setup) {
    for rule in setup.unrouted() {
        tracing::warn!(rule_id = %rule.id, rule = %rule.name, "rule names no destination: nobody is told of its alerts");
    }
}

fn series(row: &Row) -> Result<Series, DatabaseError> {
    let unreadable = |problem| DatabaseError::Unreadable(format!("devices.tags: {problem}"));
    let last_ts = row.get::<_, Option<Timestamp>>("last_ts").map(UnixMicros::from);
    let last_value: Option<f64> = row.get("last_value");
    let seen = UnixMicros::from(row.get::<_, Timestamp>("last_seen"));
    Ok(Series {
        tenant: TenantId(row.get("tenant_id")),
        device: row.get("external_id"),
        tags: tags_from_json(row.get("tags")).map_err(unreadable)?,
        metric: row.get("metric"),
        unit: row.get("unit"),
        watches: Vec::new(),
        last: last_ts.zip(last_value),
        // When it was heard is known to the minute, and its own clock may be wrong: rather silent late than by mistake.
        arrived: after(seen, SEEN_EVERY),
        was_heard: false,
        window: None,
        is_unsettled: false,
    })
}

fn state(row: &Row) -> Result<State, DatabaseError> {
    let time = |column: &str| row.get::<_, Option<Timestamp>>(column).map(UnixMicros::from);
    let evidence = row.get::<_, Option<serde_json::Value>>("evidence").map(serde_json::from_value);
    let evidence = evidence
        .transpose()
        .map_err(|error| DatabaseError::Unreadable(format!("rule_state.evidence: {error}")))?;
    let value: Option<f64> = row.get("decided_value");
    let decision = match (time("decided_at"), value, evidence) {
        (Some(ts), Some(value), Some(evidence)) => Some(Decision { ts, value, evidence }),
        _ => None,
    };
    let episode = Episode {
        raised: row.get("raised"),
        recent: row.get::<_, i64>("recent").cast_unsigned(),
        holds_since: time("holds_since"),
        fires_since: time("fires_since"),
        clear_since: time("clear_since"),
        decision,
    };
    Ok(State {
        episode,
        cooldown_from: time("last_fired_at"),
        told_through: time("told_through"),
        last_breach: None,
        life: life_from_row(row)?,
    })
}

fn bucket(row: &Row) -> Bucket {
    let minute = minute_of(UnixMicros::from(row.get::<_, Timestamp>("minute")));
    let count = u32::try_from(row.get::<_, i64>("count")).unwrap_or(u32::MAX);
    Bucket { minute, count, mean: row.get("mean"), lowest: row.get("lowest"), highest: row.get("highest") }
}
