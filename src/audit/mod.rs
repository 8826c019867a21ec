//! Answers for auditors. Nothing here is on the way of a reading or a page.

pub mod episodes;
pub mod verify;
