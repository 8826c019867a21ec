//! The commands: one file a subcommand.

pub mod actor;
pub mod keys;
