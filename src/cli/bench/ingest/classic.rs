//! The classic design, built fairly: a hundred readings or 500 ms make a batch, stored by one INSERT of text columns into a
//! table keyed by names, and then acknowledged one by one. Pulling goes on while a batch is being stored.

use std::time::{Duration, Instant};

use async_nats::jetstream::Message;
use async_nats::jetstream::consumer::PullConsumer;
use futures_util::StreamExt;
use tokio::sync::mpsc;

use crate::cli::bench::contest::{Outcome, Run};
use crate::cli::bench::ground::{Ground, TENANT};
use crate::cli::bench::load::publish;
use crate::cli::readings::Readings;
use crate::db::pool::{Pool, Role};
use crate::ingest::decode::decode;

/// Not part of the product's schema: it exists for this comparison.
const TABLE: &str = "CREATE TABLE IF NOT EXISTS classic_readings (
    tenant text NOT NULL, device text NOT NULL, metric text NOT NULL, unit text, ts timestamptz NOT NULL,
    value double precision NOT NULL, received_at timestamptz NOT NULL, PRIMARY KEY (device, metric, ts))";
const INSERT: &str = "INSERT INTO classic_readings (tenant, device, metric, unit, ts, value, received_at)
    SELECT tenant, device, metric, unit, to_timestamp(ts::float8 / 1e6), value::float8, received_at::timestamptz
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[])
         AS r (tenant, device, metric, unit, ts, value, received_at)
    ON CONFLICT DO NOTHING";

const BATCH_SIZE: usize = 100;
const BATCH_INTERVAL: Duration = Duration::from_millis(500);
const FETCH: usize = 1_000;

/// Stores `count` messages of one reading.
///
/// # Errors
/// If a server refuses.
pub async fn run(ground: &Ground, count: usize) -> Outcome {
    ground.owner.batch_execute(TABLE).await?;
    publish(ground, Readings::recent(), 0..count, 1).await?;
    let pool = Pool::new(&ground.config.database, Role::Owner, 1)?;
    let client = pool.get().await?;
    let statement = client.prepare(INSERT).await?;
    let stream = ground.jetstream().get_stream(&ground.config.ingest.stream).await?;
    let consumer: PullConsumer =
        stream.get_consumer(&ground.config.ingest.consumer).await.map_err(anyhow::Error::from_boxed)?;
    let (before, start) = (ground.cpu(None), Instant::now());
    let (pulled, mut arrivals) = mpsc::channel(FETCH);
    let pulling = tokio::spawn(pull(consumer, count, pulled));
    let mut batch: Vec<Message> = Vec::with_capacity(BATCH_SIZE);
    let mut open = true;
    while open {
        let due = tokio::time::Instant::now() + BATCH_INTERVAL;
        while batch.len() < BATCH_SIZE {
            match tokio::time::timeout_at(due, arrivals.recv()).await {
                Ok(Some(message)) => batch.push(message),
                Ok(None) => {
                    open = false;
                    break;
                }
                Err(_) => break,
            }
        }
        let mut columns: [Vec<String>; 7] = Default::default();
        for message in &batch {
            for reading in decode(&message.payload).into_iter().flatten() {
                let ts = reading.ts.map_or_else(String::new, |ts| ts.get().to_owned());
                let now = jiff::Timestamp::now().to_string();
                let unit = reading.unit.clone().unwrap_or_default();
                let value = reading.value.to_string();
                let row = [
                    TENANT.into(),
                    reading.device.into(),
                    reading.metric.into(),
                    unit.into(),
                    ts,
                    value,
                    now,
                ];
                for (column, field) in columns.iter_mut().zip(row) {
                    column.push(field);
                }
            }
        }
        let [tenants, devices, metrics, units, times, values, received] = &columns;
        client.execute(&statement, &[tenants, devices, metrics, units, times, values, received]).await?;
        for message in batch.drain(..) {
            message.ack().await.map_err(anyhow::Error::from_boxed)?;
        }
    }
    pulling.await??;
    ground.wait_for_messages(0).await?;
    let run = Run::new(count, start.elapsed(), ground.cpu(None).since(before));
    ground.check("classic_readings", count).await?;
    ground.owner.batch_execute("TRUNCATE classic_readings").await?;
    ground.clear().await?;
    Ok(run)
}

async fn pull(consumer: PullConsumer, count: usize, pulled: mpsc::Sender<Message>) -> anyhow::Result<()> {
    let mut taken = 0;
    while taken < count {
        let mut batch = consumer.fetch().max_messages(FETCH).messages().await?;
        while let Some(message) = batch.next().await {
            taken += 1;
            if pulled.send(message.map_err(anyhow::Error::from_boxed)?).await.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}
