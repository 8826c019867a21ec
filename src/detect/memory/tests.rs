//! What is forgotten when there is no room for all.

use super::super::watch::{State, Watch};
use super::*;
use crate::detect::window::{Bucket, Window};

fn series(arrived: i64, minutes: i32) -> Series {
    let bucket = |minute| Bucket { minute, count: 1, mean: 1.0, lowest: 1.0, highest: 1.0 };
    Series {
        tenant: TenantId(1),
        device: "pump".to_owned(),
        tags: Tags::new(),
        metric: "temperature".to_owned(),
        unit: None,
        watches: Vec::new(),
        last: None,
        arrived: UnixMicros(arrived),
        was_heard: true,
        window: Some(Window::new(1_440, (0..minutes).map(bucket))),
        is_unsettled: false,
    }
}

/// Ten series of ten minutes each; the first was heard longest ago.
fn ten() -> Memory {
    let series = (0..10).map(|n| (SeriesId(n), series(n.into(), 10))).collect();
    Memory { series, ..Memory::default() }
}

fn left(memory: &Memory) -> Vec<i32> {
    let mut left: Vec<i32> = memory.series.keys().map(|id| id.0).collect();
    left.sort_unstable();
    left
}

#[test]
fn what_was_heard_longest_ago_makes_room_and_a_tenth_more_than_must_be() {
    let mut memory = ten();
    assert_eq!(memory.make_room(10, 100), 0);
    assert_eq!(memory.make_room(10, 90), 2, "to 81 minutes or less");
    assert_eq!(left(&memory), [2, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(memory.make_room(7, 1_000), 1);
    assert_eq!(left(&memory), [3, 4, 5, 6, 7, 8, 9]);
}

#[test]
fn what_is_not_settled_and_what_burns_stays() {
    let mut memory = ten();
    memory.series.get_mut(&SeriesId(0)).unwrap().is_unsettled = true;
    let rule =
        crate::detect::trial::Trial::of(serde_json::json!({ "kind": "above_threshold", "threshold": 80.0 }))
            .memory
            .series
            .remove(&SeriesId(7))
            .unwrap()
            .watches
            .remove(0)
            .rule;
    let state = Some(Box::new(State::default()));
    memory.series.get_mut(&SeriesId(1)).unwrap().watches.push(Watch { rule, state });
    assert_eq!(memory.make_room(0, 0), 8);
    assert_eq!(left(&memory), [0, 1]);
}
