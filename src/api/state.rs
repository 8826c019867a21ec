//! What the handlers share.

use std::fmt;
use std::sync::Arc;

use super::readings::Intake;
use crate::config::PublicUrl;
use crate::db::pool::Pool;
use crate::telemetry::metrics::Metrics;

/// Whether the broker is connected now.
pub type BrokerCheck = Arc<dyn Fn() -> bool + Send + Sync>;

/// What the handlers need; cheap to clone.
#[derive(Clone)]
pub struct ApiState {
    /// Connections of `Role::Api`.
    pub pool: Pool,
    /// Shown at `/metrics`.
    pub metrics: Arc<Metrics>,
    /// `None` in a process that has nothing to do with the broker: `/readyz` leaves the check out then.
    pub broker: Option<BrokerCheck>,
    /// Where posted readings go, if the process has a broker.
    pub intake: Option<Arc<Intake>>,
    /// Where people reach this service: alerts carry a link to it.
    pub public_url: PublicUrl,
}

impl fmt::Debug for ApiState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiState").finish_non_exhaustive()
    }
}
