//! The window of a series: its complete minutes before some minute, and their statistics. Pure.
//!
//! The minute that a reading lies in is never part of what it is compared with: with it inside, |z| ≤ (n−1)/√n, and a rule of
//! 3 σ over 10 minutes could never fire.

use std::collections::VecDeque;

use crate::model::reading::UnixMicros;

/// A minute of a series.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bucket {
    /// Minutes since 1970-01-01T00:00Z.
    pub minute: i32,
    /// Readings.
    pub count: u32,
    /// Their mean.
    pub mean: f64,
    /// The lowest of them.
    pub lowest: f64,
    /// The highest of them.
    pub highest: f64,
}

/// Lowest and highest of some minutes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Extremes {
    /// Minutes that had a reading.
    pub n: usize,
    /// The lowest reading in them.
    pub lowest: f64,
    /// The highest reading in them.
    pub highest: f64,
}

/// Mean and standard deviation of the averages of `n` minutes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Statistics {
    /// Minutes that had a reading.
    pub n: usize,
    /// The mean of their averages.
    pub mean: f64,
    /// The sample standard deviation of their averages (n − 1 below the line).
    pub sigma: f64,
}

/// The latest minutes of a series, sorted.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    buckets: VecDeque<Bucket>,
    /// Minutes kept before the latest.
    span: i32,
    /// Computed for `(minute, window_minutes)`: what is asked for every reading changes once a minute.
    known: Vec<(i32, i32, Option<Statistics>)>,
    /// The same for lowest and highest.
    known_extremes: Vec<(i32, i32, Option<Extremes>)>,
}

/// The minute that a time lies in.
pub fn minute_of(ts: UnixMicros) -> i32 {
    // Every timestamp that PostgreSQL can hold fits.
    i32::try_from(ts.0.div_euclid(UnixMicros::MINUTE)).unwrap_or(if ts.0 < 0 { i32::MIN } else { i32::MAX })
}

impl Window {
    /// A window that reaches `span` minutes back, with these minutes in it, sorted.
    pub fn new(span: i32, buckets: impl IntoIterator<Item = Bucket>) -> Self {
        Self { buckets: buckets.into_iter().collect(), span, known: Vec::new(), known_extremes: Vec::new() }
    }

    /// Minutes kept before the latest.
    pub fn span(&self) -> i32 {
        self.span
    }

    /// Minutes in it.
    pub fn len(&self) -> usize {
        self.buckets.len()
    }

    /// Whether there is no minute in it.
    pub fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }

    /// Adds a reading, late ones too.
    pub fn add(&mut self, ts: UnixMicros, value: f64) {
        let minute = minute_of(ts);
        let place = self.buckets.partition_point(|bucket| bucket.minute < minute);
        let is_latest = place + 1 >= self.buckets.len();
        match self.buckets.get_mut(place) {
            Some(bucket) if bucket.minute == minute => {
                bucket.count += 1;
                bucket.mean += (value - bucket.mean) / f64::from(bucket.count);
                bucket.lowest = bucket.lowest.min(value);
                bucket.highest = bucket.highest.max(value);
            }
            _ => {
                let bucket = Bucket { minute, count: 1, mean: value, lowest: value, highest: value };
                self.buckets.insert(place, bucket);
            }
        }
        if !is_latest {
            // A minute that others are compared with has changed.
            self.known.clear();
            self.known_extremes.clear();
        }
        let latest = self.buckets.back().map_or(minute, |bucket| bucket.minute);
        let oldest = i64::from(latest) - i64::from(self.span);
        // The last one before the span stays: it says what held when the span began.
        while self.buckets.get(1).is_some_and(|bucket| i64::from(bucket.minute) <= oldest) {
            self.buckets.pop_front();
        }
    }

    /// Lowest and highest of the time from `window_minutes` before the minute up to it, without it; the last minute before
    /// that time is part of it, for its last value held when the time began. `None` if nothing is known from then.
    pub fn extremes(&mut self, minute: i32, window_minutes: i32) -> Option<Extremes> {
        if let Some((.., known)) =
            self.known_extremes.iter().find(|(m, w, _)| (*m, *w) == (minute, window_minutes))
        {
            return *known;
        }
        self.known_extremes.retain(|(known_minute, ..)| *known_minute == minute);
        let from = minute.saturating_sub(window_minutes);
        let begin = self.buckets.partition_point(|bucket| bucket.minute <= from).checked_sub(1);
        let extremes = begin.map(|begin| {
            let inside = self.buckets.range(begin..).take_while(|bucket| bucket.minute < minute);
            let nothing = Extremes { n: 0, lowest: f64::INFINITY, highest: f64::NEG_INFINITY };
            inside.fold(nothing, |all, bucket| Extremes {
                n: all.n + 1,
                lowest: all.lowest.min(bucket.lowest),
                highest: all.highest.max(bucket.highest),
            })
        });
        self.known_extremes.push((minute, window_minutes, extremes));
        extremes
    }

    /// Lowest and highest of the readings in a minute so far.
    pub fn minute_so_far(&self, minute: i32) -> Option<(f64, f64)> {
        let bucket = self.buckets.iter().rev().find(|bucket| bucket.minute <= minute)?;
        (bucket.minute == minute).then_some((bucket.lowest, bucket.highest))
    }

    /// The statistics of the minutes in `[minute − window_minutes, minute)`; `None` if fewer than two had a reading.
    pub fn statistics(&mut self, minute: i32, window_minutes: i32) -> Option<Statistics> {
        if let Some((.., known)) = self.known.iter().find(|(m, w, _)| (*m, *w) == (minute, window_minutes)) {
            return *known;
        }
        self.known.retain(|(known_minute, ..)| *known_minute == minute);
        let from = minute.saturating_sub(window_minutes);
        let means = || {
            let inside = self.buckets.iter().filter(|bucket| (from..minute).contains(&bucket.minute));
            inside.map(|bucket| bucket.mean)
        };
        let n = means().count();
        let statistics = (n >= 2).then(|| {
            let mean = means().sum::<f64>() / n as f64;
            // In two passes: the textbook's one-pass formula cancels for large means.
            let variance = means().map(|average| (average - mean).powi(2)).sum::<f64>() / (n - 1) as f64;
            Statistics { n, mean, sigma: variance.sqrt() }
        });
        self.known.push((minute, window_minutes, statistics));
        statistics
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: i32) -> UnixMicros {
        UnixMicros(i64::from(minute) * UnixMicros::MINUTE + 1)
    }

    #[test]
    fn a_readings_own_minute_is_not_in_its_window() {
        let mut window = Window::new(10, []);
        for (minute, value) in [(1, 1.0), (2, 2.0), (2, 4.0), (3, 5.0), (4, 1e9)] {
            window.add(at(minute), value);
        }
        let expected = Statistics { n: 3, mean: 3.0, sigma: 2.0 };
        assert_eq!(window.statistics(4, 10), Some(expected));
        assert_eq!(window.statistics(4, 2).map(|s| (s.n, s.mean)), Some((2, 4.0)));
        assert_eq!(window.statistics(2, 10), None);
    }

    #[test]
    fn a_late_reading_changes_the_minute_it_belongs_to() {
        let mut window = Window::new(10, []);
        for (minute, value) in [(1, 1.0), (3, 3.0), (4, 0.0)] {
            window.add(at(minute), value);
        }
        assert_eq!(window.statistics(4, 10).map(|s| s.mean), Some(2.0));
        window.add(at(2), 8.0);
        window.add(at(3), 3.0);
        assert_eq!(window.statistics(4, 10).map(|s| (s.n, s.mean)), Some((3, 4.0)));
    }

    #[test]
    fn it_keeps_no_more_than_its_span() {
        let mut window = Window::new(5, []);
        for minute in 0..1000 {
            window.add(at(minute), 1.0);
        }
        assert_eq!(window.len(), 6);
        assert_eq!(window.statistics(1000, 5).map(|s| s.n), Some(5));
        window.add(at(0), 1.0);
        assert_eq!(window.len(), 6, "older than the span: forgotten at once");
    }

    #[test]
    fn the_last_minute_before_the_span_stays_however_old_it_is() {
        let mut window = Window::new(5, []);
        for minute in [1, 2, 20] {
            window.add(at(minute), f64::from(minute));
        }
        assert_eq!(window.len(), 2);
        let extremes = window.extremes(20, 5).unwrap();
        assert_eq!((extremes.n, extremes.lowest, extremes.highest), (1, 2.0, 2.0));
    }

    #[test]
    fn extremes_reach_back_to_what_held_when_the_time_began() {
        let mut window = Window::new(10, []);
        for (minute, value) in [(1, 9.0), (3, 5.0), (4, 6.0), (6, 4.0), (7, 100.0)] {
            window.add(at(minute), value);
        }
        assert_eq!(window.extremes(7, 3).map(|e| (e.n, e.lowest, e.highest)), Some((2, 4.0, 6.0)));
        assert_eq!(window.extremes(7, 5).map(|e| (e.n, e.lowest, e.highest)), Some((4, 4.0, 9.0)));
        assert_eq!(window.extremes(7, 7), None, "nothing is known from then");
        window.add(at(5), -1.0);
        assert_eq!(window.extremes(7, 3).map(|e| e.lowest), Some(-1.0));
        assert_eq!(window.minute_so_far(7), Some((100.0, 100.0)));
        assert_eq!(window.minute_so_far(8), None);
    }

    #[test]
    fn large_means_do_not_cancel() {
        let mut window = Window::new(10, []);
        for (minute, value) in [(1, 1e9 + 4.0), (2, 1e9 + 7.0), (3, 1e9 + 13.0), (4, 1e9 + 16.0)] {
            window.add(at(minute), value);
        }
        let statistics = window.statistics(5, 10).unwrap();
        assert_eq!((statistics.mean, statistics.sigma.powi(2).round()), (1e9 + 10.0, 30.0));
    }
}
