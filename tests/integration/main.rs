//! Does it work for the person who uses it? Every test starts the binary, with files such as a user writes, and reads what a
//! user would read. One file for each thing they rely on.

#![allow(clippy::print_stdout, reason = "what a test prints is shown where it fails, and with --nocapture")]

mod airflow;
mod bad_input;
mod batch_leg;
mod batch_use;
mod both_ways;
mod broker_gone;
mod chains;
mod configuration;
mod databases;
mod dead_letters;
mod delta_readers;
mod gateway;
mod hostile_plugins;
mod kafka_connect_files;
mod metrics;
mod plugin_test;
mod questions;
mod real_rows;
mod real_services;
mod scaffold;
mod secrets;
mod state_folder;
mod stop_and_resume;
mod topics;
mod transform_trials;
mod two_legs;
