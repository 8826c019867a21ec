//! The batch that grows while the one before it is being stored.
//!
//! Invariant: the lock is held only to move values in and to swap the whole batch out, never across I/O. A message's
//! readings are in one batch, together with its reply. It holds at most `batch_max` readings and rejects, and one push.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::Subject;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::reject::Reject;
use crate::model::reading::Reading;

/// A batch of so many readings was brought by a busy stream: the next one waits a little for more, since a transaction costs
/// as much processor time as some five hundred rows (measured). A calm stream's readings never wait.
const BUSY: usize = 200;
/// Of a busy stream: enough for a transaction not to matter.
const LARGE: usize = 4_000;
/// As long as a busy stream's readings wait for others.
const LINGER: Duration = Duration::from_millis(10);

/// What is stored, and acknowledged, together.
#[derive(Debug, Default)]
pub struct Batch {
    /// Not sorted yet; no message of these was delivered before.
    pub readings: Vec<Reading>,
    /// Readings that may be stored already: of messages delivered before, and of tenants that repeat themselves.
    pub repeats: Vec<Reading>,
    /// Inputs that were refused.
    pub rejects: Vec<Reject>,
    /// Where the broker waits for word of the messages that they come from.
    pub replies: Vec<Subject>,
    /// When the first message came.
    pub since: Option<Instant>,
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.since.is_none()
    }

    /// What takes memory and work: readings, and rejects like them.
    fn len(&self) -> usize {
        self.readings.len() + self.repeats.len() + self.rejects.len()
    }

    fn absorb(&mut self, other: Self) {
        self.readings.extend(other.readings);
        self.repeats.extend(other.repeats);
        self.rejects.extend(other.rejects);
        self.replies.extend(other.replies);
        self.since = self.since.or(other.since);
    }
}

/// The growing batch, shared by the consumer that fills it and the flusher that swaps it out.
pub struct Buffer {
    growing: Mutex<Growing>,
    changed: Notify,
    room: Notify,
    batch_size: usize,
    batch_interval: Duration,
    batch_max: usize,
}

#[derive(Default)]
struct Growing {
    batch: Batch,
    closed: bool,
    /// Whether the last batch was a large one.
    busy: bool,
}

impl Buffer {
    /// An empty buffer. A batch is ready when it has `batch_size` readings and rejects, or its first message is `batch_interval` old.
    pub fn new(batch_size: usize, batch_interval: Duration, batch_max: usize) -> Self {
        Self {
            growing: Mutex::default(),
            changed: Notify::new(),
            room: Notify::new(),
            batch_size,
            batch_interval,
            batch_max,
        }
    }

    /// Adds whole messages, when there is room.
    pub async fn push(&self, part: Batch) {
        loop {
            // Armed before the look, so that room made in between is not missed.
            let room = self.room.notified();
            {
                let mut growing = self.lock();
                if growing.batch.len() < self.batch_max {
                    growing.batch.absorb(part);
                    break;
                }
            }
            room.await;
        }
        self.changed.notify_one();
    }

    /// Adds whole messages if there is room; `false`: there is none.
    pub fn try_push(&self, part: Batch) -> bool {
        {
            let mut growing = self.lock();
            if growing.batch.len() >= self.batch_max {
                return false;
            }
            growing.batch.absorb(part);
        }
        self.changed.notify_one();
        true
    }

    /// The next batch, when one is ready. `None` when the buffer is closed and empty.
    pub async fn take(&self) -> Option<Batch> {
        loop {
            let changed = self.changed.notified();
            let wait_until = {
                let mut growing = self.lock();
                let batch = &growing.batch;
                let (size, interval) = match self.batch_interval {
                    Duration::ZERO if growing.busy => (LARGE, LINGER),
                    interval => (self.batch_size, interval),
                };
                let due = batch.since.map(|since| since + interval);
                let ready = batch.len() >= size || due.is_some_and(|due| due <= Instant::now());
                if !batch.is_empty() && (ready || growing.closed) {
                    let taken = std::mem::take(&mut growing.batch);
                    growing.busy = taken.len() >= BUSY;
                    drop(growing);
                    self.room.notify_one();
                    return Some(taken);
                }
                if growing.closed {
                    return None;
                }
                due
            };
            match wait_until {
                Some(due) => {
                    let _ = tokio::time::timeout_at(due, changed).await;
                }
                None => changed.await,
            }
        }
    }

    /// Takes whatever is there, ready or not.
    pub fn take_now(&self) -> Batch {
        let taken = std::mem::take(&mut self.lock().batch);
        self.room.notify_one();
        taken
    }

    /// No more will be pushed: what is there is taken at once.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Growing> {
        // A panic between lock and unlock leaves whole values behind: they are good to go on with.
        self.growing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
