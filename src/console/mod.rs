//! Pages for people: what is wrong now, who was told, and how it went. Server-rendered, GET only, no scripts.

pub mod alert;
pub mod chart;
pub mod delivery;
pub mod layout;
pub mod login;
pub mod overview;
pub mod server;
