//! Is a record lost, or written twice, when a process dies at the worst moment, or comes back as a zombie?
//!
//! Every choice comes from one seed, which a failure prints. Three rounds of each by default, `OTTLA_FAULTS` of them
//! otherwise.

#![allow(clippy::print_stdout, reason = "what a test prints is shown where it fails, and with --nocapture")]

mod cluster;
mod dice;
mod embedded;
mod planted_bug;
mod source;
mod tables;
mod transactional_source;
