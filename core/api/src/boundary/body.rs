//! What the bodies of some messages consist of; the others are what the method's arguments and result are.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use super::flat::{Decoder, Encoder, Flat, Kept};
use crate::config::ConfigKey;
use crate::error::Result;
use crate::plugin::PluginKind;
use crate::record::{Payload, Record};

/// The number of a kind in a note and in the list of plugins.
pub const fn kind_number(kind: PluginKind) -> u8 {
    match kind {
        PluginKind::Source => 0,
        PluginKind::Sink => 1,
        PluginKind::Transformation => 2,
        PluginKind::Predicate => 3,
        PluginKind::Converter => 4,
        PluginKind::ConfigProvider => 5,
    }
}

/// The kind of a number.
pub const fn kind_of(number: u8) -> Option<PluginKind> {
    Some(match number {
        0 => PluginKind::Source,
        1 => PluginKind::Sink,
        2 => PluginKind::Transformation,
        3 => PluginKind::Predicate,
        4 => PluginKind::Converter,
        5 => PluginKind::ConfigProvider,
        _ => return None,
    })
}

/// What the list of plugins says of one: kind and name, other names, version and documentation, options.
pub type PluginParts = (u8, Kept, Vec<Kept>, (Kept, Kept), Vec<ConfigKey>);

/// How a poll ended, in the body of its answer: records follow, offsets, caught up, finished.
pub const POLL_RECORDS: u8 = 0;
/// See [`POLL_RECORDS`].
pub const POLL_OFFSETS: u8 = 1;
/// See [`POLL_RECORDS`].
pub const POLL_CAUGHT_UP: u8 = 2;
/// See [`POLL_RECORDS`].
pub const POLL_FINISHED: u8 = 3;

/// What a task's start is told: number of its context, connector, task, state folder.
pub type StartParts = (u64, Arc<str>, u32, PathBuf);

/// A record as a transformation gives it back: a payload that is the same text as before is left out.
#[derive(Debug)]
pub struct Applied {
    /// The record; null where the payload is the same.
    pub record: Record,
    /// The key is as it was.
    pub same_key: bool,
    /// The value is as it was.
    pub same_value: bool,
}

impl Applied {
    /// A record after the transformation, and the texts that its payloads were before.
    pub fn new(mut record: Record, (key, value): &(Option<Bytes>, Option<Bytes>)) -> Self {
        let same = |payload: &Payload, before: &Option<Bytes>| match (payload, before) {
            (Payload::Json(text), Some(before)) => text.as_ptr() == before.as_ptr() && text.len() == before.len(),
            _ => false,
        };
        let (same_key, same_value) = (same(&record.key, key), same(&record.value, value));
        if same_key {
            record.key = Payload::null();
        }
        if same_value {
            record.value = Payload::null();
        }
        Self { record, same_key, same_value }
    }
}

impl Flat for Applied {
    fn write(&self, to: &mut Encoder<'_>) {
        self.same_key.write(to);
        self.same_value.write(to);
        self.record.write(to);
    }

    fn read(from: &mut Decoder<'_, '_>) -> Result<Self> {
        let (same_key, same_value) = (Flat::read(from)?, Flat::read(from)?);
        Ok(Self { record: Flat::read(from)?, same_key, same_value })
    }
}
