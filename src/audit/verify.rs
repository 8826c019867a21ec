//! Verifying: what the tables must say if the promises were kept. One snapshot, so that it may run beside the service.

use serde::Serialize;
use tokio_postgres::{Client, IsolationLevel, Transaction};

use super::episodes::Episodes;
use crate::model::batch::unpack;

/// Before the snapshot: a day that is dropped after it was taken would be in the catalog and have no rows.
const KEEP_DAYS: &str = "LOCK TABLE readings, readings_1m IN ACCESS SHARE MODE";
const ALERTS_WITHOUT: &str = include_str!("../../sql/queries/audit/alerts_without_notification.sql");
const OFF_THE_TIMELINE: &str = include_str!("../../sql/queries/audit/episodes_off_the_timeline.sql");
const MISSING: &str = include_str!("../../sql/queries/audit/missing_notifications.sql");
const BLOCKED_BY_NOTHING: &str = include_str!("../../sql/queries/audit/blocked_by_nothing.sql");
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

/// All that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Findings {
    /// Each invariant.
    pub checks: Vec<Check>,
    /// What became of the episodes that fired.
    pub episodes: Episodes,
}

/// Checks everything, in one snapshot. `client` is a connection of the owner.
///
/// # Errors
/// If the database is away, or holds what can't be read.
pub async fn verify(client: &mut Client) -> anyhow::Result<Vec<Check>> {
    Ok(examine(client).await?.checks)
}

/// As [`verify`], with the numbers that an auditor wants to see although nothing is wrong.
///
/// # Errors
/// If the database is away, or holds what can't be read.
pub async fn examine(client: &mut Client) -> anyhow::Result<Findings> {
    let snapshot = client
        .build_transaction()
        .read_only(true)
        .isolation_level(IsolationLevel::RepeatableRead)
        .start()
        .await?;
    snapshot.batch_execute(KEEP_DAYS).await?;
    let episodes = Episodes::count(&snapshot).await?;
    let mut checks = vec![episodes.check()];
    for (name, query) in [
        ("alerts with an episode that is not on their timeline", OFF_THE_TIMELINE),
        ("alerts without the notifications they owe", ALERTS_WITHOUT),
        ("notifications neither owed nor ended", MISSING),
        ("notifications with a gap in their attempts", GAPS),
        ("notifications that wait for what is not owed", BLOCKED_BY_NOTHING),
        ("owed notifications overdue by a minute", OVERDUE),
        ("batches that could not be judged", QUARANTINED),
    ] {
        checks.push(Check::none(name, snapshot.query_one(query, &[]).await?.get(0)));
    }
    checks.push(Check::none(
        "minutes whose rollup differs from its readings",
        rollup_differences(&snapshot).await?,
    ));
    Ok(Findings { checks, episodes })
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
