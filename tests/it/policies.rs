//! What an operator chooses: to keep or to drop what can't be stored, a stream or plain NATS. And who pays for repeats.

use serde_json::{Value, json};
use watchbell::api::key_store;
use watchbell::config::Config;
use watchbell::model::tenant::TenantName;
use watchbell::runtime::{Role, Roles};

use super::support::app::{TestApp, temperature};
use super::support::load::readings;
use super::support::wait::until;

const STORED: &str = "SELECT count(*) FROM readings";

fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

/// Makes the database refuse every batch, without anything being wrong with the batches.
const BREAK: &str = "ALTER TABLE flushes RENAME TO flushes_away";
const MEND: &str = "ALTER TABLE flushes_away RENAME TO flushes";

#[tokio::test]
async fn by_default_a_batch_that_can_not_be_stored_is_delivered_again() {
    let mut app = TestApp::new(&[]).await;
    app.start(Roles::of(&[Role::Ingest])).await;
    app.owner().batch_execute(BREAK).await.unwrap();
    app.publish(temperature(20.0, 5)).await;
    let metrics = app.running.as_ref().unwrap().metrics.clone();
    until("a flush to fail twice", async || (metrics.flushes_failed.get() > 0).then_some(())).await;
    app.owner().batch_execute(MEND).await.unwrap();
    app.wait_for_count(STORED, 1).await;
    app.wait_for_empty_stream().await;
    assert_eq!(metrics.readings_dropped.get(), 0);
    app.stop().await;
}

#[tokio::test]
async fn with_the_policy_drop_a_batch_that_can_not_be_stored_is_counted_and_the_next_goes_on() {
    let mut app = TestApp::new(&[("ingest.on_flush_failure", "drop")]).await;
    app.start(Roles::of(&[Role::Ingest])).await;
    app.owner().batch_execute(BREAK).await.unwrap();
    app.publish(Value::from(readings(3, now(), 0, 3))).await;
    let metrics = app.running.as_ref().unwrap().metrics.clone();
    until("its readings to be dropped", async || (metrics.readings_dropped.get() == 3).then_some(())).await;
    app.wait_for_empty_stream().await;
    app.owner().batch_execute(MEND).await.unwrap();
    app.publish(temperature(20.0, 5)).await;
    app.wait_for_count(STORED, 1).await;
    assert_eq!(metrics.readings_dropped.get(), 3);
    app.stop().await;
}

#[tokio::test]
async fn with_plain_nats_readings_are_stored_and_judged_without_a_stream() {
    let mut app = TestApp::new(&[("ingest.source", "core"), ("ingest.on_flush_failure", "drop")]).await;
    app.start(Roles::of(&[Role::Ingest, Role::Detect])).await;
    let client = app.client();
    // Two messages at once without a time: each is a reading of its own.
    let beat = json!([{ "device": "pump-1", "metric": "beat", "value": 1.0 }]).to_string();
    for message in [temperature(91.0, 5).to_string(), beat.clone(), beat, "no reading".to_owned()] {
        client.publish(app.subject.clone(), message.into()).await.unwrap();
    }
    client.flush().await.unwrap();
    app.wait_for_count(STORED, 3).await;
    app.wait_for_count("SELECT count(*) FROM alerts", 1).await;
    app.wait_for_count("SELECT count(*) FROM rejected_readings WHERE reason = 'not_json'", 1).await;
    assert!(app.broker.get_stream(app.config().ingest.stream).await.is_err(), "no stream is made");
    app.assert_verified().await;
    app.stop().await;
}

#[tokio::test]
async fn two_processes_on_plain_nats_share_what_comes() {
    let mut app = TestApp::new(&[("ingest.source", "core"), ("ingest.on_flush_failure", "drop")]).await;
    app.start(Roles::of(&[Role::Ingest])).await;
    let first = app.running.take().unwrap();
    app.start(Roles::of(&[Role::Ingest])).await;
    let client = app.client();
    let stored = |running: &watchbell::runtime::Running| running.metrics.readings_stored.get();
    let mut sent: i64 = 0;
    until("both to have stored some", async || {
        for element in readings(50, now(), sent as usize, 50) {
            client.publish(app.subject.clone(), element.to_string().into()).await.unwrap();
            sent += 1;
        }
        client.flush().await.unwrap();
        app.wait_for_count(STORED, sent).await;
        (stored(&first) > 0 && stored(app.running.as_ref().unwrap()) > 0).then_some(())
    })
    .await;
    let repeated = |running: &watchbell::runtime::Running| running.metrics.readings_repeated.get();
    let twice = repeated(&first) + repeated(app.running.as_ref().unwrap());
    assert_eq!(twice, 0, "each message goes to one of them");
    first.shut_down().await;
    app.stop().await;
}

#[tokio::test]
async fn plain_nats_can_not_be_asked_to_deliver_again() {
    let app = TestApp::new(&[]).await;
    let mut environment = app.environment.clone();
    environment.insert("WATCHBELL__INGEST__SOURCE".to_owned(), "core".to_owned());
    let error = Config::from_sources(None, environment).unwrap_err().to_string();
    assert!(error.contains("`ingest.on_flush_failure` must be `drop`"), "{error}");
}

#[tokio::test]
async fn a_tenant_that_repeats_itself_is_stored_apart_and_the_others_go_on_by_copy() {
    let mut app = TestApp::new(&[]).await;
    let other = TenantName::parse("other").unwrap();
    key_store::ensure_tenant(app.owner(), &other, "test").await.unwrap();
    app.start(Roles::of(&[Role::Ingest, Role::Detect])).await;
    let same = Value::from(readings(10, now(), 0, 100)).to_string();
    app.publish(&same).await;
    app.wait_for_count(STORED, 100).await;
    app.publish(&same).await;
    let metrics = app.running.as_ref().unwrap().metrics.clone();
    until("the repeat to be met", async || (metrics.readings_repeated.get() == 100).then_some(())).await;

    // From now on its repeats meet nobody else's batch: nothing of the other's is ever done twice.
    let redone = metrics.flushes_redone.get();
    assert_eq!(redone, 1);
    let others = app.subject.replace("acme", "other");
    let mut published = 0;
    for round in 0..20 {
        let fresh = Value::from(readings(10, now(), round * 100, 100)).to_string();
        let sent = [
            app.broker.publish(app.subject.clone(), same.clone().into()).await.unwrap(),
            app.broker.publish(others.clone(), fresh.into()).await.unwrap(),
        ];
        for stored in sent {
            stored.await.unwrap();
        }
        published += 100;
    }
    app.wait_until_judged().await;
    assert_eq!(metrics.flushes_redone.get(), redone);
    app.assert_nothing_lost_or_doubled(100 + published).await;
    app.stop().await;
}
