use proptest::prelude::*;

use super::super::window::Bucket;
use super::*;

fn at(minute: i64) -> UnixMicros {
    UnixMicros(minute * UnixMicros::MINUTE + 30_000_000)
}

fn alone(check: &Check, value: f64) -> Judgement {
    judge(check, &mut Look { ts: at(0), value, previous: None, window: None })
}

/// `b`reach, `-` between, `c`lear, `?` unknown.
fn sign(judgement: &Judgement) -> char {
    match judgement {
        Judgement::Breach(_) => 'b',
        Judgement::Between => '-',
        Judgement::Clear => 'c',
        Judgement::Unknown => '?',
    }
}

#[test]
fn a_value_beyond_the_threshold_is_a_breach_and_one_behind_the_other_is_clear() {
    let above = Check::AboveThreshold { threshold: 80.0, clear: Some(75.0) };
    let plain = Check::AboveThreshold { threshold: 80.0, clear: None };
    let below = Check::BelowThreshold { threshold: -5.0, clear: Some(-4.0) };
    let range = Check::OutsideRange { lowest: 0.0, highest: 10.0, clear_margin: Some(1.0) };
    for (check, value, expected) in [
        (&above, 80.000001, 'b'),
        (&above, 80.0, '-'),
        (&above, 75.000001, '-'),
        (&above, 75.0, 'c'),
        (&above, -1e9, 'c'),
        (&plain, 80.000001, 'b'),
        (&plain, 80.0, 'c'),
        (&below, -5.000001, 'b'),
        (&below, -5.0, '-'),
        (&below, -4.0, 'c'),
        (&range, -0.1, 'b'),
        (&range, 10.1, 'b'),
        (&range, 0.0, '-'),
        (&range, 10.0, '-'),
        (&range, 1.0, 'c'),
        (&range, 9.0, 'c'),
    ] {
        assert_eq!(sign(&alone(check, value)), expected, "{value} {check:?}");
    }
    let Judgement::Breach(Evidence::OutsideRange { above, .. }) = alone(&range, -1.0) else { panic!() };
    assert!(!above);
}

fn window(averages: &[f64]) -> Window {
    let first = 10 - averages.len() as i32;
    let bucket = |(i, mean): (usize, &f64)| Bucket {
        minute: first + i as i32,
        count: 3,
        mean: *mean,
        lowest: *mean,
        highest: *mean,
    };
    Window::new(10, averages.iter().enumerate().map(bucket))
}

/// What a value in minute 10 is, after minutes `10 - averages.len()` to 9 had these averages.
fn deviation(averages: &[f64], value: f64, min_sigma: Option<f64>) -> Judgement {
    let check = Check::DeviationFromMean(Deviation {
        window_minutes: 10,
        k: 5.0,
        clear_k: Some(3.0),
        min_buckets: 5,
        min_sigma,
    });
    let mut window = window(averages);
    judge(&check, &mut Look { ts: at(10), value, previous: None, window: Some(&mut window) })
}

#[test]
fn four_minutes_never_fire_and_five_can() {
    assert_eq!(deviation(&[1.0, 2.0, 1.0, 2.0], 1e12, None), Judgement::Unknown);
    assert_eq!(sign(&deviation(&[1.0, 2.0, 1.0, 2.0, 1.0], 1e12, None)), 'b');
}

#[test]
fn a_constant_series_needs_more_than_its_floor() {
    let constant = [50.0; 6];
    for (value, floor, expected) in [
        // 2 % of 50 is 1: five of them are 5, and three are 3.
        (50.001, None, 'c'),
        (53.0, None, 'c'),
        (54.0, None, '-'),
        (55.0, None, '-'),
        (55.01, None, 'b'),
        (44.99, None, 'b'),
        (50.5, Some(0.1), '-'),
        (50.51, Some(0.1), 'b'),
    ] {
        assert_eq!(sign(&deviation(&constant, value, floor)), expected, "{value} {floor:?}");
    }
    assert_eq!(sign(&deviation(&[0.0; 6], 0.0, None)), 'c');
    assert_eq!(sign(&deviation(&[0.0; 6], 0.1, None)), 'b');
}

#[test]
fn what_decided_it_can_be_computed_again() {
    let Judgement::Breach(evidence) = deviation(&[1.0, 2.0, 3.0, 4.0, 5.0], -7.0, None) else {
        panic!("it is 6.3 standard deviations away")
    };
    let sigma = 2.5_f64.sqrt();
    let z = (-7.0 - 3.0) / sigma;
    let expected = Evidence::DeviationFromMean { mean: 3.0, sigma, z, k: 5.0, n: 5, window_minutes: 10 };
    assert_eq!(evidence, expected);
}

fn rate(seconds: f64, from: f64, to: f64) -> Judgement {
    let check = Check::RateOfChange { limit: 6.0, per_seconds: 60, clear: Some(3.0) };
    let ts = UnixMicros((seconds * 1e6) as i64);
    judge(&check, &mut Look { ts, value: to, previous: Some((UnixMicros(0), from)), window: None })
}

#[test]
fn a_change_is_measured_against_the_time_it_took() {
    assert_eq!(sign(&rate(60.0, 20.0, 26.0)), '-');
    assert_eq!(sign(&rate(60.0, 20.0, 26.1)), 'b');
    assert_eq!(sign(&rate(60.0, 26.1, 20.0)), 'b', "downwards too");
    assert_eq!(sign(&rate(30.0, 20.0, 23.1)), 'b');
    assert_eq!(sign(&rate(60.0, 20.0, 23.0)), 'c');
    // A missing minute, or an hour: the same change took longer.
    assert_eq!(sign(&rate(120.0, 20.0, 26.1)), '-');
    assert_eq!(sign(&rate(3600.0, 20.0, 90.0)), 'c');
    // Two in the same instant: as if they were a second apart.
    assert_eq!(sign(&rate(0.000_001, 20.0, 20.04)), 'c');
    assert_eq!(sign(&rate(0.000_001, 20.0, 20.2)), 'b');
    let check = Check::RateOfChange { limit: 6.0, per_seconds: 60, clear: None };
    assert_eq!(alone(&check, 1e9), Judgement::Unknown, "the first reading of a new device");
}

fn stuck(averages: &[f64], value: f64) -> Judgement {
    let check = Check::Stuck { window_minutes: 5, tolerance: 0.5, clear: Some(1.0) };
    let mut window = window(averages);
    judge(&check, &mut Look { ts: at(10), value, previous: None, window: Some(&mut window) })
}

#[test]
fn what_does_not_change_for_the_time_is_stuck() {
    assert_eq!(sign(&stuck(&[7.0; 5], 7.0)), 'b');
    assert_eq!(sign(&stuck(&[7.0, 7.5, 7.2, 7.0, 7.1], 7.4)), 'b');
    assert_eq!(sign(&stuck(&[7.0; 5], 7.6)), '-');
    assert_eq!(sign(&stuck(&[7.0; 5], 8.1)), 'c');
    assert_eq!(sign(&stuck(&[9.0, 7.0, 7.0, 7.0, 7.0, 7.0], 7.0)), 'b', "longer ago than the time");
    assert_eq!(stuck(&[7.0; 4], 7.0), Judgement::Unknown, "it is not known for long enough");
    assert_eq!(stuck(&[], 7.0), Judgement::Unknown, "the first reading of a new device");
}

#[test]
fn a_reading_of_the_same_minute_that_differs_is_a_change() {
    let check = Check::Stuck { window_minutes: 5, tolerance: 0.0, clear: None };
    let mut window = window(&[7.0; 5]);
    window.add(at(10), 9.0);
    let mut look = Look { ts: at(10), value: 7.0, previous: None, window: Some(&mut window) };
    assert_eq!(sign(&judge(&check, &mut look)), 'c');
}

#[test]
fn silence_begins_when_the_interval_is_over_and_ends_with_a_reading() {
    let check = Check::NoData { interval_seconds: 60, clear_seconds: None };
    let second = |n: i64| UnixMicros(n * 1_000_000);
    assert_eq!(silence(&check, second(0), second(60)), None);
    let evidence = Evidence::NoData { interval_seconds: 60 };
    assert_eq!(silence(&check, second(0), second(61)), Some((second(60), evidence)));
    assert_eq!(silence(&check, second(0), second(-5)), None, "its clock runs ahead");
    assert_eq!(alone(&check, 1.0), Judgement::Clear);
    let twice = Check::NoData { interval_seconds: 60, clear_seconds: Some(10) };
    let heard = |seconds| {
        let previous = Some((second(0), 1.0));
        sign(&judge(&twice, &mut Look { ts: second(seconds), value: 1.0, previous, window: None }))
    };
    assert_eq!((heard(11), heard(10)), ('-', 'c'));
    let other = Check::AboveThreshold { threshold: 1.0, clear: None };
    assert_eq!(silence(&other, second(0), second(1_000_000)), None);
}

/// Readings in their order, some of them in the same minute: `(second, value)`.
fn series() -> impl Strategy<Value = Vec<(i64, f64)>> {
    let step = (1_i64..200, prop::sample::select(vec![0.0, 0.2, 1.0, 5.0, 20.0]));
    prop::collection::vec(step, 1..80).prop_map(|steps| {
        let mut at = 0;
        steps
            .into_iter()
            .map(|(seconds, value)| {
                at += seconds;
                (at, value)
            })
            .collect()
    })
}

/// Judges each reading, with what the detector would know of those before it.
fn judge_each(check: &Check, readings: &[(i64, f64)]) -> Vec<Judgement> {
    let condition = crate::model::condition::Condition::from(check.clone());
    let mut window = Window::new(condition.window_minutes().unwrap_or(1), []);
    let mut previous = None;
    let judge_one = |(seconds, value): &(i64, f64)| {
        let (ts, value) = (UnixMicros(seconds * 1_000_000), *value);
        let judgement = judge(check, &mut Look { ts, value, previous, window: Some(&mut window) });
        window.add(ts, value);
        previous = Some((ts, value));
        judgement
    };
    readings.iter().map(judge_one).collect()
}

proptest! {
    /// From the readings alone, without windows: the averages of the minutes before, in the plainest way.
    #[test]
    fn a_deviation_is_what_the_readings_say(readings in series(), window_minutes in 1_i32..8) {
        let deviation = Deviation { window_minutes, k: 1.5, clear_k: None, min_buckets: 2, min_sigma: Some(0.1) };
        let judged = judge_each(&Check::DeviationFromMean(deviation), &readings);
        for (place, (seconds, value)) in readings.iter().enumerate() {
            let minute = seconds / 60;
            let averages: Vec<f64> = (minute - i64::from(window_minutes)..minute)
                .filter_map(|m| {
                    let inside: Vec<f64> =
                        readings[..place].iter().filter(|(s, _)| s / 60 == m).map(|(_, v)| *v).collect();
                    (!inside.is_empty()).then(|| inside.iter().sum::<f64>() / inside.len() as f64)
                })
                .collect();
            let n = averages.len() as f64;
            let expected = if averages.len() < 2 {
                '?'
            } else {
                let mean = averages.iter().sum::<f64>() / n;
                let variance = averages.iter().map(|a| (a - mean).powi(2)).sum::<f64>() / (n - 1.0);
                let z = (value - mean).abs() / variance.sqrt().max(0.1);
                // Too near to the edge to say, with numbers of this length.
                if (z - 1.5).abs() < 1e-9 { continue }
                if z > 1.5 { 'b' } else { 'c' }
            };
            prop_assert_eq!(sign(&judged[place]), expected, "at {}", seconds);
        }
    }

    /// The same for what does not change: every reading of the time, and the last minute before it.
    #[test]
    fn stuck_is_what_the_readings_say(readings in series(), window_minutes in 1_i32..8) {
        let judged = judge_each(&Check::Stuck { window_minutes, tolerance: 0.5, clear: None }, &readings);
        for (place, (seconds, value)) in readings.iter().enumerate() {
            let from = seconds / 60 - i64::from(window_minutes);
            let begin = readings[..place].iter().map(|(s, _)| s / 60).rfind(|m| *m <= from);
            let expected = match begin {
                None => '?',
                Some(begin) => {
                    let inside = || {
                        readings[..place].iter().filter(|(s, _)| s / 60 >= begin).map(|(_, v)| *v).chain([*value])
                    };
                    let distance = inside().fold(f64::MIN, f64::max) - inside().fold(f64::MAX, f64::min);
                    if distance <= 0.5 { 'b' } else { 'c' }
                }
            };
            prop_assert_eq!(sign(&judged[place]), expected, "at {}", seconds);
        }
    }

    /// Whatever the settings: a value is a breach or clear or between, and the further out the worse.
    #[test]
    fn further_out_is_never_better(threshold in -50.0_f64..50.0, gap in 0.0_f64..10.0, a in -100.0_f64..100.0, b in -100.0_f64..100.0) {
        let rank = |check: &Check, value| match alone(check, value) {
            Judgement::Breach(_) => 2,
            Judgement::Between => 1,
            _ => 0,
        };
        let above = Check::AboveThreshold { threshold, clear: Some(threshold - gap) };
        let below = Check::BelowThreshold { threshold, clear: Some(threshold + gap) };
        let (low, high) = if a < b { (a, b) } else { (b, a) };
        prop_assert!(rank(&above, low) <= rank(&above, high));
        prop_assert!(rank(&below, low) >= rank(&below, high));
    }
}
