//! A reading: one value of one series at one instant of the sensor's own clock.

use jiff::Timestamp;

use super::ids::SeriesId;

/// Microseconds since 1970-01-01T00:00:00Z: the resolution of PostgreSQL's `timestamptz`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UnixMicros(pub i64);

impl UnixMicros {
    /// Microseconds in a minute.
    pub const MINUTE: i64 = 60_000_000;

    /// The start of the UTC minute it lies in.
    pub fn minute(self) -> Self {
        Self(self.0.div_euclid(Self::MINUTE) * Self::MINUTE)
    }

    /// As a timestamp for people and PostgreSQL. Outside the years that a timestamp can hold, the nearest that it can.
    pub fn to_timestamp(self) -> Timestamp {
        Timestamp::from_microsecond(self.0).unwrap_or(if self.0 < 0 {
            Timestamp::MIN
        } else {
            Timestamp::MAX
        })
    }
}

impl From<Timestamp> for UnixMicros {
    fn from(at: Timestamp) -> Self {
        Self(at.as_microsecond())
    }
}

/// A reading whose series is known. The key is `(series, ts)`: the first value stored for it wins.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    /// Whose value it is.
    pub series: SeriesId,
    /// When the sensor took it.
    pub ts: UnixMicros,
    /// In the unit of the series; always finite.
    pub value: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_start_before_their_readings_also_before_1970() {
        assert_eq!(UnixMicros(61_000_000).minute(), UnixMicros(60_000_000));
        assert_eq!(UnixMicros(-1).minute(), UnixMicros(-60_000_000));
    }
}
