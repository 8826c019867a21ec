//! Alerts that opened before and of which people are told again: as their rows say, because memory holds their lives only.

use std::collections::{HashMap, HashSet};

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use serde_json::Value;
use tokio_postgres::Row;
use uuid::Uuid;

use super::tell;
use crate::db::error::DatabaseError;
use crate::model::alert::{Alert, AlertState, Decision, Life, Told};
use crate::model::ids::{AlertId, DestinationId, RuleId, SeriesId, SilenceId, TenantId};
use crate::model::reading::UnixMicros;
use crate::model::rule::Severity;
use crate::model::selector::tags_from_json;

const LOAD_ALERTS: &str = include_str!("../../sql/queries/detect/load_alerts.sql");

/// Adds these alerts to `told`.
///
/// # Errors
/// If the database is away, or holds what can't be read.
pub async fn load_told(
    transaction: &Transaction<'_>,
    ids: &HashSet<AlertId>,
    told: &mut HashMap<AlertId, tell::Told>,
) -> Result<(), DatabaseError> {
    if ids.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let statement = transaction.prepare_cached(LOAD_ALERTS).await?;
    for row in transaction.query(&statement, &[&ids]).await? {
        let found = told_from_row(&row)?;
        told.insert(found.alert.id, found);
    }
    Ok(())
}

/// A row of an alert with what its rule was then.
///
/// # Errors
/// If it holds what can't be read.
pub fn told_from_row(row: &Row) -> Result<tell::Told, DatabaseError> {
    let unreadable =
        |what: &'static str| move |why: String| DatabaseError::Unreadable(format!("alerts.{what}: {why}"));
    let json = |column: &'static str| row.get::<_, Option<Value>>(column);
    let breached_at = UnixMicros::from(row.get::<_, Timestamp>("breached_at"));
    let time = |column: &str| row.get::<_, Option<Timestamp>>(column).map_or(breached_at, UnixMicros::from);
    let evidence = serde_json::from_value(row.get("evidence"));
    let points = json("points").map_or_else(|| Ok(Vec::new()), serde_json::from_value);
    let labels = json("labels")
        .filter(|labels| !labels.is_null())
        .unwrap_or_else(|| Value::Object(Default::default()));
    Ok(tell::Told {
        alert: Alert {
            id: AlertId(row.get("alert_id")),
            tenant: TenantId(row.get("tenant_id")),
            rule: RuleId(row.get("rule_id")),
            rule_version: row.get("rule_version"),
            series: SeriesId(row.get("series_id")),
            breached_at,
            fired_at: time("fired_at"),
            decision: Decision {
                ts: time("decided_at"),
                value: row.get("value"),
                evidence: evidence.map_err(|error| unreadable("evidence")(error.to_string()))?,
            },
            tags: tags_from_json(row.get("device_tags")).map_err(unreadable("device_tags"))?,
            points: points.map_err(|error| unreadable("points")(error.to_string()))?,
            late: row.get("late"),
        },
        rule_name: row.get::<_, Option<String>>("rule_name").unwrap_or_default(),
        labels: tags_from_json(labels).map_err(unreadable("labels"))?,
        runbook_url: row.get("runbook_url"),
    })
}

/// How an alert stands, by the columns of `alerts`; `None` if the row joins none.
///
/// # Errors
/// If it holds what can't be read.
pub fn life_from_row(row: &Row) -> Result<Option<Life>, DatabaseError> {
    let Some(alert) = row.get::<_, Option<Uuid>>("alert_id") else { return Ok(None) };
    let unreadable = || DatabaseError::Unreadable(format!("alert {alert}: state, severity or told"));
    Ok(Some(Life {
        alert: AlertId(alert),
        state: AlertState::parse(row.get("state")).ok_or_else(unreadable)?,
        severity: Severity::parse(row.get("severity")).ok_or_else(unreadable)?,
        episodes: row.get("episodes"),
        breached_at: row.get::<_, Timestamp>("breached_at").into(),
        ended_at: row.get::<_, Option<Timestamp>>("ended_at").map(UnixMicros::from),
        historical: row.get("historical"),
        silence: row.get::<_, Option<Uuid>>("silence_id").map(SilenceId),
        told: Told::parse(row.get("told")).ok_or_else(unreadable)?,
        told_at: row.get("told_at"),
        told_destinations: row
            .get::<_, Vec<Uuid>>("told_destination_ids")
            .into_iter()
            .map(DestinationId)
            .collect(),
    }))
}
