//! What a task asks its context, carried to the worker.

use ottla_plugin_abi::{Message, method, status};

use super::library;
use crate::boundary::flat::{self, Flat};
use crate::boundary::message::Received;
use crate::error::{Error, Result};
use crate::offset::{SourceOffset, SourcePartition, TopicPartition};
use crate::record::SinkRecord;
use crate::sink::{Delivery, SinkTaskHost};
use crate::source::SourceTaskHost;

/// The worker's context of this number.
pub(crate) struct Context(pub(crate) u64);

impl Context {
    fn ask<T: Flat>(&self, method: u32, request: &impl Flat) -> Result<T> {
        let body = flat::to_bytes(request);
        let mut reply = Message::EMPTY;
        let ended = (library().host.call)(self.0, method, &Message::borrowed(&body), &mut reply);
        // SAFETY: the worker keeps the contract; the answer is ours.
        let reply = unsafe { Received::new(reply) };
        match ended {
            status::OK => reply.read(),
            status::FAILED => Err(reply.read::<Error>().unwrap_or_else(|error| error)),
            _ => Err(Error::fatal(format!("the worker does not answer question {method} of a task"))),
        }
    }

    /// For what has no answer and must not fail.
    fn tell(&self, method: u32, request: &impl Flat) {
        if let Err(error) = self.ask::<()>(method, request) {
            tracing::warn!(error = %error, "the worker was told something and did not take it");
        }
    }
}

impl SourceTaskHost for Context {
    fn offset(&self, partition: &SourcePartition) -> Result<Option<SourceOffset>> {
        self.ask(method::CONTEXT_OFFSET, partition)
    }

    fn count(&self, name: &'static str, n: u64) {
        self.tell(method::CONTEXT_COUNT, &(name, n));
    }

    fn gauge(&self, name: &'static str, value: u64) {
        self.tell(method::CONTEXT_GAUGE, &(name, value));
    }
}

impl SinkTaskHost for Context {
    fn report(&self, partition: &TopicPartition, record: &SinkRecord, error: Error) -> Result<()> {
        // With schemas: the whole message, not only a body.
        let mut schemas = flat::SentSchemas::default();
        let request = crate::boundary::message::message(&(partition.clone(), record.clone(), error), &mut schemas);
        let mut reply = Message::EMPTY;
        let ended = (library().host.call)(self.0, method::CONTEXT_REPORT, &request, &mut reply);
        // SAFETY: as in `ask`.
        let reply = unsafe { Received::new(reply) };
        match ended {
            status::OK => Ok(()),
            status::FAILED => Err(reply.read::<Error>().unwrap_or_else(|error| error)),
            _ => Err(Error::fatal("the worker does not take reports of records")),
        }
    }

    fn buffered(&self, bytes: usize) {
        self.tell(method::CONTEXT_BUFFERED, &(bytes as u64));
    }

    fn rewind(&self, partition: &TopicPartition, offset: i64) {
        self.tell(method::CONTEXT_REWIND, &(partition.clone(), offset));
    }

    fn delivered(&self, delivery: Delivery) {
        self.tell(method::CONTEXT_DELIVERED, &delivery);
    }

    fn count(&self, name: &'static str, n: u64) {
        self.tell(method::CONTEXT_COUNT, &(name, n));
    }

    fn gauge(&self, name: &'static str, value: u64) {
        self.tell(method::CONTEXT_GAUGE, &(name, value));
    }

    fn topic_identity(&self, topic: &str) -> Option<String> {
        self.ask(method::CONTEXT_TOPIC_IDENTITY, &topic.to_owned()).unwrap_or_default()
    }
}
