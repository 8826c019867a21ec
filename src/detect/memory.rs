//! What the active detector knows: rules, destinations, the series it has met, and when rules last fired.
//!
//! Invariant: it agrees with the database as of `config_version` plus what is judged and not settled yet. It is loaded when
//! the lease is taken and thrown away on any error.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use tokio_postgres::GenericClient;

use super::cooldown::Cooldown;
use super::window::{Bucket, Window, minute_of};
use crate::db::error::DatabaseError;
use crate::model::alert::{Alert, Evidence};
use crate::model::destination::{Destination, Kind};
use crate::model::ids::{AlertId, DestinationId, RuleId, SeriesId, TenantId};
use crate::model::reading::UnixMicros;
use crate::model::rule::{Condition, DevicePattern, Rule, Severity};

const CONFIG_VERSION: &str = include_str!("../../sql/queries/detect/config_version.sql");
const LOAD_RULES: &str = include_str!("../../sql/queries/detect/load_rules.sql");
const LOAD_DESTINATIONS: &str = include_str!("../../sql/queries/detect/load_destinations.sql");
const LOAD_STATE: &str = include_str!("../../sql/queries/detect/load_rule_state.sql");
const LOAD_BURNING: &str = include_str!("../../sql/queries/detect/load_burning.sql");
const LOAD_WINDOWS: &str = include_str!("../../sql/queries/detect/load_windows.sql");
const LOAD_SERIES: &str = include_str!("../../sql/queries/detect/load_series.sql");
const MEND_RULE: &str = include_str!("../../sql/queries/detect/mend_rule.sql");
const FAULT_RULE: &str = include_str!("../../sql/queries/detect/fault_rule.sql");

/// A series as detection needs it.
#[derive(Debug)]
pub struct Series {
    /// Whose.
    pub tenant: TenantId,
    /// The device's external id.
    pub device: String,
    /// What is measured.
    pub metric: String,
    /// In what.
    pub unit: Option<String>,
    /// The rules that watch it.
    pub rules: Arc<[Arc<Rule>]>,
    /// The latest time judged.
    pub last_ts: Option<UnixMicros>,
    /// Its minutes, if a rule compares with them.
    pub window: Option<Window>,
}

/// A breach that was old when it was judged and is not known to be over.
#[derive(Debug)]
pub struct Burning {
    /// Marked historical, so far.
    pub alert: Alert,
    /// The latest look at it, on this process's clock.
    pub seen: Instant,
}

/// What the active detector knows.
#[derive(Debug)]
pub struct Memory {
    /// Of the rules and destinations below.
    pub config_version: i64,
    rules: HashMap<(TenantId, String), Vec<Arc<Rule>>>,
    /// Those that can be told.
    pub destinations: HashMap<DestinationId, Destination>,
    /// Met since the load.
    pub series: HashMap<SeriesId, Series>,
    /// Of rules and series that are not at rest.
    pub cooldowns: HashMap<(RuleId, SeriesId), Cooldown>,
    /// Old breaches that may still burn.
    pub burning: HashMap<(RuleId, SeriesId), Burning>,
}

impl Memory {
    /// Reads everything but the series. A rule that can't be read is marked `faulted` and left out,
    /// until it can be read: by a newer program, or after somebody mended it.
    ///
    /// # Errors
    /// If the database is away.
    pub async fn load(client: &impl GenericClient) -> Result<Self, DatabaseError> {
        // The version first: a change in between is noticed at the next settlement and loaded again.
        let config_version = client.query_one(CONFIG_VERSION, &[]).await?.get(0);
        let mut rules: HashMap<_, Vec<_>> = HashMap::new();
        for row in client.query(LOAD_RULES, &[]).await? {
            let id: uuid::Uuid = row.get(0);
            let known_fault: Option<&str> = row.get(10);
            match rule(&row) {
                Ok(rule) => {
                    if known_fault.is_some() {
                        tracing::info!(rule_id = %id, "rule can be read again");
                        client.execute(MEND_RULE, &[&id]).await?;
                    }
                    rules.entry((rule.tenant, rule.metric.clone())).or_default().push(Arc::new(rule));
                }
                // Known already: said when it was found.
                Err(fault) if known_fault == Some(&fault) => {}
                Err(fault) => {
                    tracing::error!(rule_id = %id, fault, "rule can't be read, it is marked faulted");
                    client.execute(FAULT_RULE, &[&id, &fault]).await?;
                }
            }
        }
        let mut destinations = HashMap::new();
        for row in client.query(LOAD_DESTINATIONS, &[]).await? {
            let id = DestinationId(row.get(0));
            match Kind::from_columns(row.get(3), &row.get(4)) {
                Ok(kind) => {
                    let destination =
                        Destination { id, tenant: TenantId(row.get(1)), name: row.get(2), kind };
                    destinations.insert(id, destination);
                }
                Err(error) => {
                    tracing::error!(destination_id = %id, %error, "destination can't be read, nobody is told there")
                }
            }
        }
        let mut cooldowns = HashMap::new();
        for row in client.query(LOAD_STATE, &[]).await? {
            let time = |column| row.get::<_, Option<Timestamp>>(column).map(UnixMicros::from);
            let cooldown = Cooldown { last_fired_at: time(2), late_fired_at: time(3) };
            cooldowns.insert((RuleId(row.get(0)), SeriesId(row.get(1))), cooldown);
        }
        let mut burning = HashMap::new();
        for row in client.query(LOAD_BURNING, &[]).await? {
            let alert = alert(&row)?;
            burning.insert((alert.rule, alert.series), Burning { alert, seen: Instant::now() });
        }
        Ok(Self { config_version, rules, destinations, series: HashMap::new(), cooldowns, burning })
    }

    /// An active rule.
    pub fn rule(&self, id: RuleId) -> Option<Arc<Rule>> {
        self.rules.values().flatten().find(|rule| rule.id == id).cloned()
    }

    /// Meets the series among `ids` that it does not know yet. At most two statements.
    ///
    /// # Errors
    /// If the database is away.
    pub async fn meet(
        &mut self,
        client: &impl GenericClient,
        ids: impl Iterator<Item = SeriesId>,
    ) -> Result<(), DatabaseError> {
        let mut unknown: Vec<i32> = ids.filter(|id| !self.series.contains_key(id)).map(|id| id.0).collect();
        if unknown.is_empty() {
            return Ok(());
        }
        unknown.sort_unstable();
        unknown.dedup();
        let (mut ids, mut spans) = (Vec::new(), Vec::new());
        let mut span_of = HashMap::new();
        for row in client.query(LOAD_SERIES, &[&unknown]).await? {
            let id: i32 = row.get(0);
            let tenant = TenantId(row.get(1));
            let device: String = row.get(2);
            let metric: String = row.get(3);
            let watching = self.rules.get(&(tenant, metric.clone())).into_iter().flatten();
            let rules: Arc<[_]> = watching.filter(|rule| rule.devices.matches(&device)).cloned().collect();
            let last_ts = row.get::<_, Option<Timestamp>>(5).map(UnixMicros::from);
            let span = rules.iter().filter_map(|rule| window_minutes(&rule.condition)).max();
            if let Some(span) = span {
                ids.push(id);
                spans.push(span);
                span_of.insert(id, span);
            }
            let window = span.map(|span| Window::new(span, []));
            let series = Series { tenant, device, metric, unit: row.get(4), rules, last_ts, window };
            self.series.insert(SeriesId(id), series);
        }
        if !ids.is_empty() {
            let rows = client.query(LOAD_WINDOWS, &[&ids, &spans]).await?;
            for group in rows.chunk_by(|a, b| a.get::<_, i32>(0) == b.get::<_, i32>(0)) {
                let id = SeriesId(group[0].get(0));
                if let Some(series) = self.series.get_mut(&id)
                    && let Some(span) = span_of.get(&id.0)
                {
                    series.window = Some(Window::new(*span, group.iter().map(bucket)));
                }
            }
        }
        Ok(())
    }
}

/// How far back a condition looks.
fn window_minutes(condition: &Condition) -> Option<i32> {
    match condition {
        Condition::DeviationFromMean(deviation) => Some(deviation.window_minutes),
        Condition::AboveThreshold { .. } | Condition::BelowThreshold { .. } => None,
    }
}

fn bucket(row: &tokio_postgres::Row) -> Bucket {
    let minute = minute_of(UnixMicros::from(row.get::<_, Timestamp>(1)));
    let count = u32::try_from(row.get::<_, i64>(2)).unwrap_or(u32::MAX);
    Bucket { minute, count, mean: row.get(3) }
}

fn alert(row: &tokio_postgres::Row) -> Result<Alert, DatabaseError> {
    let severity: &str = row.get(5);
    let evidence: serde_json::Value = row.get(8);
    let unreadable = |what: String| DatabaseError::Unreadable(format!("alerts: {what}"));
    Ok(Alert {
        id: AlertId(row.get(0)),
        tenant: TenantId(row.get(1)),
        rule: RuleId(row.get(2)),
        rule_version: row.get(3),
        series: SeriesId(row.get(4)),
        severity: Severity::parse(severity).ok_or_else(|| unreadable(format!("severity {severity}")))?,
        breached_at: row.get::<_, Timestamp>(6).into(),
        value: row.get(7),
        evidence: serde_json::from_value::<Evidence>(evidence)
            .map_err(|error| unreadable(error.to_string()))?,
        late: row.get(9),
        historical: true,
    })
}

fn rule(row: &tokio_postgres::Row) -> Result<Rule, String> {
    let condition: serde_json::Value = row.get(6);
    let severity: &str = row.get(7);
    let destinations: Vec<uuid::Uuid> = row.get(9);
    Ok(Rule {
        id: RuleId(row.get(0)),
        version: row.get(1),
        tenant: TenantId(row.get(2)),
        name: row.get::<_, &str>(3).into(),
        metric: row.get(4),
        devices: DevicePattern::new(row.get::<_, &str>(5)),
        condition: Condition::from_json(condition).map_err(|error| format!("condition: {error}"))?,
        severity: Severity::parse(severity).ok_or_else(|| format!("severity: {severity}"))?,
        cooldown_micros: i64::from(row.get::<_, i32>(8)) * 1_000_000,
        destinations: destinations.into_iter().map(DestinationId).collect(),
    })
}
