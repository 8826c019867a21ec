//! A batch taken apart for storing: sorted, and split so that its parts can be stored side by side. Pure.

use super::buffer::Batch;
use super::reject::Reject;
use crate::model::ids::SeriesId;
use crate::model::reading::{Reading, UnixMicros};

/// Below this many readings splitting costs more than it saves: each part is a transaction.
const SPLIT_FROM: usize = 1_000;

/// What one transaction stores.
#[derive(Debug, Default, PartialEq)]
pub struct Part {
    /// Each `(series, ts)` once, in that order.
    pub readings: Vec<Reading>,
    /// Readings of the part whose key came before in the same part, in the same order.
    pub again: Vec<Reading>,
    /// Inputs that were refused.
    pub rejects: Vec<Reject>,
    /// Whether some of it may be stored already.
    pub may_repeat: bool,
}

impl Part {
    /// A part of these readings, in the order in which they came.
    pub fn new(mut readings: Vec<Reading>, rejects: Vec<Reject>, may_repeat: bool) -> Self {
        // Stable: of two readings with one key the one that came first stays first.
        readings.sort_by_key(key);
        let mut again = Vec::new();
        readings.dedup_by(|later, first| {
            let same = key(later) == key(first);
            if same {
                again.push(*later);
            }
            same
        });
        Self { readings, again, rejects, may_repeat }
    }

    /// The parts of a batch: what may repeat in one, the others in up to `writers`. All of a series that does not repeat is
    /// in one part.
    pub fn of(batch: Batch, writers: usize) -> Vec<Self> {
        let Batch { readings, repeats, rejects, .. } = batch;
        let mut parts = Vec::with_capacity(writers + 1);
        if !readings.is_empty() || !rejects.is_empty() {
            parts = Self::new(readings, rejects, false).split(writers);
        }
        if !repeats.is_empty() {
            parts.push(Self::new(repeats, Vec::new(), true));
        }
        parts
    }

    fn split(mut self, writers: usize) -> Vec<Self> {
        let parts = writers.min(self.readings.len() / SPLIT_FROM).max(1);
        let mut split = Vec::with_capacity(parts);
        for left in (1..parts).rev() {
            let place = self.readings.len() * left / (left + 1);
            let series = self.readings[place].series;
            let begin = |readings: &[Reading]| readings.partition_point(|reading| reading.series < series);
            let (place, place_again) = (begin(&self.readings), begin(&self.again));
            split.push(Self {
                readings: self.readings.split_off(place),
                again: self.again.split_off(place_again),
                rejects: Vec::new(),
                may_repeat: self.may_repeat,
            });
        }
        split.push(self);
        split.retain(|part| !part.readings.is_empty() || !part.rejects.is_empty());
        split
    }
}

/// By which a reading is stored once.
pub fn key(reading: &Reading) -> (SeriesId, UnixMicros) {
    (reading.series, reading.ts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(series: i32, ts: i64, value: f64) -> Reading {
        Reading { series: SeriesId(series), ts: UnixMicros(ts), value }
    }

    #[test]
    fn the_first_of_a_key_is_kept_and_those_after_it_set_aside() {
        let part = Part::new(
            vec![
                reading(2, 1, 0.5),
                reading(1, 9, 1.0),
                reading(2, 1, 0.7),
                reading(1, 3, 2.0),
                reading(2, 1, 0.6),
            ],
            Vec::new(),
            false,
        );
        assert_eq!(part.readings, [reading(1, 3, 2.0), reading(1, 9, 1.0), reading(2, 1, 0.5)]);
        assert_eq!(part.again, [reading(2, 1, 0.7), reading(2, 1, 0.6)]);
    }

    #[test]
    fn a_large_batch_is_split_between_series_and_nothing_is_lost() {
        // Four hundred readings of each of 13 series, each ten times.
        let readings: Vec<_> =
            (0..52_000).map(|i| reading(i % 13, i64::from(i / 130), f64::from(i))).collect();
        let repeats = vec![reading(5, 1, 1.0)];
        let batch = Batch { readings: readings.clone(), repeats, ..Batch::default() };
        let parts = Part::of(batch, 3);
        assert_eq!(parts.len(), 4);
        assert!(parts[3].may_repeat && !parts[0].may_repeat);
        let mut series_seen = std::collections::HashSet::new();
        for part in &parts[..3] {
            assert!(part.readings.is_sorted_by_key(key));
            assert!(part.readings.len() + part.again.len() > 10_000, "{}", part.readings.len());
            let series: std::collections::HashSet<_> =
                part.readings.iter().map(|reading| reading.series).collect();
            assert!(part.again.iter().all(|reading| series.contains(&reading.series)));
            assert!(series.into_iter().all(|series| series_seen.insert(series)), "a series is in one part");
        }
        let stored: usize = parts[..3].iter().map(|part| part.readings.len() + part.again.len()).sum();
        assert_eq!(stored, readings.len());
    }

    #[test]
    fn one_series_is_never_split_and_a_small_batch_neither() {
        let of = |readings: Vec<Reading>| Part::of(Batch { readings, ..Batch::default() }, 2).len();
        assert_eq!(of((0..5_000).map(|ts| reading(1, ts, 0.0)).collect()), 1);
        assert_eq!(of((0..500).map(|series| reading(series, 1, 0.0)).collect()), 1);
        assert_eq!(of((0..5_000).map(|series| reading(series, 1, 0.0)).collect()), 2);
        assert_eq!(of(Vec::new()), 0);
    }
}
