//! Readings for benchmarks and proofs: 5,000 series at one reading a second each, in round robin. Pure but for the clock.

use std::fmt::Write as _;
use std::ops::Range;

use jiff::{SignedDuration, Timestamp};

use crate::model::ids::SeriesId;
use crate::model::reading::{Reading, UnixMicros};

/// Devices, of one metric each.
pub const SERIES: usize = 5_000;
/// What they measure.
pub const METRIC: &str = "temperature";
/// Of event time before now.
const BEGINS_BEFORE: SignedDuration = SignedDuration::from_hours(3);
/// So many fit between that beginning and now.
pub const MOST: usize = SERIES * BEGINS_BEFORE.as_secs() as usize;

/// The readings of one run, from the first to whichever.
#[derive(Debug, Clone, Copy)]
pub struct Readings {
    begin: UnixMicros,
}

impl Readings {
    /// Those that begin three hours ago.
    pub fn recent() -> Self {
        Self { begin: UnixMicros::from(Timestamp::now() - BEGINS_BEFORE) }
    }

    fn ts(self, number: usize) -> i64 {
        let (second, series) = (number / SERIES, number % SERIES);
        self.begin.0 + second as i64 * 1_000_000 + series as i64 * 7
    }

    /// Between 20 and 30.4: a level of its own for each series, about which it moves by less than 2 %. No rule minds.
    pub fn value(number: usize) -> f64 {
        let (second, series) = (number / SERIES, number % SERIES);
        (2_000 + series * 7_919 % 1_000 + second * 13 % 41) as f64 / 100.0
    }

    /// A range as a sensor sends it, some 90 bytes each: an array, unless it is a single one.
    pub fn message(self, range: Range<usize>) -> String {
        let mut message = String::with_capacity(range.len() * 100 + 2);
        for number in range.clone() {
            message.push(if number > range.start { ',' } else { '[' });
            write_json(number % SERIES, Self::value(number), self.ts(number), &mut message);
        }
        message.push(']');
        if range.len() == 1 { message[1..message.len() - 1].to_owned() } else { message }
    }

    /// A reading as it is stored.
    pub fn reading(self, number: usize, series: &[SeriesId]) -> Reading {
        Reading {
            series: series[number % SERIES],
            ts: UnixMicros(self.ts(number)),
            value: Self::value(number),
        }
    }
}

/// The device of a reading.
pub fn device_name(number: usize) -> String {
    let device = number % SERIES;
    format!("device-{:03}-{}", device / 5, device % 5)
}

/// Appends a reading of a device at a Unix time in microseconds.
pub fn write_json(device: usize, value: f64, ts: i64, out: &mut String) {
    // Writing to a String can't fail.
    let _ = write!(
        out,
        r#"{{"device":"device-{:03}-{}","metric":"{METRIC}","value":{value},"unit":"°C","ts":{ts}}}"#,
        device / 5,
        device % 5
    );
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_range_is_an_array_of_its_readings_and_a_single_one_is_itself() {
        let readings = Readings::recent();
        let array: Vec<Value> = serde_json::from_str(&readings.message(4_999..5_002)).unwrap();
        let devices: Vec<&str> = array.iter().map(|reading| reading["device"].as_str().unwrap()).collect();
        assert_eq!(devices, ["device-999-4", "device-000-0", "device-000-1"]);
        assert_eq!(devices, [4_999, 5_000, 5_001].map(device_name));
        let single: Value = serde_json::from_str(&readings.message(5_000..5_001)).unwrap();
        assert_eq!(single, array[1]);
        assert_eq!(single["ts"].as_i64().unwrap(), readings.begin.0 + 1_000_000);
    }
}
