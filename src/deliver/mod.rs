//! From owed notifications to receivers: one attempt in, one classified outcome out, on the record.
//!
//! Invariants: at most `concurrency` requests are under way; each ends before its row's lease does; nothing is sent whose
//! row is not claimed; and an outcome is kept in memory until the database has it.

pub mod answer;
pub mod attempt;
mod connect;
pub mod destinations;
pub mod door;
mod doubt;
pub mod egress;
mod expiring;
pub mod heartbeat;
pub mod lanes;
pub mod leave;
mod metered;
pub mod outcome;
pub mod policy;
pub mod publish;
pub mod record;
pub mod requests;
pub mod secrets;
pub mod send;
pub mod signs;
mod tally;
mod turn;
pub mod worker;
