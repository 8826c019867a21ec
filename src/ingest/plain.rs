//! Plain NATS: messages of a subscription in a queue group, for `ingest.source = "core"`.
//!
//! Nothing is kept for whoever is slow: the client holds no more than [`MESSAGES`] and drops what comes beyond, and so does
//! the consumer when the batch that grows is full. Both are counted.

use std::pin::Pin;
use std::time::Duration;

use async_nats::{Client, Message, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::ReadyChunks;

use super::incoming::Incoming;
use crate::model::reading::UnixMicros;

/// Messages that may wait in the client.
pub const MESSAGES: usize = 4_096;
/// Messages taken together when they are there together.
const CHUNK: usize = 500;
/// No element of an array takes fewer bytes: `{"device":"a","metric":"b","value":1}`.
const SMALLEST_ELEMENT: usize = 37;

/// The broker has heard of a subscription when this is over, if it does not say so before.
const HEARD_WITHIN: Duration = Duration::from_secs(1);

/// What is published while it lives.
pub struct Subscription {
    arrivals: Pin<Box<ReadyChunks<Subscriber>>>,
    /// Times before it are taken.
    next_time: UnixMicros,
}

impl Subscription {
    /// Subscribes to `<prefix>.>`; the processes of the group share what comes.
    ///
    /// # Errors
    /// If the client is closed, or the subject is none.
    pub async fn open(client: &Client, prefix: &str, group: &str) -> anyhow::Result<Self> {
        let subscriber = client.queue_subscribe(format!("{prefix}.>"), group.to_owned()).await?;
        // The broker does things in order: when it has said that nobody answers here, it has the subscription, and what is
        // published from then on comes. Where we may not ask, a moment has passed all the same.
        let nobody = client.new_inbox();
        let _ = tokio::time::timeout(HEARD_WITHIN, client.request(nobody, Bytes::new())).await;
        Ok(Self { arrivals: Box::pin(subscriber.ready_chunks(CHUNK)), next_time: UnixMicros(0) })
    }

    /// What is there, waiting for the first; `None` when the client is closed.
    pub async fn next(&mut self) -> Option<Vec<Message>> {
        self.arrivals.next().await
    }

    /// The messages with the times at which they came. Readings that bring no time have their message's, plus their place
    /// in it in microseconds; so no two messages are closer than what they could hold.
    pub fn with_times(&mut self, messages: Vec<Message>, now: UnixMicros) -> Vec<Incoming> {
        let mut incoming = Vec::with_capacity(messages.len());
        for message in messages {
            let at = now.max(self.next_time);
            self.next_time = UnixMicros(at.0 + 1 + (message.payload.len() / SMALLEST_ELEMENT) as i64);
            incoming.push(Incoming::new(message, at));
        }
        incoming
    }
}
