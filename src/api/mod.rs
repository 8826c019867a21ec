//! HTTP for programs: what was found, who was told, and whether this process is well. It answers one tenant at a time.
//! Readings that are handed in go to the broker.

pub mod actor;
pub mod alert_change;
pub mod alert_store;
pub mod alerts;
pub mod auth;
pub mod body;
pub mod by_hand;
pub mod deliveries;
pub mod device_store;
pub mod devices;
pub mod explain;
pub mod health;
pub mod json_body;
pub mod key;
pub mod key_store;
pub mod member;
pub mod parameters;
pub mod problem;
pub mod readings;
pub mod redrive;
pub mod rule_draft;
pub mod rule_store;
pub mod rule_test;
pub mod rules;
pub mod scope;
pub mod server;
pub mod silence_store;
pub mod silences;
pub mod state;
pub mod tenant_store;
pub mod trial;
