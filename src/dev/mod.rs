//! Private PostgreSQL and NATS servers, and a demo notification hub, for development and tests.
//!
//! Owns everything that `watchbell dev ...` and the integration tests start beside the service itself. The
//! invariant of the room: it starts only what is its own (own data directory, loopback only, a free port), it
//! stops only what it started, and nothing of it outlives the process that started it. It is the bottom room:
//! it imports no other room of the crate. `cli` and `tests/it` call it; the service never does.
//!
//! Top down: [`provision`] finds or installs the programs, [`state`] and [`scratch`] say where their data is,
//! [`user`] under which account they run, [`process`] starts and stops them, [`postgres`] and [`nats`] know
//! what each of the two needs, and [`hub`] is the receiver that a demo and the tests deliver to.

pub mod hub;
pub mod nats;
pub mod port;
pub mod postgres;
pub mod process;
pub mod provision;
pub mod scratch;
pub mod state;
pub mod token;
pub mod user;
