//! map
#![allow(missing_docs)]
pub mod dev;
