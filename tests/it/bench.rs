//! `watchbell bench`: it measures with servers of its own and says what it found, as a table and as JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::support::command::{Finished, watchbell_reading};

/// Servers are started, and the machine runs all other tests as well.
const LONGEST: Duration = Duration::from_secs(300);

async fn bench(arguments: &[&str]) -> Finished {
    let kept = ["WATCHBELL_STATE_DIR", "NATS_SERVER_BIN", "PG_BIN_DIR"];
    let environment = kept.into_iter().filter_map(|name| Some((name, std::env::var(name).ok()?)));
    watchbell_reading("", &[&["bench", "ingest"], arguments].concat(), environment, LONGEST).await
}

#[tokio::test]
async fn a_short_measurement_prints_each_figure_with_its_rounds_and_what_it_must_be() {
    let short = ["--rounds", "1", "--readings", "20000", "--only", "raw-copy,arrays", "--json"];
    let said = bench(&short).await;
    assert_eq!(said.code, Some(0), "{}", said.errors);
    let report = said.json();
    let figures: BTreeMap<&str, &Value> = report["figures"]
        .as_array()
        .unwrap()
        .iter()
        .map(|figure| (figure["name"].as_str().unwrap(), figure))
        .collect();
    for name in
        ["arrays_over_raw_copy", "raw_copy_rate", "arrays_cpu", "detection_lag_at_the_end", "peak_memory"]
    {
        let figure = figures.get(name).unwrap_or_else(|| panic!("{name} in {figures:?}"));
        assert!(figure["value"].as_f64().unwrap() >= 0.0 && figure["better"].is_string(), "{figure}");
    }
    // Only what both sides of it were measured for.
    assert!(!figures.contains_key("singles_over_bare_pull") && !figures.contains_key("singles_rate"));
    let ratio = figures["arrays_over_raw_copy"];
    assert_eq!((ratio["must"].as_f64(), ratio["reach"].as_f64()), (Some(0.5), Some(0.75)));
    assert_eq!(ratio["detail"]["rounds"].as_array().unwrap().len(), 1);
    let ours = figures["arrays_rate"]["value"].as_f64().unwrap();
    let limit = figures["raw_copy_rate"]["value"].as_f64().unwrap();
    assert!((ratio["value"].as_f64().unwrap() - ours / limit).abs() < 0.01, "{ratio} of {ours} and {limit}");
    assert!(figures["arrays_cpu"]["detail"]["by_process"]["postgresql"].as_f64().unwrap() > 0.0);
    assert!(report["machine"]["cores"].as_u64().unwrap() > 0);
}

#[tokio::test]
async fn a_contender_that_nobody_knows_is_refused_with_those_there_are() {
    let said = bench(&["--only", "magic"]).await;
    assert_eq!(said.code, Some(2));
    assert!(said.errors.contains("raw-copy") && said.errors.contains("latency"), "{}", said.errors);
}
