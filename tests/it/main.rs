//! The integration tests: one binary, one file an area. They use the PostgreSQL that `DATABASE_URL` names.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that can't go on fails")]

mod access;
mod answers;
mod api;
mod console;
mod crash;
mod delivery;
mod egress;
mod heartbeat;
mod horizon;
mod isolation;
mod keys;
mod lanes;
mod owing;
mod pages;
mod secrecy;
mod support;
