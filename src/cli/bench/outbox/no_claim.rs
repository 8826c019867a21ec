//! The limit: the same rows read, deleted and put on the record, batch by batch, in as many transactions and
//! round trips, with nothing claimed. Whoever crashed would send everything again, and only one may read a row: no product can do that.

use deadpool_postgres::Object;
use futures_util::future::join3;
use uuid::Uuid;

use super::BATCH;
use super::turns::record;
use crate::db::pool::Pool;
use crate::db::transaction::{Transaction, begin, commit};
use crate::model::delivery::Record;
use crate::model::ids::{NotificationId, WorkerId};

const READ: &str = include_str!("../../../../sql/queries/bench/read_owed.sql");
const END: &str = include_str!("../../../../sql/queries/bench/end_owed.sql");

/// What was read and not yet written.
#[derive(Debug, Default)]
struct Ended {
    ids: Vec<Uuid>,
    tenants: Vec<i32>,
    destinations: Vec<Uuid>,
    records: Vec<Record>,
}

/// Takes turns over the rows of these ids, which are ascending and nobody else's.
///
/// # Errors
/// If the database refuses.
pub async fn take(pool: Pool, ids: &[NotificationId]) -> anyhow::Result<()> {
    let Some(last) = ids.last() else { return Ok(()) };
    let worker = WorkerId::new();
    let first = ids.first().map_or(Uuid::nil(), |first| Uuid::from_u128(first.0.as_u128() - 1));
    let (mut after, mut ended) = (first, Ended::default());
    loop {
        let transaction = Transaction::on(pool.get().await?);
        let client = transaction.client()?;
        // All of it at once, as the worker has it.
        let (begun, written, rows) = join3(begin(client), write(client, worker, &ended), async {
            let statement = client.prepare_cached(READ).await?;
            client.query(&statement, &[&after, &last.0, &(BATCH as i64)]).await
        })
        .await;
        begun?;
        written?;
        let rows = rows?;
        commit(client).await?;
        transaction.is_over();
        ended = Ended::default();
        for row in &rows {
            ended.ids.push(row.get(0));
            ended.tenants.push(row.get(1));
            ended.destinations.push(row.get(2));
            ended.records.push(record(row.get(3)));
        }
        match ended.ids.last() {
            Some(id) => after = *id,
            None => return Ok(()),
        }
    }
}

/// Deletes them, and puts them on the record.
async fn write(client: &Object, worker: WorkerId, ended: &Ended) -> anyhow::Result<()> {
    if ended.ids.is_empty() {
        return Ok(());
    }
    let each = || ended.records.iter();
    let started: Vec<_> = each().map(|record| record.started_at).collect();
    let finished: Vec<_> = each().map(|record| record.finished_at).collect();
    let codes: Vec<_> = each().map(|record| record.status_code.map(i32::from)).collect();
    let answers: Vec<_> = each().map(|record| record.answer.as_deref()).collect();
    let hashes: Vec<_> = each().map(|record| record.body_sha256.as_slice()).collect();
    let Ended { ids, tenants, destinations, .. } = ended;
    let statement = client.prepare_cached(END).await?;
    client
        .execute(
            &statement,
            &[&worker.0, ids, tenants, destinations, &started, &finished, &codes, &answers, &hashes],
        )
        .await?;
    Ok(())
}
