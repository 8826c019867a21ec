//! `watchbell bench`: it measures with servers of its own and says what it found, as a table and as JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::Mutex;

use super::support::command::{Finished, watchbell_reading};

/// Servers are started, and the machine runs all other tests as well.
const LONGEST: Duration = Duration::from_secs(600);
/// Each takes all processors that it finds: one after the other, so that other tests find some too.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

async fn bench(what: &str, arguments: &[&str]) -> Finished {
    let _turn = ONE_AT_A_TIME.lock().await;
    let kept = ["WATCHBELL_STATE_DIR", "NATS_SERVER_BIN", "PG_BIN_DIR"];
    let environment = kept.into_iter().filter_map(|name| Some((name, std::env::var(name).ok()?)));
    watchbell_reading("", &[&["bench", what], arguments].concat(), environment, LONGEST).await
}

/// Its figures by name.
fn figures(report: &Value) -> BTreeMap<&str, &Value> {
    let figures = report["figures"].as_array().unwrap();
    figures.iter().map(|figure| (figure["name"].as_str().unwrap(), figure)).collect()
}

fn wanted(figure: &Value) -> (Option<f64>, Option<f64>, &str) {
    (figure["must"].as_f64(), figure["reach"].as_f64(), figure["better"].as_str().unwrap())
}

#[tokio::test]
async fn a_short_measurement_prints_each_figure_with_its_rounds_and_what_it_must_be() {
    let short = ["--rounds", "1", "--readings", "20000", "--only", "raw-copy,arrays", "--json"];
    let said = bench("ingest", &short).await;
    assert_eq!(said.code, Some(0), "{}", said.errors);
    let report = said.json();
    let figures = figures(&report);
    for name in
        ["arrays_over_raw_copy", "raw_copy_rate", "arrays_cpu", "detection_lag_at_the_end", "peak_memory"]
    {
        let figure = figures.get(name).unwrap_or_else(|| panic!("{name} in {figures:?}"));
        assert!(figure["value"].as_f64().unwrap() >= 0.0 && figure["better"].is_string(), "{figure}");
    }
    // Only what both sides of it were measured for.
    assert!(!figures.contains_key("singles_over_bare_pull") && !figures.contains_key("singles_rate"));
    let ratio = figures["arrays_over_raw_copy"];
    assert_eq!(wanted(ratio), (Some(0.5), Some(0.75), "higher"));
    assert_eq!(ratio["detail"]["rounds"].as_array().unwrap().len(), 1);
    let ours = figures["arrays_rate"]["value"].as_f64().unwrap();
    let limit = figures["raw_copy_rate"]["value"].as_f64().unwrap();
    assert!((ratio["value"].as_f64().unwrap() - ours / limit).abs() < 0.01, "{ratio} of {ours} and {limit}");
    assert!(figures["arrays_cpu"]["detail"]["by_process"]["postgresql"].as_f64().unwrap() > 0.0);
    assert!(report["machine"]["cores"].as_u64().unwrap() > 0);
}

#[tokio::test]
async fn a_contender_that_nobody_knows_is_refused_with_those_there_are() {
    let said = bench("ingest", &["--only", "magic"]).await;
    assert_eq!(said.code, Some(2));
    assert!(said.errors.contains("raw-copy") && said.errors.contains("latency"), "{}", said.errors);
}

#[tokio::test]
async fn a_short_look_at_detection_says_what_judging_costs_what_rules_take_and_how_soon_alerts_come() {
    let said = bench("detect", &["--quick", "--rounds", "1", "--readings", "20000", "--json"]).await;
    assert_eq!(said.code, Some(0), "{}", said.errors);
    let report = said.json();
    let figures = figures(&report);
    for (name, must, reach, better) in [
        ("microseconds_a_judgement", None, None, "lower"),
        ("ingest_with_1000_rules_over_none", Some(0.90), Some(0.97), "higher"),
        ("ingest_with_10000_rules_over_none", None, None, "higher"),
        ("alert_latency_p50", Some(25.0), Some(5.0), "lower"),
        ("alert_latency_p99", Some(100.0), Some(30.0), "lower"),
    ] {
        let figure = figures.get(name).unwrap_or_else(|| panic!("{name} in {figures:?}"));
        assert_eq!(wanted(figure), (must, reach, better), "{name}");
        assert!(figure["value"].as_f64().unwrap() > 0.0, "{figure}");
    }
    for stage in ["unpack", "judging", "rollup", "settle"] {
        let cost = &figures["microseconds_a_judgement"]["detail"]["microseconds_a_reading"][stage];
        assert!(cost.as_f64().unwrap() > 0.0, "{stage}: {cost}");
    }
    let ratio = figures["ingest_with_1000_rules_over_none"];
    let [with, without] = ["ingest_rate_with_1000_rules", "ingest_rate_with_0_rules"]
        .map(|name| figures[name]["value"].as_f64().unwrap());
    assert!(
        (ratio["value"].as_f64().unwrap() - with / without).abs() < 0.01,
        "{ratio} of {with} and {without}"
    );
    let lags = ratio["detail"]["seconds_until_all_were_judged"]["with"].as_array().unwrap();
    assert_eq!(lags.len(), 1, "a round, a lag: {ratio}");
    // Twenty a second, for five seconds.
    let latency = figures["alert_latency_p99"];
    let alerts = latency["detail"]["alerts"].as_u64().unwrap();
    assert!((80..=120).contains(&alerts), "{latency}");
    assert!(latency["value"].as_f64().unwrap() >= figures["alert_latency_p50"]["value"].as_f64().unwrap());
}

#[tokio::test]
async fn a_short_look_at_the_outbox_says_what_a_turn_costs_beside_the_limit_dead_rows_and_a_history() {
    let said = bench("outbox", &["--rounds", "1", "--rows", "1000", "--json"]).await;
    assert_eq!(said.code, Some(0), "{}", said.errors);
    let report = said.json();
    let figures = figures(&report);
    for (name, must, reach, better) in [
        ("server_cpu_over_no_claim", Some(1.8), Some(1.4), "lower"),
        ("deliveries_over_no_claim", Some(0.45), Some(0.70), "higher"),
        ("deliveries_over_no_claim_by_two", None, None, "higher"),
        ("server_cpu_with_old_snapshot_over_none", Some(1.3), Some(1.15), "lower"),
        ("server_cpu_with_history_over_none", Some(1.15), Some(1.0), "lower"),
    ] {
        let figure = figures.get(name).unwrap_or_else(|| panic!("{name} in {figures:?}"));
        assert_eq!(wanted(figure), (must, reach, better), "{name}");
    }
    let ours = figures["no_op_rate"]["value"].as_f64().unwrap();
    let limit = figures["no_claim_rate"]["value"].as_f64().unwrap();
    let ratio = figures["deliveries_over_no_claim"]["value"].as_f64().unwrap();
    assert!((ratio - ours / limit).abs() < 0.01, "{ratio} of {ours} and {limit}");
    // An update, a deletion and an insertion cannot take less.
    for name in ["no_claim", "no_op", "old_snapshot", "history"] {
        let wal = figures[&*format!("{name}_server_cpu")]["detail"]["wal_bytes_a_row"].as_f64().unwrap();
        assert!(wal > 200.0, "{name}: {wal}");
    }
}

#[tokio::test]
async fn a_short_look_at_delivery_says_how_many_how_soon_and_what_a_dead_destination_does_to_others() {
    let said = bench("delivery", &["--quick", "--rounds", "1", "--rows", "1000", "--json"]).await;
    assert_eq!(said.code, Some(0), "{}", said.errors);
    let report = said.json();
    let figures = figures(&report);
    for (name, must, reach, better) in [
        ("posted_over_bare_client", Some(0.60), Some(0.80), "higher"),
        ("commit_to_first_byte_p50", Some(3.0), Some(1.5), "lower"),
        ("commit_to_first_byte_p99", Some(15.0), Some(5.0), "lower"),
        ("healthy_p99_beside_refusing_over_none", Some(1.3), Some(1.1), "lower"),
        ("healthy_p99_beside_silent_over_none", Some(1.3), Some(1.1), "lower"),
    ] {
        let figure = figures.get(name).unwrap_or_else(|| panic!("{name} in {figures:?}"));
        assert_eq!(wanted(figure), (must, reach, better), "{name}");
        assert!(figure["value"].as_f64().unwrap() > 0.0, "{figure}");
    }
    let [p50, p99] = ["p50", "p99"].map(|share| &figures[&*format!("commit_to_first_byte_{share}")]);
    assert_eq!(p50["detail"]["notifications"], 200);
    assert!(p99["value"].as_f64().unwrap() >= p50["value"].as_f64().unwrap());
    // Somebody rang: who polls takes a second.
    assert!(p50["value"].as_f64().unwrap() < 500.0, "{p50}");
    // The commit's own way to the disk lies between the two beginnings.
    let known = p50["detail"]["since_the_commit_was_known_ms"]["p50"].as_f64().unwrap();
    assert!(known < p50["value"].as_f64().unwrap(), "{p50}");
}
