//! From the stream into the table: decode → validate → resolve → buffer → flush → acknowledge.
//!
//! Invariant: a message is acknowledged after the transaction that holds all of its readings, the batch that detection
//! owes a look, and its rejects has committed; never before.

pub mod acknowledge;
pub mod batcher;
pub mod broker;
pub mod buffer;
pub mod consumer;
pub mod copy;
pub mod decode;
pub mod flush;
pub mod flusher;
pub mod housekeeping;
pub mod incoming;
pub mod part;
pub mod plain;
pub mod pull;
pub mod quota;
pub mod reject;
pub mod repeaters;
pub mod resolve;
pub mod retention;
pub mod series_cache;
pub mod sorting;
pub mod stream;
pub mod validate;
pub mod watermark;
