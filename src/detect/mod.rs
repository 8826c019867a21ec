//! From readings to alerts: owed flushes are judged in memory and settled in one transaction.
//!
//! Invariants: one detector is active, by a lease whose epoch fences every transaction. A flush row exists as long as it is
//! owed: its readings' rollup, whatever fired on them and its deletion are one transaction. Memory is only ever ahead of
//! the database by what is not settled yet; on any error it is thrown away and loaded again.

pub mod conditions;
mod days;
pub mod detector;
pub mod effects;
pub mod episode;
pub mod judge;
pub mod late;
pub mod load;
pub mod memory;
pub mod owed;
pub mod rollup;
pub mod rules;
pub mod scene;
pub mod settle;
pub mod tell;
pub mod told_before;
#[cfg(test)]
mod trial;
pub mod watch;
pub mod window;
pub mod write;
