//! What is still to be done: messages, batches, notifications; and waiting until it is.

use std::time::{Duration, Instant};

use super::ground::Ground;
use super::processes::Processes;

const OWED: &str = include_str!("../../../sql/queries/prove/owed.sql");

const LOOK_EVERY: Duration = Duration::from_millis(50);
const LINE_EVERY: Duration = Duration::from_secs(5);
/// If nothing was paid for so long, it is never paid.
const PATIENCE: Duration = Duration::from_secs(180);

/// What is still to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Debt {
    /// Messages on the stream.
    pub messages: i64,
    /// Batches not judged.
    pub flushes: i64,
    /// Notifications owed.
    pub owed: i64,
}

impl Debt {
    /// Asks both servers.
    ///
    /// # Errors
    /// If one does not answer.
    pub async fn look(ground: &Ground) -> anyhow::Result<Self> {
        let messages = i64::try_from(ground.messages_left().await?)?;
        let row = ground.owner.query_one(OWED, &[]).await?;
        Ok(Self { messages, flushes: row.get(0), owed: row.get(1) })
    }

    /// Whether nothing is.
    pub fn is_paid(self) -> bool {
        self == Self { messages: 0, flushes: 0, owed: 0 }
    }
}

/// Waits until everything is done, or nothing is done any more; processes that end are started again.
///
/// # Errors
/// If a server does not answer.
pub async fn wait_until_paid(ground: &Ground, processes: &mut Processes) -> anyhow::Result<Debt> {
    let (mut paid, mut line) = (Instant::now(), Instant::now());
    let mut least = i64::MAX;
    loop {
        processes.tend()?;
        let debt = Debt::look(ground).await?;
        let Debt { messages, flushes, owed } = debt;
        if messages + flushes + owed < least {
            (least, paid) = (messages + flushes + owed, Instant::now());
        }
        if debt.is_paid() || paid.elapsed() >= PATIENCE {
            return Ok(debt);
        }
        if line.elapsed() >= LINE_EVERY {
            line = Instant::now();
            eprintln!("no more faults · messages {messages} · batches {flushes} · owed {owed}");
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
