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
    /// What an attempt without an answer means for this receiver.
    pub silence: Silence,
    /// How long the destination is held when it refuses us as a whole.
    pub hold: Duration,
}

/// What it means that the bytes may have gone out and no answer came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Silence {
    /// The receiver drops repeats: sending again does no harm.
    Repeat,
    /// It does not: whether it arrived is `ambiguous`. Sent again all the same.
    AmbiguousRepeat,
    /// It does not, and its owner wants no repeat: a person decides.
    AmbiguousEnd,
}

/// Of an answer; `status` is for the reason of death.
pub fn of_answer(verdict: &Verdict, status: u16, context: Context<'_>) -> Outcome {
    match verdict {
        Verdict::Delivered => Outcome::Delivered,
        Verdict::Retry { not_before } => retry(context, *not_before, &format!("last answer {status}")),
        Verdict::Hold => hold(context, &format!("last answer {status}")),
        // Until a person lets it go on.
        Verdict::Park => Outcome::Hold { after: Duration::ZERO },
        Verdict::Dead => Outcome::Dead { reason: format!("the receiver refused it for good: {status}") },
    }
}

/// Of no answer.
pub fn of_error(error: &SendError, context: Context<'_>) -> Outcome {
    let outcome = retry(context, None, &error.to_string());
    if !error.may_have_arrived() {
        return outcome;
    }
    match (context.silence, outcome) {
        (Silence::AmbiguousRepeat, Outcome::Retry { after }) => Outcome::Ambiguous { after },
        (Silence::AmbiguousEnd, _) => {
            Outcome::Dead { reason: format!("ambiguous: it may have arrived; {error}") }
        }
        (_, outcome) => outcome,
    }
}

fn retry(context: Context<'_>, not_before: Option<Duration>, last: &str) -> Outcome {
    let attempt = u32::try_from(context.attempt).unwrap_or(1);
    match context.policy.next(attempt, context.chance, not_before, context.owed) {
        Some(after) => Outcome::Retry { after },
        None => too_late(context, last),
    }
}

/// When the hold is over, others find out first whether it is still refused: what is wrong may be in this one alone, and it would hold
/// them up for ever. From then on it waits as after any failure.
fn hold(context: Context<'_>, last: &str) -> Outcome {
    let attempt = u32::try_from(context.attempt).unwrap_or(1);
    match context.policy.next(attempt, context.chance, None, context.owed) {
        Some(after) => Outcome::Hold { after: context.hold + after },
        None => too_late(context, last),
    }
}

fn too_late(context: Context<'_>, last: &str) -> Outcome {
    Outcome::Dead { reason: format!("not delivered within {} s; {last}", context.policy.horizon_seconds) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> RetryPolicy {
        RetryPolicy {
            first_delay_ms: 1000,
            factor: 2.0,
            max_delay_ms: 8000,
            jitter: 0.0,
            horizon_seconds: 10,
        }
    }

    #[test]
    fn an_attempt_past_the_horizon_is_the_last() {
        let policy = policy();
        let context = |owed| Context {
            policy: &policy,
            attempt: 2,
            owed: Duration::from_secs(owed),
            chance: 0.0,
            silence: Silence::Repeat,
            hold: Duration::from_secs(60),
        };
        let retry = Verdict::Retry { not_before: None };
        assert_eq!(of_answer(&retry, 503, context(3)), Outcome::Retry { after: Duration::from_secs(2) });
        let dead = Outcome::Dead { reason: "not delivered within 10 s; last answer 503".to_owned() };
        assert_eq!(of_answer(&retry, 503, context(10)), dead);
        assert_eq!(of_answer(&Verdict::Delivered, 200, context(11)), Outcome::Delivered);
        let held = Outcome::Hold { after: Duration::from_secs(60 + 2) };
        assert_eq!(of_answer(&Verdict::Hold, 403, context(3)), held);
        let dead = Outcome::Dead { reason: "not delivered within 10 s; last answer 403".to_owned() };
        assert_eq!(of_answer(&Verdict::Hold, 403, context(10)), dead);
        let parked = Outcome::Hold { after: Duration::ZERO };
        assert_eq!(of_answer(&Verdict::Park, 410, context(11)), parked);
    }

    #[test]
    fn silence_is_ambiguous_where_repeats_do_harm_and_only_if_it_may_have_arrived() {
        let policy = policy();
        let of = |error: &SendError, silence, owed| {
            let owed = Duration::from_secs(owed);
            let hold = Duration::ZERO;
            of_error(error, Context { policy: &policy, attempt: 1, owed, chance: 0.0, silence, hold })
        };
        let after = Duration::from_secs(1);
        let timeout = SendError::Timeout(Duration::from_secs(5));
        let refused = SendError::Connect("refused".to_owned());
        assert_eq!(of(&timeout, Silence::Repeat, 0), Outcome::Retry { after });
        assert_eq!(of(&timeout, Silence::AmbiguousRepeat, 0), Outcome::Ambiguous { after });
        assert!(matches!(of(&timeout, Silence::AmbiguousRepeat, 10), Outcome::Dead { .. }));
        assert!(matches!(of(&timeout, Silence::AmbiguousEnd, 0), Outcome::Dead { .. }));
        for silence in [Silence::Repeat, Silence::AmbiguousRepeat, Silence::AmbiguousEnd] {
            assert_eq!(of(&refused, silence, 0), Outcome::Retry { after });
        }
    }
}
