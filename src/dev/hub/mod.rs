//! A demo notification hub: a receiver that behaves as the real one's contract says, and as a test tells it to.
//!
//! `watchbell dev up` delivers to it, and so do the integration tests. [`rules`] is the contract, purely: what a hub
//! answers to a call, and [`engine`] that of a workflow engine, which may stand in the hub's place. [`answer`] is what may be answered, by the rules or against them. [`record`] keeps what came
//! in. [`server`] puts the three behind a port, on connections that it can cut ([`wire`]).

pub mod answer;
pub mod contract;
pub mod engine;
pub mod record;
pub mod rules;
pub mod server;
pub mod wire;

pub use answer::{Answer, Reply};
pub use record::{Answered, Received};
pub use server::{Hub, HubOptions};
