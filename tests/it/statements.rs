//! The work of a transaction is a fixed number of statements, whatever the number of series.

use super::support::app::TestApp;
use super::support::bench::DetectorBench;

/// A spike that is over, a late one, one that burns, one that escalated, on each of so many series.
const READINGS: [(f64, f64); 5] = [(0.0, 70.0), (1.0, 90.0), (8.0, 70.0), (30.0, 91.0), (4.5, 95.0)];

#[tokio::test]
async fn a_settlement_of_300_series_asks_the_database_as_often_as_one_of_3() {
    let mut app = TestApp::new(&[]).await;
    let escalations = r#"UPDATE rules SET resolve_after_seconds = 60, cooldown_seconds = 60,
                         escalations = '[{"severity": "critical", "after_seconds": 30}]', severity = 'warning'"#;
    app.owner().batch_execute(escalations).await.unwrap();
    let proxy = app.put_a_proxy_before_the_database().await;
    let mut bench = DetectorBench::new(app, 60).await;
    bench.judge(&[(0.0, 70.0)]).await;
    let mut most = Vec::new();
    for count in [3, 300] {
        let series = bench.add_series(count).await;
        bench.commit_of_each(&series, &READINGS).await;
        bench.settle().await;
        // What burns is resolved, and told once more, by what comes later.
        proxy.statements_of_each_transaction();
        bench.commit_of_each(&series, &[(40.0, 92.0), (41.0, 70.0), (43.0, 70.0), (46.0, 99.0)]).await;
        bench.settle().await;
        most.push(proxy.statements_of_each_transaction().into_iter().max().unwrap());
    }
    assert!(most[0] > 5 && most[0] == most[1], "{most:?}");
    let alerts = bench.app.count("SELECT count(*) FROM alerts").await;
    assert!(alerts >= 2 * 303, "{alerts}");
    let owed = bench.app.count("SELECT count(*) FROM notifications").await;
    assert!(owed >= 3 * 303, "{owed}");
}
