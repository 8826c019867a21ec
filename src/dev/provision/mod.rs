//! Finds the server programs, and installs them where they are missing.
//!
//! Invariants: what is there already is used as it is; nothing is installed that starts a service or listens on a
//! port; every step that takes longer than a moment says on stderr what it does; and where nothing can be done, one
//! message says what a person should do. [`super::postgres`] and [`super::nats`] call it, and so may a command that
//! wants to know before it starts anything.

pub mod apt;
pub mod nats;
pub mod postgres;
