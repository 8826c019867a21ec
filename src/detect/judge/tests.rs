use serde_json::{Value, json};

use super::super::trial::{Trial, second};
use super::*;

/// The alerts that readings lead to, each with the time that its breach began: judged as they come.
fn alerts(condition: Value, readings: &[(f64, f64)]) -> Vec<i64> {
    let mut trial = Trial::of(condition);
    trial.live(readings);
    trial.alerts().iter().map(|(breached_at, ..)| *breached_at).collect()
}

/// A reading each minute, from minute 0 on.
fn minutes(values: &[f64]) -> Vec<(f64, f64)> {
    values.iter().enumerate().map(|(minute, value)| (minute as f64 * 60.0, *value)).collect()
}

fn conditions() -> Vec<(&'static str, Value)> {
    vec![
        ("above", json!({ "kind": "above_threshold", "threshold": 80 })),
        ("below", json!({ "kind": "below_threshold", "threshold": 20 })),
        ("range", json!({ "kind": "outside_range", "lowest": 20, "highest": 80 })),
        ("deviation", json!({ "kind": "deviation_from_mean", "window_minutes": 10 })),
        ("rate", json!({ "kind": "rate_of_change", "limit": 30 })),
        ("stuck", json!({ "kind": "stuck", "window_minutes": 10, "tolerance": 0.5 })),
        ("silent", json!({ "kind": "no_data", "interval_seconds": 150 })),
    ]
}

/// What each condition makes of the same readings: the minutes of its alerts.
fn table(readings: &[(f64, f64)]) -> Vec<(&'static str, Vec<i64>)> {
    let minute = |at: &i64| at / 60;
    conditions()
        .into_iter()
        .map(|(name, condition)| (name, alerts(condition, readings).iter().map(minute).collect()))
        .filter(|(_, alerts): &(_, Vec<i64>)| !alerts.is_empty())
        .collect()
}

#[test]
fn a_constant_series_is_stuck_and_nothing_else() {
    assert_eq!(table(&minutes(&[50.0; 30])), [("stuck", vec![10])]);
    assert_eq!(table(&minutes(&[0.0; 30])), [("below", vec![0]), ("range", vec![0]), ("stuck", vec![10])]);
}

#[test]
fn the_first_readings_of_a_new_device_fire_only_what_looks_at_one_point() {
    assert_eq!(table(&minutes(&[90.0])), [("above", vec![0]), ("range", vec![0])]);
    assert_eq!(table(&minutes(&[50.0, 52.0, 48.0, 51.0])), []);
}

#[test]
fn a_spike_is_one_for_every_condition_that_is_made_for_it() {
    let values = [50.0, 52.0, 48.0, 51.0, 50.0, 52.0, 48.0, 90.0, 51.0, 49.0];
    let expected = [("above", vec![7]), ("range", vec![7]), ("deviation", vec![7]), ("rate", vec![7])];
    assert_eq!(table(&minutes(&values)), expected);
}

#[test]
fn a_missing_minute_is_no_breach_and_missing_minutes_are_a_silence() {
    let mut readings = minutes(&[50.0, 52.0, 48.0, 51.0, 50.0, 52.0, 48.0, 51.0, 50.0, 52.0]);
    readings.remove(5);
    assert_eq!(table(&readings), []);
    readings.remove(5);
    assert_eq!(table(&readings), [("silent", vec![6])], "4 min and 150 s");
}

#[test]
fn a_clock_that_jumps_ahead_and_back_fires_what_it_looks_like_and_stops_nothing() {
    // Ten minutes ahead for one reading, and back: those after it come "late" until time has caught up.
    let mut readings = minutes(&[50.0, 52.0, 48.0, 51.0, 50.0, 52.0]);
    readings.push((900.0, 51.0));
    let mut trial = Trial::of(json!({ "kind": "above_threshold", "threshold": 80, "cooldown": 60 }));
    trial.live(&readings);
    trial.readings_at(360.0, &[(360.0, 50.0)]);
    trial.readings_at(420.0, &[(420.0, 90.0)]);
    assert_eq!(trial.alerts(), [(420, 420, true)], "a late breach of one point is one all the same");
    trial.readings_at(960.0, &[(960.0, 91.0)]);
    assert_eq!(trial.alerts().len(), 2);
    let mut trial = Trial::of(json!({ "kind": "rate_of_change", "limit": 30 }));
    trial.live(&readings);
    trial.readings_at(360.0, &[(360.0, 500.0)]);
    assert_eq!(trial.alerts(), [], "what is late has nothing before it to be compared with");
}

#[test]
fn a_device_hours_ahead_is_silent_when_nothing_comes_from_it() {
    let mut trial = Trial::of(json!({ "kind": "no_data", "interval_seconds": 60 }));
    trial.readings_at(0.0, &[(3.0 * 3600.0, 50.0)]);
    trial.tick(59.0);
    assert_eq!(trial.alerts(), []);
    trial.tick(61.0);
    assert_eq!(trial.alerts().len(), 1, "its own clock says when, ours says how long");
    // And one hours behind is not silent because of that.
    let mut trial = Trial::of(json!({ "kind": "no_data", "interval_seconds": 60 }));
    for n in 0..10 {
        let at = f64::from(n) * 50.0;
        trial.tick(at);
        trial.readings_at(at, &[(at - 3.0 * 3600.0, 50.0)]);
    }
    assert_eq!(trial.alerts(), []);
}

#[test]
fn our_own_lag_is_no_silence() {
    let mut trial = Trial::of(json!({ "kind": "no_data", "interval_seconds": 60 }));
    trial.readings(&[(0.0, 50.0)]);
    let moment = Moment::at(second(1000.0).to_timestamp(), 86_400_000_000);
    // Nobody knows what came since; and what came until then is judged, but not what came after.
    for heard_until in [None, Some(second(30.0))] {
        trial.judged.tick(&mut trial.memory, heard_until, moment).unwrap();
        assert_eq!(trial.alerts(), [], "{heard_until:?}");
    }
    trial.readings_at(1000.0, &[(50.0, 50.0), (100.0, 51.0)]);
    assert_eq!(trial.alerts(), []);
}

#[test]
fn a_silence_that_is_over_when_it_is_judged_is_an_alert_with_both_its_times() {
    let condition = json!({ "kind": "no_data", "interval_seconds": 60 });
    let readings = [(0.0, 1.0), (50.0, 2.0), (300.0, 3.0), (350.0, 4.0)];
    let mut late = Trial::of(condition.clone());
    late.readings_at(1000.0, &readings);
    assert_eq!(late.happened(), ["opened 110 notified", "resolved 300"]);
    let mut live = Trial::of(condition);
    live.live(&readings);
    assert_eq!(live.happened(), ["opened 110 notified", "resolved 300"]);
}

#[test]
fn whoever_sends_late_readings_is_not_silent() {
    let mut trial = Trial::of(json!({ "kind": "no_data", "interval_seconds": 60 }));
    trial.readings(&[(0.0, 1.0)]);
    trial.readings_at(55.0, &[(-30.0, 1.0)]);
    trial.tick(100.0);
    assert_eq!(trial.alerts(), []);
    trial.tick(120.0);
    assert_eq!(trial.alerts().len(), 1);
    trial.readings_at(130.0, &[(-20.0, 1.0)]);
    assert_eq!(trial.told(), ["opened", "resolved"]);
}

#[test]
fn late_and_out_of_order_readings_change_the_minutes_they_belong_to_and_are_compared_with_nothing() {
    let values = [50.0, 52.0, 48.0, 51.0, 50.0, 52.0];
    let mut trial =
        Trial::of(json!({ "kind": "deviation_from_mean", "window_minutes": 10, "min_sigma": 1.0 }));
    trial.live(&minutes(&values));
    trial.readings(&[(90.0, 1e6)]);
    assert_eq!(trial.alerts(), [], "late");
    trial.live(&[(360.0, 90.0)]);
    assert_eq!(trial.alerts(), [], "its minutes hold a million now");
}

#[test]
fn a_stuck_value_that_moves_is_over_and_two_readings_of_a_minute_count() {
    let mut trial = Trial::of(json!({ "kind": "stuck", "window_minutes": 3, "cooldown": 0 }));
    trial.live(&minutes(&[7.0, 7.0, 7.0, 7.0, 7.0, 8.0]));
    assert_eq!(trial.happened(), ["opened 180 notified", "resolved 300"]);
    let readings = [(0.0, 7.0), (60.0, 7.0), (120.0, 7.0), (180.0, 7.5), (181.0, 7.0)];
    assert_eq!(alerts(json!({ "kind": "stuck", "window_minutes": 3 }), &readings), [0_i64; 0]);
}

#[test]
fn a_panic_is_the_fault_of_the_rule_that_was_judged() {
    let rule = RuleId::new();
    let judging = Cell::new(Some(rule));
    std::panic::set_hook(Box::new(|_| {}));
    let outcome = guarded(&judging, || panic!("a bug"));
    let _ = std::panic::take_hook();
    assert_eq!(outcome, Err(Fault(rule)));
    assert_eq!(guarded(&judging, || {}), Ok(()));
}
