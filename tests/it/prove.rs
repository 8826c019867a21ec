//! `watchbell prove`, the short form: the real program, killed again and again, keeps every promise.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use super::support::command::{Finished, watchbell_reading};

/// A minute of faults, and then what is owed must be paid, on a machine that runs all other tests as well.
const LONGEST: Duration = Duration::from_secs(600);

/// The servers of the test run are lent to it; it makes a database and a stream of its own there.
async fn prove(arguments: &[&str]) -> Finished {
    let lent = ["DATABASE_URL", "NATS_URL", "WATCHBELL_PRIVATE_SERVERS", "WATCHBELL_STATE_DIR"];
    let environment = lent.into_iter().filter_map(|name| Some((name, std::env::var(name).ok()?)));
    watchbell_reading("", &[&["prove"], arguments].concat(), environment, LONGEST).await
}

fn count(proof: &Value, name: &str) -> i64 {
    proof["counts"][name].as_i64().unwrap_or(0)
}

#[tokio::test]
async fn no_reading_and_no_page_is_lost_while_the_service_is_killed_and_the_receiver_misbehaves() {
    let said = prove(&["--seconds", "60", "--seed", "7", "--json"]).await;
    let proof = said.json();
    let invariants = proof["invariants"].as_array().unwrap();
    let broken: Vec<&Value> = invariants.iter().filter(|row| row["ok"] != true).collect();
    assert!(broken.is_empty() && said.code == Some(0), "{broken:?}\n{}", said.errors);
    assert!(said.errors.starts_with("seed 7, "), "{}", said.errors);
    let names: BTreeSet<&str> = invariants.iter().map(|row| row["name"].as_str().unwrap()).collect();
    for promised in [
        "readings published = stored",
        "readings doubled",
        "alerts that differ from a plain recomputation",
        "notifications missing",
        "POSTs off the record",
        "notifications neither owed nor ended",
        "minutes whose rollup differs from its readings",
    ] {
        assert!(names.contains(promised), "{promised} in {names:?}");
    }
    // It proves something only if something happened.
    assert!(count(&proof, "kills") >= 3 && count(&proof, "pauses") >= 1, "{proof}");
    assert!(count(&proof, "alerts") >= 30 && count(&proof, "messages published") >= 200, "{proof}");
    for answer in ["200", "500", "429", "silence"] {
        assert!(count(&proof, &format!("POSTs answered {answer}")) > 0, "{answer}: {proof}");
    }
}
