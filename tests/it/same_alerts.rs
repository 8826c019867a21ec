//! The alerts of series that come in order are a function of their readings: whoever judges them, and when, and however often
//! they are interrupted.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use watchbell::runtime::{Role, Roles};

use super::support::app::TestApp;
use super::support::process::Process;
use super::support::sameness::{STEP, UNDECIDED, messages};
use super::support::wait::until;

/// Says what differs, not all that is there.
fn assert_same(found: &[Value], expected: &[Value]) {
    if found == expected {
        return;
    }
    let missing: Vec<_> = expected.iter().filter(|row| !found.contains(row)).collect();
    let extra: Vec<_> = found.iter().filter(|row| !expected.contains(row)).collect();
    let first = (missing.first(), extra.first());
    assert!(
        missing.is_empty() && extra.is_empty(),
        "{} missing, {} too many: {first:#?}",
        missing.len(),
        extra.len()
    );
    assert_eq!(found.len(), expected.len(), "some are doubled");
}

async fn wait_until_decided(app: &TestApp) {
    app.wait_until_judged().await;
    app.wait_for_count(UNDECIDED, 0).await;
    // Those become worse by time alone, later than the last reading.
    app.wait_for_count(NOT_YET_WORSE, 0).await;
}

const NOT_YET_WORSE: &str = "SELECT count(*) FROM alerts JOIN rules USING (rule_id)
    WHERE rules.name = 'warm' AND alerts.state = 'open' AND alerts.severity = 'warning'";

const ALERTS: &str = "SELECT count(*) FROM alerts";

/// Two detectors, each of which can be put out of action.
struct Pair<'a> {
    app: &'a TestApp,
    processes: Vec<Process>,
}

impl<'a> Pair<'a> {
    async fn start(app: &'a TestApp) -> Self {
        let processes = vec![app.spawn("detect"), app.spawn("detect")];
        app.wait_for_count("SELECT count(*) FROM leases WHERE name = 'detect'", 1).await;
        Self { app, processes }
    }

    async fn epoch(&self) -> i64 {
        self.app.count("SELECT epoch FROM leases WHERE name = 'detect'").await
    }

    /// The one that holds the lease, once it keeps up with what comes: one that is interrupted before it has done anything
    /// leaves nothing behind.
    async fn active(&self) -> usize {
        let alerts = self.app.count(ALERTS).await;
        self.app.wait_for_more(ALERTS, alerts).await;
        until("it to keep up", async || {
            (self.app.count("SELECT count(*) FROM flushes").await < 3).then_some(())
        })
        .await;
        until("one of the two to detect", async || {
            let word = format!("this process detects epoch={}\n", self.epoch().await);
            self.processes.iter().position(|process| process.log().contains(&word))
        })
        .await
    }

    /// Kills the active one, waits for the other to take over, and starts it again.
    async fn kill_the_active(&mut self) {
        let (active, before) = (self.active().await, self.epoch().await);
        self.processes.remove(active).kill().await;
        self.app.wait_for_more("SELECT epoch FROM leases WHERE name = 'detect'", before).await;
        self.processes.push(self.app.spawn("detect"));
    }

    /// Stops the active one until the other has taken over, and lets it go on.
    async fn stop_the_active(&mut self) {
        let (active, before) = (self.active().await, self.epoch().await);
        self.processes[active].pause();
        self.app.wait_for_more("SELECT epoch FROM leases WHERE name = 'detect'", before).await;
        self.processes[active].go_on();
    }
}

#[tokio::test]
async fn two_detectors_that_are_killed_and_stopped_again_and_again_make_the_same_alerts_as_one_left_alone() {
    // A reading of each of 50 series 20 times a second, for 30 s; on their own clock it is 40 minutes.
    let messages = messages(600, Timestamp::now() - SignedDuration::from_secs(5));
    let mut app = TestApp::new(&[]).await;
    app.add_rules_of_many_kinds().await;
    app.start(Roles::of(&[Role::Ingest])).await;
    // Nobody delivers here, and nobody is to miss it.
    let held = "UPDATE destinations SET state = 'held', held_until = now() + interval '1 hour'";
    app.owner().batch_execute(held).await.unwrap();
    let mut pair = Pair::start(&app).await;
    let mut ticks = tokio::time::interval(Duration::from_millis(50));
    let publish = async {
        for message in &messages {
            ticks.tick().await;
            app.publish(message).await;
        }
    };
    let mut takeovers = 0;
    let disturb = async {
        loop {
            pair.kill_the_active().await;
            pair.stop_the_active().await;
            takeovers += 2;
        }
    };
    tokio::select! {
        () = publish => {}
        () = disturb => {}
    }
    assert!(takeovers >= 2, "one killed and one stopped: {takeovers}");
    // The one that is stopped, if one is.
    pair.processes.iter().for_each(Process::go_on);
    wait_until_decided(&app).await;
    let alerts = app.alerts_as_rows().await;

    let alone = TestApp::new(&[]).await;
    alone.add_rules_of_many_kinds().await;
    alone.owner().batch_execute(held).await.unwrap();
    let service = alone.spawn("ingest,detect");
    alone.make_stream().await;
    alone.publish_all(messages.iter().cloned()).await;
    wait_until_decided(&alone).await;
    let expected = alone.alerts_as_rows().await;

    println!("{takeovers} takeovers, {} alerts", expected.len());
    for rule in ["hot", "warm", "off", "fast", "stuck", "shaky", "odd"] {
        let count = expected.iter().filter(|row| row["rule"] == rule).count();
        assert!(count >= 10, "{count} of {rule}: too few to show anything");
    }
    assert_same(&alerts, &expected);
    for app in [&app, &alone] {
        app.assert_told_once(expected.len()).await;
        app.assert_nothing_lost_or_doubled(600 * 50).await;
    }
    assert_eq!(service.terminate().await, Some(0));
    for process in pair.processes {
        assert_eq!(process.terminate().await, Some(0));
    }
    app.stop().await;
}

/// Stores what is published while nobody detects.
async fn stored_only(settings: &[(&str, &str)], messages: &[String]) -> TestApp {
    let mut app = TestApp::new(settings).await;
    app.add_rules_of_many_kinds().await;
    app.start(Roles::of(&[Role::Ingest])).await;
    app.publish_all(messages.iter().cloned()).await;
    app.wait_for_empty_stream().await;
    app.stop().await;
    assert_eq!(app.count("SELECT count(*) FROM alerts").await, 0);
    app
}

/// Ten minutes of readings up to now, and a boiler that burns all the while.
fn ten_minutes() -> Vec<String> {
    let end = Timestamp::now();
    let start = end - STEP * 149;
    let mut messages = messages(150, end);
    let boiler =
        |ts: Timestamp| json!({ "device": "boiler", "metric": "temperature", "value": 99, "ts": ts });
    messages.insert(0, boiler(start).to_string());
    messages.push(boiler(end).to_string());
    messages
}

#[tokio::test]
async fn ten_minutes_without_detection_make_the_same_alerts_as_none_later_and_marked_late() {
    let messages = ten_minutes();
    let mut watched = TestApp::new(&[]).await;
    watched.add_rules_of_many_kinds().await;
    watched.start(Roles::of(&[Role::Ingest, Role::Detect])).await;
    for message in &messages {
        watched.publish(message).await;
    }
    wait_until_decided(&watched).await;
    watched.stop().await;
    let expected = watched.alerts_as_rows().await;

    let mut app = stored_only(&[], &messages).await;
    let begin = Timestamp::now();
    // Ingestion says until when everything is heard: without its word time alone decides nothing.
    app.start(Roles::of(&[Role::Ingest, Role::Detect, Role::Deliver])).await;
    wait_until_decided(&app).await;
    assert_same(&app.alerts_as_rows().await, &expected);
    let count = async |condition: &str| {
        let query = format!("SELECT count(*) FROM alerts WHERE {condition}");
        app.count(&query.replace("BEGIN", &format!("timestamptz '{begin}'"))).await
    };
    assert_eq!(count("fired_at < BEGIN - interval '1 minute' AND NOT late").await, 0);
    assert_eq!(count("late AND fired_at >= opened_at - interval '1 minute'").await, 0);
    assert!(count("late").await > 100);
    assert_eq!(count("historical").await, 0);

    app.assert_told_once(expected.len()).await;
    app.wait_for_count("SELECT count(*) FROM deliveries WHERE status NOT IN ('delivered', 'superseded')", 0)
        .await;
    // A notice that it is over says since when; one that it opened too, if it was over by then for good.
    let told = "SELECT count(*) FROM notifications n JOIN alerts a USING (alert_id)
        CROSS JOIN LATERAL (SELECT n.body::jsonb->'payload' AS said) AS body
        WHERE (said->>'fired_at')::timestamptz IS DISTINCT FROM a.fired_at
           OR n.event = 'resolved' AND (said->>'state' <> 'resolved' OR said->>'ended_at' IS NULL)
           OR a.episodes = 1 AND a.ended_at < a.opened_at - interval '1 minute'
              AND (said->>'ended_at')::timestamptz IS DISTINCT FROM a.ended_at";
    assert_eq!(app.count(told).await, 0, "a notice without both times");
    app.assert_verified().await;
    app.stop().await;
}

#[tokio::test]
async fn of_what_was_judged_too_late_only_what_is_over_is_kept_from_people() {
    let messages = ten_minutes();
    let mut all = stored_only(&[], &messages).await;
    all.start(Roles::of(&[Role::Ingest, Role::Detect])).await;
    wait_until_decided(&all).await;
    let expected = all.alerts_as_rows().await;
    all.stop().await;

    let mut app = stored_only(&[("detect.notify_max_age_seconds", "120")], &messages).await;
    let begin = Timestamp::now();
    app.start(Roles::of(&[Role::Ingest, Role::Detect])).await;
    wait_until_decided(&app).await;
    app.stop().await;
    assert_same(&app.alerts_as_rows().await, &expected);
    let count = async |condition: &str| {
        let query = format!("SELECT count(*) FROM alerts a WHERE {condition}");
        app.count(&query.replace("BEGIN", &format!("timestamptz '{begin}'"))).await
    };
    let told = "EXISTS (SELECT FROM notifications n WHERE n.alert_id = a.alert_id)";
    assert_eq!(count(&format!("historical = {told}")).await, 0, "told, or historical");
    assert_eq!(count("historical AND state <> 'resolved'").await, 0, "it burns");
    assert_eq!(
        count("historical AND fired_at >= opened_at - interval '2 minutes'").await,
        0,
        "it is not old"
    );
    assert_eq!(count("NOT historical AND ended_at < BEGIN - interval '2 minutes'").await, 0, "old, and over");
    assert!(count("historical").await > 50 && count("NOT historical").await > 20);
    let boiler = "NOT historical AND state = 'open' AND series_id IN
        (SELECT series_id FROM series JOIN devices USING (device_id) WHERE external_id = 'boiler')";
    assert_eq!(count(boiler).await, 2, "it burns, as two rules see it");
    app.assert_verified().await;
}
