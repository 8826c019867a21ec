//! What a publish did: a table for people, an object for programs.

use std::collections::{BTreeMap, HashSet};

use serde::Serialize;

use super::draft::exact;
use super::send::Stored;
use crate::ingest::reject::Refusal;

/// Refused lines that are shown.
const SHOWN: usize = 5;

/// Keys of readings that are remembered, to tell repeats: some 20 MB.
const REMEMBERED: usize = 1_000_000;

/// A line that was refused.
#[derive(Debug, Serialize)]
pub struct RefusedLine {
    line: u64,
    reason: &'static str,
    detail: String,
}

/// What a publish did.
#[derive(Debug, Default, Serialize)]
pub struct Summary {
    /// Readings, and what should have been some, in the file.
    pub read: u64,
    /// Readings that the broker has stored.
    pub accepted: u64,
    /// How many were refused here, as the service would.
    pub refused: u64,
    /// Readings with the series and time of one before them in the file: the service stores the first of them. Told for
    /// the first million.
    pub repeated: u64,
    #[serde(skip)]
    seen: HashSet<u64>,
    refused_by_reason: BTreeMap<&'static str, u64>,
    refused_lines: Vec<RefusedLine>,
    first: Option<String>,
    last: Option<String>,
    /// The instant at which the recording ends; given back as `--end` it makes the same readings.
    pub end: Option<String>,
    /// How long it took.
    pub seconds: f64,
    /// Why it stopped before the end.
    pub error: Option<String>,
}

impl Summary {
    /// Counts a refused reading.
    pub fn refuse(&mut self, line: u64, refusal: Refusal) {
        let reason = refusal.reason.as_str();
        self.refused += 1;
        *self.refused_by_reason.entry(reason).or_default() += 1;
        if self.refused_lines.len() < SHOWN {
            self.refused_lines.push(RefusedLine { line, reason, detail: refusal.detail });
        }
    }

    /// Looks whether a reading is the same as one before it.
    pub fn note_key(&mut self, key: Option<u64>) {
        if let Some(key) = key
            && (self.seen.len() < REMEMBERED || self.seen.contains(&key))
            && !self.seen.insert(key)
        {
            self.repeated += 1;
        }
    }

    /// Takes over what the broker has stored.
    pub fn note_stored(&mut self, stored: Stored) {
        self.accepted = stored.readings;
        self.first = stored.span.map(|(first, _)| exact(first));
        self.last = stored.span.map(|(_, last)| exact(last));
    }

    /// Whether every reading of the file is stored.
    pub fn is_complete(&self) -> bool {
        self.error.is_none() && self.refused == 0 && self.accepted == self.read
    }

    /// The table for people, on standard output; what is wrong goes to standard error.
    pub fn print(&self) {
        for refused in &self.refused_lines {
            eprintln!("line {}: {}: {}", refused.line, refused.reason, refused.detail);
        }
        if self.refused > self.refused_lines.len() as u64 {
            eprintln!(".. and {} more", self.refused - self.refused_lines.len() as u64);
        }
        println!("read      {:>10}", self.read);
        println!("accepted  {:>10}  stored by the broker", self.accepted);
        println!("refused   {:>10}", self.refused);
        for (reason, count) in &self.refused_by_reason {
            println!("          {count:>10}  {reason}");
        }
        if self.repeated > 0 {
            let what = "have the series and time of one before them: the service stores the first";
            println!("repeated  {:>10}  {what}", self.repeated);
        }
        for (name, value) in [("first", &self.first), ("last", &self.last), ("end", &self.end)] {
            println!("{name:<8}  {}", value.as_deref().unwrap_or("-"));
        }
        println!("seconds   {:>10.1}", self.seconds);
    }
}
