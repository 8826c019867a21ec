//! `watchbell prove`, the short forms: the real program, killed again and again, flooded, without its database, keeps every
//! promise.

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

/// The proof, of which every row must hold.
fn holding(said: &Finished) -> Value {
    let proof = said.json();
    let rows = proof["invariants"].as_array().unwrap();
    let broken: Vec<&Value> = rows.iter().filter(|row| row["ok"] != true).collect();
    assert!(broken.is_empty() && said.code == Some(0), "{broken:?}\n{}", said.errors);
    proof
}

fn assert_rows(proof: &Value, promised: &[&str]) {
    let rows = proof["invariants"].as_array().unwrap();
    let names: BTreeSet<&str> = rows.iter().map(|row| row["name"].as_str().unwrap()).collect();
    for name in promised {
        assert!(names.contains(name), "{name} in {names:?}");
    }
}

fn found(proof: &Value, name: &str) -> i64 {
    let rows = proof["invariants"].as_array().unwrap();
    rows.iter().find(|row| row["name"] == name).and_then(|row| row["found"].as_i64()).unwrap()
}

fn count(proof: &Value, name: &str) -> i64 {
    proof["counts"][name].as_i64().unwrap_or(0)
}

#[tokio::test]
async fn no_reading_and_no_page_is_lost_while_the_service_is_killed_and_the_receiver_misbehaves() {
    let said = prove(&["--seconds", "60", "--seed", "7", "--json"]).await;
    let proof = holding(&said);
    assert!(said.errors.starts_with("seed 7, "), "{}", said.errors);
    assert_rows(
        &proof,
        &[
            "readings published = stored",
            "readings doubled",
            "breaches that no alert told",
            "alerts doubled",
            "alerts that are over and no notification says so",
            "notifications missing",
            "POSTs off the record",
            "notifications neither owed nor ended",
            "minutes whose rollup differs from its readings",
        ],
    );
    // It proves something only if something happened.
    assert!(count(&proof, "kills") >= 3 && count(&proof, "pauses") >= 1, "{proof}");
    assert!(count(&proof, "alerts") >= 30 && count(&proof, "messages published") >= 200, "{proof}");
    for answer in ["200", "500", "429", "silence"] {
        assert!(count(&proof, &format!("POSTs answered {answer}")) > 0, "{answer}: {proof}");
    }
}

#[tokio::test]
async fn a_flood_is_stored_once_though_the_service_is_killed_in_the_middle_of_its_batches() {
    let flood = ["--scenario", "flood", "--readings", "40000", "--kills", "3", "--seed", "7", "--json"];
    let said = prove(&flood).await;
    let proof = holding(&said);
    assert_rows(
        &proof,
        &[
            "readings doubled",
            "readings stored = in the rollups",
            "readings rejected",
            "devices with another number of readings",
            "minutes whose rollup differs from its readings",
        ],
    );
    assert_eq!(found(&proof, "readings published = stored"), 40_000, "{proof}");
    assert_eq!(found(&proof, "kills"), 3, "{proof}");
    // It proves something only if the killed had something under way, and if some came twice.
    assert!(count(&proof, "messages delivered again") > 0, "{proof}");
    assert!(count(&proof, "messages published twice on purpose") > 0, "{proof}");
}

#[tokio::test]
async fn without_its_database_the_service_leaves_the_backlog_to_the_stream() {
    let outage = ["--scenario", "outage", "--seconds", "5", "--rate", "1000", "--seed", "7", "--json"];
    let said = prove(&outage).await;
    let proof = holding(&said);
    assert_rows(
        &proof,
        &["readings published = stored", "readings doubled", "processes that ended by themselves"],
    );
    assert!(found(&proof, "messages on the stream after the outage, at least") > 0, "{proof}");
    assert!(found(&proof, "memory grown in the outage, MB, at most") <= 32, "{proof}");
    assert!(count(&proof, "memory in the outage, the most, MB") > 0, "{proof}");
}

#[tokio::test]
async fn an_argument_that_would_do_nothing_is_refused() {
    for (arguments, name) in [
        (["--scenario", "flood", "--seconds", "5"], "--seconds"),
        (["--scenario", "outage", "--kills", "1"], "--kills"),
        (["--scenario", "faults", "--rate", "9"], "--rate"),
    ] {
        let said = prove(&arguments).await;
        assert!(said.code == Some(1) && said.errors.contains(&format!("{name} is not for")), "{said:?}");
    }
}
