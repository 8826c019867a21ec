//! The days that a settlement writes into: each has its partitions.

use std::collections::BTreeSet;

use deadpool_postgres::Object;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::judge::Judged;
use crate::db::error::DatabaseError;
use crate::db::partitions;

/// Makes the partitions that the notifications and the rollups need. How many were missing.
///
/// # Errors
/// If the database is away.
pub async fn make_partitions(client: &Object, judged: &Judged) -> Result<u64, DatabaseError> {
    let sent: BTreeSet<Date> = judged.effects.tells.iter().map(|_| utc_day(Timestamp::now())).collect();
    // A day to come is none that was dropped: a batch that says so is damaged.
    let today = utc_day(Timestamp::now());
    let measured: BTreeSet<Date> = judged
        .rollups
        .keys()
        .map(|(_, minute)| utc_day(minute.to_timestamp()))
        .filter(|day| *day <= today)
        .collect();
    let mut missing = 0;
    for (parents, days) in [
        (&["delivery_attempts", "notification_alerts", "notifications"][..], sent),
        (&["readings_1m"], measured),
    ] {
        let days = Vec::from_iter(days);
        missing += partitions::ensure(&***client, parents, &days).await?;
    }
    Ok(missing)
}

fn utc_day(at: Timestamp) -> Date {
    at.to_zoned(TimeZone::UTC).date()
}
