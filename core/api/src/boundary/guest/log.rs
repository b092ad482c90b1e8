//! What a library says: events of `tracing` and panics, handed to the worker's log.

use std::cell::RefCell;
use std::fmt::{self, Write as _};
use std::sync::Arc;

use ottla_plugin_abi::{Host, Slice};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

thread_local! {
    /// The task that this thread works for now.
    static TASK: RefCell<Option<Arc<str>>> = const { RefCell::new(None) };
}

/// Runs something on behalf of a task: what it logs is the task's.
pub(crate) fn on_behalf_of<T>(task: &Option<Arc<str>>, work: impl FnOnce() -> T) -> T {
    struct Before(Option<Arc<str>>);
    impl Drop for Before {
        fn drop(&mut self) {
            TASK.set(self.0.take());
        }
    }
    let _before = Before(TASK.replace(task.clone()));
    work()
}

/// A text of the worker's.
///
/// # Safety
///
/// It stays as long as the answer is used.
pub(crate) unsafe fn text<'a>(slice: Slice) -> &'a str {
    if slice.data.is_null() {
        return "";
    }
    // SAFETY: by the caller.
    let bytes = unsafe { std::slice::from_raw_parts(slice.data, slice.len) };
    std::str::from_utf8(bytes).unwrap_or("?")
}

/// Takes over what this library logs, and the words of its panics: it has a `std` and a `tracing` of its own, of which the worker's know
/// nothing.
pub(crate) fn install(host: &'static Host, level: u32, library: String) {
    let _ = tracing::subscriber::set_global_default(ToHost { host, level });
    std::panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map_or_else(String::new, |place| format!("{}:{}", place.file(), place.line()));
        let words = panic.payload_as_str().unwrap_or("a panic without a message");
        tracing::error!(target: "panic", library, at = %place, "{words}");
    }));
}

struct ToHost {
    host: &'static Host,
    level: u32,
}

fn number(level: &Level) -> u32 {
    match *level {
        Level::ERROR => 1,
        Level::WARN => 2,
        Level::INFO => 3,
        Level::DEBUG => 4,
        Level::TRACE => 5,
    }
}

impl Subscriber for ToHost {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && number(metadata.level()) <= self.level
    }

    fn event(&self, event: &Event<'_>) {
        let mut words = Words::default();
        event.record(&mut words);
        let text = words.message + &words.facts;
        let level = number(event.metadata().level());
        let target = event.metadata().target();
        let task = TASK.with_borrow(Clone::clone);
        let task = task.as_deref().map_or(Slice::NONE, |task| Slice::of(task.as_bytes()));
        (self.host.log)(level, task, Slice::of(target.as_bytes()), Slice::of(text.as_bytes()));
    }

    // Spans are not carried over: what an event belongs to is its task.
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// An event as a line: the message, then its facts.
#[derive(Default)]
struct Words {
    message: String,
    facts: String,
}

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let written = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.facts, " {name}={value:?}"),
        };
        // Writing to a `String` does not fail.
        debug_assert!(written.is_ok());
    }
}
