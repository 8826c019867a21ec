//! What one contender did in one round.

use std::time::Duration;

use serde_json::{Value, json};

use super::figure::median;
use super::ground::Cpu;

/// A run, or why it could not be measured.
pub type Outcome = anyhow::Result<Run>;

/// What one contender did in one round.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    /// Readings, or rows, a second.
    pub rate: f64,
    /// Microseconds of processor time each: PostgreSQL, the broker, the client.
    pub cpu: [f64; 3],
    /// From the last reading's being stored until all were judged.
    pub detection_lag: Option<Duration>,
    /// Of the service, in MB.
    pub peak_memory_mb: Option<f64>,
}

impl Run {
    /// Of so many readings in so much time.
    pub fn new(count: usize, elapsed: Duration, cpu: Cpu) -> Self {
        let each = |micros: u64| micros as f64 / count as f64;
        Self {
            rate: count as f64 / elapsed.as_secs_f64(),
            cpu: [each(cpu.postgresql), each(cpu.nats_server), each(cpu.client)],
            detection_lag: None,
            peak_memory_mb: None,
        }
    }
}

/// The processor time of the middle of these runs, a process each, for the report.
pub fn cpu_json(runs: &[Run]) -> Value {
    let of = |part: usize| median(&runs.iter().map(|run| run.cpu[part]).collect::<Vec<_>>());
    let [postgresql, nats_server, client] = [0, 1, 2].map(|part| (of(part) * 100.0).round() / 100.0);
    json!({ "postgresql": postgresql, "nats_server": nats_server, "client": client })
}
