//! The tenants that repeat themselves just now.
//!
//! What they send is stored apart from the others': a repeat makes its whole transaction twice as dear (measured), and
//! that is to be paid by whoever sends it. Bounded: what is older than half a minute is forgotten.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::model::ids::TenantId;

/// After the last repeat.
const REMEMBERED: Duration = Duration::from_secs(30);

/// Shared by the flusher, which meets repeats, and the consumer, which sets them apart.
#[derive(Debug, Default)]
pub struct Repeaters(Mutex<HashMap<TenantId, Instant>>);

impl Repeaters {
    /// These repeated themselves.
    pub fn note(&self, tenants: impl IntoIterator<Item = TenantId>, now: Instant) {
        let mut known = self.lock();
        known.retain(|_, at| now.duration_since(*at) < REMEMBERED);
        known.extend(tenants.into_iter().map(|tenant| (tenant, now)));
    }

    /// Those that did of late.
    pub fn of_late(&self, now: Instant) -> Vec<TenantId> {
        let known = self.lock();
        let is_late = |at: &Instant| now.duration_since(*at) < REMEMBERED;
        known.iter().filter(|(_, at)| is_late(at)).map(|(tenant, _)| *tenant).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TenantId, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_repeated_itself_is_forgotten_after_a_while() {
        let repeaters = Repeaters::default();
        let start = Instant::now();
        repeaters.note([TenantId(1)], start);
        repeaters.note([TenantId(2)], start + REMEMBERED / 2);
        assert_eq!(repeaters.of_late(start + REMEMBERED), [TenantId(2)]);
        repeaters.note([TenantId(3)], start + REMEMBERED);
        assert_eq!(repeaters.lock().len(), 2, "nobody is kept for ever");
    }
}
