//! The integration tests: one binary, one file an area. They use the PostgreSQL that `DATABASE_URL` names.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that can't go on fails")]

mod access;
mod api;
mod architecture;
mod commands;
mod console;
mod detect;
mod deviation;
mod ingest;
mod isolation;
mod keys;
mod outages;
mod pages;
mod redrive;
mod rejects;
mod sql;
mod stream;
mod support;
