//! An alert and all notifications it owes are one transaction: no instant shows one without the other.

use watchbell::audit::verify::verify;
use watchbell::db::pool;
use watchbell::runtime::{Role, Roles};

use super::support::app::{TestApp, reading, temperature};

/// Alerts, and of each the notifications (its own, or those that tell of many) and owed rows that are not there; in one
/// snapshot. Nothing is delivered meanwhile.
const TORN: &str = "
    WITH told AS (
      SELECT notification_id, alert_id FROM notifications UNION SELECT notification_id, alert_id FROM notification_alerts
    )
    SELECT count(DISTINCT a.alert_id),
           count(*) FILTER (WHERE n.notification_id IS NULL OR o.notification_id IS NULL),
           (SELECT count(*) FROM told WHERE alert_id NOT IN (SELECT alert_id FROM alerts)),
           (SELECT count(*) FROM outbox WHERE notification_id NOT IN (SELECT notification_id FROM notifications))
    FROM alerts a
    LEFT JOIN told n ON n.alert_id = a.alert_id
    LEFT JOIN outbox o ON o.notification_id = n.notification_id";

#[tokio::test]
async fn no_snapshot_shows_an_alert_without_its_notification_whoever_is_killed() {
    let app = TestApp::new(&[("ingest.batch_size", "5")]).await;
    let ingest = app.spawn("ingest");
    app.wait_for_stream().await;
    let devices = 200;
    let watching = tokio::spawn({
        let client = pool::connect_owner(&app.config().database).await.unwrap();
        async move {
            let (mut looks, mut torn) = (0, Vec::new());
            loop {
                let row = client.query_one(TORN, &[]).await.unwrap();
                let seen: [i64; 4] = [row.get(0), row.get(1), row.get(2), row.get(3)];
                looks += 1;
                if seen[1..] != [0, 0, 0] {
                    torn.push(seen);
                }
                if seen[0] == devices {
                    return (looks, torn);
                }
                tokio::task::yield_now().await;
            }
        }
    });
    let mut detect = app.spawn("detect");
    for device in 0..devices {
        app.publish(reading(&format!("pump-{device}"), "temperature", 99.0, 1)).await;
        if device % 50 == 25 {
            // Killed with work under way: after something of this life is there to see.
            let alerts = app.count("SELECT count(*) FROM alerts").await;
            app.wait_for_more("SELECT count(*) FROM alerts", alerts).await;
            detect.kill().await;
            detect = app.spawn("detect");
        }
    }
    let (looks, torn) =
        tokio::time::timeout(super::support::wait::PATIENCE, watching).await.unwrap().unwrap();
    assert_eq!(torn, Vec::<[i64; 4]>::new(), "of {looks} looks");
    assert!(looks > 10, "{looks}");
    let mut client = pool::connect_owner(&app.config().database).await.unwrap();
    let checks = verify(&mut client).await.unwrap();
    assert!(checks.iter().all(|check| check.ok), "{checks:?}");
    assert_eq!(detect.terminate().await, Some(0));
    assert_eq!(ingest.terminate().await, Some(0));
}

#[tokio::test]
async fn without_its_notifications_there_is_no_alert_either_and_both_come_once_it_is_mended() {
    for (table, privilege) in [("notifications", "INSERT"), ("outbox", "INSERT")] {
        let mut app = TestApp::new(&[]).await;
        app.owner()
            .batch_execute(&format!("REVOKE {privilege} ON {table} FROM watchbell_worker"))
            .await
            .unwrap();
        app.start(Roles::of(&[Role::Ingest, Role::Detect])).await;
        app.publish(temperature(91.25, 1)).await;
        app.wait_for_count("SELECT count(*) FROM readings", 1).await;
        // The reading is judged again and again; each time in vain.
        let refused = format!(
            "SELECT xact_rollback::bigint FROM pg_stat_database WHERE datname = current_database() AND '{table}' <> ''"
        );
        let before = app.count(&refused).await;
        app.wait_for_more(&refused, before + 1).await;
        for empty in ["alerts", "alert_events", "notifications", "outbox", "readings_1m", "rule_state"] {
            assert_eq!(app.count(&format!("SELECT count(*) FROM {empty}")).await, 0, "{empty}");
        }
        assert_eq!(app.count("SELECT count(*) FROM flushes").await, 1);
        app.owner()
            .batch_execute(&format!("GRANT {privilege} ON {table} TO watchbell_worker"))
            .await
            .unwrap();
        app.wait_for_count("SELECT count(*) FROM outbox", 1).await;
        assert_eq!(app.count("SELECT count(*) FROM alerts").await, 1);
        assert_eq!(app.count("SELECT count(*) FROM notifications").await, 1);
        app.stop().await;
    }
}
