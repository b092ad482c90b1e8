//! Reads a consumer's queue many messages at a time: librdkafka can, and rdkafka has no safe way to ask for it.
//!
//! Message by message, each costs an event of its own, two looks at the clock and a lock, which together take longer than
//! all that the message is needed for. Here a call takes what lies in the queue, the payloads of one partition's run of messages
//! are copied into one buffer that its records share, and librdkafka has its memory back before the call returns.
//!
//! A batch read has one mistake (librdkafka 2.12, `rd_kafka_q_serve_rkmessages`): it counts the notice that a partition has ended
//! as a message, so that librdkafka's own position, and what it resumes from after a pause, lies one too far. Whoever reads
//! with this keeps positions himself, and pauses a partition by taking it out of the assignment.
//!
//! The only unsafe code of the runtime is in this file.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::ptr::NonNull;
use std::sync::Arc;

use bytes::Bytes;
use ottla_api::record::RawRecord;
use rdkafka::bindings as ffi;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{IsError, KafkaError};
use rdkafka::types::RDKafkaRespErr;

use super::context::Context;

/// What [`BatchReader::read`] finds.
pub(super) enum Found<'a> {
    /// Successive messages of one partition.
    Run(Run<'a>),
    /// The end of a partition, which comes behind all its messages.
    End {
        /// Its topic.
        topic: &'a str,
        /// Its number.
        partition: i32,
        /// The offset that would be fetched next: also transaction markers lie before it.
        position: i64,
    },
    /// Something that librdkafka has to say.
    Failure(KafkaError),
}

/// Reads the queue of one consumer, which nobody else polls.
pub(super) struct BatchReader {
    // Before the consumer, whose end waits for its queues to be let go.
    messages: Queue,
    events: Queue,
    main: Queue,
    /// Filled and emptied by each call.
    taken: Vec<*mut ffi::rd_kafka_message_t>,
    consumer: Arc<BaseConsumer<Context>>,
}

/// A reference to a queue of librdkafka.
struct Queue(NonNull<ffi::rd_kafka_queue_t>);

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: the pointer came from librdkafka with a reference, which is given back once.
        unsafe { ffi::rd_kafka_queue_destroy(self.0.as_ptr()) }
    }
}

impl BatchReader {
    /// Takes the polling of `consumer` over: at most `records_max` messages a call.
    pub(super) fn new(consumer: Arc<BaseConsumer<Context>>, records_max: usize) -> Self {
        let client = consumer.client().native_ptr();
        let queue = |queue| Queue(NonNull::new(queue).expect("a consumer with a group has its queues"));
        // SAFETY: `client` lives as long as `consumer`, which this reader holds until its queues are gone. Errors and log lines,
        // which rdkafka has forwarded to the consumer's queue, get a queue of their own: a batch read would drop them.
        let (messages, events, main) = unsafe {
            let messages = queue(ffi::rd_kafka_queue_get_consumer(client));
            let events = queue(ffi::rd_kafka_queue_new(client));
            let main = queue(ffi::rd_kafka_queue_get_main(client));
            ffi::rd_kafka_queue_forward(main.0.as_ptr(), events.0.as_ptr());
            (messages, events, main)
        };
        Self { messages, events, main, taken: Vec::with_capacity(records_max.max(1)), consumer }
    }

    /// Takes what is there, without waiting, and shows it in order. How much that was: less than the most there can be means that
    /// the queue was empty.
    pub(super) fn read(&mut self, mut take: impl FnMut(Found<'_>)) -> usize {
        self.read_events(&mut take);
        // SAFETY: the array has room for as many pointers as it says, and librdkafka fills in the first `count` of them.
        let count = unsafe {
            let (start, room) = (self.taken.as_mut_ptr(), self.taken.capacity());
            let count = ffi::rd_kafka_consume_batch_queue(self.messages.0.as_ptr(), 0, start, room);
            let count = usize::try_from(count).unwrap_or(0);
            self.taken.set_len(count);
            count
        };
        let taken = Taken(&mut self.taken);
        let mut rest = &taken.0[..];
        while let Some(first) = rest.first() {
            let first = message(first);
            let length = match first.err {
                RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => {
                    let same = |other: &&*mut ffi::rd_kafka_message_t| {
                        let other = message(other);
                        other.rkt == first.rkt && other.partition == first.partition && !other.err.is_error()
                    };
                    rest.iter().take_while(same).count()
                }
                _ => 1,
            };
            let (these, others) = rest.split_at(length);
            rest = others;
            take(match first.err {
                RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => {
                    Found::Run(Run { topic: topic_of(first), partition: first.partition, messages: these })
                }
                RDKafkaRespErr::RD_KAFKA_RESP_ERR__PARTITION_EOF => {
                    Found::End { topic: topic_of(first), partition: first.partition, position: first.offset }
                }
                RDKafkaRespErr::RD_KAFKA_RESP_ERR__FATAL => {
                    Found::Failure(KafkaError::MessageConsumptionFatal(first.err.into()))
                }
                other => Found::Failure(KafkaError::MessageConsumption(other.into())),
            });
        }
        count
    }

    /// Tells the consumer's context of errors and log lines, and shows the errors.
    fn read_events(&self, take: &mut impl FnMut(Found<'_>)) {
        let context = self.consumer.context();
        // SAFETY: an event is ours until it is destroyed, and its texts, which end in a zero byte, live as long.
        unsafe {
            while let Some(event) = NonNull::new(ffi::rd_kafka_queue_poll(self.events.0.as_ptr(), 0)) {
                let event = event.as_ptr();
                match ffi::rd_kafka_event_type(event) {
                    ffi::RD_KAFKA_EVENT_ERROR => {
                        let code = ffi::rd_kafka_event_error(event);
                        let reason = CStr::from_ptr(ffi::rd_kafka_event_error_string(event)).to_string_lossy();
                        context.error(KafkaError::Global(code.into()), &reason);
                        take(Found::Failure(match ffi::rd_kafka_event_error_is_fatal(event) {
                            0 => KafkaError::MessageConsumption(code.into()),
                            _ => KafkaError::MessageConsumptionFatal(code.into()),
                        }));
                    }
                    ffi::RD_KAFKA_EVENT_LOG => {
                        let (mut facility, mut line, mut level) = (std::ptr::null(), std::ptr::null(), 0);
                        if ffi::rd_kafka_event_log(event, &raw mut facility, &raw mut line, &raw mut level) == 0 {
                            let text = |text| CStr::from_ptr(text).to_string_lossy();
                            context.log(level_of(level), text(facility).trim(), text(line).trim());
                        }
                    }
                    _ => {}
                }
                ffi::rd_kafka_event_destroy(event);
            }
        }
    }
}

impl Drop for BatchReader {
    fn drop(&mut self) {
        // SAFETY: all three queues live. The consumer's own end polls its queue for what librdkafka has to say until then.
        unsafe { ffi::rd_kafka_queue_forward(self.main.0.as_ptr(), self.messages.0.as_ptr()) }
    }
}

/// A level of syslog.
fn level_of(level: i32) -> RDKafkaLogLevel {
    match level {
        0 => RDKafkaLogLevel::Emerg,
        1 => RDKafkaLogLevel::Alert,
        2 => RDKafkaLogLevel::Critical,
        3 => RDKafkaLogLevel::Error,
        4 => RDKafkaLogLevel::Warning,
        5 => RDKafkaLogLevel::Notice,
        6 => RDKafkaLogLevel::Info,
        _ => RDKafkaLogLevel::Debug,
    }
}

/// Messages that go back to librdkafka, also when whoever looks at them panics.
struct Taken<'a>(&'a mut Vec<*mut ffi::rd_kafka_message_t>);

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        for message in self.0.drain(..) {
            // SAFETY: `read` took it, and nothing that it lent out lives any more.
            unsafe { ffi::rd_kafka_message_destroy(message) }
        }
    }
}

/// A message that [`Taken`] holds.
#[inline]
fn message(pointer: &*mut ffi::rd_kafka_message_t) -> &ffi::rd_kafka_message_t {
    // SAFETY: librdkafka filled the array with valid pointers, and `Taken` destroys them only at its own end, which the
    // slice that the reference is borrowed from can't outlive.
    unsafe { &**pointer }
}

fn topic_of(message: &ffi::rd_kafka_message_t) -> &str {
    if message.rkt.is_null() {
        return "";
    }
    // SAFETY: the message holds its topic, and the topic its name, which no one changes.
    let name = unsafe { CStr::from_ptr(ffi::rd_kafka_topic_name(message.rkt)) };
    name.to_str().unwrap_or_default()
}

/// Successive messages of one partition, as librdkafka has them.
pub(super) struct Run<'a> {
    pub(super) topic: &'a str,
    pub(super) partition: i32,
    messages: &'a [*mut ffi::rd_kafka_message_t],
}

impl Run<'_> {
    /// The records at `position` and behind, their payloads in one buffer.
    pub(super) fn records_from(&self, position: i64) -> Vec<RawRecord> {
        let behind = self.messages.partition_point(|pointer| message(pointer).offset < position);
        let messages = &self.messages[behind..];
        let length = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
        let total =
            messages.iter().map(message).map(|message| length(key_of(message)) + length(value_of(message))).sum();
        let mut buffer = Vec::with_capacity(total);
        for message in messages.iter().map(message) {
            buffer.extend_from_slice(key_of(message).unwrap_or_default());
            buffer.extend_from_slice(value_of(message).unwrap_or_default());
        }
        let buffer = Bytes::from(buffer);
        let mut at = 0;
        let mut share = |bytes: Option<&[u8]>| {
            bytes.map(|bytes| {
                at += bytes.len();
                buffer.slice(at - bytes.len()..at)
            })
        };
        let record = |message: &ffi::rd_kafka_message_t| RawRecord {
            offset: message.offset,
            timestamp: timestamp_of(message),
            key: share(key_of(message)),
            value: share(value_of(message)),
            headers: headers_of(message),
        };
        messages.iter().map(message).map(record).collect()
    }
}

/// The key's bytes; nothing for null.
#[inline]
fn key_of(message: &ffi::rd_kafka_message_t) -> Option<&[u8]> {
    // SAFETY: librdkafka's own account of memory that lives as long as the message.
    (!message.key.is_null()).then(|| unsafe { std::slice::from_raw_parts(message.key.cast(), message.key_len) })
}

/// The value's bytes; nothing for a tombstone.
#[inline]
fn value_of(message: &ffi::rd_kafka_message_t) -> Option<&[u8]> {
    // SAFETY: as for the key.
    (!message.payload.is_null()).then(|| unsafe { std::slice::from_raw_parts(message.payload.cast(), message.len) })
}

/// Milliseconds since the epoch, where the broker has a time.
#[inline]
fn timestamp_of(message: &ffi::rd_kafka_message_t) -> Option<i64> {
    let mut kind = ffi::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
    // SAFETY: reads two fields of a message that lives.
    let millis = unsafe { ffi::rd_kafka_message_timestamp(message, &raw mut kind) };
    (kind != ffi::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE && millis != -1).then_some(millis)
}

fn headers_of(message: &ffi::rd_kafka_message_t) -> Vec<(String, Option<Bytes>)> {
    let mut headers = std::ptr::null_mut();
    let mut copied = Vec::new();
    // SAFETY: librdkafka parses the headers once and keeps them with the message; each name ends in a zero byte, and each value,
    // where there is one, is as long as it says. The last index is the first that is refused.
    unsafe {
        if ffi::rd_kafka_message_headers(message, &raw mut headers).is_error() {
            return copied;
        }
        let (mut name, mut value, mut length) = (std::ptr::null(), std::ptr::null(), 0);
        while !ffi::rd_kafka_header_get_all(headers, copied.len(), &raw mut name, &raw mut value, &raw mut length)
            .is_error()
        {
            let bytes =
                (!value.is_null()).then(|| Bytes::copy_from_slice(std::slice::from_raw_parts(value.cast(), length)));
            copied.push((CStr::from_ptr(name).to_string_lossy().into_owned(), bytes));
        }
    }
    copied
}
