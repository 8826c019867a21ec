//! What a proof prints: counts, and a table of what was expected and found.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::json;

use super::processes::log_file;
use crate::audit::verify::Check;

const LOG_LINES: usize = 30;

/// What came out.
pub struct Proof {
    /// That it took, or was asked for.
    pub seconds: u64,
    /// What happened.
    pub counts: BTreeMap<String, i64>,
    /// What must hold.
    pub checks: Vec<Check>,
}

impl Proof {
    /// Whether everything does.
    pub fn holds(&self) -> bool {
        self.checks.iter().all(|check| check.ok)
    }

    /// For programs.
    pub fn print_json(&self, seed: u64, scenario: &str) {
        let proof = json!({
            "scenario": scenario,
            "seed": seed,
            "seconds": self.seconds,
            "counts": self.counts,
            "invariants": self.checks,
        });
        println!("{proof}");
    }

    /// For people.
    pub fn print(&self, seed: u64) {
        println!("seed {seed}");
        for (name, count) in &self.counts {
            println!("{name:<50} {count:>8}");
        }
        println!("\n{:<50} {:>8} {:>8}", "", "expected", "found");
        for check in &self.checks {
            let mark = if check.ok { "ok" } else { "BROKEN" };
            println!("{:<50} {:>8} {:>8}  {mark}", check.name, check.expected, check.found);
        }
    }
}

/// The end of what the processes warned of, and a copy of all that they said.
pub fn show_logs(logs: &Path, scenario: &str, seed: u64) {
    for place in 0.. {
        let Ok(text) = std::fs::read_to_string(log_file(logs, place)) else { return };
        // A refused attempt is no trouble here, and there are hundreds.
        let lines: Vec<&str> = text.lines().filter(|line| !line.contains(" INFO ")).collect();
        for line in &lines[lines.len().saturating_sub(LOG_LINES)..] {
            eprintln!("process {place}: {line}");
        }
        let copy = std::env::temp_dir().join(format!("watchbell-prove-{scenario}-{seed}-{place}.log"));
        if std::fs::write(&copy, &text).is_ok() {
            eprintln!("all of it is in {}", copy.display());
        }
    }
}
