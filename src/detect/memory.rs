//! What the active detector knows: rules, destinations, the series it has met, and when rules last fired.
//!
//! Invariant: it agrees with the database as of `config_version` plus what is judged and not settled yet. It is loaded when
//! the lease is taken and thrown away on any error.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use tokio_postgres::GenericClient;

use super::cooldown::Cooldown;
use crate::db::error::DatabaseError;
use crate::model::destination::{Destination, Kind};
use crate::model::ids::{DestinationId, RuleId, SeriesId, TenantId};
use crate::model::reading::UnixMicros;
use crate::model::rule::{DevicePattern, Rule, Severity};

const CONFIG_VERSION: &str = include_str!("../../sql/queries/detect/config_version.sql");
const LOAD_RULES: &str = include_str!("../../sql/queries/detect/load_rules.sql");
const LOAD_DESTINATIONS: &str = include_str!("../../sql/queries/detect/load_destinations.sql");
const LOAD_STATE: &str = include_str!("../../sql/queries/detect/load_rule_state.sql");
const LOAD_SERIES: &str = include_str!("../../sql/queries/detect/load_series.sql");
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
    pub rules: Vec<Arc<Rule>>,
    /// The latest time judged.
    pub last_ts: Option<UnixMicros>,
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
}

impl Memory {
    /// Reads everything but the series. A rule that can't be read is marked `faulted` and left out.
    ///
    /// # Errors
    /// If the database is away.
    pub async fn load(client: &impl GenericClient) -> Result<Self, DatabaseError> {
        // The version first: a change in between is noticed at the next settlement and loaded again.
        let config_version = client.query_one(CONFIG_VERSION, &[]).await?.get(0);
        let mut rules: HashMap<_, Vec<_>> = HashMap::new();
        for row in client.query(LOAD_RULES, &[]).await? {
            match rule(&row) {
                Ok(rule) => rules.entry((rule.tenant, rule.metric.clone())).or_default().push(Arc::new(rule)),
                Err(fault) => {
                    let id: uuid::Uuid = row.get(0);
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
        Ok(Self { config_version, rules, destinations, series: HashMap::new(), cooldowns })
    }

    /// Meets the series among `ids` that it does not know yet. One statement.
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
        for row in client.query(LOAD_SERIES, &[&unknown]).await? {
            let tenant = TenantId(row.get(1));
            let device: String = row.get(2);
            let metric: String = row.get(3);
            let watching = self.rules.get(&(tenant, metric.clone())).into_iter().flatten();
            let rules = watching.filter(|rule| rule.devices.matches(&device)).cloned().collect();
            let last_ts = row.get::<_, Option<Timestamp>>(5).map(UnixMicros::from);
            let series = Series { tenant, device, metric, unit: row.get(4), rules, last_ts };
            self.series.insert(SeriesId(row.get(0)), series);
        }
        Ok(())
    }
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
        condition: serde_json::from_value(condition).map_err(|error| format!("condition: {error}"))?,
        severity: Severity::parse(severity).ok_or_else(|| format!("severity: {severity}"))?,
        cooldown_micros: i64::from(row.get::<_, i32>(8)) * 1_000_000,
        destinations: destinations.into_iter().map(DestinationId).collect(),
    })
}
