//! Publishing one event to JetStream, and waiting until the broker has stored it.

use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::jetstream::stream::{Config as StreamConfig, RetentionPolicy, StorageType};

use tokio::time::Instant;

use super::destinations::nats::Event;
use super::send::SendError;
use crate::config;
use crate::ingest::broker::is_stored;

/// Events are kept this long for those who read them.
const KEEP: Duration = Duration::from_secs(7 * 86_400);
/// Repeats within it are dropped by the broker.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(3600);

/// Where the broker stored it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The stream and the number in it.
    pub external_id: String,
    /// The broker had it already.
    pub duplicate: bool,
}

/// Publishes an event.
///
/// # Errors
/// If the broker did not say in time that it has stored it.
pub async fn publish(jetstream: &Context, event: Event, deadline: Instant) -> Result<Stored, SendError> {
    let publishing = async {
        let sent = jetstream.publish_with_headers(event.subject, event.headers, event.body.into()).await;
        let ack = sent.map_err(|error| SendError::Connect(error.to_string()))?;
        ack.await.map_err(|error| SendError::Broken(error.to_string()))
    };
    let timeout = deadline.saturating_duration_since(Instant::now());
    if timeout.is_zero() {
        return Err(SendError::TooLate);
    }
    let ack =
        tokio::time::timeout_at(deadline, publishing).await.unwrap_or(Err(SendError::Timeout(timeout)))?;
    if !is_stored(&ack) {
        return Err(SendError::Connect("the broker refused it: its stream is full, perhaps".to_owned()));
    }
    Ok(Stored { external_id: format!("{}:{}", ack.stream, ack.sequence), duplicate: ack.duplicate })
}

/// Makes the stream that keeps the events, if no stream does. One that is there is its owner's business.
pub async fn ensure_stream(jetstream: &Context, settings: &config::Deliver) {
    let stream = StreamConfig {
        name: settings.alerts_stream.clone(),
        subjects: vec![format!("{}.>", settings.alerts_subject_prefix)],
        storage: StorageType::File,
        retention: RetentionPolicy::Limits,
        max_age: KEEP,
        duplicate_window: DUPLICATE_WINDOW,
        ..StreamConfig::default()
    };
    if let Err(error) = jetstream.get_or_create_stream(stream).await {
        tracing::warn!(%error, stream = settings.alerts_stream, "failed to make the stream for alert events");
    }
}
