//! Connectors of a library, as the worker's own are.

use std::sync::OnceLock;

use ottla_api::Result;
use ottla_api::boundary::abi::method;
use ottla_api::config::{ConfigError, Properties};
use ottla_api::sink::{SinkConnector, SinkTask};
use ottla_api::source::{SourceConnector, SourceTask};
use tracing::warn;

use super::PluginOf;
use super::library::Object;
use super::task::{LoadedSinkTask, LoadedSourceTask};

/// Made when it is first needed: a constructor can't fail, a library can.
struct Lazy {
    plugin: PluginOf,
    object: OnceLock<Result<Object, String>>,
}

impl Lazy {
    fn new(plugin: PluginOf) -> Self {
        Self { plugin, object: OnceLock::new() }
    }

    fn get(&self) -> Result<&Object> {
        let made = self.object.get_or_init(|| {
            let made = self.plugin.make(&Properties::new(), false);
            made.map_err(|error| error.to_string())
        });
        made.as_ref()
            .map_err(|error| ottla_api::Error::fatal(error.clone()).during(format!("make {}", self.plugin.name)))
    }

    fn validate(&self, properties: &Properties) -> Vec<ConfigError> {
        let asked = self.get().and_then(|object| object.ask(method::VALIDATE, properties));
        asked.unwrap_or_else(|error| vec![ConfigError::new("connector.class", error.to_string())])
    }
}

/// A source of a library.
pub(super) struct LoadedSource(Lazy);

impl LoadedSource {
    pub(super) fn new(plugin: PluginOf) -> Self {
        Self(Lazy::new(plugin))
    }
}

impl SourceConnector for LoadedSource {
    fn validate(&self, properties: &Properties) -> Vec<ConfigError> {
        self.0.validate(properties)
    }

    fn tasks(&self, properties: &Properties, tasks_max: usize) -> Result<Vec<Box<dyn SourceTask>>> {
        let tasks: Vec<u64> = self.0.get()?.ask(method::TASKS, &(properties.clone(), tasks_max as u32))?;
        let plugin = self.0.plugin;
        let task = |number| Box::new(LoadedSourceTask::new(plugin, Object::new(plugin.library, number))) as _;
        Ok(tasks.into_iter().map(task).collect())
    }
}

/// A sink of a library.
pub(super) struct LoadedSink(Lazy);

impl LoadedSink {
    pub(super) fn new(plugin: PluginOf) -> Self {
        Self(Lazy::new(plugin))
    }
}

impl SinkConnector for LoadedSink {
    fn validate(&self, properties: &Properties) -> Vec<ConfigError> {
        self.0.validate(properties)
    }

    fn task(&self, properties: &Properties) -> Result<Box<dyn SinkTask>> {
        let number: u64 = self.0.get()?.ask(method::TASK, properties)?;
        let plugin = self.0.plugin;
        Ok(Box::new(LoadedSinkTask::new(plugin, Object::new(plugin.library, number))))
    }

    fn destination(&self, properties: &Properties) -> Option<String> {
        let asked = self.0.get().and_then(|object| object.ask(method::DESTINATION, properties));
        asked.unwrap_or_else(|error| {
            warn!(plugin = self.0.plugin.name, %error, "where it writes to is not known");
            None
        })
    }
}
