//! What may stand in a rule, and what is said of what may not.

use super::*;

fn whole() -> Value {
    json!({
        "name": "hot",
        "metric": "temperature",
        "devices": { "pattern": "pump-*", "ids": ["pump-2", "pump-1", "pump-2"], "tags": { "site": "north" } },
        "condition": { "kind": "above_threshold", "threshold": 80.0, "clear": 75.0, "for_seconds": 60,
                       "m_of_n": { "m": 2, "n": 3 } },
        "severity": "warning",
        "cooldown_seconds": 60,
        "resolve_after_seconds": 0,
        "reminder_seconds": 600,
        "escalations": [{ "severity": "critical", "beyond": 95.0 }],
        "labels": { "team": "water" },
        "runbook_url": "https://wiki.example/hot",
        "destination_ids": ["01890f3a-1111-7000-8000-000000000000"],
    })
}

#[test]
fn a_rule_is_shown_as_it_could_be_written() {
    let draft = RuleDraft::parse(whole()).unwrap();
    let mut expected = whole();
    expected["devices"]["ids"] = json!(["pump-1", "pump-2"]);
    assert_eq!(draft.to_json(), expected);
    assert_eq!(RuleDraft::parse(draft.to_json()).unwrap(), draft);
}

#[test]
fn what_is_left_out_has_defaults_and_the_conditions_are_written_down() {
    let json = json!({ "name": " hot ", "metric": "t", "severity": "info", "labels": null,
                       "condition": { "kind": "deviation_from_mean", "window_minutes": 60 } });
    let draft = RuleDraft::parse(json).unwrap();
    assert_eq!((draft.name.as_str(), draft.devices.pattern.as_str()), ("hot", "*"));
    assert_eq!(
        (draft.cooldown_seconds, draft.resolve_after_seconds, draft.reminder_seconds),
        (900, 300, None)
    );
    let condition =
        json!({ "kind": "deviation_from_mean", "window_minutes": 60, "k": 5.0, "min_buckets": 5 });
    assert_eq!(draft.condition_json(), condition);
}

#[test]
fn each_member_that_cannot_be_used_is_named() {
    for (member, broken) in [
        ("name", json!("")),
        ("name", json!(1)),
        ("name", json!("x".repeat(201))),
        ("name", json!("a\u{0}b")),
        ("name", Value::Null),
        ("metric", json!("  ")),
        ("metric", json!("m".repeat(129))),
        ("metric", Value::Null),
        ("devices", json!("pump-*")),
        ("devices.pattern", json!("")),
        ("devices.pattern", json!("p".repeat(257))),
        ("devices.ids", json!([])),
        ("devices.ids", json!("pump-1")),
        ("devices.ids", json!([1])),
        ("devices.ids", json!(vec!["x"; 1001])),
        ("devices.tags", json!(["site"])),
        ("devices.tags.site", json!(1)),
        ("devices.site", json!("north")),
        ("condition", json!("hot")),
        ("condition", Value::Null),
        ("condition", json!({ "kind": "phase_of_the_moon" })),
        ("condition", json!({ "kind": "above_threshold" })),
        ("condition.threshold", json!("high")),
        ("severity", json!("loud")),
        ("severity", Value::Null),
        ("cooldown_seconds", json!(-1)),
        ("cooldown_seconds", json!(1.5)),
        ("cooldown_seconds", json!(u64::MAX)),
        ("resolve_after_seconds", json!("5m")),
        ("reminder_seconds", json!(0)),
        ("escalations", json!({})),
        ("escalations", json!([{ "severity": "info", "after_seconds": 60 }])),
        ("escalations", json!(vec![json!({ "severity": "critical", "after_seconds": 60 }); 17])),
        ("labels", json!([])),
        ("labels.team", json!(true)),
        ("runbook_url", json!("wiki.example/hot")),
        ("runbook_url", json!("javascript:alert(1)")),
        ("runbook_url", json!("https://")),
        ("destination_ids", json!("01890f3a-1111-7000-8000-000000000000")),
        ("destination_ids", json!(["the hub"])),
        ("treshold", json!(1)),
    ] {
        let mut json = whole();
        let mut place = &mut json;
        for name in member.split('.') {
            place = &mut place[name];
        }
        *place = broken.clone();
        let bad = RuleDraft::parse(json).expect_err(member);
        assert_eq!(bad.member, member, "{broken}: {bad}");
        assert!(bad.to_string().starts_with(&format!("`{member}` ")), "{bad}");
    }
    let json = json!({ "name": "n", "metric": "m", "severity": "info",
                       "condition": { "kind": "stuck", "window_minutes": 1.5 } });
    assert_eq!(RuleDraft::parse(json).unwrap_err().member, "condition.window_minutes");
}

#[test]
fn a_change_merges_and_another_kind_of_condition_replaces() {
    let mut json = whole();
    change(&mut json, json!({ "condition": { "threshold": 85.0, "clear": null }, "runbook_url": null }))
        .unwrap();
    let condition = json!({ "kind": "above_threshold", "threshold": 85.0, "for_seconds": 60,
                            "m_of_n": { "m": 2, "n": 3 } });
    assert_eq!(json["condition"], condition);
    assert_eq!(RuleDraft::parse(json.clone()).unwrap().runbook_url, None);
    change(&mut json, json!({ "condition": { "kind": "no_data", "interval_seconds": 60 } })).unwrap();
    assert_eq!(json["condition"], json!({ "kind": "no_data", "interval_seconds": 60 }));
    // Such a condition has no threshold that something could be beyond.
    assert_eq!(RuleDraft::parse(json).unwrap_err().member, "escalations");

    let mut json = whole();
    assert_eq!(change(&mut json, json!({ "nmae": null })).unwrap_err().member, "nmae");
    assert_eq!(change(&mut json, json!([])).unwrap_err().member, "");
    assert_eq!(json, whole());
}
