//! What is on the record now, counted and told.

use super::attempt::Ended;
use crate::model::delivery::Outcome;
use crate::telemetry::metrics::{ByOutcome, Metrics};

/// Counts these, and says what became of them.
pub fn tell(ended: &[Ended], metrics: &Metrics) {
    for Ended { completion, owed, .. } in ended {
        let outcome = completion.outcome.as_str();
        metrics.delivery_attempts.get_or_create(&ByOutcome { outcome }).inc();
        let (notification_id, attempt) = (completion.notification, completion.number);
        match &completion.outcome {
            Outcome::Delivered => {
                metrics.delivery_seconds.observe(owed.as_secs_f64());
                if let Some(warning) = &completion.record.warning {
                    tracing::warn!(%notification_id, attempt, warning, "delivered, with a warning");
                } else {
                    tracing::debug!(%notification_id, attempt, "delivered");
                }
            }
            Outcome::Retry { after } | Outcome::Ambiguous { after } => {
                let error = completion.record.error.as_deref();
                tracing::info!(%notification_id, attempt, error, retry_in_ms = after.as_millis() as u64, "not delivered, will be tried again");
            }
            Outcome::Hold { .. } => {
                tracing::info!(%notification_id, attempt, "not delivered, waits with its destination")
            }
            Outcome::Dead { reason } => {
                tracing::error!(%notification_id, attempt, reason, "given up, it is a dead letter")
            }
        }
    }
}
