//! What is said of points, condition by condition.

use serde_json::{Value, json};

use super::*;

/// Points of seconds after 2026-11-21T00:00:00Z and values, and what is told of them.
fn told(condition: Value, settings: Value, points: &[(i64, f64)], until: Option<i64>) -> Value {
    let begin = 1_795_219_200;
    let mut rule = json!({ "name": "r", "metric": "m", "severity": "warning", "condition": condition,
                           "resolve_after_seconds": 0, "cooldown_seconds": 0 });
    for (name, value) in settings.as_object().unwrap() {
        rule[name] = value.clone();
    }
    let points: Vec<Value> =
        points.iter().map(|(second, value)| json!({ "ts": begin + second, "value": value })).collect();
    let until = until.map(|second| json!(begin + second));
    let draft = RuleDraft::parse(rule).unwrap();
    let trial = Trial::parse(Value::from(points), until.as_ref()).unwrap();
    serde_json::to_value(explain(&draft, &trial).unwrap()).unwrap()
}

fn judgements(told: &Value) -> Vec<&str> {
    told["points"].as_array().unwrap().iter().map(|point| point["judgement"].as_str().unwrap()).collect()
}

/// `0: opened at 00:00:10`, behind the place of the point that it was known with; `end` for what time led to.
fn steps(told: &Value) -> Vec<String> {
    let mut steps = Vec::new();
    let mut add = |place: &str, list: &Value| {
        for step in list.as_array().unwrap() {
            let at = step["at"].as_str().unwrap();
            steps.push(format!("{place}: {} at {}", step["what"].as_str().unwrap(), &at[11..19]));
        }
    };
    for (place, point) in told["points"].as_array().unwrap().iter().enumerate() {
        add(&place.to_string(), &point["leads_to"]);
    }
    add("end", &told["afterwards"]);
    steps
}

#[test]
fn a_threshold_is_explained_with_what_clears_it() {
    let condition = json!({ "kind": "above_threshold", "threshold": 80, "clear": 75 });
    let told = told(condition, json!({}), &[(0, 70.0), (10, 81.0), (20, 78.0), (30, 75.0), (40, 90.0)], None);
    assert_eq!(judgements(&told), ["clear", "breach", "between", "clear", "breach"]);
    assert_eq!(told["points"][1]["evidence"], json!({ "condition": "above_threshold", "threshold": 80.0 }));
    assert!(told["points"][2]["why"].as_str().unwrap().contains("changes nothing"));
    assert_eq!(steps(&told), ["1: opened at 00:00:10", "3: resolved at 00:00:30", "4: opened at 00:00:40"]);
    let summary = &told["summary"];
    assert_eq!(
        (&summary["alerts"], &summary["open"], &summary["between"]),
        (&json!(2), &json!(1), &json!(1))
    );
    assert_eq!(summary["text"], "2 alerts of 5 points open; 1 open in the end");
    let first = &told["alerts"][0];
    assert_eq!(
        (&first["class"], &first["ended_at"]),
        (&json!("spike above"), &json!("2026-11-21T00:00:30Z"))
    );
    assert!(first["summary"].as_str().unwrap().starts_with("m of the device is 81, above 80"), "{first}");
}

#[test]
fn what_holds_for_a_time_fires_when_the_time_is_over() {
    let condition = json!({ "kind": "outside_range", "lowest": 1, "highest": 5, "for_seconds": 60 });
    let settings = json!({ "resolve_after_seconds": 30 });
    let points = [(0, 6.0), (50, 0.0), (100, 6.0), (110, 3.0), (120, 3.0)];
    let told = told(condition, settings, &points, Some(3600));
    let expected = ["2: opened at 00:01:00", "end: resolved at 00:02:20"];
    assert_eq!(steps(&told), expected);
    assert_eq!(told["afterwards"][0]["clear_since"], "2026-11-21T00:01:50Z");
    assert_eq!(told["alerts"][0]["class"], "drop below", "what was known last when it fired");
    assert_eq!(told["until"], "2026-11-21T01:00:00Z");
}

#[test]
fn m_of_n_and_a_severity_that_rises_are_explained() {
    let condition = json!({ "kind": "below_threshold", "threshold": 5, "m_of_n": { "m": 2, "n": 3 } });
    let settings = json!({ "escalations": [{ "severity": "critical", "beyond": 0 }] });
    let points = [(0, 4.0), (10, 6.0), (20, 4.0), (30, -1.0)];
    let told = told(condition, settings, &points, None);
    assert_eq!(steps(&told), ["2: opened at 00:00:20", "3: escalated at 00:00:30"]);
    assert_eq!(told["alerts"][0]["severity"], "critical");
}

#[test]
fn what_comes_again_within_the_cooldown_opens_no_other_alert() {
    let condition = json!({ "kind": "above_threshold", "threshold": 80 });
    let settings = json!({ "cooldown_seconds": 900 });
    let points = [(0, 81.0), (60, 70.0), (120, 81.0), (180, 70.0), (1000, 81.0)];
    let told = told(condition, settings, &points, None);
    let fires: Vec<String> = steps(&told).into_iter().filter(|step| step.contains("opened")).collect();
    let expected = ["0: opened at 00:00:00", "2: reopened at 00:02:00", "4: opened at 00:16:40"];
    assert_eq!(fires, expected);
    assert_eq!(told["points"][2]["leads_to"][0]["disposition"], "cooled_down");
    assert_eq!((&told["summary"]["alerts"], &told["summary"]["episodes"]), (&json!(2), &json!(3)));
}

#[test]
fn where_nothing_can_be_said_the_reason_is() {
    let rate =
        told(json!({ "kind": "rate_of_change", "limit": 10 }), json!({}), &[(0, 1.0), (60, 12.0)], None);
    assert_eq!(judgements(&rate), ["unknown", "breach"]);
    assert!(rate["points"][0]["why"].as_str().unwrap().contains("no point before it"));
    assert_eq!(rate["points"][1]["evidence"]["rate"], 11.0);

    let condition = json!({ "kind": "deviation_from_mean", "window_minutes": 10, "min_buckets": 3 });
    let points = [(0, 10.0), (60, 10.2), (90, 10.1), (120, 9.9), (180, 10.0), (240, 99.0)];
    let deviation = told(condition, json!({}), &points, None);
    assert_eq!(judgements(&deviation), ["unknown", "unknown", "unknown", "unknown", "clear", "breach"]);
    let why = "2 of the 10 complete minutes before its own have a point, and 3 must";
    assert_eq!(deviation["points"][3]["why"], why);
    assert_eq!(deviation["points"][5]["evidence"]["n"], 4);

    let condition = json!({ "kind": "stuck", "window_minutes": 2, "tolerance": 0.1 });
    let stuck = told(condition, json!({}), &[(0, 5.0), (60, 5.05), (120, 5.0), (180, 6.0)], None);
    assert_eq!(judgements(&stuck), ["unknown", "unknown", "breach", "clear"]);
    assert!(stuck["points"][1]["why"].as_str().unwrap().contains("2 minutes before it or earlier"));
}

#[test]
fn silence_is_told_between_the_points_and_behind_the_last() {
    let condition = json!({ "kind": "no_data", "interval_seconds": 60 });
    let points = [(0, 1.0), (50, 1.0), (200, 1.0)];
    let told = told(condition.clone(), json!({}), &points, Some(261));
    let expected = ["2: opened at 00:01:50", "2: resolved at 00:03:20", "end: opened at 00:04:20"];
    assert_eq!(steps(&told), expected);
    assert_eq!(judgements(&told), ["clear"; 3]);
    assert_eq!(told["alerts"][0]["class"], "silent");
    // To the second: what is on its way in a service is not, here.
    for (until, alerts) in [(None, 1), (Some(260), 1), (Some(261), 2)] {
        let told = super::tests::told(condition.clone(), json!({}), &points, until);
        assert_eq!(told["summary"]["alerts"], alerts, "{until:?}");
    }
}
