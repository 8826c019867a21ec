//! Migrations: the schema's history, embedded, applied in order, each in a transaction of its own.
//!
//! Invariant: two processes that migrate at once do it one after the other; `refinery` takes no lock, so we hold an
//! advisory one.

use anyhow::ensure;
use refinery_core::{Migration, Runner};

const MIGRATIONS: [(&str, &str); 15] = [
    ("V0001__access", include_str!("../../sql/migrations/0001_access.sql")),
    ("V0002__readings", include_str!("../../sql/migrations/0002_readings.sql")),
    ("V0003__alerts", include_str!("../../sql/migrations/0003_alerts.sql")),
    ("V0004__delivery", include_str!("../../sql/migrations/0004_delivery.sql")),
    ("V0005__storage", include_str!("../../sql/migrations/0005_storage.sql")),
    ("V0006__rollup_room", include_str!("../../sql/migrations/0006_rollup_room.sql")),
    ("V0007__detection", include_str!("../../sql/migrations/0007_detection.sql")),
    ("V0008__chains", include_str!("../../sql/migrations/0008_chains.sql")),
    ("V0009__etiquette", include_str!("../../sql/migrations/0009_etiquette.sql")),
    ("V0010__history", include_str!("../../sql/migrations/0010_history.sql")),
    ("V0011__lanes", include_str!("../../sql/migrations/0011_lanes.sql")),
    ("V0012__release", include_str!("../../sql/migrations/0012_release.sql")),
    ("V0013__lock_chains", include_str!("../../sql/migrations/0013_lock_chains.sql")),
    ("V0014__state_by_series", include_str!("../../sql/migrations/0014_state_by_series.sql")),
    ("V0015__another_chance", include_str!("../../sql/migrations/0015_another_chance.sql")),
];

/// Any number, as long as nobody else uses it for advisory locks in the same database.
const LOCK: i64 = 0x7761_7463_6862_656c;

/// Applies what is missing; returns the names of what was applied.
///
/// # Errors
/// If the database is away, can't hold every text, or one that was applied is not the one that this program knows.
pub async fn migrate(client: &mut tokio_postgres::Client) -> anyhow::Result<Vec<String>> {
    require_utf8(client).await?;
    client.execute("SELECT pg_advisory_lock($1)", &[&LOCK]).await?;
    let result = runner()?.run_async(client).await;
    client.execute("SELECT pg_advisory_unlock($1)", &[&LOCK]).await?;
    Ok(result?.applied_migrations().iter().map(ToString::to_string).collect())
}

/// The names of the migrations that the database lacks.
///
/// # Errors
/// If the database is away, or can't hold every text.
pub async fn pending(client: &impl tokio_postgres::GenericClient) -> anyhow::Result<Vec<String>> {
    require_utf8(client).await?;
    let has_history: bool =
        client.query_one("SELECT to_regclass('refinery_schema_history') IS NOT NULL", &[]).await?.get(0);
    let applied: i32 = if has_history {
        client.query_one("SELECT coalesce(max(version), 0) FROM refinery_schema_history", &[]).await?.get(0)
    } else {
        0
    };
    Ok(MIGRATIONS.iter().skip(usize::try_from(applied)?).map(|(name, _)| (*name).to_owned()).collect())
}

/// Devices, people and receivers write what they like: what a narrower encoding lacks could not be put on the record.
async fn require_utf8(client: &impl tokio_postgres::GenericClient) -> anyhow::Result<()> {
    let encoding: String = client.query_one("SELECT current_setting('server_encoding')", &[]).await?.get(0);
    ensure!(
        encoding == "UTF8",
        "the database's encoding is {encoding}: make another one with ENCODING 'UTF8' TEMPLATE template0"
    );
    Ok(())
}

fn runner() -> anyhow::Result<Runner> {
    let migrations: Result<Vec<_>, _> =
        MIGRATIONS.iter().map(|(name, sql)| Migration::unapplied(name, sql)).collect();
    Ok(Runner::new(&migrations?))
}
