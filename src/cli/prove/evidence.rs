//! What is there when the faults are over: in the database, on the stream, and in the hub's own record.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, bail};
use jiff::Timestamp;
use tokio_postgres::GenericClient;
use uuid::Uuid;

use super::debt::Debt;
use super::ground::Ground;
use super::recompute::{StoredAlert, StoredReading};
use crate::dev::hub::{Answered, Received};

const STORED_READINGS: &str = include_str!("../../../sql/queries/prove/stored_readings.sql");
const ALERTS: &str = include_str!("../../../sql/queries/prove/alerts.sql");
const DELIVERIES: &str = include_str!("../../../sql/queries/prove/deliveries.sql");
const ATTEMPTS: &str = include_str!("../../../sql/queries/prove/attempts.sql");
const EPOCH: &str = include_str!("../../../sql/queries/prove/epoch.sql");

/// A reading with its device's name.
#[derive(Debug)]
pub struct NamedReading {
    /// Of which device.
    pub device: String,
    /// What is stored.
    pub stored: StoredReading,
}

/// A notification and what is on record of it.
#[derive(Debug)]
pub struct Delivery {
    /// As the view `deliveries` says.
    pub status: String,
    /// What was to be sent.
    pub body: String,
    /// Attempts on record.
    pub attempts: i64,
}

/// A call at the hub.
#[derive(Debug)]
pub struct Post {
    /// The body.
    pub body: Vec<u8>,
    /// Whether it was answered 2xx.
    pub accepted: bool,
}

/// What is there.
#[derive(Debug)]
pub struct Evidence {
    /// All that are stored.
    pub readings: Vec<NamedReading>,
    /// All.
    pub alerts: Vec<StoredAlert>,
    /// All notifications.
    pub deliveries: HashMap<Uuid, Delivery>,
    /// The hub's own record, in its order; those of no notification's id under the nil id.
    pub posts: HashMap<Uuid, Vec<Post>>,
    /// How the hub answered.
    pub answers: BTreeMap<String, i64>,
    /// Attempts on record by their outcome.
    pub attempts: BTreeMap<String, i64>,
    /// How often the detector's lease changed hands, the first time included.
    pub epoch: i64,
    /// What was not done in time.
    pub debt: Debt,
}

impl Evidence {
    /// Collects it.
    ///
    /// # Errors
    /// If a server does not answer, or the hub's record is not whole.
    pub async fn collect(ground: &Ground, debt: Debt) -> anyhow::Result<Self> {
        let calls = ground.hub.received();
        if calls.len() as u64 != ground.hub.total() {
            bail!("the hub kept {} calls of {}: the run was too long", calls.len(), ground.hub.total());
        }
        let mut answers = BTreeMap::new();
        let mut posts: HashMap<Uuid, Vec<Post>> = HashMap::new();
        for call in calls {
            *answers.entry(answer(&call)).or_default() += 1;
            let id = call.event_id.as_deref().and_then(|id| id.parse().ok()).unwrap_or_default();
            posts.entry(id).or_default().push(Post { accepted: call.was_accepted(), body: call.body.into() });
        }
        let owner = &ground.owner;
        Ok(Self {
            readings: readings(owner).await.context("failed to read the readings")?,
            alerts: alerts(owner).await.context("failed to read the alerts")?,
            deliveries: deliveries(owner).await.context("failed to read the deliveries")?,
            attempts: owner.query(ATTEMPTS, &[]).await?.iter().map(|row| (row.get(0), row.get(1))).collect(),
            epoch: owner.query_one(EPOCH, &[]).await?.get(0),
            posts,
            answers,
            debt,
        })
    }
}

fn answer(call: &Received) -> String {
    match call.answered {
        Answered::Status(status) => status.to_string(),
        Answered::Hung | Answered::Closed => "silence".to_owned(),
    }
}

async fn readings(client: &impl GenericClient) -> Result<Vec<NamedReading>, tokio_postgres::Error> {
    let rows = client.query(STORED_READINGS, &[]).await?;
    Ok(rows
        .iter()
        .map(|row| NamedReading {
            device: row.get(1),
            stored: StoredReading {
                series: row.get(0),
                metric: row.get(2),
                ts: row.get::<_, Timestamp>(3).as_microsecond(),
                value: row.get(4),
            },
        })
        .collect())
}

async fn alerts(client: &impl GenericClient) -> Result<Vec<StoredAlert>, tokio_postgres::Error> {
    let rows = client.query(ALERTS, &[]).await?;
    Ok(rows
        .iter()
        .map(|row| StoredAlert {
            rule: row.get(0),
            series: row.get(1),
            breached_at: row.get::<_, Timestamp>(2).as_microsecond(),
            ended_at: row.get::<_, Option<Timestamp>>(3).map(Timestamp::as_microsecond),
            late: row.get(4),
            opening_told: row.get(5),
            end_told: row.get(6),
        })
        .collect())
}

async fn deliveries(client: &impl GenericClient) -> Result<HashMap<Uuid, Delivery>, tokio_postgres::Error> {
    let rows = client.query(DELIVERIES, &[]).await?;
    let delivery =
        |row: &tokio_postgres::Row| Delivery { status: row.get(1), body: row.get(2), attempts: row.get(3) };
    Ok(rows.iter().map(|row| (row.get(0), delivery(row))).collect())
}
