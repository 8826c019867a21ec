//! What tests stand on.

pub mod app;
pub mod courier;
pub mod database;
pub mod house;
pub mod owed;
pub mod process;
pub mod proxy;
pub mod receiver;
pub mod server;
pub mod wait;
