//! Verifying: what the tables must say if the promises were kept. One snapshot, so that it may run beside the service.

use serde::Serialize;
use tokio_postgres::{Client, IsolationLevel, Transaction};

use crate::model::batch::unpack;

/// Before the snapshot: a day that is dropped after it was taken would be in the catalog and have no rows.
const KEEP_DAYS: &str = "LOCK TABLE readings, readings_1m IN ACCESS SHARE MODE";
const ALERTS_WITHOUT: &str = include_str!("../../sql/queries/audit/alerts_without_notification.sql");
const MISSING: &str = include_str!("../../sql/queries/audit/missing_notifications.sql");
const GAPS: &str = include_str!("../../sql/queries/audit/attempt_gaps.sql");
const OVERDUE: &str = include_str!("../../sql/queries/audit/overdue.sql");
const OWED: &str = include_str!("../../sql/queries/audit/owed_flushes.sql");
const QUARANTINED: &str = include_str!("../../sql/queries/audit/quarantined_flushes.sql");
const ROLLUPS: &str = include_str!("../../sql/queries/audit/rollup_differences.sql");

/// One invariant and what was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What is counted.
    pub name: &'static str,
    /// How many there may be.
    pub expected: i64,
    /// How many there are.
    pub found: i64,
    /// Whether that is as it must be.
    pub ok: bool,
}

impl Check {
    fn none(name: &'static str, found: i64) -> Self {
        Self { name, expected: 0, found, ok: found == 0 }
    }
}

/// Checks everything, in one snapshot. `client` is a connection of the owner.
///
/// # Errors
/// If the database is away, or holds what can't be read.
pub async fn verify(client: &mut Client) -> anyhow::Result<Vec<Check>> {
    let snapshot = client
        .build_transaction()
        .read_only(true)
        .isolation_level(IsolationLevel::RepeatableRead)
        .start()
        .await?;
    snapshot.batch_execute(KEEP_DAYS).await?;
    let mut checks = Vec::new();
    for (name, query) in [
        ("alerts without the notifications they owe", ALERTS_WITHOUT),
        ("notifications neither owed nor ended", MISSING),
        ("notifications with a gap in their attempts", GAPS),
        ("owed notifications overdue by a minute", OVERDUE),
        ("batches that could not be judged", QUARANTINED),
    ] {
        checks.push(Check::none(name, snapshot.query_one(query, &[]).await?.get(0)));
    }
    checks.push(Check::none(
        "minutes whose rollup differs from its readings",
        rollup_differences(&snapshot).await?,
    ));
    Ok(checks)
}

/// Minutes that a batch not judged yet reaches into are left out: their rollup may not know it. So are days of which only
/// the readings or only the rollups are still kept.
async fn rollup_differences(snapshot: &Transaction<'_>) -> anyhow::Result<i64> {
    let (mut series, mut minutes) = (Vec::new(), Vec::new());
    for row in snapshot.query(OWED, &[]).await? {
        for reading in unpack(row.get(0))? {
            let key = (reading.series.0, reading.ts.minute().to_timestamp());
            if (series.last(), minutes.last()) != (Some(&key.0), Some(&key.1)) {
                series.push(key.0);
                minutes.push(key.1);
            }
        }
    }
    Ok(snapshot.query_one(ROLLUPS, &[&series, &minutes]).await?.get(0))
}
