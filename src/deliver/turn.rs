//! A worker's turn in the database: what ended goes on the record, what may start is claimed.
//!
//! A plain turn says nothing of destinations and asks for no leave: it is sent as a whole, and another may be under way beside it.
//! Every other one goes alone, step by step: what is written of a destination is written in the order in which it was noted.

use std::time::Duration;

use tokio::time::Instant;

use super::attempt::Ended;
use super::lanes::{AsOf, Lanes};
use super::leave;
use super::signs::Signs;
use crate::db::pool::Pool;
use crate::db::transaction::{Transaction, begin};
use crate::model::delivery::Completion;
use crate::model::ids::WorkerId;
use crate::outbox::claim::{Lane, claim};
use crate::outbox::complete::complete;
use crate::outbox::turn::{self, Failed, Taken};

/// What is written, and what is asked for.
#[derive(Debug)]
pub struct Turn {
    /// Nil: nobody, it claims nothing.
    pub worker: WorkerId,
    /// To be put on the record.
    pub ended: Vec<Ended>,
    /// What may be claimed of each.
    pub lanes: Vec<Lane>,
    /// What may be claimed in all.
    pub total: usize,
    /// What the lanes were then.
    pub as_of: AsOf,
    /// When it began.
    pub began_at: Instant,
    /// One outcome at a time: the database refused what is in one of them.
    pub cautious: bool,
}

/// A turn that is over. If it failed, nothing of it is written, or all of it.
#[derive(Debug)]
pub struct Turned {
    /// As it was; the lanes as they were found.
    pub turn: Turn,
    /// What came of it.
    pub result: Result<Taken, Failed>,
}

impl Turn {
    /// There is nothing to do in it.
    pub fn is_empty(&self) -> bool {
        self.ended.is_empty() && self.lanes.is_empty()
    }

    /// Rows that are in its worker's hands until it is over: what ended stays there until the commit, what is claimed comes with it.
    pub fn holds(&self) -> usize {
        self.ended.len().max(self.total)
    }

    /// Takes a plain one.
    pub async fn take(mut self, pool: Pool) -> Turned {
        let result = self.try_take(&pool).await;
        Turned { turn: self, result }
    }

    async fn try_take(&mut self, pool: &Pool) -> Result<Taken, Failed> {
        let client = pool.get().await?;
        let completions: Vec<&Completion> = self.ended.iter().map(|ended| &ended.completion).collect();
        turn::take(client, self.worker, &completions, &mut self.lanes, self.total).await
    }

    /// Takes one beside which there is no other.
    pub async fn take_alone(
        mut self,
        pool: &Pool,
        lanes: &mut Lanes,
        signs: &Signs,
        hold: Duration,
    ) -> Turned {
        let result = self.try_take_alone(pool, lanes, signs, hold).await;
        Turned { turn: self, result }
    }

    async fn try_take_alone(
        &mut self,
        pool: &Pool,
        lanes: &mut Lanes,
        signs: &Signs,
        hold: Duration,
    ) -> Result<Taken, Failed> {
        let transaction = Transaction::on(pool.get().await?);
        let client = transaction.client()?;
        begin(client).await?;
        let completions: Vec<&Completion> = self.ended.iter().map(|ended| &ended.completion).collect();
        let completed = complete(client, self.worker, &completions).await?;
        signs.write(client, hold).await?;
        let leave = leave::ask(client, lanes, &mut self.lanes).await?;
        let attempts = claim(client, self.worker, &mut self.lanes, self.total).await?;
        leave::take(client, lanes, leave, &attempts).await?;
        turn::end(transaction, Taken { completed, attempts }).await
    }
}
