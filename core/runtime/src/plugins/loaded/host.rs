//! What a library may ask of the worker: a task's context, and the log.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use ottla_api::boundary::abi::{ABI_MAJOR, ABI_MINOR, Host, Message, Slice, method, status};
use ottla_api::boundary::flat::ReceivedSchemas;
use ottla_api::boundary::message::{self, Received};
use ottla_api::offset::{SourcePartition, TopicPartition};
use ottla_api::record::SinkRecord;
use ottla_api::sink::{Delivery, SinkTaskContext};
use ottla_api::source::SourceTaskContext;
use ottla_api::{Error, Result};
use parking_lot::Mutex;
use tracing::level_filters::LevelFilter;
use tracing::{debug, error, info, trace, warn};

use super::calls;

/// What every library is given.
pub(super) static HOST: Host =
    Host { size: size_of::<Host>() as u32, abi_major: ABI_MAJOR, abi_minor: ABI_MINOR, done, call, log };

/// The most detailed level that anybody wants to see, as libraries count them.
pub(super) fn log_level() -> u32 {
    match LevelFilter::current() {
        LevelFilter::OFF => 0,
        LevelFilter::ERROR => 1,
        LevelFilter::WARN => 2,
        LevelFilter::INFO => 3,
        LevelFilter::DEBUG => 4,
        LevelFilter::TRACE => 5,
    }
}

/// The context of a task in a library.
#[derive(Clone)]
pub(super) enum Context {
    Source(SourceTaskContext),
    Sink(SinkTaskContext),
}

static CONTEXTS: LazyLock<Mutex<HashMap<u64, Context>>> = LazyLock::new(Mutex::default);
static NEXT: AtomicU64 = AtomicU64::new(1);

/// A context's number for as long as this is kept. A library that goes on using it afterwards is told that it is gone.
pub(super) struct ContextNumber(pub(super) u64);

impl ContextNumber {
    pub(super) fn new(context: Context) -> Self {
        let number = NEXT.fetch_add(1, Relaxed);
        CONTEXTS.lock().insert(number, context);
        Self(number)
    }
}

impl Drop for ContextNumber {
    fn drop(&mut self) {
        CONTEXTS.lock().remove(&self.0);
    }
}

extern "C" fn done(ticket: u64, status: i32, reply: *const Message) {
    let _ = catch_unwind(|| calls::done(ticket, status, reply));
}

extern "C" fn call(context: u64, method: u32, request: *const Message, reply: *mut Message) -> i32 {
    // SAFETY: by contract both may be used until the return, and the request is ours to release.
    let (request, reply) = unsafe { (Received::new(*request), &mut *reply) };
    let (ended, message) = match catch_unwind(AssertUnwindSafe(|| answer(context, method, &request))) {
        Ok(Ok(Some(message))) => (status::OK, message),
        Ok(Ok(None)) => (status::UNKNOWN_METHOD, Message::EMPTY),
        Ok(Err(error)) => (status::FAILED, message::plain(&error)),
        Err(_) => (status::PANICKED, message::plain(&"the worker panicked".to_owned())),
    };
    *reply = message;
    ended
}

fn answer(context: u64, method: u32, request: &Received) -> Result<Option<Message>> {
    let context = CONTEXTS.lock().get(&context).cloned();
    let context = context.ok_or_else(|| Error::fatal("the task's context is gone: the task has ended"))?;
    Ok(Some(match (context, method) {
        (Context::Source(context), method::CONTEXT_OFFSET) => {
            message::plain(&context.offset(&request.read::<SourcePartition>()?)?)
        }
        (Context::Source(context), method::CONTEXT_COUNT) => {
            let (name, n): (&'static str, u64) = request.read()?;
            message::plain(&context.count(name, n))
        }
        (Context::Source(context), method::CONTEXT_GAUGE) => {
            let (name, value): (&'static str, u64) = request.read()?;
            message::plain(&context.gauge(name, value))
        }
        (Context::Sink(context), method::CONTEXT_COUNT) => {
            let (name, n): (&'static str, u64) = request.read()?;
            message::plain(&context.count(name, n))
        }
        (Context::Sink(context), method::CONTEXT_GAUGE) => {
            let (name, value): (&'static str, u64) = request.read()?;
            message::plain(&context.gauge(name, value))
        }
        (Context::Sink(context), method::CONTEXT_REPORT) => {
            let mut schemas = ReceivedSchemas::default();
            let (partition, record, error): (TopicPartition, SinkRecord, Error) = request.read_with(&mut schemas)?;
            message::plain(&context.report(&partition, &record, error)?)
        }
        (Context::Sink(context), method::CONTEXT_BUFFERED) => {
            let bytes: u64 = request.read()?;
            message::plain(&context.buffered(usize::try_from(bytes).unwrap_or(usize::MAX)))
        }
        (Context::Sink(context), method::CONTEXT_REWIND) => {
            let (partition, offset): (TopicPartition, i64) = request.read()?;
            message::plain(&context.rewind(&partition, offset))
        }
        (Context::Sink(context), method::CONTEXT_DELIVERED) => {
            message::plain(&context.delivered(request.read::<Delivery>()?))
        }
        (Context::Sink(context), method::CONTEXT_TOPIC_IDENTITY) => {
            message::plain(&context.topic_identity(&request.read::<String>()?))
        }
        _ => return Ok(None),
    }))
}

extern "C" fn log(level: u32, task: Slice, target: Slice, message: Slice) {
    // SAFETY: by contract the texts may be read until the return.
    let (task, from, message) = unsafe { (text(&task), text(&target), text(&message)) };
    let task = (!task.is_empty()).then_some(task);
    // What is not a text in the library's log is no reason to lose the line.
    let _ = catch_unwind(|| match level {
        1 => error!(target: "plugin", task, %from, "{message}"),
        2 => warn!(target: "plugin", task, %from, "{message}"),
        3 => info!(target: "plugin", task, %from, "{message}"),
        4 => debug!(target: "plugin", task, %from, "{message}"),
        _ => trace!(target: "plugin", task, %from, "{message}"),
    });
}

/// A text of a library's.
unsafe fn text(slice: &Slice) -> &str {
    if slice.data.is_null() {
        return "";
    }
    // SAFETY: by the caller.
    let bytes = unsafe { std::slice::from_raw_parts(slice.data, slice.len) };
    std::str::from_utf8(bytes).unwrap_or("(what a plugin logged is not UTF-8)")
}
