//! From an answer, or none, to the outcome of an attempt. Pure: time and chance are given.

use std::time::Duration;

use super::answer::Verdict;
use super::send::SendError;
use crate::model::delivery::Outcome;
use crate::retry::RetryPolicy;

/// What the outcome needs to know of the attempt.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// Of the destination.
    pub policy: &'a RetryPolicy,
    /// 1 for the first.
    pub attempt: i32,
    /// Since it was first owed, without the time for which its destination was held.
    pub owed: Duration,
    /// A random number in 0..1.
    pub chance: f64,
}

/// Of an answer; `status` is for the reason of death.
pub fn of_answer(verdict: &Verdict, status: u16, context: Context<'_>) -> Outcome {
    match verdict {
        Verdict::Delivered => Outcome::Delivered,
        Verdict::Retry { not_before } => retry(context, *not_before, &format!("last answer {status}")),
        Verdict::Hold | Verdict::Park => Outcome::Hold,
        Verdict::Dead => Outcome::Dead { reason: format!("the receiver refused it for good: {status}") },
    }
}

/// Of no answer.
pub fn of_error(error: &SendError, context: Context<'_>) -> Outcome {
    retry(context, None, &error.to_string())
}

fn retry(context: Context<'_>, not_before: Option<Duration>, last: &str) -> Outcome {
    let attempt = u32::try_from(context.attempt).unwrap_or(1);
    match context.policy.next(attempt, context.chance, not_before, context.owed) {
        Some(after) => Outcome::Retry { after },
        None => Outcome::Dead {
            reason: format!("not delivered within {} s; {last}", context.policy.horizon_seconds),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_past_the_horizon_is_the_last() {
        let policy = RetryPolicy {
            first_delay_ms: 1000,
            factor: 2.0,
            max_delay_ms: 8000,
            jitter: 0.0,
            horizon_seconds: 10,
        };
        let context =
            |owed| Context { policy: &policy, attempt: 2, owed: Duration::from_secs(owed), chance: 0.0 };
        let retry = Verdict::Retry { not_before: None };
        assert_eq!(of_answer(&retry, 503, context(3)), Outcome::Retry { after: Duration::from_secs(2) });
        let dead = Outcome::Dead { reason: "not delivered within 10 s; last answer 503".to_owned() };
        assert_eq!(of_answer(&retry, 503, context(10)), dead);
        assert_eq!(of_answer(&Verdict::Delivered, 200, context(11)), Outcome::Delivered);
    }
}
