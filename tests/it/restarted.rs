//! PostgreSQL crashes and comes back while POSTs are under way: none of them is taken for dead, and none is sent again.

use std::time::{Duration, Instant};

use serde_json::json;
use watchbell::dev::postgres::PrivatePostgres;
use watchbell::dev::state::StateDir;

use super::support::app::TestApp;
use super::support::database::TestDatabase;
use super::support::receiver::{ACCEPTED, Manner, Receiver};
use super::support::wait::until;

const ALIVE: &str = "SELECT count(*) FROM workers WHERE expires_at > clock_timestamp()";
const TIME_TO_LIVE: Duration = Duration::from_secs(3);

#[tokio::test]
async fn posts_that_are_under_way_when_postgres_crashes_are_not_taken_for_dead_and_not_repeated() {
    let state = StateDir::open().unwrap();
    let mut server = PrivatePostgres::throw_away(&state).await.unwrap();
    let settings = [
        ("deliver.worker_ttl_seconds", "3"),
        ("deliver.request_timeout_seconds", "120"),
        ("deliver.lease_seconds", "130"),
        ("deliver.concurrency_per_destination", "20"),
    ];
    let mut app = TestApp::on(TestDatabase::at(server.url()).await, &settings).await;
    let gated = Receiver::start(Manner::Gated(ACCEPTED.to_vec())).await;
    let slow = app.add_hub("slow", &gated.url(), json!({})).await;
    let (one, other) = (app.spawn("deliver"), app.spawn("deliver"));
    app.wait_for_count(ALIVE, 2).await;
    let under_way = app.owe(slow, 40).await;
    gated.wait_for_requests(40).await;
    // Each has its share of them.
    assert_eq!(app.count("SELECT count(DISTINCT leased_by) FROM outbox WHERE status = 'in_flight'").await, 2);

    // At once; for nearly as long as a worker may be silent; for longer.
    for away in [Duration::ZERO, TIME_TO_LIVE * 9 / 10, TIME_TO_LIVE * 3 / 2] {
        server.kill_hard().await.unwrap();
        let crashed = Instant::now();
        until("the server was away", async || (crashed.elapsed() >= away).then_some(())).await;
        server.restart().await.unwrap();
        app.database.reconnect().await;
        app.wait_for_count(ALIVE, 2).await;
        // Whoever were to take the other for dead would have done it by now.
        let back = Instant::now();
        until("a whole life", async || (back.elapsed() > TIME_TO_LIVE + TIME_TO_LIVE / 3).then_some(()))
            .await;
        assert_eq!(app.count("SELECT count(*) FROM outbox WHERE status = 'in_flight'").await, 40, "{away:?}");
        assert_eq!(app.count("SELECT count(*) FROM delivery_attempts WHERE outcome = 'unknown'").await, 0);
        assert_eq!(gated.requests(), 40, "{away:?}");
        // And the service goes on.
        let delivered = app.hub.total() as i64;
        app.owe(app.destination, 10).await;
        app.wait_for_count("SELECT count(*) FROM deliveries WHERE status = 'delivered'", delivered + 10)
            .await;
    }

    gated.open();
    app.wait_for_count("SELECT count(*) FROM outbox", 0).await;
    for id in under_way {
        assert_eq!(app.outcomes(id).await, ["delivered"]);
        assert_eq!(app.attempts(id).await[0]["attempt"], 1);
    }
    assert_eq!(gated.requests(), 40);
    app.assert_verified().await;
    assert_eq!(one.terminate().await, Some(0));
    assert_eq!(other.terminate().await, Some(0));
    drop(app);
    server.stop().await.unwrap();
}
