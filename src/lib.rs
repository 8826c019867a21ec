//! Watchbell takes sensor readings in, finds what is wrong in them, and makes sure the people on call are told.
//!
//! ```text
//!  sensors ──NATS JetStream──▶ ingest ──▶ detect ──▶ outbox ──▶ deliver ──▶ hub
//!                                 │          │          │          │
//!                             readings   readings_1m  notifications  delivery_attempts ──▶ api · console · audit
//!                             + flushes  alerts       + outbox
//!                             (one tx)   └────(one tx)────┘
//! ```
//!
//! A room imports only rooms below it; `tests/it/architecture.rs` holds the order.

pub mod api;
pub mod cli;
pub mod config;
pub mod console;
pub mod db;
pub mod dev;
pub mod model;
pub mod retry;
pub mod telemetry;
