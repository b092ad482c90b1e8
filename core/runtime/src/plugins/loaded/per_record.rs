//! Transformations, predicates, converters and config providers of a library, as the worker's own are.
//!
//! Those that see one record at a time are called on the caller's thread, which must be one that may hang: they say so by
//! `is_blocking`.

use bytes::Bytes;
use ottla_api::Result;
use ottla_api::boundary::abi::{Message, Slice, method};
use ottla_api::boundary::body::Applied;
use ottla_api::boundary::flat::{Encoder, Flat, ReceivedSchemas, SentSchemas};
use ottla_api::boundary::message::Received;
use ottla_api::config::Properties;
use ottla_api::config_provider::ConfigProvider;
use ottla_api::converter::Converter;
use ottla_api::predicate::Predicate;
use ottla_api::record::{Payload, Record};
use ottla_api::transformation::Transformation;
use parking_lot::Mutex;

use super::PluginOf;
use super::library::{Object, method_name};

pub(super) fn transformation(plugin: PluginOf, properties: &Properties) -> Result<Box<dyn Transformation>> {
    let object = plugin.make(properties, false)?;
    let deterministic = object.ask(method::IS_DETERMINISTIC, &())?;
    Ok(Box::new(LoadedTransformation { line: Line::new(object), deterministic }))
}

pub(super) fn predicate(plugin: PluginOf, properties: &Properties) -> Result<Box<dyn Predicate>> {
    Ok(Box::new(LoadedPredicate(Line::new(plugin.make(properties, false)?))))
}

pub(super) fn converter(plugin: PluginOf, properties: &Properties, for_keys: bool) -> Result<Box<dyn Converter>> {
    Ok(Box::new(LoadedConverter(Mutex::new(Line::new(plugin.make(properties, for_keys)?)))))
}

pub(super) fn config_provider(plugin: PluginOf, properties: &Properties) -> Result<Box<dyn ConfigProvider>> {
    Ok(Box::new(LoadedConfigProvider(plugin.make(properties, false)?)))
}

/// An object that is asked one thing after the other, with as little ado as can be: the question lies in a buffer of ours, the answer
/// in one of the library's.
struct Line {
    object: Object,
    question: Vec<u8>,
    sent: SentSchemas,
    received: ReceivedSchemas,
}

impl Line {
    fn new(object: Object) -> Self {
        Self { object, question: Vec::new(), sent: SentSchemas::default(), received: ReceivedSchemas::default() }
    }

    fn ask<T: Flat>(&mut self, method: u32, write: impl FnOnce(&mut Encoder<'_>)) -> Result<T> {
        self.sent.begin();
        self.question.clear();
        write(&mut Encoder { bytes: &mut self.question, schemas: &mut self.sent });
        let schemas = self.sent.announce();
        let mut request = Message::borrowed(&self.question);
        if !schemas.is_empty() {
            request.schemas = Slice::of(&schemas);
        }
        let library = self.object.library;
        let answer = library.call_here(self.object.number, method, request);
        let answer: Received = library.check(method_name(method), answer)?;
        answer.read_with(&mut self.received)
    }
}

struct LoadedTransformation {
    line: Line,
    deterministic: bool,
}

impl Transformation for LoadedTransformation {
    fn apply(&mut self, record: Record) -> Result<Option<Record>> {
        let applied: Option<Applied> = self.line.ask(method::APPLY, |to| record.write(to))?;
        Ok(applied.map(|Applied { record: mut after, same_key, same_value }| {
            if same_key {
                after.key = record.key;
            }
            if same_value {
                after.value = record.value;
            }
            after
        }))
    }

    fn is_deterministic(&self) -> bool {
        self.deterministic
    }

    fn is_blocking(&self) -> bool {
        true
    }
}

struct LoadedPredicate(Line);

impl Predicate for LoadedPredicate {
    fn test(&mut self, record: &mut Record) -> Result<bool> {
        self.0.ask(method::TEST, |to| record.write(to))
    }

    fn is_blocking(&self) -> bool {
        true
    }
}

struct LoadedConverter(Mutex<Line>);

impl LoadedConverter {
    fn read(&self, topic: &str, bytes: Option<&Bytes>, decoded: bool) -> Result<Payload> {
        self.0.lock().ask(method::TO_CONNECT, |to| {
            topic.to_owned().write(to);
            bytes.cloned().write(to);
            decoded.write(to);
        })
    }
}

impl Converter for LoadedConverter {
    fn to_connect(&self, topic: &str, bytes: Option<&Bytes>) -> Result<Payload> {
        self.read(topic, bytes, false)
    }

    fn to_connect_decoded(&self, topic: &str, bytes: Option<&Bytes>) -> Result<Payload> {
        self.read(topic, bytes, true)
    }

    fn from_connect(&self, topic: &str, payload: &Payload) -> Result<Option<Bytes>> {
        self.0.lock().ask(method::FROM_CONNECT, |to| {
            topic.to_owned().write(to);
            payload.write(to);
        })
    }

    fn is_blocking(&self) -> bool {
        true
    }
}

struct LoadedConfigProvider(Object);

impl ConfigProvider for LoadedConfigProvider {
    fn get(&self, path: &str, key: &str) -> Result<Option<String>> {
        self.0.ask(method::GET, &(path.to_owned(), key.to_owned()))
    }
}
