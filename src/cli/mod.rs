//! The commands: one file a subcommand.

pub mod actor;
pub mod alerts;
pub mod bench;
pub mod command;
pub mod deliveries;
pub mod dev_demo;
pub mod dev_exec;
pub mod dev_up;
pub mod devices;
pub mod json_input;
pub mod keys;
pub mod migrate;
pub mod proc;
pub mod prove;
pub mod publish;
pub mod readings;
pub mod redrive;
pub mod rule_test;
pub mod rules;
pub mod serve;
pub mod silences;
pub mod simulate;
pub mod table;
pub mod tenants;
pub mod verify;
pub mod whose;
