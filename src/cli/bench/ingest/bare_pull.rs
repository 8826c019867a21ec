//! The limit of taking: pulling the same stream with explicit acknowledgements, and nothing else.

use std::time::Instant;

use async_nats::jetstream::consumer::PullConsumer;
use futures_util::StreamExt;

use crate::cli::bench::contest::{Outcome, Run};
use crate::cli::bench::ground::Ground;
use crate::cli::bench::load::publish;
use crate::cli::readings::Readings;
use crate::ingest::acknowledge::{Acknowledger, Word};
use crate::ingest::pull::Pull;

/// How it is pulled.
#[derive(Debug, Clone, Copy)]
pub enum By {
    /// The client library's `fetch` of so many, one after the other.
    Fetch(usize),
    /// The way in which the service does it.
    Pull,
}

/// Takes and acknowledges `count` messages of one reading.
///
/// # Errors
/// If the broker refuses.
pub async fn run(ground: &Ground, by: By, count: usize) -> Outcome {
    let messages = publish(ground, Readings::recent(), 0..count, 1).await?;
    let ingest = &ground.config.ingest;
    let (before, start) = (ground.cpu(None), Instant::now());
    let mut taken = 0;
    match by {
        By::Fetch(most) => {
            let stream = ground.jetstream().get_stream(&ingest.stream).await?;
            let consumer: PullConsumer =
                stream.get_consumer(&ingest.consumer).await.map_err(anyhow::Error::from_boxed)?;
            while taken < count {
                let mut batch = consumer.fetch().max_messages(most).messages().await?;
                while let Some(message) = batch.next().await {
                    message
                        .map_err(anyhow::Error::from_boxed)?
                        .ack()
                        .await
                        .map_err(anyhow::Error::from_boxed)?;
                    taken += 1;
                }
            }
        }
        By::Pull => {
            let mut pull = Pull::open(&ground.client, &ingest.stream, &ingest.consumer).await?;
            let acknowledger = Acknowledger::new(ground.client.clone());
            while taken < count {
                let replies: Vec<_> =
                    pull.next().await?.into_iter().filter_map(|message| message.reply).collect();
                taken += replies.len();
                acknowledger.say(Word::Stored, &replies).await;
            }
        }
    }
    ground.wait_for_messages(0).await?;
    let run = Run::new(count, start.elapsed(), ground.cpu(None).since(before));
    anyhow::ensure!(taken as u64 == messages, "{messages} messages were published and {taken} came");
    ground.clear().await?;
    Ok(run)
}
