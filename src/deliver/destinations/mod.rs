//! What each kind of destination wants of a request, and what its answers mean. A file a kind; no I/O.

pub mod hub;
pub mod nats;
pub mod workflow_engine;
