//! What tests stand on.

pub mod app;
pub mod bench;
pub mod churn;
pub mod command;
pub mod courier;
pub mod database;
pub mod faults;
pub mod heard;
pub mod house;
pub mod http2;
pub mod keeper;
pub mod ledger;
pub mod load;
pub mod owed;
pub mod process;
pub mod proxy;
pub mod receiver;
pub mod sameness;
pub mod server;
pub mod tls;
pub mod wait;
