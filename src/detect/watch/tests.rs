use serde_json::json;

use super::super::trial::Trial;
use super::*;

fn hot(settings: serde_json::Value) -> Trial {
    let mut whole = json!({ "kind": "above_threshold", "threshold": 80 });
    for (name, value) in settings.as_object().unwrap() {
        whole[name] = value.clone();
    }
    Trial::of(whole)
}

#[test]
fn an_alert_opens_resolves_and_is_told_both_times() {
    let mut trial = hot(json!({ "resolve_after": 60 }));
    trial.live(&[(0.0, 70.0), (10.0, 90.0), (20.0, 91.0), (30.0, 70.0), (89.0, 70.0)]);
    assert_eq!(trial.happened(), ["opened 10 notified"]);
    assert_eq!(trial.told(), ["opened"]);
    trial.tick(91.0);
    assert_eq!(trial.happened(), ["resolved 30"], "time alone resolves it");
    assert_eq!(trial.told(), ["resolved"]);
}

#[test]
fn within_the_cooldown_a_new_breach_opens_the_same_alert_again_and_nobody_is_told() {
    let mut trial = hot(json!({}));
    trial.live(&[(0.0, 90.0), (10.0, 70.0), (20.0, 90.0), (30.0, 70.0), (899.0, 90.0), (899.5, 70.0)]);
    let expected = [
        "opened 0 notified",
        "resolved 10",
        "reopened 20 cooled_down",
        "resolved 30",
        "reopened 899 cooled_down",
        "resolved 899",
    ];
    assert_eq!(trial.happened(), expected);
    assert_eq!(trial.told(), ["opened", "resolved"]);
    trial.live(&[(900.0, 90.0)]);
    assert_eq!(trial.happened(), ["opened 900 notified"], "after it, another one opens");
    assert_eq!(trial.alerts().len(), 2);
}

#[test]
fn what_still_burns_when_its_cooldown_is_over_is_told_again_until_somebody_takes_it_on() {
    let mut trial = hot(json!({}));
    trial.live(&[(0.0, 90.0), (500.0, 90.0), (899.0, 90.0)]);
    assert_eq!(trial.told(), ["opened"]);
    trial.tick(901.0);
    assert_eq!(trial.told(), ["still_burning"], "without a reading, too");
    assert_eq!(trial.happened(), ["opened 0 notified", "still_burning 900"]);
    trial.live(&[(1000.0, 90.0), (1810.0, 90.0)]);
    assert_eq!(trial.told(), ["still_burning"]);
    trial.life().state = AlertState::Acknowledged;
    trial.live(&[(2800.0, 90.0), (4000.0, 90.0)]);
    assert_eq!(trial.told().len(), 0);
    trial.live(&[(4010.0, 70.0)]);
    assert_eq!(trial.told(), ["resolved"], "that it is over is told all the same");
}

#[test]
fn flapping_never_swallows_the_last_state() {
    let mut trial = hot(json!({}));
    trial.live(&[(0.0, 90.0), (10.0, 70.0), (20.0, 90.0)]);
    assert_eq!(trial.told(), ["opened", "resolved"], "people think that it is over");
    trial.tick(901.0);
    assert_eq!(trial.told(), ["still_burning"], "and hear that it is not");
    trial.live(&[(910.0, 70.0)]);
    assert_eq!(trial.told(), ["resolved"]);
}

#[test]
fn without_a_cooldown_each_episode_is_an_alert_and_is_told_once() {
    let mut trial = hot(json!({ "cooldown": 0 }));
    trial.live(&[(0.0, 90.0), (10.0, 91.0), (20.0, 70.0), (21.0, 90.0), (22.0, 70.0)]);
    trial.tick(5000.0);
    assert_eq!(trial.told(), ["opened", "resolved", "opened", "resolved"]);
    assert!(trial.is_at_rest());
}

#[test]
fn a_silence_keeps_an_alert_from_being_told_and_marks_it() {
    let mut trial = hot(json!({}));
    trial.silence(0.0, 100.0);
    trial.live(&[(10.0, 90.0), (20.0, 70.0)]);
    assert_eq!(trial.happened(), ["opened 10 silenced", "resolved 20"]);
    assert!(trial.life().silence.is_some());
    assert_eq!(trial.told().len(), 0);
}

#[test]
fn what_burns_when_its_silence_ends_is_told_then() {
    let mut trial = hot(json!({}));
    trial.silence(0.0, 100.0);
    trial.live(&[(10.0, 90.0), (90.0, 90.0)]);
    assert_eq!(trial.told().len(), 0);
    trial.tick(101.0);
    assert_eq!(trial.happened(), ["opened 10 silenced", "still_burning 101"]);
    assert_eq!(trial.told(), ["still_burning"]);
    trial.tick(102.0);
    assert_eq!(trial.told().len(), 0, "once");
}

#[test]
fn that_it_is_over_is_told_through_a_silence_to_those_who_know_that_it_was_open() {
    let mut trial = hot(json!({}));
    trial.live(&[(0.0, 90.0)]);
    trial.silence(10.0, 5000.0);
    trial.live(&[(20.0, 90.0), (1000.0, 90.0)]);
    assert_eq!(trial.told(), ["opened"], "its cooldown was over in the silence");
    trial.live(&[(1010.0, 70.0)]);
    assert_eq!(trial.told(), ["resolved"]);
}

#[test]
fn severity_rises_with_time_and_with_the_value() {
    let escalations =
        json!([{ "severity": "error", "after_seconds": 60 }, { "severity": "critical", "beyond": 95 }]);
    let mut trial = hot(json!({ "escalations": escalations, "cooldown": 10_000 }));
    trial.live(&[(0.0, 90.0), (59.0, 90.0)]);
    assert_eq!(trial.life().severity, Severity::Warning);
    trial.tick(61.0);
    assert_eq!(trial.life().severity, Severity::Error);
    trial.live(&[(70.0, 96.0), (80.0, 90.0), (90.0, 97.0)]);
    assert_eq!(trial.life().severity, Severity::Critical, "it never falls while it is open");
    assert_eq!(trial.happened(), ["opened 0 notified", "escalated 61", "escalated 70"]);
    assert_eq!(trial.told(), ["opened", "escalated", "escalated"]);
    trial.live(&[(100.0, 70.0), (20_000.0, 99.0)]);
    assert_eq!(trial.life().severity, Severity::Critical, "as bad as it is from the start");
}

#[test]
fn a_reminder_comes_while_nobody_acknowledges() {
    let mut trial = hot(json!({ "reminder": 300, "cooldown": 100_000 }));
    trial.live(&[(0.0, 90.0), (299.0, 90.0)]);
    assert_eq!(trial.told(), ["opened"]);
    trial.tick(301.0);
    trial.tick(302.0);
    assert_eq!(trial.told(), ["reminded"]);
    trial.tick(602.0);
    assert_eq!(trial.told(), ["reminded"]);
    trial.life().state = AlertState::Acknowledged;
    trial.tick(2000.0);
    assert_eq!(trial.told().len(), 0);
}

#[test]
fn what_somebody_resolved_and_burns_all_the_same_is_open_again_when_its_cooldown_is_over() {
    let mut trial = hot(json!({}));
    trial.live(&[(0.0, 90.0)]);
    trial.life().state = AlertState::Resolved;
    trial.life().told = Told::Resolved;
    trial.live(&[(10.0, 90.0), (600.0, 90.0)]);
    assert_eq!(trial.told(), ["opened"], "their word holds for the cooldown");
    trial.tick(901.0);
    assert_eq!(trial.happened(), ["opened 0 notified", "reopened 900 notified"]);
    assert_eq!(trial.told(), ["reopened"]);
    trial.live(&[(910.0, 70.0)]);
    assert_eq!(trial.told(), ["resolved"]);
}

#[test]
fn what_somebody_resolved_and_is_over_then_is_not_told_twice() {
    let mut trial = hot(json!({}));
    trial.live(&[(0.0, 90.0)]);
    trial.life().state = AlertState::Resolved;
    trial.life().told = Told::Resolved;
    trial.live(&[(10.0, 70.0)]);
    assert_eq!(trial.told(), ["opened"]);
    assert_eq!(trial.happened(), ["opened 0 notified"]);
}

#[test]
fn a_rule_without_a_destination_opens_alerts_that_are_unrouted() {
    let mut trial = hot(json!({ "unrouted": true }));
    trial.live(&[(0.0, 90.0), (1000.0, 90.0), (1010.0, 70.0)]);
    assert_eq!(trial.happened(), ["opened 0 unrouted", "resolved 1010"]);
    assert_eq!(trial.told().len(), 0);
}

const DAY: f64 = 86_400.0;

#[test]
fn an_old_breach_that_is_over_is_historical_and_one_that_burns_still_is_told() {
    let mut trial = hot(json!({}));
    trial.readings_at(2.0 * DAY, &[(0.0, 90.0), (60.0, 91.0), (120.0, 70.0), (180.0, 90.0)]);
    assert_eq!(trial.happened(), ["opened 0 historical", "resolved 120", "reopened 180 cooled_down"]);
    trial.readings_at(2.0 * DAY + 1.0, &[(240.0, 70.0), (2000.0, 90.0)]);
    assert_eq!(trial.happened(), ["resolved 240", "opened 2000 historical"]);
    trial.tick(2.0 * DAY + 59.0);
    assert_eq!(trial.told().len(), 0, "whoever publishes a recording is perhaps not done");
    trial.tick(2.0 * DAY + 62.0);
    assert_eq!(trial.told(), ["still_burning"]);
    assert!(!trial.life().historical);
}

#[test]
fn a_recent_breach_tells_of_an_old_one_that_has_burned_since() {
    let mut trial = hot(json!({ "cooldown": 1_000_000 }));
    trial.readings_at(2.0 * DAY, &[(0.0, 90.0), (1.5 * DAY, 91.0)]);
    assert_eq!(trial.told(), ["still_burning"]);
    assert_eq!(trial.alerts().len(), 1);
}

#[test]
fn a_late_breach_is_an_alert_of_its_own_unless_one_covers_it() {
    let mut trial = hot(json!({}));
    trial.live(&[(5000.0, 90.0), (5100.0, 70.0)]);
    trial.told();
    trial.readings(&[(1000.0, 90.0)]);
    assert_eq!(trial.alerts()[1], (1000, 1000, true));
    assert_eq!(trial.told(), ["opened", "resolved"], "it is over, and told with both times");
    // In the cooldown of that one, in that of the other, and while the other burned.
    trial.readings(&[(1100.0, 90.0), (1899.0, 90.0)]);
    trial.readings(&[(5050.0, 90.0)]);
    assert_eq!(trial.alerts().len(), 2);
    assert_eq!(trial.judged.effects.late_breaches_covered, 3);
    trial.readings(&[(1900.0, 90.0), (4999.0, 90.0)]);
    assert_eq!(trial.alerts().len(), 4);
    trial.readings(&[(3000.0, 70.0)]);
    assert_eq!(trial.alerts().len(), 4, "a late clear reading changes nothing");
}

#[test]
fn a_late_breach_that_lies_in_an_older_alert_is_told_by_it_and_covers_nothing_more() {
    let mut trial = hot(json!({ "cooldown": 20 }));
    trial.live(&[(100.0, 90.0), (130.0, 70.0), (200.0, 90.0), (210.0, 70.0)]);
    trial.readings(&[(110.0, 90.0)]);
    assert_eq!(trial.alerts().len(), 2, "the first burned until 130");
    let mut trial = hot(json!({ "cooldown": 20 }));
    trial.live(&[(100.0, 90.0), (101.0, 70.0), (200.0, 90.0), (210.0, 70.0)]);
    trial.readings(&[(119.0, 90.0), (120.0, 90.0), (139.0, 90.0), (140.0, 90.0)]);
    let late: Vec<_> = trial.alerts()[2..].iter().map(|alert| alert.0).collect();
    assert_eq!(late, [120, 140], "119 lies in the cooldown of the first, and has none of its own");
}

#[test]
fn the_same_comes_of_the_same_readings_however_late_they_are_judged() {
    let readings: Vec<(f64, f64)> =
        (0..400).map(|n| (f64::from(n) * 10.0, if (n * n) % 37 < 9 { 90.0 } else { 70.0 })).collect();
    for settings in [
        json!({}),
        json!({ "resolve_after": 35, "for_seconds": 15 }),
        json!({ "m_of_n": { "m": 2, "n": 4 }, "cooldown": 120 }),
    ] {
        let mut live = hot(settings.clone());
        live.live(&readings);
        let mut late = hot(settings.clone());
        late.readings_at(4600.0, &readings);
        let times = |trial: &Trial| {
            trial.alerts().iter().map(|(breached, fired, _)| (*breached, *fired)).collect::<Vec<_>>()
        };
        assert_eq!(times(&live), times(&late), "{settings}");
        assert!(times(&live).len() > 1);
        assert!(late.alerts()[0].2, "and they are marked late");
        assert!(!live.alerts()[0].2);
        let opens = |trial: &mut Trial| {
            let happened = trial.happened();
            happened.into_iter().filter(|line| !line.contains("still")).collect::<Vec<_>>()
        };
        assert_eq!(opens(&mut live), opens(&mut late), "{settings}");
    }
}
