//! Watchbell takes sensor readings in, finds what is wrong in them, and makes sure the people on call are told.
//!
//! ```text
//!  sensors ──NATS JetStream──▶ ingest ──▶ detect ──▶ outbox ──▶ deliver ──▶ hub · engine · NATS
//!                                 │          │          │          │
//!                             readings   readings_1m  notifications  delivery_attempts ──▶ api · console · audit
//!                             + flushes  alerts       + outbox
//!                             (one tx)   └────(one tx)────┘
//! ```
//!
//! A room imports only rooms below it, in this order; `tests/it/architecture.rs` holds it.

pub mod cli;

pub mod runtime;

pub mod console;

pub mod api;

pub mod audit;

pub mod deliver;

pub mod detect;

pub mod ingest;

pub mod outbox;

pub mod notice;

pub mod model;

pub mod db;

pub mod config;

pub mod retry;

pub mod telemetry;

pub mod dev;
