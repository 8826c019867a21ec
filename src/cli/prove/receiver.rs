//! How the hub misbehaves: a seeded mix of acceptance, errors, 429 and silence.

use std::time::Duration;

use super::random::Random;
use crate::dev::hub::Answer;
use crate::dev::hub::server::Hub;

/// Answers that lie ready: far more than come in between two looks.
const AHEAD: u64 = 2_000;

/// Decides what the hub answers.
pub struct Mood {
    random: Random,
    queued: u64,
}

impl Mood {
    /// The seed decides.
    pub fn new(seed: u64) -> Self {
        Self { random: Random::new(seed, "receiver"), queued: 0 }
    }

    /// Lays answers ready.
    pub fn keep_up(&mut self, hub: &Hub) {
        while self.queued < hub.total() + AHEAD {
            hub.push_answer(self.answer());
            self.queued += 1;
        }
    }

    fn answer(&mut self) -> Answer {
        match self.random.unit() {
            ..0.35 => Answer::ByTheRules,
            // Taken, and answered so late that a kill or a pause may come in between.
            ..0.55 => Answer::Slow(Duration::from_secs_f64(self.random.between(0.1, 1.8))),
            ..0.75 => Answer::status(500),
            ..0.85 => Answer::too_many_requests("1"),
            _ => Answer::Hang,
        }
    }
}
