//! Flapping: however often a series goes to and fro, and however the receiver answers, the last word is how it stands.

use serde_json::{Value, json};
use watchbell::dev::hub::Answer;
use watchbell::runtime::Roles;

use super::support::app::{TestApp, reading};
use super::support::bench::DetectorBench;

/// What people were told, in its order.
async fn told(app: &TestApp) -> Vec<String> {
    let query = "SELECT event FROM deliveries WHERE status <> 'superseded' ORDER BY notification_id";
    app.owner().query(query, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn the_last_word_on_a_series_that_flaps_is_how_it_stands_though_every_other_attempt_fails() {
    let mut app = TestApp::new(&[]).await;
    let calm = "UPDATE rules SET resolve_after_seconds = 0, cooldown_seconds = 0";
    app.owner().batch_execute(calm).await.unwrap();
    for _ in 0..200 {
        app.hub.push_answer(Answer::status(500));
        app.hub.push_answer(Answer::ByTheRules);
    }
    app.start(Roles::all()).await;
    // Forty times hot and cool again, and the last time hot.
    for flap in 0..81 {
        app.publish(reading("pump-1", "temperature", if flap % 2 == 0 { 90.0 } else { 50.0 }, 100 - flap))
            .await;
    }
    app.wait_until_judged().await;
    app.wait_for_count("SELECT count(*) FROM deliveries WHERE status NOT IN ('delivered', 'superseded')", 0)
        .await;
    let states = "SELECT count(*) FROM alerts WHERE state = ";
    assert_eq!(app.count(&format!("{states}'resolved'")).await, 40);
    assert_eq!(app.count(&format!("{states}'open'")).await, 1);
    let last_word = "SELECT count(*) FROM alerts a WHERE a.told <> a.state OR a.told <> (
        SELECT CASE n.event WHEN 'opened' THEN 'open' ELSE n.event END
        FROM notifications n WHERE n.alert_id = a.alert_id ORDER BY notification_id DESC LIMIT 1)";
    assert_eq!(app.count(last_word).await, 0, "the last word is not how it stands");
    assert_eq!(app.count("SELECT count(*) FROM notifications WHERE event = 'opened'").await, 41);
    let told = told(&app).await;
    assert_eq!(told.last().map(String::as_str), Some("opened"));
    // The hub has accepted each of them, once.
    let mut accepted: Vec<Value> = app
        .hub
        .received()
        .iter()
        .filter(|call| call.was_accepted())
        .map(|call| call.json()["event_id"].clone())
        .collect();
    accepted.sort_by_key(Value::to_string);
    accepted.dedup();
    assert_eq!(accepted.len(), told.len());
    assert!(told.len() >= 41, "each alert by one notice at least: {told:?}");
    assert!(app.hub.total() > told.len() as u64 * 3 / 2, "the hub was to refuse: {}", app.hub.total());
    app.assert_verified().await;
    app.stop().await;
}

#[tokio::test]
async fn what_was_over_and_burns_again_by_the_time_it_is_judged_is_not_told_as_over() {
    for first in [&[(0.0, 90.0)][..], &[]] {
        let mut bench = DetectorBench::new(TestApp::new(&[]).await, 60).await;
        // Told as open before, or not yet.
        bench.judge(first).await;
        // Over after a few minutes, hot again within the cooldown, and past its end.
        bench.judge(&[(0.5, 90.0), (1.0, 50.0), (7.0, 50.0), (8.0, 90.0), (16.0, 91.0)]).await;
        let row = "SELECT count(*) FROM alerts WHERE state = 'open' AND told = 'open' AND episodes = 2";
        assert_eq!(bench.app.count(row).await, 1);
        let told = told(&bench.app).await;
        assert_eq!(told, if first.is_empty() { vec!["opened"] } else { vec!["opened", "still_burning"] });
        bench.judge(&[(17.0, 50.0), (23.0, 50.0)]).await;
        assert_eq!(self::told(&bench.app).await.last().map(String::as_str), Some("resolved"));
        bench.app.assert_verified().await;
    }
}

#[tokio::test]
async fn what_was_old_and_over_and_fires_again_when_it_is_not_old_is_told() {
    // Each time it fires again within its cooldown: once and then over, or until it is seen to burn.
    for again in [&[(12.0, 90.0), (12.1, 50.0), (18.0, 50.0)][..], &[(12.0, 90.0), (13.0, 90.0)]] {
        let app = TestApp::new(&[("detect.notify_max_age_seconds", "600")]).await;
        let mut bench = DetectorBench::new(app, 20).await;
        bench.judge(&[(1.0, 90.0), (2.0, 50.0), (8.0, 50.0)]).await;
        assert_eq!(bench.app.count("SELECT count(*) FROM alerts WHERE historical").await, 1);
        bench.judge(again).await;
        let row = "SELECT count(*) FROM alerts WHERE NOT historical AND episodes = 2";
        assert_eq!(bench.app.count(row).await, 1, "{again:?}");
        assert!(!told(&bench.app).await.is_empty(), "{again:?}");
        bench.app.assert_verified().await;
    }
}

#[tokio::test]
async fn flapping_within_one_settlement_is_told_by_its_last_state() {
    let mut bench = DetectorBench::new(TestApp::new(&[]).await, 60).await;
    let calm = "UPDATE rules SET resolve_after_seconds = 0, cooldown_seconds = 0";
    bench.app.owner().batch_execute(calm).await.unwrap();
    let flaps: Vec<_> = (0..21).map(|n| (f64::from(n), if n % 2 == 0 { 90.0 } else { 50.0 })).collect();
    bench.judge(&flaps).await;
    let told = told(&bench.app).await;
    assert_eq!(told.iter().filter(|event| *event == "resolved").count(), 10);
    assert_eq!(told.last().map(String::as_str), Some("opened"), "{told:?}");
    assert_eq!(told.len(), 11, "what is over is told by one notice: {told:?}");
    assert_eq!(bench.app.count("SELECT count(*) FROM notifications WHERE event = 'opened'").await, 11);
    let open = "SELECT to_jsonb(a) FROM alerts a WHERE state = 'open'";
    let row: Value = bench.app.owner().query_one(open, &[]).await.unwrap().get(0);
    assert_eq!(row["told"], json!("open"));
    bench.app.assert_verified().await;
}

#[tokio::test]
async fn who_hears_that_it_was_over_reads_so_though_it_burns_again() {
    let mut bench = DetectorBench::new(TestApp::new(&[]).await, 60).await;
    // Over, and within the cooldown hot again, which nobody is told of.
    bench.judge(&[(0.0, 90.0), (1.0, 50.0), (7.0, 50.0), (8.0, 90.0)]).await;
    let query =
        "SELECT n.event, n.body::jsonb->'payload'->>'state', n.body::jsonb->'payload'->>'ended_at' IS NULL
        FROM notifications n ORDER BY notification_id";
    let rows = bench.app.owner().query(query, &[]).await.unwrap();
    let said: Vec<(String, String, bool)> = rows.iter().map(|r| (r.get(0), r.get(1), r.get(2))).collect();
    // The last one tells both, and is the one that is sent.
    let expected =
        [("opened", "open", true), ("resolved", "resolved", false), ("resolved", "resolved", false)];
    assert_eq!(said, expected.map(|(event, state, burns)| (event.to_owned(), state.to_owned(), burns)));
}
