//! How to prove a connector right in ten lines.
//!
//! The contract in `ottla_api` says what the runtime relies on; the suites in here check it, for any connector, over public
//! items only. A connector's test tells a suite how to make a task and how to read the destination back; the suite makes
//! dozens of tasks, stops, drops, crashes and resumes them at every place, and compares whole records.
//!
//! ```
//! # use std::sync::{Arc, Mutex};
//! # use async_trait::async_trait;
//! # use ottla_api::prelude::*;
//! # struct Counter { next: i64 }
//! # impl Counter {
//! #     fn new() -> Self { Self { next: 0 } }
//! # }
//! # fn number(n: i64) -> Record { Record::new("numbers", n) }
//! # #[async_trait]
//! # impl SourceTask for Counter {
//! #     async fn start(&mut self, context: &SourceTaskContext) -> Result<()> {
//! #         let last = context.offset(&SourcePartition::new([("counter", "0")]))?;
//! #         self.next = last.and_then(|offset| offset.get_i64("last")).map_or(0, |last| last + 1);
//! #         Ok(())
//! #     }
//! #     async fn poll(&mut self) -> Result<SourcePoll> {
//! #         if self.next == 10 { return Ok(SourcePoll::Finished) }
//! #         let (partition, offset) = (SourcePartition::new([("counter", "0")]), SourceOffset::new([("last", self.next)]));
//! #         self.next += 1;
//! #         Ok(SourcePoll::Records(vec![SourceRecord::new(number(self.next - 1), partition, offset)]))
//! #     }
//! # }
//! # #[derive(Default)]
//! # struct Memory { values: Vec<String>, positions: Positions }
//! # static DESTINATIONS: Mutex<std::collections::BTreeMap<String, Arc<Mutex<Memory>>>> = Mutex::new(std::collections::BTreeMap::new());
//! # fn destination(name: &str) -> Arc<Mutex<Memory>> { DESTINATIONS.lock().unwrap().entry(name.to_owned()).or_default().clone() }
//! # struct Writer(Arc<Mutex<Memory>>, Positions);
//! # #[async_trait]
//! # impl SinkTask for Writer {
//! #     async fn start(&mut self, _context: &SinkTaskContext) -> Result<()> { Ok(()) }
//! #     async fn open(&mut self, committed: &Positions) -> Result<Positions> {
//! #         let position = |p| *self.0.lock().unwrap().positions.get(p).unwrap_or(&0);
//! #         self.1.extend(committed.keys().map(|p| (p.clone(), position(p))));
//! #         Ok(self.1.iter().filter(|(p, _)| committed.contains_key(p)).map(|(p, n)| (p.clone(), *n)).collect())
//! #     }
//! #     async fn put(&mut self, batch: &SinkBatch) -> Result<()> {
//! #         let mut memory = self.0.lock().unwrap();
//! #         for record in batch.records_from(self.1[&batch.partition]) {
//! #             let mut text = Vec::new();
//! #             record.record.value.write_json(&Default::default(), &mut text);
//! #             memory.values.push(String::from_utf8(text).unwrap());
//! #         }
//! #         memory.positions.insert(batch.partition.clone(), batch.next_offset);
//! #         self.1.insert(batch.partition.clone(), batch.next_offset);
//! #         Ok(())
//! #     }
//! #     async fn flush(&mut self, _reason: FlushReason) -> Result<Positions> { Ok(self.1.clone()) }
//! #     async fn close(&mut self, closed: &[TopicPartition], _reason: CloseReason) -> Result<()> {
//! #         self.1.retain(|partition, _| !closed.contains(partition));
//! #         Ok(())
//! #     }
//! # }
//! use ottla_testkit::{sink_suite::SinkSuite, source_suite::SourceSuite};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! SourceSuite::new(10, || Box::new(Counter::new())) // ten records in all
//!     .expecting((0..10).map(number).collect()) // these, whole
//!     .bounded() // then it ends
//!     .run()
//!     .await;
//!
//! SinkSuite::new(
//!     |name| Box::new(Writer(destination(name), Positions::new())), // a fresh task over the destination of this name
//!     |name| async move { destination(&name).lock().unwrap().values.clone() }, // what its user sees there
//! )
//! .run()
//! .await;
//! # });
//! ```
//!
//! A connector whose calls to its system can be made to fail (a client behind a trait, a server in the test) passes a
//! [`Fault`](fault::Fault) through, with `.faulty(..)`: the suites then break every single call, one after the other.
//!
//! # Where to read on
//!
//! | Module | Checks |
//! |---|---|
//! | [`source_suite`], [`sink_suite`] | the two kinds of task |
//! | [`transformation_suite`], [`predicate_suite`], [`converter_suite`], [`config_provider_suite`] | the other kinds of plugins |
//! | [`plugin_suite`], [`config_suite`] | names, documentation, options, defaults, secrets: what every plugin says of itself |
//! | [`rule`] | the promises of a suite by name, one by one |
//! | [`harness`] | drives one task by hand, for a connector's own tests |
//! | [`fault`] | fails the n-th call, from a seed |
//!
//! Every suite has one shape: it is built from what makes the plugin and what the test knows, `run()` checks every rule, and each
//! rule is a method of its own; the table at the head of a suite's file lists them. `ottla plugin test` runs the same suites over
//! a library or what is built in, with what a file says. The suites see a plugin through the traits of `ottla_api` alone and share
//! no memory with it, so a task behind the boundary of a library is checked as one beside the suite is; only faults need code
//! in the same process.

pub mod config_provider_suite;
pub mod config_suite;
pub mod converter_suite;
pub mod fault;
pub mod harness;
pub mod plugin_suite;
pub mod predicate_suite;
pub mod rule;
pub mod sink_suite;
pub mod source_suite;
pub mod transformation_suite;
