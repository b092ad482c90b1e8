//! The worker: runs what the contract in `ottla-api` describes.
//!
//! # Code map
//!
//! | Module | Holds |
//! |---|---|
//! | [`worker`] | starts connectors and tasks, restarts what fails, stops in order |
//! | [`task`] | the two record paths |
//! | [`errors`] | what follows from a record's failure; pauses between tries |
//! | [`status`], [`metrics`] | what is, and who may look at it |
//! | [`config`] | from files to a checked configuration |
//! | [`plugins`] | finding and making plugins by name |
//! | [`broker`] | topics: a Kafka cluster, or the embedded ones |
//! | [`storage`] | the worker's own state folder |
//! | [`topics`] | looking into topics and writing to them from outside |
//! | [`trial`] | records through a chain without a broker, and tests of chains as data |
//!
//! # The two record paths
//!
//! - source: `poll` > transformations > converters > produce > acknowledge > commit source offset
//! - sink: consume > converters > transformations > `put` > durable > commit consumer offset

pub mod broker;
pub mod config;
pub mod errors;
pub mod metrics;
pub mod plugins;
pub mod status;
pub mod storage;
pub mod task;
pub mod topics;
pub mod trial;
pub mod worker;
