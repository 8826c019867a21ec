//! The alerts of series that come in order are a function of their readings: whoever judges them, and when, and however often
//! they are interrupted.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use watchbell::runtime::{Role, Roles};

use super::support::app::TestApp;
use super::support::process::Process;
use super::support::sameness::{UNDECIDED, messages};
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
}

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

    /// The one that holds the lease.
    async fn active(&self) -> usize {
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
    assert!(takeovers >= 4, "{takeovers}");
    // The one that is stopped, if one is.
    pair.processes.iter().for_each(Process::go_on);
    wait_until_decided(&app).await;
    let alerts = app.alerts_as_rows().await;

    let alone = TestApp::new(&[]).await;
    alone.add_rules_of_many_kinds().await;
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
