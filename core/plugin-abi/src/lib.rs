//! The binary contract between a worker and a library of plugins: C structures and numbers, nothing else.
//!
//! Whoever writes a connector in Rust never sees this crate: `ottla_api::export_plugins!` makes everything in here from the
//! ordinary traits. It is for the two ends of the boundary, and for authors in other languages.
//!
//! # The contract
//!
//! A library is a shared object with
//!
//! - a section [`SECTION`] that holds a [`note`]: what it was built for. It is read before the library is opened, so a library
//!   that does not fit is refused without running any of its code;
//! - one exported symbol [`SYMBOL`]: a [`Descriptor`].
//!
//! Everything goes through four functions of the library and three of the worker. What is asked is a number ([`method`]), what
//! goes with it a [`Message`]: a body in a flat encoding, and records as an array of views.
//!
//! **Memory.** Each side frees what it made. The receiver of a message calls its `release` once, from any thread, when it has
//! let go of all of it; until then all of the message may be read. A message without `release` may be read until the call
//! returns.
//!
//! **Calls.** `call` answers when it returns. `start` returns at once and the answer comes through [`Host::done`] with the
//! ticket that `start` was given, exactly once, from any thread. No two calls on one object overlap; after `cancel` the
//! answer to the cancelled call still comes (status [`status::CANCELLED`], or whatever it had become by then).
//!
//! **Objects** are made by a call that answers with their numbers, and live until `release`.
//!
//! **Panics and exceptions** never cross: what fails inside answers with [`status::PANICKED`].
//!
//! **Versions.** The major version must be equal. The minor one grows with each method or field that is added at an end; every
//! structure carries its size, so that the older side is understood. A library is never unloaded.

#![allow(unsafe_code)] // Pointers are what a C boundary is made of; nothing here follows one.

pub mod note;

use std::ffi::c_void;
use std::ptr;

/// The version that must be equal on both sides.
pub const ABI_MAJOR: u16 = 1;
/// Grows with what is added.
pub const ABI_MINOR: u16 = 0;
/// Name of the section with the [`note`].
pub const SECTION: &str = ".ottla.plugin";
/// Name of the exported [`Descriptor`].
pub const SYMBOL: &str = "OTTLA_PLUGIN_LIBRARY";
/// The compiler that this was built with, as it states itself.
pub const RUSTC: &str = env!("OTTLA_RUSTC");
/// The target that this was built for, such as `x86_64-unknown-linux-gnu`.
pub const TARGET: &str = env!("OTTLA_TARGET");

/// Bytes that somebody else owns. A null pointer means that there are none, which is not the same as an empty text.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Slice {
    /// Where they begin.
    pub data: *const u8,
    /// How many.
    pub len: usize,
}

impl Slice {
    /// No bytes.
    pub const NONE: Self = Self { data: ptr::null(), len: 0 };

    /// These bytes. The caller sees to it that they stay.
    pub const fn of(bytes: &[u8]) -> Self {
        Self { data: bytes.as_ptr(), len: bytes.len() }
    }
}

/// A key or a value.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct PayloadView {
    /// One of [`payload`].
    pub kind: u32,
    /// Number of its schema as this object's messages have announced it; [`NO_SCHEMA`] for none.
    pub schema: u32,
    /// The text or the encoded value.
    pub data: Slice,
}

/// A payload without a schema.
pub const NO_SCHEMA: u32 = u32::MAX;
/// A record without a timestamp.
pub const NO_TIMESTAMP: i64 = i64::MIN;

/// What [`PayloadView::data`] holds.
pub mod payload {
    /// Nothing: a null key, a tombstone.
    pub const NULL: u32 = 0;
    /// Compact JSON text, valid.
    pub const JSON: u32 = 1;
    /// A value in the flat encoding.
    pub const FLAT: u32 = 2;
}

/// One record, as it lies in the memory of the side that sends it.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct RecordView {
    /// Offset in the topic partition; sinks only.
    pub offset: i64,
    /// Milliseconds since the epoch, or [`NO_TIMESTAMP`].
    pub timestamp: i64,
    /// The key as it lies in the broker; sinks only.
    pub raw_key: Slice,
    /// The value as it lies in the broker; sinks only.
    pub raw_value: Slice,
    /// The key as data.
    pub key: PayloadView,
    /// The value as data.
    pub value: PayloadView,
    /// What most records of a sink do not have, in the flat encoding: headers, another topic. A source's record always has it: topic, source
    /// partition and source offset are in it.
    pub rest: Slice,
}

/// What goes with a call or comes back from one.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Message {
    /// Size of this structure for the side that made it.
    pub size: u32,
    /// Size of one [`RecordView`] for the side that made it: the distance between two.
    pub record_size: u32,
    /// The body in the flat encoding; what it holds depends on the method.
    pub body: Slice,
    /// Schemas that this message mentions and none before it did, in the flat encoding.
    pub schemas: Slice,
    /// The records.
    pub records: *const RecordView,
    /// How many.
    pub records_len: usize,
    /// One piece of memory in which the small payloads of all records lie. The larger ones lie wherever they did.
    pub chunk: Slice,
    /// What `release` is called with.
    pub owner: *mut c_void,
    /// Lets the message go.
    pub release: Option<extern "C" fn(owner: *mut c_void)>,
}

impl Message {
    /// A message that says nothing.
    pub const EMPTY: Self = Self {
        size: size_of::<Self>() as u32,
        record_size: size_of::<RecordView>() as u32,
        body: Slice::NONE,
        schemas: Slice::NONE,
        records: ptr::null(),
        records_len: 0,
        chunk: Slice::NONE,
        owner: ptr::null_mut(),
        release: None,
    };

    /// A body that may be read until the call returns.
    pub const fn borrowed(body: &[u8]) -> Self {
        Self { body: Slice::of(body), ..Self::EMPTY }
    }
}

/// How a call ended.
pub mod status {
    /// Well; the message is the answer.
    pub const OK: i32 = 0;
    /// With an error, which the body holds.
    pub const FAILED: i32 = 1;
    /// With a panic, whose words the body holds as text.
    pub const PANICKED: i32 = 2;
    /// It was cancelled.
    pub const CANCELLED: i32 = 3;
    /// The other side does not know this method, or the object has none such.
    pub const UNKNOWN_METHOD: i32 = 4;
}

/// What can be asked. Numbers are never given twice.
#[allow(missing_docs)] // They are the methods of the traits in `ottla_api`, under their names.
pub mod method {
    // Of the library (object 0).
    pub const ECHO: u32 = 1;
    pub const PLUGINS: u32 = 2;
    pub const CHECK_OPTION: u32 = 3;
    pub const MAKE: u32 = 4;
    // Of a source or sink connector.
    pub const VALIDATE: u32 = 10;
    pub const TASKS: u32 = 11;
    pub const TASK: u32 = 12;
    pub const DESTINATION: u32 = 13;
    // Of the plugins that see one record at a time.
    pub const APPLY: u32 = 20;
    pub const IS_DETERMINISTIC: u32 = 21;
    pub const TEST: u32 = 22;
    pub const TO_CONNECT: u32 = 23;
    pub const FROM_CONNECT: u32 = 24;
    // Of a config provider.
    pub const GET: u32 = 30;
    // Of tasks; these are started, not called.
    pub const START: u32 = 40;
    pub const STOP: u32 = 41;
    pub const POLL: u32 = 42;
    pub const COMMIT: u32 = 43;
    pub const OPEN: u32 = 44;
    pub const PUT: u32 = 45;
    pub const FLUSH: u32 = 46;
    pub const CLOSE: u32 = 47;
    pub const TICK: u32 = 48;
    // Of a task's context, on the worker's side.
    pub const CONTEXT_OFFSET: u32 = 60;
    pub const CONTEXT_COUNT: u32 = 61;
    pub const CONTEXT_GAUGE: u32 = 62;
    pub const CONTEXT_REPORT: u32 = 63;
    pub const CONTEXT_BUFFERED: u32 = 64;
    pub const CONTEXT_REWIND: u32 = 65;
    pub const CONTEXT_DELIVERED: u32 = 66;
    pub const CONTEXT_TOPIC_IDENTITY: u32 = 67;
}

/// Properties of a library, as bits of [`Descriptor::flags`].
pub mod flags {
    /// `start` never does the work itself, so that it can be called on a thread that others wait for.
    pub const STARTS_AT_ONCE: u32 = 1;
}

/// What a library exports under [`SYMBOL`].
#[derive(Debug)]
#[repr(C)]
pub struct Descriptor {
    /// Size of this structure for the library.
    pub size: u32,
    /// Must be equal to the worker's.
    pub abi_major: u16,
    /// Must not be beyond the worker's.
    pub abi_minor: u16,
    /// Bits of [`flags`].
    pub flags: u32,
    /// Nothing yet.
    pub reserved: u32,
    /// The [`note`]; also what keeps a linker from leaving it out.
    pub note: Slice,
    /// Called once, first of all. The host stays for ever. What is wrong comes back as from `call`.
    pub init: extern "C" fn(host: *const Host, options: *const InitOptions, reply: *mut Message) -> i32,
    /// Asks an object (0: the library) for something and waits.
    pub call: extern "C" fn(object: u64, method: u32, request: *const Message, reply: *mut Message) -> i32,
    /// Asks an object for something that may take its time.
    pub start: extern "C" fn(object: u64, method: u32, request: *const Message, ticket: u64),
    /// Asks that the call of this ticket end soon.
    pub cancel: extern "C" fn(object: u64, ticket: u64),
    /// Lets an object go. A call on it that is still running ends first.
    pub release: extern "C" fn(object: u64),
}

/// What the worker tells a library at its beginning.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct InitOptions {
    /// Size of this structure for the worker.
    pub size: u32,
    /// How many threads the library's runtime should have.
    pub threads: u32,
    /// The most detailed level that is logged, as in [`Host::log`].
    pub log_level: u32,
    /// Nothing yet.
    pub reserved: u32,
    /// What the library is called in logs and in the names of its threads.
    pub name: Slice,
}

/// What the worker offers.
#[derive(Debug)]
#[repr(C)]
pub struct Host {
    /// Size of this structure for the worker.
    pub size: u32,
    /// The worker's version of this contract.
    pub abi_major: u16,
    /// The worker's version of this contract.
    pub abi_minor: u16,
    /// Answers the call of a ticket.
    pub done: extern "C" fn(ticket: u64, status: i32, reply: *const Message),
    /// Asks a task's context for something. The context's number came with the task's start.
    pub call: extern "C" fn(context: u64, method: u32, request: *const Message, reply: *mut Message) -> i32,
    /// Logs: level 1 error, 2 warning, 3 information, 4 debug, 5 trace; the task that it is about (or nothing); the place in the code; the words.
    pub log: extern "C" fn(level: u32, task: Slice, target: Slice, message: Slice),
}

// SAFETY: the structures hold pointers to functions and to memory that never changes.
unsafe impl Sync for Descriptor {}
// SAFETY: as above.
unsafe impl Send for Descriptor {}
// SAFETY: a slice is a pointer and a length; who follows it answers for it.
unsafe impl Sync for Slice {}
// SAFETY: as above.
unsafe impl Send for Slice {}
// SAFETY: a message's owner may be released from any thread, by contract.
unsafe impl Send for Message {}
