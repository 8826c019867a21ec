//! Points that somebody wants to see a rule judged against. Pure.

use serde_json::Value;

use super::member::{BadMember, Members};
use crate::ingest::validate::{LARGEST_VALUE, parse_ts};
use crate::model::condition::LONGEST_SECONDS;
use crate::model::reading::UnixMicros;

/// Points at most: a week of minutes, or some hours of seconds.
pub const MOST_POINTS: usize = 10_000;

/// Readings of one series in their order, and for how long nothing more comes.
#[derive(Debug, Clone, PartialEq)]
pub struct Trial {
    /// Each later than the one before; at least one.
    pub points: Vec<(UnixMicros, f64)>,
    /// Nothing comes behind the last point until then.
    pub until: UnixMicros,
}

impl Trial {
    /// Reads what stands in `points` and `until`.
    ///
    /// # Errors
    /// Names the first point that can't be used, by its place.
    pub fn parse(points: Value, until: Option<&Value>) -> Result<Self, BadMember> {
        let bad = |problem: String| BadMember::new("points", problem);
        let Value::Array(list) = points else {
            return Err(bad(
                "must be a list such as [{\"ts\": \"2026-11-21T03:00:00Z\", \"value\": 81.5}]".to_owned()
            ));
        };
        if list.is_empty() || list.len() > MOST_POINTS {
            return Err(bad(format!("must be 1 to {MOST_POINTS}; these are {}", list.len())));
        }
        let mut points: Vec<(UnixMicros, f64)> = Vec::with_capacity(list.len());
        for (place, json) in list.into_iter().enumerate() {
            let member = format!("points[{place}]");
            let (ts, value) = point(json).map_err(|bad| bad.inside(&member))?;
            if points.last().is_some_and(|(before, _)| *before >= ts) {
                let problem = "must be later than the point before it: sort the points by ts, each ts once";
                return Err(BadMember::new(format!("{member}.ts"), problem));
            }
            points.push((ts, value));
        }
        let last = points.last().map_or(UnixMicros(0), |(ts, _)| *ts);
        let until = until.filter(|until| !until.is_null());
        let until = until
            .map_or(Ok(last), |until| time(until).map_err(|problem| BadMember::new("until", problem)))?;
        if !(0..=i64::from(LONGEST_SECONDS) * 1_000_000).contains(&until.0.saturating_sub(last.0)) {
            return Err(BadMember::new(
                "until",
                "must be no earlier than the last point, and within a year of it",
            ));
        }
        Ok(Self { points, until })
    }
}

fn point(json: Value) -> Result<(UnixMicros, f64), BadMember> {
    let mut members = Members::open(json, &["ts", "value"])?;
    let ts = members.require("ts", "a time")?;
    let ts = time(&ts).map_err(|problem| BadMember::new("ts", problem))?;
    let value = members.require("value", "a number")?.as_f64();
    let value = value.filter(|value| value.is_finite() && value.abs() <= LARGEST_VALUE);
    let problem =
        || BadMember::new("value", format!("must be a number from -{LARGEST_VALUE:e} to {LARGEST_VALUE:e}"));
    Ok((ts, value.ok_or_else(problem)?))
}

/// As in a reading; in the years that a calendar can show.
fn time(json: &Value) -> Result<UnixMicros, String> {
    let ts = parse_ts(&json.to_string()).ok();
    // Minutes are counted in 32 bits.
    let fits = |ts: &UnixMicros| ts.to_timestamp().as_microsecond() == ts.0 && ts.0.unsigned_abs() < 1 << 56;
    ts.filter(fits).ok_or_else(|| "must be an RFC 3339 time or a Unix time".to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn point(ts: i64, value: f64) -> Value {
        json!({ "ts": ts, "value": value })
    }

    #[test]
    fn points_are_read_as_readings_are() {
        let points =
            json!([{ "ts": "2026-11-21T03:00:00Z", "value": 1 }, { "ts": 1_795_230_001, "value": -2.5 }]);
        let trial = Trial::parse(points.clone(), None).unwrap();
        let first = 1_795_230_000_000_000;
        assert_eq!(trial.points, [(UnixMicros(first), 1.0), (UnixMicros(first + 1_000_000), -2.5)]);
        assert_eq!(trial.until, UnixMicros(first + 1_000_000));
        let until = Trial::parse(points, Some(&json!("2026-11-21T04:00:00Z"))).unwrap().until;
        assert_eq!(until, UnixMicros(first + 3_600_000_000));
    }

    #[test]
    fn a_point_that_cannot_be_used_is_named_by_its_place() {
        let good = point(1_000, 1.0);
        for (points, until, member) in [
            (json!({}), None, "points"),
            (json!([]), None, "points"),
            (json!(vec![good.clone(); 10_001]), None, "points"),
            (json!([good, good]), None, "points[1].ts"),
            (json!([good, point(999, 1.0)]), None, "points[1].ts"),
            (json!([good, { "ts": "noon", "value": 1 }]), None, "points[1].ts"),
            (json!([{ "ts": 1e300, "value": 1 }]), None, "points[0].ts"),
            (json!([{ "value": 1 }]), None, "points[0].ts"),
            (json!([{ "ts": 1 }]), None, "points[0].value"),
            (json!([{ "ts": 1, "value": "hot" }]), None, "points[0].value"),
            (json!([{ "ts": 1, "value": 1e141 }]), None, "points[0].value"),
            (json!([{ "ts": 1, "value": 1, "unit": "°C" }]), None, "points[0].unit"),
            (json!([1]), None, "points[0]"),
            (json!([good]), Some(json!(999)), "until"),
            (json!([good]), Some(json!(1_000 + 367 * 86_400)), "until"),
            (json!([good]), Some(json!("later")), "until"),
        ] {
            let bad = Trial::parse(points.clone(), until.as_ref()).unwrap_err();
            assert_eq!(bad.member, member, "{bad}");
        }
    }
}
