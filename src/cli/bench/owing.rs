//! What is owed to whom, while delivery is measured: hubs, and notifications of the size that alerts have.

use anyhow::Context as _;
use serde_json::{Value, json};

use super::ground::Ground;
use crate::db::pool::Pool;
use crate::deliver::secrets::SecretKey;
use crate::model::alert::Happening;
use crate::model::ids::{AlertId, DestinationId, NotificationId, TenantId};
use crate::model::notification::Notification;
use crate::outbox::chain::Owed;
use crate::outbox::enqueue::enqueue;

const INSERT_DESTINATIONS: &str = include_str!("../../../sql/queries/bench/insert_destinations.sql");

/// What the hubs want to see.
pub const HUB_KEY: &str = "the-key-of-the-hub-of-the-benchmark";
/// What a hub answers.
pub const ANSWER: &str = r#"{"published":true,"processed":1}"#;
/// Rows that are enqueued in one transaction.
const AT_ONCE: usize = 5_000;
/// Lane classes: as many as severities.
const CLASSES: usize = 4;

/// Takes away all that was owed and delivered, and whom it was owed to.
///
/// # Errors
/// If the database refuses.
pub async fn clear(ground: &Ground) -> anyhow::Result<()> {
    let clear = "TRUNCATE destinations, notifications, notification_alerts, outbox, dead_letters, delivery_attempts, workers
        CASCADE; CHECKPOINT";
    Ok(ground.owner.batch_execute(clear).await?)
}

/// Makes a hub for each of these addresses.
///
/// # Errors
/// If the database refuses.
pub async fn hubs(ground: &Ground, urls: &[String]) -> anyhow::Result<Vec<DestinationId>> {
    let key = SecretKey::parse(&ground.config.secrets.key)?.context("the benchmark has a key")?;
    let ids: Vec<DestinationId> = urls.iter().map(|_| DestinationId::new()).collect();
    let settings: Vec<Value> = urls.iter().map(|url| json!({ "url": url })).collect();
    let secrets = ids.iter().map(|id| key.seal(*id, &HUB_KEY.into())).collect::<Result<Vec<_>, _>>()?;
    let plain: Vec<_> = ids.iter().map(|id| id.0).collect();
    ground.owner.execute(INSERT_DESTINATIONS, &[&plain, &ground.tenant.0, &settings, &secrets]).await?;
    Ok(ids)
}

/// A notification to a destination, as detection makes them; `number` decides its class.
pub fn notification(tenant: TenantId, destination: DestinationId, number: usize) -> Notification {
    let id = NotificationId::new();
    Notification {
        id,
        tenant,
        about: vec![(AlertId::new(), 1)],
        // No other is about the same: nothing waits.
        chains: Vec::new(),
        destination,
        event: Happening::Opened,
        lane_class: 2 * (number % CLASSES) as i16,
        body: body(id),
        superseded_by: None,
        supersedes: Vec::new(),
    }
}

/// What is sent: some 600 bytes.
fn body(id: NotificationId) -> String {
    json!({
        "event_type": "alert.opened",
        "event_id": id,
        "payload": {
            "title": "pump-0017 temperature is above 80",
            "severity": "critical",
            "rule": "temperature of the pumps in the northern hall",
            "device": "pump-0017",
            "metric": "temperature",
            "value": 93.25,
            "threshold": 80.0,
            "breached_at": "2026-01-01T12:34:56.789012Z",
            "summary": "The temperature of pump-0017 has been above 80 since 12:34:56 UTC: it is 93.25 now.",
            "link": "https://watchbell.example/alerts/0190a4f4-58e0-7000-8000-000000000000",
            "labels": { "site": "north", "hall": "3", "line": "cooling", "team": "plant operations" },
        },
    })
    .to_string()
}

/// Owes so many notifications to these in turn; returns their ids, ascending. Tables are as autovacuum keeps them.
///
/// # Errors
/// If the database refuses.
pub async fn owe(
    ground: &Ground,
    pool: &Pool,
    to: &[DestinationId],
    count: usize,
) -> anyhow::Result<Vec<NotificationId>> {
    let mut ids = Vec::with_capacity(count);
    let mut client = pool.get().await?;
    for first in (0..count).step_by(AT_ONCE) {
        let rows: Vec<Notification> = (first..(first + AT_ONCE).min(count))
            // Of each destination's rows some are of every class.
            .map(|number| notification(ground.tenant, to[number % to.len()], number / to.len()))
            .collect();
        let transaction = client.transaction().await?;
        enqueue(&transaction, &rows, &Owed::default()).await?;
        transaction.commit().await?;
        ids.extend(rows.iter().map(|row| row.id));
    }
    ground.owner.batch_execute("VACUUM (ANALYZE) outbox, notifications, delivery_attempts").await?;
    Ok(ids)
}
