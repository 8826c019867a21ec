//! Cooldown: after a rule fired on a series it stays silent for a while. In event time, so that an outage changes how late
//! an alert is and not whether it fires. Pure.

use crate::model::reading::UnixMicros;

/// When a rule last fired on a series; at rest it never did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cooldown {
    /// The latest breach that fired.
    pub last_fired_at: Option<UnixMicros>,
    /// The latest to fire among the breaches that came late, which are older than that one.
    pub late_fired_at: Option<UnixMicros>,
}

impl Cooldown {
    /// Whether a breach at `ts` fires; if it does, that is remembered. It is silent within `[fired, fired + cooldown)` and
    /// never before it: a breach that comes late was not told by the alert of a later one.
    pub fn fires(&mut self, ts: UnixMicros, cooldown_micros: i64) -> bool {
        let silent_after = |fired: Option<UnixMicros>| {
            fired.is_some_and(|fired| ts >= fired && ts.0 < fired.0.saturating_add(cooldown_micros))
        };
        // The same instant twice is one breach, also without a cooldown.
        let told = [self.last_fired_at, self.late_fired_at].contains(&Some(ts));
        if told || silent_after(self.last_fired_at) || silent_after(self.late_fired_at) {
            return false;
        }
        if self.last_fired_at.is_none_or(|last| ts > last) {
            self.last_fired_at = Some(ts);
        } else {
            self.late_fired_at = Some(ts);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = UnixMicros::MINUTE;

    fn fired(minutes: &[i64], cooldown_minutes: i64) -> Vec<i64> {
        let mut cooldown = Cooldown::default();
        let fires = |minute: &&i64| cooldown.fires(UnixMicros(**minute * MINUTE), cooldown_minutes * MINUTE);
        minutes.iter().filter(fires).copied().collect()
    }

    #[test]
    fn it_is_silent_until_the_cooldown_is_over() {
        assert_eq!(fired(&[0, 1, 14, 15, 16, 29, 30], 15), [0, 15, 30]);
        assert_eq!(fired(&[0, 1, 1, 2], 0), [0, 1, 2]);
    }

    #[test]
    fn a_breach_before_the_last_one_fires_and_so_do_not_its_neighbours() {
        assert_eq!(fired(&[100, 10, 11, 12, 30, 99, 114, 115], 15), [100, 10, 30, 99, 115]);
    }
}
