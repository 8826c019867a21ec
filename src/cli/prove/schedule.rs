//! When which process is killed or paused. Pure: the seed decides.

use std::time::Duration;

use super::random::Random;

/// How many processes run at once.
pub const PROCESSES: usize = 2;

/// What happens to a process.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault {
    /// SIGKILL, and started again.
    Kill,
    /// SIGSTOP, and SIGCONT after this long: longer than any lease is valid.
    Pause(Duration),
}

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Event {
    /// After the start.
    pub at: Duration,
    /// Which process.
    pub process: usize,
    /// What happens to it.
    pub fault: Fault,
}

/// The faults of a run that lasts so long.
pub fn schedule(seed: u64, length: Duration) -> Vec<Event> {
    let mut random = Random::new(seed, "faults");
    let mut events: Vec<Event> = Vec::new();
    let mut at = random.between(1.5, 4.0);
    let mut paused_until = [0.0; PROCESSES];
    while at < length.as_secs_f64() {
        // A short run has one pause at least.
        let pauses = random.chance(0.35) || events.len() == 1;
        let pause = Duration::from_secs_f64(random.between(3.5, 7.0));
        let drawn = random.below(PROCESSES);
        // Who is paused wakes up again, and finds what was done without it.
        let awake =
            (0..PROCESSES).map(|place| (drawn + place) % PROCESSES).find(|place| paused_until[*place] < at);
        if let Some(process) = awake {
            if pauses {
                paused_until[process] = at + pause.as_secs_f64() + 0.5;
            }
            let fault = if pauses { Fault::Pause(pause) } else { Fault::Kill };
            events.push(Event { at: Duration::from_secs_f64(at), process, fault });
        }
        at += random.between(1.5, 4.5);
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_schedule_with_kills_and_pauses_of_both_processes() {
        let minute = Duration::from_secs(60);
        let events = schedule(7, minute);
        assert_eq!(events, schedule(7, minute));
        assert_ne!(events, schedule(8, minute));
        assert!((12..=40).contains(&events.len()), "{events:?}");
        assert!(events.iter().all(|event| event.at < minute));
        assert!(events.iter().any(|event| matches!(event.fault, Fault::Pause(_))));
        assert!((0..PROCESSES).all(|process| {
            events.iter().any(|event| event.process == process && event.fault == Fault::Kill)
        }));
    }

    #[test]
    fn a_longer_run_begins_like_a_shorter_one() {
        let short = schedule(7, Duration::from_secs(20));
        assert_eq!(schedule(7, Duration::from_secs(60))[..short.len()], short);
    }
}
