//! From judgements to episodes: a rule fires on a series when its breach has held for long enough, and is over when the series
//! was clear for long enough. Hysteresis, `m_of_n`, `for` and `resolve_after`. Pure, in the readings' own time.
//!
//! Invariant: what it says depends on the readings and their times alone, not on when it is asked. Time that has passed
//! ([`Episode::advance`]) is worked off before each reading, so that what a tick finds out early a reading finds out late.

use crate::model::alert::Decision;
use crate::model::condition::MOfN;
use crate::model::reading::UnixMicros;

/// What a rule waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timing {
    /// A breach must hold this long, in microseconds.
    pub for_micros: i64,
    /// It is over when the series was clear for this long, in microseconds.
    pub resolve_after_micros: i64,
    /// So many of the last judgements must be breaches.
    pub m_of_n: Option<MOfN>,
}

/// A judgement of a reading, without what can't be said.
#[derive(Debug, Clone, PartialEq)]
pub enum Level {
    /// It is a breach, and this decided it.
    Breach(Decision),
    /// Between the threshold and the one that clears it: it is what it was before.
    Between,
    /// It is clear.
    Clear,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The rule fires.
    Fires {
        /// When.
        at: UnixMicros,
        /// When the breach began.
        breached_at: UnixMicros,
    },
    /// The episode is over.
    Ends {
        /// When that was known.
        at: UnixMicros,
        /// Since when the series is clear.
        ended_at: UnixMicros,
    },
}

/// What a rule and series are in. The default is rest.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Episode {
    /// Beyond the threshold, or not yet back behind the one that clears it.
    pub raised: bool,
    /// The last judgements, a bit each, the newest the lowest: 1 for a breach. For `m_of_n` only.
    pub recent: u64,
    /// The breach holds since then.
    pub holds_since: Option<UnixMicros>,
    /// The rule fires, and the breach began then.
    pub fires_since: Option<UnixMicros>,
    /// It fires, and the series is clear since then.
    pub clear_since: Option<UnixMicros>,
    /// The latest breach, while the rule waits; whoever opens the alert takes it.
    pub decision: Option<Decision>,
}

impl Episode {
    /// Whether there is nothing to remember.
    pub fn is_at_rest(&self) -> bool {
        !self.raised
            && self.recent == 0
            && self.holds_since.is_none()
            && self.fires_since.is_none()
            && self.clear_since.is_none()
    }

    /// Whether the rule fires and the series is not clear.
    pub fn burns(&self) -> bool {
        self.fires_since.is_some() && self.clear_since.is_none()
    }

    /// Works off the time up to `to`, in which nothing came.
    pub fn advance(&mut self, timing: &Timing, to: UnixMicros) -> Option<Change> {
        if self.fires_since.is_none() {
            let at = after(self.holds_since?, timing.for_micros);
            return (at <= to).then(|| self.fire(at)).flatten();
        }
        let ended_at = self.clear_since?;
        let at = after(ended_at, timing.resolve_after_micros);
        (at <= to).then(|| self.end(at, ended_at))
    }

    /// Takes the judgement of a reading at `ts`. [`Self::advance`] was called for that time.
    pub fn judge(&mut self, timing: &Timing, ts: UnixMicros, level: Level) -> Option<Change> {
        match level {
            Level::Breach(decision) => {
                self.raised = true;
                // With `m_of_n` it may fire again without another breach: a value between the thresholds counts as one.
                if self.fires_since.is_none() || timing.m_of_n.is_some() {
                    self.decision = Some(decision);
                }
            }
            Level::Between => {}
            Level::Clear => self.raised = false,
        }
        let qualifies = match timing.m_of_n {
            None => self.raised,
            Some(MOfN { m, n }) => {
                self.recent = ((self.recent << 1) | u64::from(self.raised)) & ((1 << n) - 1);
                self.recent.count_ones() >= m
            }
        };
        if qualifies {
            self.clear_since = None;
            let since = *self.holds_since.get_or_insert(ts);
            let holds = self.fires_since.is_none() && after(since, timing.for_micros) <= ts;
            return if holds { self.fire(ts) } else { None };
        }
        self.holds_since = None;
        if self.fires_since.is_none() {
            if self.recent == 0 {
                self.decision = None;
            }
            return None;
        }
        let ended_at = *self.clear_since.get_or_insert(ts);
        (after(ended_at, timing.resolve_after_micros) <= ts).then(|| self.end(ts, ended_at))
    }

    fn fire(&mut self, at: UnixMicros) -> Option<Change> {
        let breached_at = self.holds_since?;
        self.fires_since = Some(breached_at);
        Some(Change::Fires { at, breached_at })
    }

    fn end(&mut self, at: UnixMicros, ended_at: UnixMicros) -> Change {
        self.fires_since = None;
        self.clear_since = None;
        if self.decision.is_none() {
            // Nothing may fire that can't say why.
            self.raised = false;
        }
        if !self.raised {
            self.decision = None;
        }
        Change::Ends { at, ended_at }
    }
}

/// `micros` later, at the latest at the end of time.
pub fn after(ts: UnixMicros, micros: i64) -> UnixMicros {
    UnixMicros(ts.0.saturating_add(micros))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::evidence::Evidence;

    fn second(n: i64) -> UnixMicros {
        UnixMicros(n * 1_000_000)
    }

    fn level(sign: char, ts: UnixMicros) -> Level {
        match sign {
            'b' => Level::Breach(Decision {
                ts,
                value: 9.0,
                evidence: Evidence::AboveThreshold { threshold: 1.0 },
            }),
            '-' => Level::Between,
            _ => Level::Clear,
        }
    }

    fn timing(for_seconds: i64, resolve_after_seconds: i64, m_of_n: Option<(u32, u32)>) -> Timing {
        Timing {
            for_micros: for_seconds * 1_000_000,
            resolve_after_micros: resolve_after_seconds * 1_000_000,
            m_of_n: m_of_n.map(|(m, n)| MOfN { m, n }),
        }
    }

    fn note(changes: &mut Vec<(char, i64)>, change: Option<Change>) {
        changes.extend(change.map(|change| match change {
            Change::Fires { at, .. } => ('f', at.0 / 1_000_000),
            Change::Ends { at, .. } => ('e', at.0 / 1_000_000),
        }));
    }

    /// What readings a second apart lead to; a space is a second without one.
    fn run(timing: &Timing, signs: &str) -> Vec<(char, i64)> {
        let (mut episode, mut changes) = (Episode::default(), Vec::new());
        for (n, sign) in signs.chars().enumerate() {
            let ts = second(n as i64);
            note(&mut changes, episode.advance(timing, ts));
            if sign != ' ' {
                note(&mut changes, episode.judge(timing, ts, level(sign, ts)));
            }
        }
        changes
    }

    #[test]
    fn a_table_of_what_leads_to_what() {
        type Case = (Timing, &'static str, &'static [(char, i64)]);
        let cases: &[Case] = &[
            (timing(0, 0, None), "ccbbcc", &[('f', 2), ('e', 4)]),
            (timing(0, 0, None), "bcbc", &[('f', 0), ('e', 1), ('f', 2), ('e', 3)]),
            // Between the thresholds nothing changes, whichever side it came from.
            (timing(0, 0, None), "c-b--c-", &[('f', 2), ('e', 5)]),
            // For three seconds: a gap does not end it, a clear reading does.
            (timing(3, 0, None), "bbcbbbb", &[('f', 6)]),
            (timing(3, 0, None), "b    c", &[('f', 3), ('e', 5)]),
            (timing(3, 0, None), "b  c", &[('f', 3), ('e', 3)]),
            (timing(3, 0, None), "b c", &[]),
            // Clear for two seconds before it is over; a breach in between and it goes on.
            (timing(0, 2, None), "bcbc c", &[('f', 0), ('e', 5)]),
            (timing(0, 2, None), "bc    b", &[('f', 0), ('e', 3), ('f', 6)]),
            // Two of three.
            (timing(0, 0, Some((2, 3))), "bcbccc", &[('f', 2), ('e', 3)]),
            (timing(0, 0, Some((2, 3))), "bccbcc", &[]),
            (timing(0, 0, Some((3, 3))), "bbcbbb", &[('f', 5)]),
            (timing(2, 0, Some((2, 3))), "bb   ", &[('f', 3)]),
        ];
        for (timing, signs, expected) in cases {
            assert_eq!(run(timing, signs), *expected, "{timing:?} {signs:?}");
        }
    }

    #[test]
    fn an_episode_begins_where_its_breach_began() {
        let timing = timing(3, 0, None);
        let mut episode = Episode::default();
        let _ = episode.judge(&timing, second(10), level('b', second(10)));
        let fires = episode.advance(&timing, second(60));
        assert_eq!(fires, Some(Change::Fires { at: second(13), breached_at: second(10) }));
        assert!(episode.burns());
        assert_eq!(episode.decision.take().map(|decision| decision.ts), Some(second(10)));
        let ends = episode.judge(&timing, second(61), level('c', second(61)));
        assert_eq!(ends, Some(Change::Ends { at: second(61), ended_at: second(61) }));
        assert!(episode.is_at_rest());
    }

    proptest! {
        /// However often somebody looks in between, the same comes of the same readings.
        #[test]
        fn looking_more_often_changes_nothing(
            steps in prop::collection::vec((1_i64..40, prop::sample::select(vec!['b', '-', 'c'])), 1..60),
            for_seconds in 0_i64..60,
            resolve_after in 0_i64..60,
            m_of_n in prop::option::of((1_u32..4, 4_u32..7)),
        ) {
            let timing = timing(for_seconds, resolve_after, m_of_n);
            let (mut seldom, mut often) = (Episode::default(), Episode::default());
            let (mut seldom_saw, mut often_saw) = (Vec::new(), Vec::new());
            let mut now = 0;
            for (seconds, sign) in steps {
                for tick in now..now + seconds {
                    note(&mut often_saw, often.advance(&timing, second(tick)));
                }
                now += seconds;
                for (episode, saw) in [(&mut seldom, &mut seldom_saw), (&mut often, &mut often_saw)] {
                    note(saw, episode.advance(&timing, second(now)));
                    note(saw, episode.judge(&timing, second(now), level(sign, second(now))));
                }
            }
            prop_assert_eq!(&seldom_saw, &often_saw);
            prop_assert_eq!(seldom, often);
            // It fires and ends in turns.
            let turns: String = seldom_saw.iter().map(|(change, _)| *change).collect();
            prop_assert!(!turns.contains("ff") && !turns.contains("ee"), "{}", turns);
        }
    }
}
