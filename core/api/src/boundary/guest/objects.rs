//! What a library has made for a worker, by number: connectors, tasks, and the plugins that see one record at a time.

use std::sync::{Arc, Mutex, PoisonError};

use ottla_plugin_abi::{Message, method};

use super::plain;
use super::tasks::{SinkTaskObject, SourceTaskObject, Ticket};
use crate::boundary::body::Applied;
use crate::boundary::flat::{Encoder, Flat, ReceivedSchemas, SentSchemas};
use crate::boundary::message::{self, Received};
use crate::config::Properties;
use crate::config_provider::ConfigProvider;
use crate::converter::Converter;
use crate::error::Result;
use crate::plugin::{Constructor, Plugin};
use crate::predicate::Predicate;
use crate::record::{Payload, Record};
use crate::sink::SinkConnector;
use crate::source::SourceConnector;
use crate::transformation::Transformation;

/// One thing that a worker calls.
pub(crate) enum Object {
    Source(Box<dyn SourceConnector>),
    Sink(Box<dyn SinkConnector>),
    SourceTask(SourceTaskObject),
    SinkTask(SinkTaskObject),
    Transformation(Mutex<PerRecord<dyn Transformation>>),
    Predicate(Mutex<PerRecord<dyn Predicate>>),
    Converter(Mutex<PerRecord<dyn Converter>>),
    ConfigProvider(Box<dyn ConfigProvider>),
}

/// A plugin that sees one record at a time, and what its messages need.
pub(crate) struct PerRecord<P: ?Sized> {
    received: ReceivedSchemas,
    sent: SentSchemas,
    /// The last answer, which the worker may read until its next call.
    answer: Vec<u8>,
    plugin: Box<P>,
}

impl<P: ?Sized> PerRecord<P> {
    fn new(plugin: Box<P>) -> Mutex<Self> {
        Mutex::new(Self {
            received: ReceivedSchemas::default(),
            sent: SentSchemas::default(),
            answer: Vec::new(),
            plugin,
        })
    }

    /// Lends an answer until the next call. With new schemas it is a message of its own.
    fn lend(&mut self, item: &impl Flat) -> Message {
        self.sent.begin();
        self.answer.clear();
        item.write(&mut Encoder { bytes: &mut self.answer, schemas: &mut self.sent });
        let schemas = self.sent.announce();
        if schemas.is_empty() {
            return Message::borrowed(&self.answer);
        }
        message::made(std::mem::take(&mut self.answer), schemas)
    }
}

/// What was made is counted by an `Arc`: a call that still runs keeps its object.
fn number(object: Object) -> u64 {
    Arc::into_raw(Arc::new(object)).expose_provenance() as u64
}

/// Makes a plugin, and gives its number.
pub(crate) fn make(plugin: &Plugin, properties: &Properties, for_keys: bool) -> Result<u64> {
    Ok(number(match plugin.constructor {
        Constructor::Source(make) => Object::Source(make()),
        Constructor::Sink(make) => Object::Sink(make()),
        Constructor::Transformation(make) => Object::Transformation(PerRecord::new(make(properties)?)),
        Constructor::Predicate(make) => Object::Predicate(PerRecord::new(make(properties)?)),
        Constructor::Converter(make) => Object::Converter(PerRecord::new(make(properties, for_keys)?)),
        Constructor::ConfigProvider(make) => Object::ConfigProvider(make(properties)?),
    }))
}

/// Does something with the object of this number.
///
/// # Safety
///
/// The number is one that [`make`] or an object gave, and [`release`] was not called with it.
pub(crate) unsafe fn with<T>(number: u64, work: impl FnOnce(&Arc<Object>) -> T) -> T {
    let pointer = std::ptr::with_exposed_provenance::<Object>(number as usize);
    // SAFETY: the count holds one for the number; this one is added for the call, so that a release meanwhile does no harm.
    let object = unsafe {
        Arc::increment_strong_count(pointer);
        Arc::from_raw(pointer)
    };
    work(&object)
}

/// Lets the number go.
///
/// # Safety
///
/// As for [`with`], for the last time.
pub(crate) unsafe fn release(number: u64) {
    let pointer = std::ptr::with_exposed_provenance::<Object>(number as usize);
    // SAFETY: this is the one that was counted for the number.
    let object = unsafe { Arc::from_raw(pointer) };
    // A task may close what belongs to the runtime: that must find it.
    let _runtime = super::library().runtime.enter();
    let task = match &*object {
        Object::SourceTask(task) => task.name(),
        Object::SinkTask(task) => task.name(),
        _ => None,
    };
    super::log::on_behalf_of(&task, || drop(object));
}

impl Object {
    /// Calls a method that is answered at once. Nothing where the object has none such.
    pub(crate) fn call(&self, method: u32, request: &Received) -> Result<Option<Message>> {
        // Whatever of tokio is made in here belongs to the library's runtime.
        let _runtime = super::library().runtime.enter();
        Ok(Some(match (self, method) {
            (Self::Source(source), method::VALIDATE) => plain(&source.validate(&request.read()?)),
            (Self::Source(source), method::TASKS) => {
                let (properties, tasks_max): (Properties, u32) = request.read()?;
                let tasks = source.tasks(&properties, tasks_max as usize)?;
                let numbers = tasks.into_iter().map(|task| number(Object::SourceTask(SourceTaskObject::new(task))));
                plain(&numbers.collect::<Vec<u64>>())
            }
            (Self::Sink(sink), method::VALIDATE) => plain(&sink.validate(&request.read()?)),
            (Self::Sink(sink), method::TASK) => {
                plain(&number(Object::SinkTask(SinkTaskObject::new(sink.task(&request.read()?)?))))
            }
            (Self::Sink(sink), method::DESTINATION) => plain(&sink.destination(&request.read()?)),
            (Self::Transformation(cell), method::APPLY) => {
                let mut cell = cell.lock().unwrap_or_else(PoisonError::into_inner);
                let record: Record = request.read_with(&mut cell.received)?;
                let before = (json(&record.key), json(&record.value));
                let after = cell.plugin.apply(record)?;
                cell.lend(&after.map(|record| Applied::new(record, &before)))
            }
            (Self::Transformation(cell), method::IS_DETERMINISTIC) => {
                let cell = cell.lock().unwrap_or_else(PoisonError::into_inner);
                plain(&cell.plugin.is_deterministic())
            }
            (Self::Predicate(cell), method::TEST) => {
                let mut cell = cell.lock().unwrap_or_else(PoisonError::into_inner);
                let mut record: Record = request.read_with(&mut cell.received)?;
                let yes = cell.plugin.test(&mut record)?;
                cell.lend(&yes)
            }
            (Self::Converter(cell), method::TO_CONNECT) => {
                let mut cell = cell.lock().unwrap_or_else(PoisonError::into_inner);
                let (topic, bytes, decoded): (String, Option<bytes::Bytes>, bool) = request.read()?;
                let payload = match decoded {
                    true => cell.plugin.to_connect_decoded(&topic, bytes.as_ref())?,
                    false => cell.plugin.to_connect(&topic, bytes.as_ref())?,
                };
                cell.lend(&payload)
            }
            (Self::Converter(cell), method::FROM_CONNECT) => {
                let mut cell = cell.lock().unwrap_or_else(PoisonError::into_inner);
                let (topic, payload): (String, Payload) = request.read_with(&mut cell.received)?;
                let bytes = cell.plugin.from_connect(&topic, &payload)?;
                cell.lend(&bytes)
            }
            (Self::ConfigProvider(provider), method::GET) => {
                let (path, key): (String, String) = request.read()?;
                plain(&provider.get(&path, &key)?)
            }
            _ => return Ok(None),
        }))
    }

    /// Starts a method of a task; the ticket answers.
    pub(crate) fn start(self: &Arc<Self>, method: u32, request: Received, ticket: Ticket) {
        match &**self {
            Self::SourceTask(task) => task.start(self, method, request, ticket),
            Self::SinkTask(task) => task.start(self, method, request, ticket),
            _ => ticket.unknown_method(),
        }
    }
}

/// The text of a payload that is text.
fn json(payload: &Payload) -> Option<bytes::Bytes> {
    match payload {
        Payload::Json(text) => Some(text.clone()),
        Payload::Data { .. } => None,
    }
}
