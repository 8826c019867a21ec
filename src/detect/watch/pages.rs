//! Who is paged when, where it was wrong once.

use serde_json::json;

use super::super::trial::Trial;
use super::*;

#[test]
fn what_falls_between_the_thresholds_fires_m_of_n_again_and_can_say_why() {
    let mut trial = Trial::of(json!({ "kind": "above_threshold", "threshold": 80, "clear": 70,
        "m_of_n": { "m": 2, "n": 3 }, "resolve_after": 5, "cooldown": 0 }));
    trial.live(&[(0.0, 90.0), (1.0, 90.0), (2.0, 60.0), (3.0, 60.0), (4.0, 90.0)]);
    trial.tick(9.5);
    trial.live(&[(10.0, 75.0), (11.0, 90.0), (12.0, 95.0), (13.0, 99.0), (60.0, 99.0)]);
    assert_eq!(trial.alerts().len(), 2);
}

#[test]
fn whoever_is_reminded_of_nothing_leaves_no_line() {
    let mut trial = Trial::of(json!({ "kind": "above_threshold", "threshold": 80, "reminder": 60 }));
    trial.live(&[(0.0, 90.0)]);
    trial.memory.setup.destinations.clear();
    for second in 61..121 {
        trial.tick(f64::from(second));
    }
    assert!(!trial.happened().iter().any(|line| line.starts_with("reminded")));
}

#[test]
fn one_silence_is_one_judgement_however_often_it_is_looked_at() {
    let rule = json!({ "kind": "no_data", "interval_seconds": 60, "m_of_n": { "m": 2, "n": 3 } });
    let mut live = Trial::of(rule.clone());
    live.readings(&[(0.0, 1.0)]);
    for second in 1..70 {
        live.tick(f64::from(second));
    }
    live.readings(&[(70.0, 1.0)]);
    assert_eq!(live.alerts().len(), 0);
    for second in 71..300 {
        live.tick(f64::from(second));
    }
    assert_eq!(live.alerts().len(), 1, "it is the second of three");
    let mut late = Trial::of(rule);
    late.readings_at(1000.0, &[(0.0, 1.0), (70.0, 1.0), (299.0, 1.0)]);
    assert_eq!(late.alerts().len(), 1);
}

#[test]
fn a_silence_that_is_found_again_opens_the_alert_of_it_again() {
    let mut trial = Trial::of(json!({ "kind": "no_data", "interval_seconds": 60 }));
    trial.readings_at(0.0, &[(0.0, 50.0)]);
    for tens in 1..200 {
        trial.tick(f64::from(tens) * 10.0);
    }
    trial.readings_at(2000.0, &[(-5000.0, 50.0)]);
    for tens in 200..260 {
        trial.tick(f64::from(tens) * 10.0);
    }
    assert_eq!(trial.alerts().len(), 1);
    assert_eq!(trial.life().state, AlertState::Open);
}

#[test]
fn a_silence_of_a_device_whose_clock_went_back_is_over_when_it_is_heard() {
    let mut trial = Trial::of(json!({ "kind": "no_data", "interval_seconds": 60, "resolve_after": 300 }));
    trial.readings_at(0.0, &[(0.0, 50.0)]);
    trial.tick(100.0);
    for tens in 11..100 {
        let now = f64::from(tens) * 10.0;
        trial.tick(now);
        trial.readings_at(now, &[(now - 80_000.0, 50.0)]);
    }
    assert_eq!(trial.happened(), ["opened 60 notified", "resolved 60"]);
}

#[test]
fn a_severity_that_rose_in_a_silence_is_told_when_it_ends() {
    let rule = json!({ "kind": "above_threshold", "threshold": 80, "cooldown": 0,
        "escalations": [{ "severity": "critical", "after_seconds": 100 }] });
    for (state, expected) in
        [(AlertState::Open, ["opened", "still_burning"]), (AlertState::Acknowledged, ["opened", "escalated"])]
    {
        let mut trial = Trial::of(rule.clone());
        trial.live(&[(0.0, 90.0)]);
        trial.life().state = state;
        trial.silence(50.0, 200.0);
        trial.live(&[(60.0, 90.0), (120.0, 90.0), (180.0, 90.0), (240.0, 90.0), (4000.0, 90.0)]);
        assert_eq!(trial.told(), expected);
        assert_eq!(trial.life().severity, Severity::Critical);
    }
}

#[test]
fn an_acknowledged_alert_is_not_paged_when_a_silence_ends() {
    let mut trial = Trial::of(json!({ "kind": "above_threshold", "threshold": 80 }));
    trial.live(&[(0.0, 90.0)]);
    trial.life().state = AlertState::Acknowledged;
    trial.silence(50.0, 200.0);
    trial.live(&[(60.0, 90.0), (180.0, 90.0), (240.0, 90.0), (4000.0, 90.0)]);
    assert_eq!(trial.told(), ["opened"]);
}

#[test]
fn an_open_alert_is_marked_when_a_silence_begins_and_told_once_when_it_ends() {
    let mut trial = Trial::of(json!({ "kind": "above_threshold", "threshold": 80, "cooldown": 150 }));
    trial.live(&[(0.0, 90.0)]);
    trial.silence(50.0, 149.5);
    trial.live(&[(60.0, 90.0), (100.0, 90.0)]);
    assert!(trial.life().silence.is_some());
    trial.live(&[(145.0, 90.0), (149.0, 90.0), (149.8, 90.0), (150.5, 90.0), (151.0, 90.0), (160.0, 90.0)]);
    assert_eq!(trial.told(), ["opened", "still_burning"], "not a second time for the end of the cooldown");
    assert!(trial.life().silence.is_none());
}

#[test]
fn only_readings_move_a_cooldown_on() {
    let rule = json!({ "kind": "above_threshold", "threshold": 80, "cooldown": 60 });
    for readings in [[(10.0, 70.0), (20.0, 90.0), (30.0, 70.0)], [(10.0, 70.0), (70.0, 90.0), (80.0, 70.0)]] {
        let mut live = Trial::of(rule.clone());
        live.readings(&[(0.0, 90.0)]);
        for second in 1..130 {
            live.tick(f64::from(second));
        }
        live.readings_at(130.0, &readings);
        let mut late = Trial::of(rule.clone());
        late.readings_at(130.0, &[(0.0, 90.0)]);
        late.readings_at(130.0, &readings);
        let opened = |trial: &Trial| trial.alerts().iter().map(|alert| alert.0).collect::<Vec<_>>();
        assert_eq!(opened(&live), opened(&late));
    }
}

#[test]
fn what_nobody_has_heard_of_since_is_not_told_again_and_again() {
    let mut trial = Trial::of(json!({ "kind": "above_threshold", "threshold": 80, "cooldown": 60 }));
    trial.live(&[(0.0, 90.0), (50.0, 91.0)]);
    for second in 51..4000 {
        trial.tick(f64::from(second));
    }
    assert_eq!(trial.told(), ["opened", "still_burning"], "once: a reading had said so");
    let mut silent = Trial::of(json!({ "kind": "no_data", "interval_seconds": 60, "cooldown": 100 }));
    silent.readings(&[(0.0, 1.0)]);
    for second in 1..400 {
        silent.tick(f64::from(second));
    }
    assert_eq!(
        silent.told(),
        ["opened", "still_burning", "still_burning", "still_burning"],
        "a silence is known"
    );
}

#[test]
fn what_burns_again_before_it_was_over_is_told_when_it_does_and_not_twice() {
    let mut trial = Trial::of(
        json!({ "kind": "above_threshold", "threshold": 80, "cooldown": 30, "resolve_after": 300 }),
    );
    trial.live(&[(0.0, 90.0), (10.0, 70.0), (40.0, 70.0), (73.5, 90.0), (74.0, 90.0), (91.0, 90.0)]);
    assert_eq!(trial.happened(), ["opened 0 notified", "still_burning 73"]);
    trial.live(&[(103.6, 90.0)]);
    assert_eq!(trial.happened(), ["still_burning 103"]);
}

#[test]
fn without_a_cooldown_what_was_taken_for_over_and_burns_again_is_told() {
    let mut trial =
        Trial::of(json!({ "kind": "above_threshold", "threshold": 80, "cooldown": 0, "resolve_after": 300 }));
    trial.live(&[(0.0, 90.0), (10.0, 70.0)]);
    trial.life().state = AlertState::Resolved;
    trial.life().told = Told::Resolved;
    trial.live(&[(20.0, 95.0), (30.0, 95.0), (40.0, 70.0), (50.0, 95.0)]);
    assert_eq!(trial.life().state, AlertState::Open);
    assert_eq!(trial.told(), ["opened", "reopened"], "and not at each flicker");
}

#[test]
fn what_waits_to_be_buried_is_met_again_when_memory_is_forgotten() {
    let mut trial = Trial::of(json!({ "kind": "above_threshold", "threshold": 80 }));
    trial.live(&[(0.0, 90.0)]);
    trial.memory.keep();
    let (id, series) = trial.memory.series.iter_mut().next().unwrap();
    let (id, state) = (*id, *series.watches.pop().unwrap().state.unwrap());
    trial.memory.orphans.push((id, trial.rule, state));
    trial.memory.forget_unsettled();
    assert!(!trial.memory.series.contains_key(&id));
}
