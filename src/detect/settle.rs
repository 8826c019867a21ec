//! Settling: one transaction for everything that was judged. A fixed number of statements, whatever its size.
//!
//! Invariant: the rollup, the alerts with all notifications they owe, and the deletion of the flushes commit together,
//! under the lease's fence and the configuration that they were judged with; or nothing does.

use std::collections::HashSet;

use deadpool_postgres::{Object, Transaction};

use super::judge::Judged;
use crate::db::error::DatabaseError;
use crate::db::lease::Lease;
use crate::model::alert::Alert;
use crate::model::ids::AlertId;
use crate::model::notification::Notification;
use crate::outbox::enqueue::enqueue;

const CONFIG_VERSION: &str = include_str!("../../sql/queries/detect/config_version.sql");
const UPSERT_ROLLUPS: &str = include_str!("../../sql/queries/detect/upsert_rollups.sql");
const UPSERT_STATE: &str = include_str!("../../sql/queries/detect/upsert_rule_state.sql");
const INSERT_ALERTS: &str = include_str!("../../sql/queries/detect/insert_alerts.sql");
const PROMOTE_ALERTS: &str = include_str!("../../sql/queries/detect/promote_alerts.sql");
const DELETE_FLUSHES: &str = include_str!("../../sql/queries/detect/delete_flushes.sql");

/// How a settlement ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// It is committed, with so many alerts and so many of them without anybody to tell.
    Committed {
        /// Alerts opened.
        alerts: usize,
        /// Alerts that nobody is told of.
        unrouted: usize,
    },
    /// Another holds the lease: nothing was written.
    LeaseLost,
    /// Rules or destinations changed meanwhile: nothing was written, it must be judged again.
    ConfigChanged,
}

/// Settles what was judged.
///
/// # Errors
/// If nothing was written, or nobody knows: the flush rows tell.
pub async fn settle(
    client: &mut Object,
    lease: &Lease,
    config_version: i64,
    judged: &Judged,
) -> Result<Settled, DatabaseError> {
    let transaction = client.transaction().await?;
    // Renewing locks the row until the end: nobody takes the lease over while this commits.
    if !lease.renew(&*transaction).await? {
        return Ok(Settled::LeaseLost);
    }
    let current: i64 = transaction.query_one(CONFIG_VERSION, &[]).await?.get(0);
    if current != config_version {
        return Ok(Settled::ConfigChanged);
    }
    upsert_rollups(&transaction, judged).await?;
    upsert_state(&transaction, judged).await?;
    let opened = insert_alerts(&transaction, &judged.alerts).await?;
    if !judged.promoted.is_empty() {
        let promoted: Vec<_> = judged.promoted.iter().map(|id| id.0).collect();
        let statement = transaction.prepare_cached(PROMOTE_ALERTS).await?;
        transaction.execute(&statement, &[&promoted]).await?;
    }
    let is_told = |alert: &AlertId| opened.contains(alert) || judged.promoted.contains(alert);
    let notifications: Vec<Notification> =
        judged.notifications.iter().filter(|notification| is_told(&notification.alert)).cloned().collect();
    enqueue(&transaction, &notifications).await?;
    let statement = transaction.prepare_cached(DELETE_FLUSHES).await?;
    let deleted = transaction.execute(&statement, &[&judged.flushes]).await?;
    if deleted != judged.flushes.len() as u64 {
        // Somebody settled one of them without the lease. Rolled back: counting it twice would be worse.
        let problem = format!("{} flushes were judged, {deleted} are owed", judged.flushes.len());
        return Err(DatabaseError::Unreadable(problem));
    }
    transaction.commit().await?;
    let routed: HashSet<AlertId> = notifications.iter().map(|notification| notification.alert).collect();
    let told = judged.alerts.iter().filter(|alert| !alert.historical && opened.contains(&alert.id));
    let unrouted = told.filter(|alert| !routed.contains(&alert.id)).count();
    Ok(Settled::Committed { alerts: opened.len(), unrouted })
}

async fn upsert_rollups(transaction: &Transaction<'_>, judged: &Judged) -> Result<(), DatabaseError> {
    let mut sorted: Vec<_> = judged.rollups.iter().collect();
    // Neighbours in the index, and one order for all who ever write them.
    sorted.sort_unstable_by_key(|(key, _)| **key);
    let keys = || sorted.iter().map(|(key, _)| *key);
    let rollups = || sorted.iter().map(|(_, rollup)| *rollup);
    let series: Vec<_> = keys().map(|(series, _)| series.0).collect();
    let minutes: Vec<_> = keys().map(|(_, minute)| minute.to_timestamp()).collect();
    let counts: Vec<_> = rollups().map(|rollup| rollup.count).collect();
    let means: Vec<_> = rollups().map(|rollup| rollup.mean).collect();
    let m2s: Vec<_> = rollups().map(|rollup| rollup.m2).collect();
    let lowest: Vec<_> = rollups().map(|rollup| rollup.lowest).collect();
    let highest: Vec<_> = rollups().map(|rollup| rollup.highest).collect();
    let last_values: Vec<_> = rollups().map(|rollup| rollup.last_value).collect();
    let last_times: Vec<_> = rollups().map(|rollup| rollup.last_ts.to_timestamp()).collect();
    let statement = transaction.prepare_cached(UPSERT_ROLLUPS).await?;
    transaction
        .execute(
            &statement,
            &[&series, &minutes, &counts, &means, &m2s, &lowest, &highest, &last_values, &last_times],
        )
        .await?;
    Ok(())
}

async fn upsert_state(transaction: &Transaction<'_>, judged: &Judged) -> Result<(), DatabaseError> {
    if judged.states.is_empty() {
        return Ok(());
    }
    let rules: Vec<_> = judged.states.keys().map(|(rule, _)| rule.0).collect();
    let series: Vec<_> = judged.states.keys().map(|(_, series)| series.0).collect();
    let states = || judged.states.values();
    let tenants: Vec<_> = states().map(|state| state.tenant.0).collect();
    let last: Vec<_> =
        states().map(|state| state.cooldown.last_fired_at.map(|ts| ts.to_timestamp())).collect();
    let late: Vec<_> =
        states().map(|state| state.cooldown.late_fired_at.map(|ts| ts.to_timestamp())).collect();
    let burning: Vec<_> = states().map(|state| state.burning.map(|alert| alert.0)).collect();
    let statement = transaction.prepare_cached(UPSERT_STATE).await?;
    transaction.execute(&statement, &[&rules, &series, &tenants, &last, &late, &burning]).await?;
    Ok(())
}

/// Returns the ids of the alerts that are new.
async fn insert_alerts(
    transaction: &Transaction<'_>,
    alerts: &[Alert],
) -> Result<HashSet<AlertId>, DatabaseError> {
    if alerts.is_empty() {
        return Ok(HashSet::new());
    }
    let ids: Vec<_> = alerts.iter().map(|alert| alert.id.0).collect();
    let tenants: Vec<_> = alerts.iter().map(|alert| alert.tenant.0).collect();
    let rules: Vec<_> = alerts.iter().map(|alert| alert.rule.0).collect();
    let versions: Vec<_> = alerts.iter().map(|alert| alert.rule_version).collect();
    let series: Vec<_> = alerts.iter().map(|alert| alert.series.0).collect();
    let severities: Vec<_> = alerts.iter().map(|alert| alert.severity.as_str()).collect();
    let times: Vec<_> = alerts.iter().map(|alert| alert.breached_at.to_timestamp()).collect();
    let values: Vec<_> = alerts.iter().map(|alert| alert.value).collect();
    let evidence: Result<Vec<_>, _> =
        alerts.iter().map(|alert| serde_json::to_value(&alert.evidence)).collect();
    let evidence = evidence.map_err(|error| DatabaseError::Unreadable(error.to_string()))?;
    let late: Vec<_> = alerts.iter().map(|alert| alert.late).collect();
    let historical: Vec<_> = alerts.iter().map(|alert| alert.historical).collect();
    let statement = transaction.prepare_cached(INSERT_ALERTS).await?;
    let rows = transaction
        .query(
            &statement,
            &[
                &ids,
                &tenants,
                &rules,
                &versions,
                &series,
                &severities,
                &times,
                &values,
                &evidence,
                &late,
                &historical,
            ],
        )
        .await?;
    Ok(rows.iter().map(|row| AlertId(row.get(0))).collect())
}
