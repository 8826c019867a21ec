//! Pacing: a destination with a rate, or a limit of requests under way, is sent to no faster by all processes together; what is
//! owed to it waits where it is, and nothing is dropped.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use watchbell::deliver::worker::Step;
use watchbell::runtime::{Role, Roles};

use super::support::app::TestApp;
use super::support::courier::Courier;
use super::support::receiver::{ACCEPTED, Manner, Receiver};
use super::support::wait::until;

const DELIVERED: &str = "SELECT count(*) FROM deliveries WHERE status = 'delivered'";
const IN_FLIGHT: &str = "SELECT count(*) FROM outbox WHERE status = 'in_flight'";

/// A service whose one hub has this policy.
async fn paced(policy: Value, settings: &[(&str, &str)]) -> TestApp {
    let app = TestApp::new(settings).await;
    app.owner().execute("UPDATE destinations SET policy = $1", &[&policy]).await.unwrap();
    app
}

/// A busy machine starts a request so many seconds after its leave, and the next one at once.
const SKEW: f64 = 0.25;

/// In no time did more requests start than `burst` and `rate` a second allow, but for one: what is claimed together starts
/// within milliseconds. As the senders have it: how long a request is on its way is nobody's choice.
async fn keeps_its_pace(app: &TestApp, rate: f64, burst: f64) {
    let starts = "SELECT started_at FROM delivery_attempts ORDER BY started_at";
    let rows = app.owner().query(starts, &[]).await.unwrap();
    let at: Vec<Timestamp> = rows.iter().map(|row| row.get(0)).collect();
    for first in 0..at.len() {
        for last in first..at.len() {
            let seconds = at[last].duration_since(at[first]).as_secs_f64();
            let started = (last - first + 1) as f64;
            assert!(started <= burst + 1.0 + rate * (seconds + SKEW), "{started} requests in {seconds} s");
        }
    }
}

#[tokio::test]
async fn a_rate_is_kept_by_two_processes_together_and_nothing_is_dropped() {
    let mut app = paced(json!({ "rate": 20, "burst": 5 }), &[]).await;
    app.owe(app.destination, 60).await;
    let other = app.spawn("deliver");
    app.start(Roles::of(&[Role::Deliver])).await;
    app.wait_for_count(DELIVERED, 60).await;
    let posts = app.hub.received();
    assert_eq!(posts.len(), 60);
    keeps_its_pace(&app, 20.0, 5.0).await;
    let took = posts[59].at.duration_since(posts[0].at);
    assert!(took < SignedDuration::from_secs(15), "no slower than it must be: {took:?}");
    app.stop().await;
    assert_eq!(other.terminate().await, Some(0));
}

#[tokio::test]
async fn a_worker_wakes_when_the_next_may_go() {
    let mut app = paced(json!({ "rate": 10 }), &[]).await;
    app.owe(app.destination, 25).await;
    app.start(Roles::of(&[Role::Deliver])).await;
    app.wait_for_count(DELIVERED, 25).await;
    let posts = app.hub.received();
    let took = posts[24].at.duration_since(posts[0].at);
    assert!(took < SignedDuration::from_secs(15), "one a second is what polling alone would do: {took:?}");
    app.stop().await;
}

#[tokio::test]
async fn what_waits_for_its_turn_is_not_claimed_and_the_rest_goes_on() {
    let app = paced(json!({ "rate": 0.001 }), &[("deliver.concurrency", "4")]).await;
    let quick = app.add_hub("quick", &format!("http://{}", app.hub.address()), json!({})).await;
    app.owe(app.destination, 1_000).await;
    let mut courier = Courier::new(&app.config()).await;
    courier.step_until(&app, DELIVERED, 1).await;
    app.owe(quick, 50).await;
    courier.step_until(&app, DELIVERED, 51).await;
    courier.find_nothing_due().await;
    assert_eq!((app.hub.total(), app.count(IN_FLIGHT).await), (51, 0));
    let untouched =
        "SELECT count(*) FROM outbox WHERE attempts = 0 AND status = 'pending' AND leased_by IS NULL";
    assert_eq!(app.count(untouched).await, 999);
    // A worker that starts now knows of it, and so does one that was there.
    let mut other = Courier::new(&app.config()).await;
    other.find_nothing_due().await;
    // As if its turn had come.
    app.owner().execute("UPDATE destinations SET pace_next_at = now()", &[]).await.unwrap();
    let mut third = Courier::new(&app.config()).await;
    third.step_until(&app, DELIVERED, 52).await;
    assert_eq!(app.hub.total(), 52);
}

#[tokio::test]
async fn after_a_quiet_time_a_burst_may_go_out_and_no_more() {
    let app = paced(json!({ "rate": 0.01, "burst": 7 }), &[]).await;
    app.owe(app.destination, 20).await;
    let mut courier = Courier::new(&app.config()).await;
    courier.step_until(&app, DELIVERED, 7).await;
    courier.find_nothing_due().await;
    assert_eq!(app.hub.total(), 7);
    // 250 seconds later: two more.
    let later = "UPDATE destinations SET pace_next_at = pace_next_at - interval '250 seconds'";
    app.owner().execute(later, &[]).await.unwrap();
    let mut other = Courier::new(&app.config()).await;
    other.step_until(&app, DELIVERED, 9).await;
    other.find_nothing_due().await;
    assert_eq!(app.hub.total(), 9);
}

#[tokio::test]
async fn another_rate_counts_from_now_on_and_none_lets_all_go() {
    let app = paced(json!({ "rate": 0.001 }), &[]).await;
    app.owe(app.destination, 10).await;
    let mut courier = Courier::new(&app.config()).await;
    courier.step_until(&app, DELIVERED, 1).await;
    for (policy, delivered) in [(json!({ "rate": 0.01, "burst": 3 }), 4), (json!({}), 10)] {
        courier.find_nothing_due().await;
        let change = "UPDATE destinations SET policy = $1 WHERE name = 'hub'";
        app.owner().execute(change, &[&policy]).await.unwrap();
        courier.step_until(&app, DELIVERED, delivered).await;
    }
}

#[tokio::test]
async fn leave_that_was_not_used_is_not_lost() {
    let app = paced(json!({ "rate": 0.01, "burst": 5 }), &[]).await;
    let mut courier = Courier::new(&app.config()).await;
    for delivered in 1..=5 {
        app.owe_one().await;
        courier.step_until(&app, DELIVERED, delivered).await;
    }
    app.owe_one().await;
    courier.find_nothing_due().await;
}

#[tokio::test]
async fn a_limit_of_requests_under_way_is_shared_by_the_workers_that_are_alive() {
    let app = TestApp::new(&[("deliver.worker_ttl_seconds", "60")]).await;
    let gated = Receiver::start(Manner::Gated(ACCEPTED.to_vec())).await;
    let narrow = app.add_hub("narrow", &gated.url(), json!({ "concurrency": 3 })).await;
    let mut one = Courier::new(&app.config()).await;
    let mut other = Courier::new(&app.config()).await;
    // Both have been here for a while.
    let age = "UPDATE workers SET started_at = started_at - interval '1 minute'";
    app.owner().execute(age, &[]).await.unwrap();
    app.owe(narrow, 20).await;
    for _ in 0..20 {
        tokio::try_join!(one.worker.step(), other.worker.step()).unwrap();
    }
    let held = async |courier: &Courier| {
        app.count(&format!("SELECT count(*) FROM outbox WHERE leased_by = '{}'", courier.id())).await
    };
    assert_eq!((held(&one).await, held(&other).await), (2, 1), "the older has what can't be divided");
    gated.wait_for_requests(3).await;
    gated.open();
    until("all to be delivered", async || {
        let steps = tokio::try_join!(one.worker.step(), other.worker.step()).unwrap();
        assert!(app.count(IN_FLIGHT).await <= 3, "{steps:?}");
        (app.count(DELIVERED).await == 20).then_some(())
    })
    .await;
}

#[tokio::test]
async fn one_that_joins_takes_nothing_at_once_and_what_the_dead_had_is_taken_over() {
    let app = TestApp::new(&[]).await;
    let gated = Receiver::start(Manner::Gated(ACCEPTED.to_vec())).await;
    let narrow = app.add_hub("narrow", &gated.url(), json!({ "concurrency": 1 })).await;
    app.owe(narrow, 5).await;
    let mut one = Courier::new(&app.config()).await;
    one.claim().await;
    gated.wait_for_requests(1).await;
    let mut other = Courier::new(&app.config()).await;
    other.find_nothing_due().await;
    assert_eq!(one.worker.step().await.unwrap(), Step::Idle);
    assert_eq!((gated.connections(), app.count(IN_FLIGHT).await), (1, 1));
    // The first one dies: the other has it all for itself, once nobody takes the dead for alive.
    app.owner().execute("DELETE FROM workers WHERE worker_id = $1::text::uuid", &[&one.id()]).await.unwrap();
    drop(one);
    gated.open();
    other.step_until(&app, DELIVERED, 4).await;
}

#[tokio::test]
async fn a_policy_that_can_not_be_read_is_said_and_stops_nothing() {
    let app = paced(json!({ "rate": -1 }), &[]).await;
    app.owe(app.destination, 3).await;
    let process = app.spawn("deliver");
    app.wait_for_count(DELIVERED, 3).await;
    process.log_when("rate must be 0.00001 to 100000 requests a second").await;
    assert_eq!(process.terminate().await, Some(0));
}
