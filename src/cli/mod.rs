//! The commands.
pub mod dev_exec;
