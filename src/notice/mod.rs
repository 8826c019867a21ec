//! What each kind of destination is told. Pure: rendered once, in the transaction that opens the alert.

pub mod event;
pub mod hub;
pub mod payload;
pub mod render;
pub mod sentence;
pub mod told;
