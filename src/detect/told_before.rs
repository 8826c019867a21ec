//! Alerts that opened before and of which people are told again: as their rows say, because memory holds their lives only.

use std::collections::{HashMap, HashSet};

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use serde_json::Value;
use tokio_postgres::Row;
use uuid::Uuid;

use super::tell::Told;
use crate::db::error::DatabaseError;
use crate::model::alert::{Alert, Decision};
use crate::model::ids::{AlertId, RuleId, SeriesId, TenantId};
use crate::model::reading::UnixMicros;
use crate::model::selector::tags_from_json;

const LOAD_ALERTS: &str = include_str!("../../sql/queries/detect/load_alerts.sql");

/// Adds these alerts to `told`.
///
/// # Errors
/// If the database is away, or holds what can't be read.
pub async fn load_told(
    transaction: &Transaction<'_>,
    ids: &HashSet<AlertId>,
    told: &mut HashMap<AlertId, Told>,
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
pub fn told_from_row(row: &Row) -> Result<Told, DatabaseError> {
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
    Ok(Told {
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
