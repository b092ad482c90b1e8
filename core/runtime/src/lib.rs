//! The worker: runs what the contract in `ottla-api` describes.
//!
//! # Code map
//!
//! | Module | Holds |
//! |---|---|
//! | [`config`] | from files to a checked configuration |
//! | [`plugins`] | finding and making plugins by name |
//! | [`broker`] | topics: a Kafka cluster, or the embedded ones |
//! | [`storage`] | the worker's own state folder |
//! | [`topics`] | looking into topics and writing to them from outside |
//!
//! # The two record paths
//!
//! - source: `poll` > transformations > converters > produce > acknowledge > commit source offset
//! - sink: consume > converters > transformations > `put` > durable > commit consumer offset

pub mod broker;
pub mod config;
pub mod plugins;
pub mod storage;
pub mod topics;
