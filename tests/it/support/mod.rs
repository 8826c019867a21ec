//! What tests stand on.

pub mod app;
pub mod bench;
pub mod command;
pub mod database;
pub mod house;
pub mod process;
pub mod proxy;
pub mod server;
pub mod wait;
