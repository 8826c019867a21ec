//! The integration tests: one binary, one file an area. They use the PostgreSQL that `DATABASE_URL` names.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that can't go on fails")]

mod access;
mod api;
mod console;
mod deviation;
mod isolation;
mod keys;
mod pages;
mod publish;
mod redrive;
mod support;
