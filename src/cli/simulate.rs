//! `watchbell simulate`: made-up devices that publish readings, with faults in them.
//!
//! Temperatures drift around 60 °C and pressures around 3 bar; now and then one device runs hot or loses pressure for
//! some seconds, and now and then a message is malformed. For trying things: the numbers mean nothing.

use std::time::Duration;

use async_nats::jetstream;
use jiff::Timestamp;
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::ingest::broker;
use crate::model::tenant::TenantName;

/// A fault lasts this many readings of its device.
const FAULT_READINGS: u32 = 5;

/// What to make up.
#[derive(Debug, Clone, clap::Args)]
pub struct SimulateArgs {
    /// For this tenant
    #[arg(long, default_value = "demo", value_parser = TenantName::parse)]
    pub tenant: TenantName,
    /// So many devices, each with a temperature and a pressure
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub devices: u32,
    /// Messages a second, each with the two readings of one device
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub rate: u32,
    /// One message in so many begins a fault; 0: none
    #[arg(long, default_value_t = 60)]
    pub fault_every: u32,
    /// One message in so many is malformed; 0: none
    #[arg(long, default_value_t = 300)]
    pub malformed_every: u32,
    /// Stop after so many messages
    #[arg(long)]
    pub messages: Option<u64>,
}

/// Publishes until Ctrl-C or the asked number of messages.
///
/// # Errors
/// If the broker can't be reached, or refuses.
pub async fn run(config: &Config, args: &SimulateArgs) -> anyhow::Result<()> {
    let cancel = CancellationToken::new();
    let client = broker::connect(config).await?;
    let publishing = publish(client, &config.ingest.subject_prefix, args, &cancel);
    tokio::select! {
        published = publishing => eprintln!("{} messages published", published?),
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    Ok(())
}

/// Publishes until cancelled; each message is known to be stored before the next is made. Returns how many.
///
/// # Errors
/// As [`run`].
pub async fn publish(
    client: async_nats::Client,
    prefix: &str,
    args: &SimulateArgs,
    cancel: &CancellationToken,
) -> anyhow::Result<u64> {
    let stream = jetstream::new(client);
    let subject = format!("{prefix}.{}", args.tenant);
    let mut devices = Devices::new(args);
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / args.rate);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut published = 0;
    while !cancel.is_cancelled() && args.messages.is_none_or(|limit| published < limit) {
        tokio::select! {
            _ = ticks.tick() => {}
            () = cancel.cancelled() => break,
        }
        let message = devices.message();
        let stored = async { stream.publish(subject.clone(), message.into()).await?.await };
        match stored.await {
            Ok(ack) if broker::is_stored(&ack) => published += 1,
            Ok(_) => tracing::warn!("the broker refused a message, going on"),
            Err(error) => tracing::warn!(%error, "the broker did not store a message, going on"),
        }
    }
    Ok(published)
}

/// Devices in turn, with faults that last.
struct Devices {
    faults: Vec<u32>,
    next: usize,
    fault_every: u32,
    malformed_every: u32,
}

impl Devices {
    fn new(args: &SimulateArgs) -> Self {
        let mut faults = vec![0; args.devices as usize];
        if args.fault_every > 0 {
            // Something to see at once.
            faults[0] = FAULT_READINGS;
        }
        Self { faults, next: 0, fault_every: args.fault_every, malformed_every: args.malformed_every }
    }

    fn message(&mut self) -> String {
        let index = self.next;
        self.next = (self.next + 1) % self.faults.len();
        let device = format!("pump-{}", index + 1);
        if one_in(self.malformed_every) {
            return json!({ "device": device, "metric": "temperature", "value": "sensor error" }).to_string();
        }
        if one_in(self.fault_every) {
            self.faults[index] = FAULT_READINGS;
        }
        let faulty = self.faults[index] > 0;
        self.faults[index] = self.faults[index].saturating_sub(1);
        let (heat, loss) = if !faulty {
            (0.0, 0.0)
        } else if index.is_multiple_of(2) {
            (35.0, 0.0)
        } else {
            (0.0, 2.5)
        };
        let ts = Timestamp::now();
        let rounded = |value: f64| (value * 100.0).round() / 100.0;
        json!([
            { "device": device, "metric": "temperature", "unit": "°C", "ts": ts, "value": rounded(60.0 + heat + 3.0 * noise()) },
            { "device": device, "metric": "pressure", "unit": "bar", "ts": ts, "value": rounded(3.0 - loss + 0.2 * noise()) },
        ])
        .to_string()
    }
}

/// A number in -1..1.
fn noise() -> f64 {
    f64::from(random()) / f64::from(u32::MAX) * 2.0 - 1.0
}

fn one_in(chances: u32) -> bool {
    chances > 0 && random().is_multiple_of(chances)
}

fn random() -> u32 {
    let mut bytes = [0; 4];
    // Without randomness the devices are just boring.
    let _ = SystemRandom::new().fill(&mut bytes);
    u32::from_le_bytes(bytes)
}
