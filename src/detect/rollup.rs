//! The rollup of a series and minute: count, mean, M2, lowest, highest, last. Pure.

use crate::model::reading::UnixMicros;

/// What is kept of a minute of a series. Two of them merge into what one of all readings would be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rollup {
    /// Readings.
    pub count: i64,
    /// Their mean.
    pub mean: f64,
    /// The sum of their squared distances from the mean.
    pub m2: f64,
    /// The lowest value.
    pub lowest: f64,
    /// The highest value.
    pub highest: f64,
    /// The value of the latest reading.
    pub last_value: f64,
    /// The time of the latest reading.
    pub last_ts: UnixMicros,
}

impl Rollup {
    /// Of one reading.
    pub fn of(ts: UnixMicros, value: f64) -> Self {
        Self { count: 1, mean: value, m2: 0.0, lowest: value, highest: value, last_value: value, last_ts: ts }
    }

    /// Adds a reading: Welford 1962, "Note on a method for calculating corrected sums of squares and products".
    pub fn add(&mut self, ts: UnixMicros, value: f64) {
        self.count += 1;
        let from_old_mean = value - self.mean;
        self.mean += from_old_mean / self.count as f64;
        self.m2 += from_old_mean * (value - self.mean);
        self.lowest = self.lowest.min(value);
        self.highest = self.highest.max(value);
        if ts >= self.last_ts {
            self.last_ts = ts;
            self.last_value = value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rollup_is_what_the_readings_say_whatever_their_order() {
        let mut rollup = Rollup::of(UnixMicros(20), 1e9 + 4.0);
        for (ts, value) in [(10, 1e9 + 7.0), (40, 1e9 + 13.0), (30, 1e9 + 16.0)] {
            rollup.add(UnixMicros(ts), value);
        }
        assert_eq!((rollup.count, rollup.mean, rollup.m2), (4, 1e9 + 10.0, 90.0));
        assert_eq!((rollup.lowest, rollup.highest), (1e9 + 4.0, 1e9 + 16.0));
        assert_eq!((rollup.last_ts, rollup.last_value), (UnixMicros(40), 1e9 + 13.0));
    }
}
