//! Messages of the durable consumer, in the order in which the broker sends them.
//!
//! Two pull requests are kept under way on one inbox, so that the broker never waits for us to ask, and each is bounded
//! in messages and bytes, so that what waits here is too. (Requests with an inbox each would be served in turns by the
//! broker, and the order of the readings lost.)
//!
//! Invariant: more than [`MESSAGES`] never wait in the client. A message that is not taken from here comes again when
//! `ack_wait` is over.
//!
//! Source of the protocol: NATS ADR-13, "Pull Subscribe internals".

use std::time::Duration;

use async_nats::{Client, Message, StatusCode, Subscriber};
use futures_util::StreamExt;
use futures_util::stream::ReadyChunks;
use serde_json::json;

/// Messages that may be asked for and not be here yet, in all.
pub const MESSAGES: usize = 8_000;
/// Messages taken together when they are there together.
const CHUNK: usize = 1_000;
/// Bytes of one request, if the broker lets no single message be larger.
const REQUEST_BYTES: usize = 4 * 1024 * 1024;
/// Bytes that a message takes beside its payload, at most: subject, reply and headers.
const ENVELOPE_BYTES: usize = 64 * 1024;
/// The broker ends a request that found nothing after this long.
pub const EXPIRES: Duration = Duration::from_secs(2);
/// A request of which nothing was heard for this long is lost, with the connection that it was sent on.
const LOST_AFTER: Duration = Duration::from_millis(2_500);
/// How many of a request's messages did not come, in the broker's last word on it.
const PENDING_MESSAGES: &str = "Nats-Pending-Messages";

/// Why pulling does not go on.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The client is closed, or a request can't be sent.
    #[error("the connection to the broker is closed")]
    Closed,
    /// The broker ended a request for another reason than its bounds.
    #[error("the broker ended a pull request: {0}")]
    Ended(String),
}

/// Requests that are under way, and what comes of them.
pub struct Pull {
    client: Client,
    /// Where requests go.
    requests: String,
    inbox: String,
    arrivals: ReadyChunks<Subscriber>,
    /// Messages asked for that have not come.
    outstanding: usize,
    request_bytes: usize,
}

impl Pull {
    /// Listens; asks for nothing yet.
    ///
    /// # Errors
    /// If the client is closed.
    pub async fn open(client: &Client, stream: &str, consumer: &str) -> Result<Self, PullError> {
        let inbox = client.new_inbox();
        let subscriber = client.subscribe(inbox.clone()).await.map_err(|_| PullError::Closed)?;
        Ok(Self {
            client: client.clone(),
            requests: format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"),
            inbox,
            arrivals: subscriber.ready_chunks(CHUNK),
            outstanding: 0,
            request_bytes: REQUEST_BYTES.max(client.server_info().max_payload + ENVELOPE_BYTES),
        })
    }

    /// What is there, waiting for the first; empty when a request found nothing.
    ///
    /// # Errors
    /// [`PullError`]. What was asked for is forgotten, and asked for again by the next call.
    pub async fn next(&mut self) -> Result<Vec<Message>, PullError> {
        while self.outstanding <= MESSAGES / 2 {
            self.ask(MESSAGES / 2).await?;
        }
        self.arrived(LOST_AFTER).await
    }

    /// Asks for nothing more: the broker ends the requests, because nobody listens any more, and what it has sent by then is
    /// still taken by [`Self::rest`].
    ///
    /// # Errors
    /// If the client is closed.
    pub async fn end(&mut self) -> Result<(), PullError> {
        self.arrivals.get_mut().drain().await.map_err(|_| PullError::Closed)
    }

    /// What is on its way after [`Self::end`]; empty when that is all, or nothing came for `patience`.
    pub async fn rest(&mut self, patience: Duration) -> Vec<Message> {
        loop {
            match tokio::time::timeout(patience, self.arrivals.next()).await {
                Ok(Some(chunk)) => {
                    let messages: Vec<_> =
                        chunk.into_iter().filter(|message| message.status.is_none()).collect();
                    if !messages.is_empty() {
                        return messages;
                    }
                }
                Ok(None) | Err(_) => return Vec::new(),
            }
        }
    }

    async fn ask(&mut self, messages: usize) -> Result<(), PullError> {
        let request = json!({ "batch": messages, "max_bytes": self.request_bytes, "expires": EXPIRES.as_nanos() as u64 });
        let sent = self.client.publish_with_reply(
            self.requests.clone(),
            self.inbox.clone(),
            request.to_string().into(),
        );
        sent.await.map_err(|_| PullError::Closed)?;
        self.outstanding += messages;
        Ok(())
    }

    async fn arrived(&mut self, patience: Duration) -> Result<Vec<Message>, PullError> {
        let chunk = match tokio::time::timeout(patience, self.arrivals.next()).await {
            Ok(chunk) => chunk.ok_or(PullError::Closed)?,
            Err(_) => {
                self.outstanding = 0;
                return Ok(Vec::new());
            }
        };
        let mut messages = Vec::with_capacity(chunk.len());
        let mut ended = Ok(());
        for message in chunk {
            match message.status {
                None => {
                    self.outstanding = self.outstanding.saturating_sub(1);
                    messages.push(message);
                }
                Some(status) => ended = ended.and(self.request_ended(status, &message)),
            }
        }
        if messages.is_empty() { ended.map(|()| messages) } else { Ok(messages) }
    }

    /// The broker's last word on a request.
    fn request_ended(&mut self, status: StatusCode, message: &Message) -> Result<(), PullError> {
        let pending = message.headers.as_ref().and_then(|headers| headers.get(PENDING_MESSAGES));
        match pending.and_then(|pending| pending.as_str().parse::<usize>().ok()) {
            Some(pending) => self.outstanding = self.outstanding.saturating_sub(pending),
            // An old broker does not say: too much asked for does no harm.
            None => self.outstanding = 0,
        }
        let description = message.description.as_deref().unwrap_or_default();
        let is_bound = matches!(status, StatusCode::NOT_FOUND | StatusCode::TIMEOUT)
            || description.starts_with("Message Size Exceeds MaxBytes")
            || description.starts_with("Batch Completed");
        if is_bound {
            return Ok(());
        }
        self.outstanding = 0;
        Err(PullError::Ended(format!("{status} {description}")))
    }
}
