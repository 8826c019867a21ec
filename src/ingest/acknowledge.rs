//! What the broker is told of messages: stored, still being worked on, or to be sent again.
//!
//! Nothing here waits for an answer. A word that is lost costs a redelivery, and that is a repeat.

use std::time::Duration;

use async_nats::jetstream::AckKind;
use async_nats::{Client, Subject};
use bytes::Bytes;

/// After this the broker sends what we gave back again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// Committed: the broker may forget it.
    Stored,
    /// It takes longer: the broker shall wait.
    Working,
    /// The broker keeps it and sends it again.
    Again,
}

/// Speaks to the broker about messages, by their reply subjects.
#[derive(Debug, Clone)]
pub struct Acknowledger(Client);

impl Acknowledger {
    /// Speaks over `client`.
    pub fn new(client: Client) -> Self {
        Self(client)
    }

    /// Says the same of each message.
    pub async fn say(&self, word: Word, replies: &[Subject]) {
        let kind = match word {
            Word::Stored => AckKind::Ack,
            Word::Working => AckKind::Progress,
            Word::Again => AckKind::Nak(Some(AGAIN_AFTER)),
        };
        let payload = Bytes::from(kind);
        for reply in replies {
            if let Err(error) = self.0.publish(reply.clone(), payload.clone()).await {
                tracing::debug!(%error, "failed to tell the broker about a message");
            }
        }
    }
}
