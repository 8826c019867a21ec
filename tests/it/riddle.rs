//! No riddle: what an alert says can be recomputed from the stored rows alone, in a few lines that know nothing of
//! detection; and people are told all of it.

use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::support::app::TestApp;

const PUBLIC_URL: &str = "https://watchbell.example/on-call";

/// Relative: sums in another order.
const CLOSE: f64 = 1e-9;

/// An alert's row, with the reading that decided it and the condition of the rule version that fired it.
struct Stored {
    row: Value,
    series: i32,
    decided_at: Timestamp,
    value: f64,
    condition: Value,
}

impl Stored {
    async fn of(app: &TestApp, metric: &str) -> Self {
        let query = "SELECT to_jsonb(a), a.series_id, a.decided_at, r.value, v.definition -> 'condition'
                     FROM alerts a JOIN series s USING (series_id)
                     JOIN readings r ON r.series_id = a.series_id AND r.ts = a.decided_at
                     JOIN rule_versions v ON v.rule_id = a.rule_id AND v.version = a.rule_version
                     WHERE s.metric = $1";
        let row = app.owner().query_one(query, &[&metric]).await.unwrap();
        let stored = Self {
            row: row.get(0),
            series: row.get(1),
            decided_at: row.get(2),
            value: row.get(3),
            condition: row.get(4),
        };
        assert_eq!(stored.row["value"], stored.value, "what decided it is a stored reading");
        stored
    }

    fn setting(&self, name: &str) -> f64 {
        number(&self.condition[name])
    }

    fn evidence(&self, name: &str) -> f64 {
        number(&self.row["evidence"][name])
    }

    /// The minute of the reading that decided it.
    fn minute(&self) -> Timestamp {
        let second = self.decided_at.as_second();
        Timestamp::from_second(second - second % 60).unwrap()
    }

    /// All readings up to the one that decided it, the oldest first.
    async fn readings(&self, app: &TestApp) -> Vec<(Timestamp, f64)> {
        let query = "SELECT ts, value FROM readings WHERE series_id = $1 AND ts <= $2 ORDER BY ts";
        let rows = app.owner().query(query, &[&self.series, &self.decided_at]).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    fn is(&self, class: &str) {
        assert_eq!(self.row["class"], class, "{}", self.row);
    }

    fn agrees(&self, name: &str, recomputed: f64) {
        let stored = self.evidence(name);
        let distance = (stored - recomputed).abs();
        assert!(
            distance <= CLOSE * recomputed.abs(),
            "{name} is {stored}, recomputed {recomputed}: {}",
            self.row
        );
    }
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

fn mean_of(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Half an hour of a metric of `pump-1`, three readings a minute, and whatever comes after it.
fn half_an_hour(start: Timestamp, metric: &str, value: impl Fn(u32) -> f64, then: &[(i64, f64)]) -> Value {
    let history = (0..90_u32).map(|n| (i64::from(n) * 20 + 3, value(n)));
    let all = history.chain(then.iter().copied());
    all.map(|(second, value)| {
        let ts = start + SignedDuration::from_secs(second);
        json!({ "device": "pump-1", "metric": metric, "unit": "bar", "value": value, "ts": ts })
    })
    .collect()
}

/// A service on which a rule of each kind fires once: the metric says which. Each rule is at its second version.
async fn four_alerts() -> TestApp {
    let app = TestApp::running(&[("api.public_url", PUBLIC_URL)]).await;
    let hub = [app.destination];
    for (metric, condition) in [
        ("odd", json!({ "kind": "deviation_from_mean", "window_minutes": 20, "k": 4.0 })),
        ("fast", json!({ "kind": "rate_of_change", "limit": 3.0, "per_seconds": 60 })),
        ("stuck", json!({ "kind": "stuck", "window_minutes": 7, "tolerance": 0.25 })),
    ] {
        app.add_rule(metric, metric, condition, 86_400, &hub).await;
    }
    app.set_hot("metric = 'high'").await;
    let second =
        "UPDATE rules SET labels = '{\"team\": \"water\"}', runbook_url = 'https://wiki.example/pumps',
                  cooldown_seconds = 86400";
    app.owner().batch_execute(second).await.unwrap();
    let body = json!({ "device": "pump-1", "metric": "none", "value": 0.0 });
    app.publish(body).await;
    app.wait_until_judged().await;
    app.ask(Method::PUT, "/api/devices/pump-1/tags", &json!({ "site": "north" })).await;

    let start = Timestamp::now() - SignedDuration::from_hours(1);
    // The minutes differ by more than the two per cent that count at least.
    let wave = |n: u32| f64::from(n / 3 * 7 % 11) / 2.0 + f64::from(n % 3) / 10.0 + 20.1;
    // Each goes on after the breach: what came later has decided nothing.
    let odd = half_an_hour(start, "odd", wave, &[(1_801, 20.3), (1_807, 43.7), (1_811, 20.2), (1_871, 20.4)]);
    let fast = half_an_hour(start, "fast", |_| 20.1, &[(1_800, 20.4), (1_810, 21.7), (1_830, 20.3)]);
    let stuck =
        half_an_hour(start, "stuck", |n| if n < 51 { wave(n) } else { 20.1 + f64::from(n % 3) / 10.0 }, &[]);
    let high = half_an_hour(start, "high", wave, &[(1_800, 80.0), (1_805, 91.375), (1_810, 20.0)]);
    for message in [odd, fast, stuck, high] {
        app.publish(message).await;
    }
    app.wait_until_judged().await;
    app.wait_for_count("SELECT count(*) FROM alerts", 4).await;
    app.wait_for_count("SELECT count(*) FROM deliveries WHERE status = 'delivered' AND event = 'opened'", 4)
        .await;
    app
}

/// The averages of the window's complete minutes before the alert's own, from the table of minutes.
async fn averages(app: &TestApp, stored: &Stored, window: f64) -> Vec<f64> {
    let from = stored.minute() - SignedDuration::from_mins(window as i64);
    let query =
        "SELECT mean FROM readings_1m WHERE series_id = $1 AND minute >= $2 AND minute < $3 ORDER BY minute";
    let rows = app.owner().query(query, &[&stored.series, &from, &stored.minute()]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// The same from the readings.
fn averages_of(readings: &[(Timestamp, f64)], from: Timestamp, to: Timestamp) -> Vec<f64> {
    let inside: Vec<_> = readings.iter().filter(|(ts, _)| (from..to).contains(ts)).collect();
    let minutes = inside.chunk_by(|a, b| a.0.as_second() / 60 == b.0.as_second() / 60);
    minutes.map(|minute| mean_of(&minute.iter().map(|(_, value)| *value).collect::<Vec<_>>())).collect()
}

#[tokio::test]
async fn every_decision_can_be_recomputed_from_stored_rows_alone() {
    let mut app = four_alerts().await;

    let high = Stored::of(&app, "high").await;
    high.is("spike above");
    assert_eq!((high.value, high.evidence("threshold")), (91.375, high.setting("threshold")));
    assert!(high.value > high.setting("threshold"));

    let odd = Stored::of(&app, "odd").await;
    odd.is("deviation");
    let window = odd.setting("window_minutes");
    let of_minutes = averages(&app, &odd, window).await;
    let from = odd.minute() - SignedDuration::from_mins(window as i64);
    let of_readings = averages_of(&odd.readings(&app).await, from, odd.minute());
    for averages in [of_minutes, of_readings] {
        assert_eq!(averages.len(), 20);
        let (n, mean) = (averages.len() as f64, mean_of(&averages));
        let variance = averages.iter().map(|average| (average - mean).powi(2)).sum::<f64>() / (n - 1.0);
        let sigma = variance.sqrt();
        assert!(sigma > 0.02 * mean, "the least that counts is none of this test's business: {sigma}");
        let z = (odd.value - mean) / sigma;
        for (name, recomputed) in [("n", n), ("mean", mean), ("sigma", sigma), ("z", z)] {
            odd.agrees(name, recomputed);
        }
        assert!(z > odd.setting("k"));
    }
    assert_eq!((odd.evidence("k"), odd.evidence("window_minutes")), (odd.setting("k"), window));

    let fast = Stored::of(&app, "fast").await;
    fast.is("too fast");
    let readings = fast.readings(&app).await;
    let (before, last) = (readings[readings.len() - 2], readings[readings.len() - 1]);
    let seconds = last.0.duration_since(before.0).as_secs_f64();
    let rate = (last.1 - before.1) / seconds * fast.setting("per_seconds");
    for (name, recomputed) in [("previous_value", before.1), ("previous_seconds", seconds), ("rate", rate)] {
        fast.agrees(name, recomputed);
    }
    assert!(rate.abs() > fast.setting("limit"));

    let stuck = Stored::of(&app, "stuck").await;
    stuck.is("stuck");
    let minute_of = |ts: &Timestamp| ts.as_second() / 60;
    let begin = minute_of(&stuck.decided_at) - stuck.setting("window_minutes") as i64;
    let readings = stuck.readings(&app).await;
    // What held when the window began is the last minute at or before its first.
    let held = readings.iter().map(|(ts, _)| minute_of(ts)).filter(|minute| *minute <= begin).max().unwrap();
    let inside: Vec<_> = readings.iter().filter(|(ts, _)| minute_of(ts) >= held).collect();
    let lowest = inside.iter().map(|(_, value)| *value).fold(f64::INFINITY, f64::min);
    let highest = inside.iter().map(|(_, value)| *value).fold(f64::NEG_INFINITY, f64::max);
    let minutes = inside.chunk_by(|a, b| minute_of(&a.0) == minute_of(&b.0)).count();
    for (name, recomputed) in [("lowest", lowest), ("highest", highest), ("n", minutes as f64)] {
        stuck.agrees(name, recomputed);
    }
    assert!(highest - lowest <= stuck.setting("tolerance"));
    app.stop().await;
}

#[tokio::test]
async fn the_last_twenty_points_are_the_stored_readings_up_to_the_one_that_decided() {
    let mut app = four_alerts().await;
    for metric in ["high", "odd", "fast", "stuck"] {
        let stored = Stored::of(&app, metric).await;
        let points: Vec<(Timestamp, f64)> = serde_json::from_value(stored.row["points"].clone()).unwrap();
        let readings = stored.readings(&app).await;
        assert_eq!(points, readings[readings.len() - 20..], "{metric}");
        assert_eq!(points[19], (stored.decided_at, stored.value), "{metric}");
    }
    app.stop().await;
}

#[tokio::test]
async fn what_the_row_says_people_are_told() {
    let mut app = four_alerts().await;
    let opened = app.heard_of("alert.opened");
    assert_eq!(opened.len(), 4);
    for (metric, sentence) in [
        ("high", "high of pump-1 is 91.375 bar, above 80 bar, since "),
        ("odd", "odd of pump-1 is 43.7 bar, "),
        ("fast", "fast of pump-1 rose from 20.4 bar to 21.7 bar in 10 s, faster than 3 bar in 60 s, since "),
        ("stuck", "stuck of pump-1 has not changed by more than 0.25 bar for 7 minutes: it is "),
    ] {
        let row = Stored::of(&app, metric).await.row;
        let alert: Uuid = row["alert_id"].as_str().unwrap().parse().unwrap();
        let told = opened.iter().find(|body| body["payload"]["alert_id"] == row["alert_id"]).unwrap();
        let told = &told["payload"];
        for member in ["summary", "class", "value", "evidence", "points", "severity", "late"] {
            assert_eq!(told[member], row[member], "{member} of {metric}");
        }
        assert!(row["summary"].as_str().unwrap().starts_with(sentence), "{row}");
        let link = json!(format!("{PUBLIC_URL}/alerts/{alert}"));
        assert_eq!(told["link"], link);
        assert_eq!(app.get(&format!("/api/alerts/{alert}")).await["alert"]["link"], link);
        assert_eq!((&told["device"], &told["metric"]), (&json!("pump-1"), &json!(metric)));
        assert_eq!(
            (&told["tags"], &row["device_tags"]),
            (&json!({ "site": "north" }), &json!({ "site": "north" }))
        );
        assert_eq!(told["rule"]["version"], row["rule_version"]);
        assert_eq!(told["rule"]["labels"], json!({ "team": "water" }));
        assert_eq!(told["rule"]["runbook_url"], "https://wiki.example/pumps");
    }
    app.assert_verified().await;
    app.stop().await;
}
