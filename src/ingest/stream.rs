//! The stream and its consumer on the broker: made if they are missing, compared with what was asked if they are there.
//!
//! Invariant: the service runs on a stream and a consumer that keep promise 1: nothing accepted is dropped, nothing is
//! forgotten before it was acknowledged. Old brokers ignore settings that they don't know without a word: so what comes
//! back is compared, field by field.

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, PullConsumer, pull};
use async_nats::jetstream::stream::{
    Config as StreamConfig, DiscardPolicy, RetentionPolicy, StorageType, Stream,
};
use async_nats::jetstream::{Context, ErrorCode, context::CreateStreamErrorKind};

use jiff::Timestamp;

use crate::config;

/// The stream can't be used as it is.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// It exists and disagrees with the settings.
    #[error(
        "{what} `{name}` has {field} = {found}, but {asked} is asked for; change the setting {key} or the {what} itself \
         (nothing was changed)"
    )]
    Differs {
        /// Stream or consumer.
        what: &'static str,
        /// Its name.
        name: String,
        /// The field.
        field: &'static str,
        /// As the broker has it.
        found: String,
        /// As the settings have it.
        asked: String,
        /// The setting.
        key: &'static str,
    },
    /// The broker refused or did not answer.
    #[error("failed to set up {what} `{name}` on the broker: {error}")]
    Broker {
        /// Stream or consumer.
        what: &'static str,
        /// Its name.
        name: String,
        /// What it said.
        error: String,
    },
}

/// The stream, for its state.
#[derive(Clone)]
pub struct Handle {
    stream: Stream,
    max_bytes: i64,
}

impl Handle {
    /// Bytes held by bytes allowed.
    ///
    /// # Errors
    /// If the broker does not answer.
    pub async fn fullness(&mut self) -> Result<f64, async_nats::jetstream::stream::InfoError> {
        let bytes = self.stream.info().await?.state.bytes;
        Ok(bytes as f64 / self.max_bytes.max(1) as f64)
    }

    /// When the oldest message came that is not acknowledged yet; `None`: there is none. A stream of its kind holds only what is
    /// not acknowledged, and what is acknowledged is stored.
    ///
    /// # Errors
    /// If the broker does not answer.
    pub async fn oldest(&mut self) -> Result<Option<Timestamp>, async_nats::jetstream::stream::InfoError> {
        let state = &self.stream.info().await?.state;
        let nanos = state.first_timestamp.unix_timestamp_nanos();
        Ok((state.messages > 0).then(|| Timestamp::from_nanosecond(nanos).unwrap_or(Timestamp::MIN)))
    }
}

/// Makes the stream and its durable consumer, as the settings ask for them.
///
/// # Errors
/// If they differ from the settings, or the broker refuses.
pub async fn ensure(jetstream: &Context, ingest: &config::Ingest) -> Result<Handle, StreamError> {
    let asked = stream_config(ingest);
    let broker = |what, name: &str| {
        let name = name.to_owned();
        move |error: String| StreamError::Broker { what, name, error }
    };
    let stream = match jetstream.create_stream(asked.clone()).await {
        Ok(stream) => stream,
        Err(error) => match error.kind() {
            // It is there, with another configuration: look at it, to say in what they differ.
            CreateStreamErrorKind::JetStream(ref inner)
                if inner.error_code() == ErrorCode::STREAM_NAME_EXIST =>
            {
                jetstream
                    .get_stream(&asked.name)
                    .await
                    .map_err(|error| broker("stream", &asked.name)(error.to_string()))?
            }
            _ => return Err(broker("stream", &asked.name)(error.to_string())),
        },
    };
    compare_stream(&asked, &stream.cached_info().config)?;
    let wanted = consumer_config(ingest);
    let refused = |error: String| broker("consumer", &ingest.consumer)(error);
    let consumer: PullConsumer = stream
        .get_or_create_consumer(&ingest.consumer, wanted.clone())
        .await
        .map_err(|error| refused(error.to_string()))?;
    let found = &consumer.cached_info().config;
    compare_consumer(&wanted, found, &ingest.consumer)?;
    if (1..wanted.max_ack_pending).contains(&found.max_ack_pending) {
        // As an older version made it. More room takes nothing from anybody.
        let (found, asked) = (found.max_ack_pending, wanted.max_ack_pending);
        tracing::info!(found, asked, consumer = ingest.consumer, "raising the consumer's max_ack_pending");
        stream.create_consumer(wanted).await.map_err(|error| refused(error.to_string()))?;
    }
    Ok(Handle { stream, max_bytes: asked.max_bytes })
}

fn stream_config(ingest: &config::Ingest) -> StreamConfig {
    StreamConfig {
        name: ingest.stream.clone(),
        subjects: vec![format!("{}.>", ingest.subject_prefix)],
        storage: StorageType::File,
        retention: RetentionPolicy::WorkQueue,
        discard: DiscardPolicy::New,
        max_bytes: ingest.stream_max_bytes,
        ..StreamConfig::default()
    }
}

fn consumer_config(ingest: &config::Ingest) -> pull::Config {
    pull::Config {
        durable_name: Some(ingest.consumer.clone()),
        ack_policy: AckPolicy::Explicit,
        deliver_policy: DeliverPolicy::All,
        ack_wait: Duration::from_secs(ingest.ack_wait_seconds),
        max_deliver: -1,
        max_ack_pending: ingest.max_ack_pending,
        ..pull::Config::default()
    }
}

fn compare_stream(asked: &StreamConfig, found: &StreamConfig) -> Result<(), StreamError> {
    let differ = |field, found: String, asked_value: String, key| {
        Err(StreamError::Differs {
            what: "stream",
            name: asked.name.clone(),
            field,
            found,
            asked: asked_value,
            key,
        })
    };
    if asked.subjects != found.subjects {
        let (found, asked) = (found.subjects.join(","), asked.subjects.join(","));
        return differ("subjects", found, asked, "ingest.subject_prefix");
    }
    if asked.storage != found.storage {
        return differ("storage", format!("{:?}", found.storage), "file".to_owned(), "ingest.stream");
    }
    if asked.retention != found.retention {
        return differ(
            "retention",
            format!("{:?}", found.retention),
            "workqueue".to_owned(),
            "ingest.stream",
        );
    }
    if asked.discard != found.discard {
        return differ("discard", format!("{:?}", found.discard), "new".to_owned(), "ingest.stream");
    }
    if asked.max_bytes != found.max_bytes {
        let (found, asked) = (found.max_bytes.to_string(), asked.max_bytes.to_string());
        return differ("max_bytes", found, asked, "ingest.stream_max_bytes");
    }
    if found.no_ack {
        return differ("no_ack", "true".to_owned(), "false".to_owned(), "ingest.stream");
    }
    // Each of these would drop what was accepted.
    for (field, found) in [
        ("max_msgs", found.max_messages),
        ("max_msgs_per_subject", found.max_messages_per_subject),
        ("max_age", i64::try_from(found.max_age.as_nanos()).unwrap_or(i64::MAX)),
    ] {
        if found > 0 {
            return differ(field, found.to_string(), "no limit".to_owned(), "ingest.stream");
        }
    }
    Ok(())
}

fn compare_consumer(
    asked: &pull::Config,
    found: &async_nats::jetstream::consumer::Config,
    name: &str,
) -> Result<(), StreamError> {
    let differ = |field, found: String, asked: String, key| {
        Err(StreamError::Differs { what: "consumer", name: name.to_owned(), field, found, asked, key })
    };
    if found.ack_policy != asked.ack_policy {
        return differ(
            "ack_policy",
            format!("{:?}", found.ack_policy),
            "explicit".to_owned(),
            "ingest.consumer",
        );
    }
    if found.max_deliver != asked.max_deliver {
        return differ("max_deliver", found.max_deliver.to_string(), "-1".to_owned(), "ingest.consumer");
    }
    if found.ack_wait != asked.ack_wait {
        let (found, asked) = (format!("{:?}", found.ack_wait), format!("{:?}", asked.ack_wait));
        return differ("ack_wait", found, asked, "ingest.ack_wait_seconds");
    }
    if !found.filter_subject.is_empty() || !found.filter_subjects.is_empty() {
        return differ("filter_subject", found.filter_subject.clone(), "none".to_owned(), "ingest.consumer");
    }
    if found.headers_only {
        return differ("headers_only", "true".to_owned(), "false".to_owned(), "ingest.consumer");
    }
    if !found.inactive_threshold.is_zero() {
        // The broker would delete it, and what it knows of acknowledgements, while the service is stopped.
        let found = format!("{:?}", found.inactive_threshold);
        return differ("inactive_threshold", found, "none".to_owned(), "ingest.consumer");
    }
    Ok(())
}
