//! Plugins that get into trouble in the method that the option `at` names, and do what they should in all others.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use ottla_api::config_provider::ConfigProvider;
use ottla_api::prelude::*;

use crate::trouble::Trouble;

/// Options of all of them.
#[derive(Debug, Clone, Config)]
pub(crate) struct WildConfig {
    /// The method in which it gets into trouble: its name in the trait, or `constructor` or `drop`.
    #[config(name = "at", default = "nowhere")]
    pub at: String,
    /// The topic of a source's records.
    #[config(name = "topic", default = "wild")]
    pub topic: String,
}

/// The variable that names the trouble which is looked for in the functions that see no options, and the function.
const EARLY: &str = "ZOO_EARLY";

/// Gets into trouble where the environment says so: `ZOO_EARLY=Panics:definition`.
fn early(trouble: Trouble, function: &str) {
    if std::env::var(EARLY).is_ok_and(|early| early == format!("{trouble:?}:{function}")) {
        trouble.strike(function);
    }
}

/// The definition of the options.
pub(crate) fn definition(trouble: Trouble) -> ConfigDef {
    early(trouble, "definition");
    WildConfig::definition()
}

/// What it is, where it gets into trouble.
struct Wild {
    trouble: Trouble,
    config: WildConfig,
}

impl Wild {
    fn new(trouble: Trouble, properties: &Properties) -> Result<Self> {
        Ok(Self { trouble, config: WildConfig::from_properties(properties)? })
    }

    fn reach(&self, method: &str) {
        if self.config.at == method {
            self.trouble.strike(method);
        }
    }

    async fn reach_async(&self, method: &str) {
        if self.config.at == method {
            self.trouble.strike_async(method).await;
        }
    }
}

impl Drop for Wild {
    fn drop(&mut self) {
        // While a panic unwinds, another one would end the process: that is Rust's rule, not the worker's.
        if !std::thread::panicking() {
            self.reach("drop");
        }
    }
}

/// A connector, of either kind.
pub(crate) struct WildConnector(Trouble);

impl WildConnector {
    pub(crate) fn new(trouble: Trouble) -> Self {
        early(trouble, "constructor");
        Self(trouble)
    }

    /// The wild one of a call of the connector's. It does not live beyond the call, so it is not its end that counts.
    fn reach(&self, properties: &Properties, method: &str) {
        if properties.get("at") == Some(method) {
            self.0.strike(method);
        }
    }
}

impl SinkConnector for WildConnector {
    fn validate(&self, properties: &Properties) -> Vec<ConfigError> {
        self.reach(properties, "validate");
        Vec::new()
    }

    fn task(&self, properties: &Properties) -> Result<Box<dyn SinkTask>> {
        self.reach(properties, "task");
        Ok(Box::new(WildSinkTask { wild: Wild::new(self.0, properties)?, accepted: Positions::new() }))
    }

    fn destination(&self, properties: &Properties) -> Option<String> {
        self.reach(properties, "destination");
        None
    }
}

impl SourceConnector for WildConnector {
    fn validate(&self, properties: &Properties) -> Vec<ConfigError> {
        self.reach(properties, "validate");
        Vec::new()
    }

    fn tasks(&self, properties: &Properties, _tasks_max: usize) -> Result<Vec<Box<dyn SourceTask>>> {
        self.reach(properties, "tasks");
        Ok(vec![Box::new(WildSourceTask { wild: Wild::new(self.0, properties)?, sent: 0 })])
    }
}

/// Takes records, and keeps none.
struct WildSinkTask {
    wild: Wild,
    accepted: Positions,
}

#[async_trait]
impl SinkTask for WildSinkTask {
    async fn start(&mut self, _context: &SinkTaskContext) -> Result<()> {
        self.wild.reach_async("start").await;
        Ok(())
    }

    async fn open(&mut self, _committed: &Positions) -> Result<Positions> {
        self.wild.reach_async("open").await;
        Ok(Positions::new())
    }

    async fn put(&mut self, batch: &SinkBatch) -> Result<()> {
        self.wild.reach_async("put").await;
        self.accepted.insert(batch.partition.clone(), batch.next_offset);
        Ok(())
    }

    async fn flush(&mut self, _reason: FlushReason) -> Result<Positions> {
        self.wild.reach_async("flush").await;
        Ok(self.accepted.clone())
    }

    async fn close(&mut self, partitions: &[TopicPartition], _reason: CloseReason) -> Result<()> {
        self.wild.reach_async("close").await;
        self.accepted.retain(|partition, _| !partitions.contains(partition));
        Ok(())
    }

    async fn tick(&mut self) -> Result<()> {
        self.wild.reach_async("tick").await;
        Ok(())
    }

    async fn stop(&mut self) -> Result<()> {
        self.wild.reach_async("stop").await;
        Ok(())
    }
}

/// Sends three records, and then has nothing more.
struct WildSourceTask {
    wild: Wild,
    sent: i64,
}

#[async_trait]
impl SourceTask for WildSourceTask {
    async fn start(&mut self, _context: &SourceTaskContext) -> Result<()> {
        self.wild.reach_async("start").await;
        Ok(())
    }

    async fn poll(&mut self) -> Result<SourcePoll> {
        self.wild.reach_async("poll").await;
        if self.sent == 3 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            return Ok(SourcePoll::CaughtUp);
        }
        self.sent += 1;
        let partition = SourcePartition::new([("wild", self.wild.config.topic.as_str())]);
        let record = Record::new(self.wild.config.topic.as_str(), self.sent);
        let offset = SourceOffset::new([("sent", self.sent)]);
        Ok(SourcePoll::Records(vec![SourceRecord::new(record, partition, offset)]))
    }

    async fn commit(&mut self, _durable: &SourceOffsets) -> Result<()> {
        self.wild.reach_async("commit").await;
        Ok(())
    }

    async fn stop(&mut self) -> Result<()> {
        self.wild.reach_async("stop").await;
        Ok(())
    }
}

/// A plugin that sees one record, or one setting, at a time.
pub(crate) struct WildPerRecord(Wild);

impl WildPerRecord {
    pub(crate) fn new(trouble: Trouble, properties: &Properties) -> Result<Self> {
        let wild = Wild::new(trouble, properties)?;
        wild.reach("constructor");
        Ok(Self(wild))
    }
}

impl Transformation for WildPerRecord {
    fn apply(&mut self, record: Record) -> Result<Option<Record>> {
        self.0.reach("apply");
        Ok(Some(record))
    }

    fn is_deterministic(&self) -> bool {
        self.0.reach("is_deterministic");
        true
    }
}

impl Predicate for WildPerRecord {
    fn test(&mut self, _record: &mut Record) -> Result<bool> {
        self.0.reach("test");
        Ok(true)
    }
}

impl Converter for WildPerRecord {
    fn to_connect(&self, _topic: &str, bytes: Option<&Bytes>) -> Result<Payload> {
        self.0.reach("to_connect");
        Ok(bytes.map_or_else(Payload::null, |bytes| Payload::schemaless(Value::Bytes(bytes.clone()))))
    }

    fn from_connect(&self, _topic: &str, payload: &Payload) -> Result<Option<Bytes>> {
        self.0.reach("from_connect");
        Ok(Some(format!("{payload:?}").into()))
    }
}

impl ConfigProvider for WildPerRecord {
    fn get(&self, _path: &str, _key: &str) -> Result<Option<String>> {
        self.0.reach("get");
        Ok(Some("nowhere".to_owned()))
    }
}
