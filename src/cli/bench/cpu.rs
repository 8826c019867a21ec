//! Processor time of processes and their children, from /proc.

use std::collections::HashMap;
use std::time::Duration;

/// Microseconds of a tick of /proc/PID/stat: `USER_HZ` is 100 on every Linux that we know (proc(5)).
const TICK_MICROS: u64 = 10_000;

/// A process as /proc/PID/stat has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    parent: u32,
    /// Its own, in ticks.
    own: u64,
    /// That of children which have ended.
    ended_children: u64,
}

/// Processor time that a process and its children, ended ones too, have used so far, in microseconds.
pub fn of_tree(root: u32) -> u64 {
    let mut stats = HashMap::new();
    let Ok(entries) = std::fs::read_dir("/proc") else { return 0 };
    for pid in entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()) {
        if let Some(stat) =
            std::fs::read_to_string(format!("/proc/{pid}/stat")).ok().and_then(|text| parse(&text))
        {
            stats.insert(pid, stat);
        }
    }
    let is_in_tree = |pid: u32, stat: &Stat| pid == root || stat.parent == root;
    let tree = stats.iter().filter(|(pid, stat)| is_in_tree(**pid, stat));
    tree.map(|(_, stat)| stat.own + stat.ended_children).sum::<u64>() * TICK_MICROS
}

/// The same of a process without its children.
pub fn of_one(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok().and_then(|text| parse(&text));
    stat.map_or(0, |stat| stat.own) * TICK_MICROS
}

/// Processor time of the thread that asks, up to now; `None` if the kernel does not tell.
pub fn of_this_thread() -> Option<Duration> {
    // The kernel brings its books up to date when a thread gives way, and at ticks else.
    std::thread::yield_now();
    // Nanoseconds on a processor, nanoseconds waiting, turns (Documentation/scheduler/sched-stats in the kernel's source).
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

/// `pid (name) state ppid .. utime stime cutime cstime ..`; the name may hold anything, parentheses too.
fn parse(stat: &str) -> Option<Stat> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |place: usize| fields.get(place)?.parse::<u64>().ok();
    Some(Stat {
        parent: fields.get(1)?.parse().ok()?,
        own: number(11)? + number(12)?,
        ended_children: number(13)? + number(14)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let text = "42 (a) b (c) S 7 42 42 0 -1 4194560 1 2 3 4 500 60 7 1 20 0 1 0 99 1 2";
        assert_eq!(parse(text), Some(Stat { parent: 7, own: 560, ended_children: 8 }));
        assert_eq!(parse("nothing"), None);
    }

    #[test]
    fn a_thread_that_works_is_seen_by_the_microsecond_and_one_that_waits_is_not() {
        let before = of_this_thread().unwrap();
        std::sync::mpsc::channel::<()>().1.recv_timeout(Duration::from_millis(50)).unwrap_err();
        let waited = of_this_thread().unwrap() - before;
        assert!(waited < Duration::from_millis(25), "{waited:?}");
        let (start, mut x) = (std::time::Instant::now(), 1_u64);
        while of_this_thread().unwrap() < before + waited + Duration::from_millis(5) {
            x = x.wrapping_mul(31);
            assert!(start.elapsed().as_secs() < 60, "{x}");
        }
    }

    #[test]
    fn what_we_use_ourselves_is_seen() {
        let before = of_one(std::process::id());
        let start = std::time::Instant::now();
        let mut x = 1_u64;
        while of_one(std::process::id()) < before + 2 * TICK_MICROS {
            x = x.wrapping_mul(31);
            assert!(start.elapsed().as_secs() < 60, "{x}");
        }
    }
}
