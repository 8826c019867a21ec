//! The integration tests: one binary, one file an area. They use the PostgreSQL that `DATABASE_URL` names.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that can't go on fails")]

mod access;
mod answers;
mod api;
mod architecture;
mod commands;
mod console;
mod crash;
mod delivery;
mod destinations;
mod detect;
mod deviation;
mod egress;
mod heartbeat;
mod horizon;
mod ingest;
mod isolation;
mod keys;
mod lanes;
mod outages;
mod owing;
mod pages;
mod partitions;
mod policies;
mod prove;
mod publish;
mod quotas;
mod redrive;
mod rejects;
mod resilience;
mod retention;
mod secrecy;
mod sql;
mod stream;
mod support;
mod takeover;
