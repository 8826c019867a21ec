//! What is owed: enqueued with the alert, claimed by workers, completed on the record, rescued from the dead.
//!
//! Invariants: a row is in `outbox` if and only if its notification is owed. Leaving it always writes a terminal row. The
//! fence is `(notification_id, attempts)`: `attempts` rises at every claim, so whoever lost a row matches nothing. Taking
//! a row over from somebody always writes that somebody's attempt as `unknown`. Whatever leaves releases what waits for it.

pub mod chain;
pub mod claim;
pub mod complete;
pub mod enqueue;
pub mod expire;
pub mod floors;
pub mod heartbeat;
pub mod redrive;
pub mod rescue;
pub mod retention;
pub mod turn;
pub mod vacuum;
