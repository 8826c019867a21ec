//! Readings that make many alerts of every kind, and alerts as rows that can be held against those of another database.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::app::TestApp;

/// Between two readings of a series.
pub const STEP: SignedDuration = SignedDuration::from_secs(4);

/// Devices, each with every metric.
pub const DEVICES: usize = 10;

const METRICS: [&str; 5] = ["temperature", "pressure", "flow", "level", "vibration"];

/// What a detector knew from the readings alone. What depends on when it judged is left out: `late`, `historical`, when people
/// were told, that it burned still when a cooldown was over; and when it was noticed that an alert is due to be worse.
const ROWS: &str = "
    SELECT jsonb_build_object(
      'rule', r.name, 'device', d.external_id, 'metric', s.metric, 'breached_at', a.breached_at, 'fired_at', a.fired_at,
      'decided_at', a.decided_at, 'ended_at', a.ended_at, 'severity', a.severity, 'state', a.state, 'value', a.value,
      'class', a.class, 'evidence', a.evidence, 'episodes', a.episodes, 'points', a.points,
      'timeline', (SELECT jsonb_agg(jsonb_build_array(e.kind, e.episode,
                                      CASE WHEN e.kind <> 'escalated' THEN e.happened_at END) ORDER BY e.event_id)
                   FROM alert_events e WHERE e.alert_id = a.alert_id AND e.kind <> 'still_burning'))
    FROM alerts a JOIN rules r USING (rule_id) JOIN series s USING (series_id) JOIN devices d USING (device_id)
    ORDER BY d.external_id, s.metric, r.name, a.breached_at";

/// What is undecided, though nothing more comes: time alone decides it.
pub const UNDECIDED: &str = "SELECT count(*) FROM rule_state
    WHERE clear_since IS NOT NULL OR holds_since IS NOT NULL AND fires_since IS NULL";

impl TestApp {
    /// A rule of each kind beside `hot`, which has a cooldown of 15 minutes.
    pub async fn add_rules_of_many_kinds(&self) {
        let rules = [
            (
                "warm",
                "temperature",
                json!({ "kind": "above_threshold", "threshold": 80, "clear": 75, "for_seconds": 10 }),
                0,
            ),
            ("off", "pressure", json!({ "kind": "outside_range", "lowest": 1, "highest": 5 }), 30),
            ("fast", "flow", json!({ "kind": "rate_of_change", "limit": 100 }), 3),
            ("stuck", "level", json!({ "kind": "stuck", "window_minutes": 2, "tolerance": 0.1 }), 0),
            (
                "shaky",
                "vibration",
                json!({ "kind": "above_threshold", "threshold": 4, "m_of_n": { "m": 3, "n": 5 } }),
                60,
            ),
            (
                "odd",
                "vibration",
                json!({ "kind": "deviation_from_mean", "window_minutes": 5, "k": 4, "min_buckets": 3 }),
                0,
            ),
        ];
        for (name, metric, condition, cooldown) in rules {
            self.add_rule(name, metric, condition, cooldown, &[self.destination]).await;
        }
        let lives = r#"UPDATE rules SET resolve_after_seconds = CASE name WHEN 'fast' THEN 0 ELSE 6 END;
            UPDATE rules SET severity = 'warning', escalations = '[{"severity": "error", "after_seconds": 20}, {"severity": "critical", "beyond": 90}]'
            WHERE name = 'warm'"#;
        self.owner().batch_execute(lives).await.unwrap();
    }

    /// Its alerts as rows.
    pub async fn alerts_as_rows(&self) -> Vec<Value> {
        let rows = self.owner().query(ROWS, &[]).await.unwrap();
        let rounded = |mut row: Value| {
            round(&mut row["evidence"]);
            row
        };
        rows.iter().map(|row| rounded(row.get(0))).collect()
    }

    /// Each alert was told as opened once, and those that are over as over.
    pub async fn assert_told_once(&self, alerts: usize) {
        let told = "SELECT count(*) FROM notifications WHERE event = 'opened'";
        assert_eq!(self.count(told).await, i64::try_from(alerts).unwrap(), "notices that it opened");
        let differ = "SELECT count(*) FROM alerts a WHERE (a.told <> 'nothing') AND
            (SELECT count(*) FROM notifications n WHERE n.alert_id = a.alert_id AND n.event = 'opened') <> 1";
        assert_eq!(self.count(differ).await, 0, "told twice, or not");
        let not_over = "SELECT count(*) FROM alerts a WHERE a.state = 'resolved' AND NOT EXISTS
            (SELECT FROM notifications n WHERE n.alert_id = a.alert_id AND n.event = 'resolved')";
        assert_eq!(self.count(not_over).await, 0, "over, and nobody was told");
    }
}

/// The mean of a minute is not the same to the last bit when it was put together from two halves.
fn round(value: &mut Value) {
    match value {
        Value::Object(members) => members.values_mut().for_each(round),
        Value::Number(number) if number.is_f64() => {
            *value = json!(format!("{:.9e}", number.as_f64().unwrap()));
        }
        _ => {}
    }
}

/// Messages of a reading of each series, [`STEP`] apart and in order, which end at `end`. Always the same values.
pub fn messages(count: usize, end: Timestamp) -> Vec<String> {
    let mut series: Vec<Wanderer> = (0..DEVICES * METRICS.len()).map(Wanderer::new).collect();
    let message = |number: usize| {
        let ts = end - STEP * i32::try_from(count - 1 - number).unwrap();
        let left = count - 1 - number;
        Value::from_iter(series.iter_mut().map(|one| one.reading(ts, left))).to_string()
    };
    (0..count).map(message).collect()
}

/// A series that is wild now and then.
struct Wanderer {
    device: usize,
    metric: &'static str,
    random: u64,
    is_wild: bool,
    value: f64,
}

impl Wanderer {
    fn new(number: usize) -> Self {
        let (device, metric) = (number / METRICS.len(), METRICS[number % METRICS.len()]);
        Self { device, metric, random: number as u64 + 1, is_wild: false, value: 0.0 }
    }

    /// From 0 to 1. Splitmix64.
    fn random(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.random;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn reading(&mut self, ts: Timestamp, left: usize) -> Value {
        // It stays long what it is where that takes minutes.
        let changes = if self.metric == "level" { 0.02 } else { 0.1 };
        if self.random() < changes {
            self.is_wild = !self.is_wild;
        }
        match self.device {
            // Burns in the end.
            0 if left < 8 => self.is_wild = true,
            // It is over, and time alone says so.
            1 => self.is_wild = self.is_wild && left > 0 || (1..8).contains(&left),
            _ => {}
        }
        let (noise, is_wild) = (self.random(), self.is_wild);
        self.value = match (self.metric, is_wild) {
            ("temperature", false) => 60.0 + 12.0 * noise,
            ("temperature", true) => 77.0 + 16.0 * noise,
            ("pressure", false) => 2.0 + 2.0 * noise,
            ("pressure", true) => 7.0 * noise,
            ("flow", false) => self.value + noise,
            ("flow", true) => self.value + 40.0 * (noise - 0.5),
            ("level", false) => self.value + 1.0 + noise,
            ("level", true) => self.value,
            (_, false) => 1.0 + noise,
            (_, true) => 8.0 * noise,
        };
        json!({ "device": format!("pump-{}", self.device), "metric": self.metric, "value": self.value, "ts": ts })
    }
}
