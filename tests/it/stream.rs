//! The stream and its consumer: what the broker holds is what was asked for, or nothing starts.

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use serde_json::json;
use watchbell::ingest::broker::drops_accepted;
use watchbell::runtime::{self, Role, Roles};

use super::support::app::{TestApp, reading};

/// A change, and what the error says of it: the field, what is there, what is asked for, the setting.
type Difference<T> = (fn(&mut T), [&'static str; 4]);

/// What the service asks for, by the design.
fn right(app: &TestApp) -> Config {
    let ingest = app.config().ingest;
    Config {
        name: ingest.stream,
        subjects: vec![format!("{}.>", ingest.subject_prefix)],
        storage: StorageType::File,
        retention: RetentionPolicy::WorkQueue,
        discard: DiscardPolicy::New,
        max_bytes: ingest.stream_max_bytes,
        ..Config::default()
    }
}

fn right_consumer(app: &TestApp) -> pull::Config {
    let ingest = app.config().ingest;
    pull::Config {
        durable_name: Some(ingest.consumer),
        ack_policy: AckPolicy::Explicit,
        ack_wait: Duration::from_secs(ingest.ack_wait_seconds),
        max_deliver: -1,
        max_ack_pending: ingest.max_ack_pending,
        ..pull::Config::default()
    }
}

/// The start fails, and says these things.
async fn assert_refused(app: &TestApp, said: &[&str]) {
    let error = runtime::start(&app.config(), Roles::of(&[Role::Ingest])).await.unwrap_err().to_string();
    for part in said {
        assert!(error.to_lowercase().contains(&part.to_lowercase()), "{part:?} is not in: {error}");
    }
    assert!(!error.contains('\n'), "{error}");
}

#[tokio::test]
async fn a_stream_that_differs_from_the_settings_stops_the_start_and_is_left_as_it_is() {
    let differences: [Difference<Config>; 8] = [
        (
            |c| c.subjects.push(format!("{}.more", c.name)),
            ["subjects", ".more", ".readings.>", "ingest.subject_prefix"],
        ),
        (|c| c.storage = StorageType::Memory, ["storage", "memory", "file", "ingest.stream"]),
        (|c| c.retention = RetentionPolicy::Limits, ["retention", "limits", "workqueue", "ingest.stream"]),
        (|c| c.discard = DiscardPolicy::Old, ["discard", "old", "new", "ingest.stream"]),
        (|c| c.max_bytes = 70_000, ["max_bytes", "70000", "268435456", "ingest.stream_max_bytes"]),
        (|c| c.max_messages = 1_000, ["max_msgs", "1000", "no limit", "ingest.stream"]),
        (|c| c.max_messages_per_subject = 10, ["max_msgs_per_subject", "10", "no limit", "ingest.stream"]),
        (|c| c.max_age = Duration::from_secs(3_600), ["max_age", "3600", "no limit", "ingest.stream"]),
    ];
    for (change, said) in differences {
        let app = TestApp::new(&[]).await;
        let mut config = right(&app);
        change(&mut config);
        app.broker.create_stream(&config).await.unwrap();
        assert_refused(&app, &said).await;
        let kept = app.broker.get_stream(&config.name).await.unwrap().cached_info().config.clone();
        assert_eq!(
            (kept.max_bytes, kept.subjects, kept.max_age),
            (config.max_bytes, config.subjects, config.max_age)
        );
    }
}

#[tokio::test]
async fn a_consumer_that_differs_from_the_settings_stops_the_start() {
    let differences: [Difference<pull::Config>; 3] = [
        (|c| c.ack_wait = Duration::from_secs(7), ["ack_wait", "7s", "30s", "ingest.ack_wait_seconds"]),
        (|c| c.max_deliver = 5, ["max_deliver", "5", "-1", "ingest.consumer"]),
        (
            |c| c.filter_subject = "*.readings.x".to_owned(),
            ["filter_subject", "*.readings.x", "none", "ingest.consumer"],
        ),
    ];
    for (change, said) in differences {
        let app = TestApp::new(&[]).await;
        let stream = app.broker.create_stream(right(&app)).await.unwrap();
        let mut consumer = right_consumer(&app);
        change(&mut consumer);
        if !consumer.filter_subject.is_empty() {
            consumer.filter_subject = app.subject.clone();
            stream.create_consumer(consumer).await.unwrap();
            assert_refused(&app, &[said[0], &app.subject, said[2], said[3]]).await;
        } else {
            stream.create_consumer(consumer).await.unwrap();
            assert_refused(&app, &said).await;
        }
    }
}

#[tokio::test]
async fn a_consumer_with_less_room_than_the_settings_ask_for_is_given_more() {
    let mut app = TestApp::new(&[]).await;
    let stream = app.broker.create_stream(right(&app)).await.unwrap();
    let small = pull::Config { max_ack_pending: 10, ..right_consumer(&app) };
    stream.create_consumer(small).await.unwrap();
    app.start(Roles::of(&[Role::Ingest])).await;
    let settings = app.config().ingest;
    let info = stream.consumer_info(&settings.consumer).await.unwrap();
    assert_eq!(info.config.max_ack_pending, settings.max_ack_pending);
    app.stop().await;
}

#[tokio::test]
async fn what_is_there_already_and_right_is_used() {
    let mut app = TestApp::new(&[]).await;
    let stream = app.broker.create_stream(right(&app)).await.unwrap();
    stream.create_consumer(right_consumer(&app)).await.unwrap();
    app.publish(reading("pump-1", "pressure", 1.0, 1)).await;
    app.start(Roles::of(&[Role::Ingest, Role::Detect])).await;
    app.wait_until_judged().await;
    app.assert_nothing_lost_or_doubled(1).await;
    app.stop().await;
}

#[tokio::test]
async fn a_full_stream_refuses_publishers_and_keeps_what_it_accepted() {
    let mut app = TestApp::new(&[("ingest.stream_max_bytes", "100000")]).await;
    if drops_accepted(&app.broker_version) {
        eprintln!("this nats-server ({}) does not keep the promise that is tested here", app.broker_version);
        return;
    }
    app.make_stream().await;
    let mut accepted = 0;
    loop {
        let message = reading("pump-1", "pressure", 1.0, accepted + 1);
        let published = app.broker.publish(app.subject.clone(), message.to_string().into()).await.unwrap();
        match published.await {
            Ok(_) => accepted += 1,
            Err(_) if accepted > 0 => break,
            Err(error) => panic!("{error}"),
        }
        assert!(accepted < 10_000, "nothing is refused");
    }
    assert_eq!(app.messages_in_stream().await, u64::try_from(accepted).unwrap());
    app.start(Roles::of(&[Role::Ingest, Role::Detect])).await;
    app.wait_until_judged().await;
    app.assert_nothing_lost_or_doubled(accepted).await;
    // And there is room again.
    app.publish(json!({ "device": "pump-1", "metric": "pressure", "value": 2.0 })).await;
    app.wait_until_judged().await;
    app.assert_nothing_lost_or_doubled(accepted + 1).await;
    app.stop().await;
}
