//! What Watchbell talks about: plain values and the changes they may go through. No I/O, no SQL, no clock.

pub mod alert;
pub mod batch;
pub mod condition;
pub mod delivery;
pub mod destination;
pub mod evidence;
pub mod ids;
pub mod notification;
pub mod reading;
pub mod rule;
pub mod selector;
pub mod silence;
pub mod tenant;
