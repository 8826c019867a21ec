//! A person and the detector change one alert at once: both keep their word, whoever comes first.

use serde_json::{Value, json};
use uuid::Uuid;
use watchbell::runtime::Roles;

use super::support::app::{TestApp, reading};
use super::support::faults::slow_timelines;
use super::support::wait::until;

/// An alert with what became of it.
struct Outcome {
    row: Value,
    /// `acknowledged by a person`
    lines: Vec<String>,
    /// What people were told, in its order.
    notices: Vec<String>,
}

impl Outcome {
    async fn of(app: &TestApp, alert: Uuid) -> Self {
        let query = "SELECT to_jsonb(a),
              ARRAY(SELECT kind || CASE actor WHEN 'detector' THEN '' ELSE ' by hand' END
                    FROM alert_events e WHERE e.alert_id = a.alert_id ORDER BY event_id),
              ARRAY(SELECT event FROM notifications n WHERE n.alert_id = a.alert_id ORDER BY notification_id)
            FROM alerts a WHERE alert_id = $1";
        let row = app.owner().query_one(query, &[&alert]).await.unwrap();
        Self { row: row.get(0), lines: row.get(1), notices: row.get(2) }
    }

    fn has(&self, line: &str) -> bool {
        self.lines.iter().any(|one| one == line)
    }

    fn told(&self, event: &str) -> usize {
        self.notices.iter().filter(|one| *one == event).count()
    }
}

/// What a person says and what the readings say at once, on so many devices; with the status of each answer.
async fn race(app: &TestApp, word: &str, value: f64, rounds: usize) -> Vec<(u16, Outcome)> {
    let address = app.running.as_ref().unwrap().api_address.unwrap();
    let client = reqwest::Client::new();
    let mut answers = Vec::new();
    for round in 0..rounds {
        let device = format!("{word}-{value}-{round}");
        app.publish(reading(&device, "temperature", 85.0, 20)).await;
        let find = "SELECT alert_id FROM alerts JOIN series USING (series_id) JOIN devices USING (device_id)
            WHERE external_id = $1 AND told = 'open'
              AND EXISTS (SELECT FROM deliveries v WHERE v.alert_id = alerts.alert_id AND v.status = 'delivered')";
        let open = async || Some(app.owner().query_opt(find, &[&device]).await.unwrap()?.get::<_, Uuid>(0));
        let alert = until("the alert", open).await;
        let say = async {
            if round % 2 == 0 {
                // The detector has it in its hands at this moment.
                let stored = "SELECT count(*) FROM readings JOIN series USING (series_id) JOIN devices USING (device_id)
                    WHERE external_id = $1";
                let count =
                    async || app.owner().query_one(stored, &[&device]).await.unwrap().get::<_, i64>(0);
                until("the reading", async || (count().await == 2).then_some(())).await;
            }
            let url = format!("http://{address}/api/alerts/{alert}/{word}");
            client.post(url).header("X-API-Key", &app.api_key).send().await.unwrap().status().as_u16()
        };
        let ((), status) = tokio::join!(app.publish(reading(&device, "temperature", value, 10)), say);
        answers.push((status, alert));
    }
    app.wait_until_judged().await;
    app.wait_for_count("SELECT count(*) FROM deliveries WHERE status NOT IN ('delivered', 'superseded')", 0)
        .await;
    let mut outcomes = Vec::new();
    for (status, alert) in answers {
        outcomes.push((status, Outcome::of(app, alert).await));
    }
    outcomes
}

/// The service; each line of a timeline takes a moment, so that the two meet.
async fn service() -> TestApp {
    let mut app = TestApp::new(&[]).await;
    let worse = r#"UPDATE rules SET resolve_after_seconds = 0, severity = 'warning',
        escalations = '[{"severity": "critical", "beyond": 95}]'"#;
    app.owner().batch_execute(worse).await.unwrap();
    slow_timelines(app.owner()).await;
    app.start(Roles::all()).await;
    app
}

const ROUNDS: usize = 10;

#[tokio::test]
async fn who_takes_on_what_is_over_at_that_moment_is_heard_or_told_so() {
    let mut app = service().await;
    for (status, outcome) in race(&app, "acknowledge", 50.0, ROUNDS).await {
        let Outcome { row, lines, notices } = &outcome;
        match status {
            200 => assert_eq!(lines, &["opened", "acknowledged by hand", "resolved"]),
            409 => assert_eq!(lines, &["opened", "resolved"]),
            other => panic!("{other}: {lines:?}"),
        }
        assert_eq!((&row["state"], &row["resolved_by"]), (&json!("resolved"), &json!("detector")), "{row}");
        assert_eq!(row["acknowledged_by"].is_string(), status == 200, "{row}");
        assert_eq!(notices, &["opened", "resolved"]);
    }
    app.assert_verified().await;
    app.stop().await;
}

#[tokio::test]
async fn what_a_person_and_the_detector_resolve_at_once_is_resolved_once() {
    let mut app = service().await;
    for (status, Outcome { row, lines, notices }) in race(&app, "resolve", 50.0, ROUNDS).await {
        assert_eq!(status, 200);
        let by_hand = row["resolved_by"] != "detector";
        assert_eq!(lines, ["opened", if by_hand { "resolved by hand" } else { "resolved" }]);
        assert_eq!(row["state"], "resolved");
        assert!(row["ended_at"].is_string(), "the detector knows when it was over: {row}");
        assert_eq!(notices, ["opened", "resolved"]);
    }
    app.assert_verified().await;
    app.stop().await;
}

#[tokio::test]
async fn what_gets_worse_while_somebody_takes_it_on_is_both() {
    let mut app = service().await;
    for (status, outcome) in race(&app, "acknowledge", 99.0, ROUNDS).await {
        let Outcome { row, lines, .. } = &outcome;
        assert_eq!(status, 200);
        assert_eq!((&row["state"], &row["severity"]), (&json!("acknowledged"), &json!("critical")), "{row}");
        assert!(outcome.has("acknowledged by hand") && outcome.has("escalated"), "{lines:?}");
        assert_eq!(
            (lines.len(), outcome.told("escalated"), outcome.told("resolved")),
            (3, 1, 0),
            "{lines:?}"
        );
    }
    app.assert_verified().await;
    app.stop().await;
}

#[tokio::test]
async fn what_gets_worse_while_somebody_resolves_it_is_resolved() {
    let mut app = service().await;
    for (status, outcome) in race(&app, "resolve", 99.0, ROUNDS).await {
        let Outcome { row, lines, notices } = &outcome;
        assert_eq!(status, 200);
        assert_eq!(row["state"], "resolved", "{row}");
        assert!(row["ended_at"].is_null(), "it burns: {row}");
        // It is worse only if that was known before.
        let was_worse = lines.get(1).is_some_and(|line| line == "escalated");
        assert_eq!(row["severity"] == "critical", was_worse, "{row}");
        assert_eq!(lines.last().map(String::as_str), Some("resolved by hand"));
        assert_eq!(lines.len(), if was_worse { 3 } else { 2 }, "{lines:?}");
        assert_eq!((notices.last().map(String::as_str), outcome.told("resolved")), (Some("resolved"), 1));
    }
    app.assert_verified().await;
    app.stop().await;
}
