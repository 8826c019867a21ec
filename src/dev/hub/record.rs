//! What the demo hub received.
//!
//! Owns the record of calls, the newest of which it keeps, and the wait for something to be in it. Invariant: a waiter
//! looks again after every call, so nobody has to poll. [`super::server`] writes it, tests read it.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::bail;
use axum::http::HeaderMap;
use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::watch;

/// What became of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answered {
    /// An answer with this status.
    Status(u16),
    /// Nothing was answered, and the connection was left open.
    Hung,
    /// Nothing was answered, and the connection was closed.
    Closed,
}

/// One call that came in.
#[derive(Debug, Clone)]
pub struct Received {
    /// The HTTP method.
    pub method: String,
    /// The path, without a query.
    pub path: String,
    /// All headers.
    pub headers: HeaderMap,
    /// The exact bytes of the body; of a body over the limit, the first bytes.
    pub body: Bytes,
    /// The body's `event_id`, if it is JSON and has one.
    pub event_id: Option<String>,
    /// When it had come in wholly.
    pub at: Timestamp,
    /// What became of it.
    pub answered: Answered,
}

impl Received {
    /// A header's text; `None` if it is missing or no text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body as JSON; null if it isn't.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Whether it was answered 2xx.
    pub fn was_accepted(&self) -> bool {
        matches!(self.answered, Answered::Status(200..=299))
    }
}

/// The newest calls, in the order in which they were answered.
#[derive(Debug)]
pub struct Record {
    capacity: usize,
    calls: Mutex<VecDeque<Received>>,
    total: watch::Sender<u64>,
}

impl Record {
    /// A record that keeps the last `capacity` calls.
    pub fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(1), calls: Mutex::default(), total: watch::Sender::new(0) }
    }

    /// Adds a call and wakes who waits.
    pub fn push(&self, call: Received) {
        let mut calls = self.calls();
        if calls.len() == self.capacity {
            calls.pop_front();
        }
        calls.push_back(call);
        drop(calls);
        self.total.send_modify(|total| *total += 1);
    }

    /// How many calls came in, kept or not.
    pub fn total(&self) -> u64 {
        *self.total.borrow()
    }

    /// The calls that are kept.
    pub fn all(&self) -> Vec<Received> {
        self.calls().iter().cloned().collect()
    }

    /// Waits until the condition holds for what is kept, and returns that; an error that lists it when time is up.
    /// The condition runs under the record's lock: it must not ask the hub for anything.
    pub async fn wait_for(
        &self,
        mut condition: impl FnMut(&[Received]) -> bool,
        timeout: Duration,
    ) -> anyhow::Result<Vec<Received>> {
        // Subscribed before looking, so that no call falls between the two.
        let mut total = self.total.subscribe();
        let look = async {
            loop {
                total.borrow_and_update();
                if let Some(found) = self.look(&mut condition) {
                    break Some(found);
                }
                if total.changed().await.is_err() {
                    break None;
                }
            }
        };
        match tokio::time::timeout(timeout, look).await {
            Ok(Some(calls)) => Ok(calls),
            _ => bail!(
                "waited {timeout:?} for the hub to receive something else than\n{}",
                Listed(&self.all())
            ),
        }
    }

    /// In a function of its own, so that the lock is free while the waiter waits.
    fn look(&self, condition: &mut impl FnMut(&[Received]) -> bool) -> Option<Vec<Received>> {
        let mut calls = self.calls();
        let calls: &[Received] = calls.make_contiguous();
        condition(calls).then(|| calls.to_vec())
    }

    fn calls(&self) -> MutexGuard<'_, VecDeque<Received>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Listed<'a>(&'a [Received]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return out.write_str("nothing");
        }
        for call in self.0 {
            let id = call.event_id.as_deref().unwrap_or("-");
            writeln!(out, "{} {} {} event_id {id}: {:?}", call.at, call.method, call.path, call.answered)?;
        }
        Ok(())
    }
}
