//! Sends messages to the stream, in order, and knows of each whether the broker has stored it.
//!
//! Invariants: what counts as stored was acknowledged by the broker; at most `most` messages wait for that. A
//! message whose acknowledgement failed is sent again, with those after it that failed too, in their order and under the
//! same `Nats-Msg-Id`, so that the broker drops the repeat of one that it had stored after all.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::anyhow;
use async_nats::jetstream::context::{PublishAckFuture, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{self, Context};
use bytes::Bytes;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use crate::model::reading::UnixMicros;

/// The broker answers within this, or the message counts as not stored.
const ACK_TIMEOUT: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Readings that go together.
#[derive(Debug, Clone, Default)]
pub struct Message {
    /// An array.
    pub body: Bytes,
    /// How many are in it.
    pub readings: u64,
    /// The earliest and the latest of their times.
    pub span: Option<(UnixMicros, UnixMicros)>,
    /// The line on which the last of them stands.
    pub line: u64,
}

/// What the broker has stored.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stored {
    /// How many readings.
    pub readings: u64,
    /// The earliest and the latest of their times.
    pub span: Option<(UnixMicros, UnixMicros)>,
    /// All up to this line of the file.
    pub line: u64,
}

/// Sends to one subject.
pub struct Sender {
    broker: Context,
    subject: String,
    run: Uuid,
    sent: u64,
    retry_for: Duration,
    most: usize,
    outstanding: VecDeque<(u64, Message, Pending)>,
    stored: Stored,
}

impl Sender {
    /// A sender that gives up when the broker stored nothing for `retry_for`, with at most `most` messages outstanding.
    pub fn new(client: async_nats::Client, subject: String, retry_for: Duration, most: usize) -> Self {
        Self {
            broker: jetstream::new(client),
            subject,
            run: Uuid::now_v7(),
            sent: 0,
            retry_for,
            most,
            outstanding: VecDeque::new(),
            stored: Stored::default(),
        }
    }

    /// What is known to be stored.
    pub fn stored(&self) -> Stored {
        self.stored
    }

    /// Sends a message; waits while too many are outstanding.
    ///
    /// # Errors
    /// If the broker stores nothing any more, or no stream takes the subject.
    pub async fn send(&mut self, message: Message) -> anyhow::Result<()> {
        while self.outstanding.len() >= self.most {
            self.settle_oldest().await?;
        }
        self.sent += 1;
        let number = self.sent;
        match self.publish(number, &message).await {
            Ok(ack) => self.outstanding.push_back((number, message, ack)),
            Err(problem) => self.recover(vec![(number, message)], problem).await?,
        }
        Ok(())
    }

    /// Waits until everything is stored.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn finish(&mut self) -> anyhow::Result<()> {
        while !self.outstanding.is_empty() {
            self.settle_oldest().await?;
        }
        Ok(())
    }

    async fn settle_oldest(&mut self) -> anyhow::Result<()> {
        let Some((number, message, ack)) = self.outstanding.pop_front() else { return Ok(()) };
        match acknowledged(ack).await {
            Ok(()) => self.note_stored(&message),
            Err(problem) => self.recover(vec![(number, message)], problem).await?,
        }
        Ok(())
    }

    /// Sends again what failed: these, and those after them whose acknowledgement failed as well.
    async fn recover(&mut self, mut failed: Vec<(u64, Message)>, problem: Problem) -> anyhow::Result<()> {
        if problem.is_final && self.stored.readings == 0 {
            return Err(anyhow!("{problem}"));
        }
        let mut deadline = Instant::now() + self.retry_for;
        for (number, message, ack) in std::mem::take(&mut self.outstanding) {
            match acknowledged(ack).await {
                Ok(()) => self.note_stored(&message),
                Err(_) => failed.push((number, message)),
            }
        }
        // Whatever was sent last may have failed before what was still outstanding.
        failed.sort_unstable_by_key(|(number, _)| *number);
        for (number, message) in failed {
            let mut pause = FIRST_PAUSE;
            while let Err(problem) = self.publish_and_wait(number, &message).await {
                if Instant::now() >= deadline {
                    return Err(anyhow!("{problem}"));
                }
                tracing::warn!(%problem, "the broker did not store a message, sending it again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            self.note_stored(&message);
            deadline = Instant::now() + self.retry_for;
        }
        Ok(())
    }

    async fn publish_and_wait(&self, number: u64, message: &Message) -> Result<(), Problem> {
        acknowledged(self.publish(number, message).await?).await
    }

    async fn publish(&self, number: u64, message: &Message) -> Result<Pending, Problem> {
        let id = format!("{}-{number}", self.run);
        let publish = PublishMessage::build().payload(message.body.clone()).message_id(id);
        let sent = self.broker.send_publish(self.subject.clone(), publish).await;
        let answer_by = Instant::now() + ACK_TIMEOUT;
        sent.map(|ack| Pending { ack, answer_by }).map_err(|error| Problem::of(&error))
    }

    fn note_stored(&mut self, message: &Message) {
        self.stored.readings += message.readings;
        self.stored.line = self.stored.line.max(message.line);
        self.stored.span = joined(self.stored.span, message.span);
    }
}

/// The span over two spans.
pub fn joined(
    one: Option<(UnixMicros, UnixMicros)>,
    other: Option<(UnixMicros, UnixMicros)>,
) -> Option<(UnixMicros, UnixMicros)> {
    match (one, other) {
        (Some((a, b)), Some((c, d))) => Some((a.min(c), b.max(d))),
        (one, other) => one.or(other),
    }
}

/// A message under way. Its time runs from when it was sent, so that many that fail together are known to have failed
/// together.
struct Pending {
    ack: PublishAckFuture,
    answer_by: Instant,
}

async fn acknowledged(pending: Pending) -> Result<(), Problem> {
    match timeout_at(pending.answer_by, pending.ack).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(Problem::of(&error)),
        Err(_) => Err(Problem { text: "the broker does not answer".to_owned(), is_final: false }),
    }
}

/// Why a message was not stored.
#[derive(Debug)]
struct Problem {
    text: String,
    /// Unless something was stored before: then the broker may be on its way back.
    is_final: bool,
}

impl Problem {
    fn of(error: &jetstream::context::PublishError) -> Self {
        let is_final = error.kind() == PublishErrorKind::StreamNotFound;
        let text = if is_final {
            "no stream on the broker takes readings of this tenant: start the service first, it makes the stream"
                .to_owned()
        } else {
            error.to_string()
        };
        Self { text, is_final }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.text)
    }
}
