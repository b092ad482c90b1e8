//! Source and sink against the public suites, over the embedded Kinesis.

use std::path::Path;
use std::sync::Arc;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::ShardIteratorType;
use ottla_api::prelude::*;
use ottla_connector_kinesis::{
    ConnectionConfig, KinesisSink, KinesisSinkConfig, KinesisSource, KinesisSourceConfig, PLUGINS, connect,
};
use ottla_testkit::config_suite;
use ottla_testkit::sink_suite::SinkSuite;
use ottla_testkit::source_suite::SourceSuite;

/// Options of a source over an embedded Kinesis, quick enough for a test.
fn source_properties(stream: &str, more: &[(&str, &str)]) -> Properties {
    let mut properties = Properties::from_iter([
        ("kinesis.endpoint", "embedded"),
        ("kinesis.stream", stream),
        ("kinesis.reads.per.second", "1000"),
        ("kinesis.empty.records.backoff.ms", "5"),
    ]);
    for (key, value) in more {
        properties.set(*key, *value);
    }
    properties
}

async fn client(state_dir: &Path) -> Client {
    let config = ConnectionConfig::from_properties(&Properties::from_iter([("kinesis.endpoint", "embedded")])).unwrap();
    connect(&config, state_dir).await.unwrap()
}

/// A task whose state folder is the test's, whichever the suite gives it.
struct InFolder(Box<dyn SourceTask>, Arc<Path>);

#[async_trait::async_trait]
impl SourceTask for InFolder {
    async fn start(&mut self, context: &SourceTaskContext) -> Result<()> {
        let mut context = context.clone();
        context.state_dir = self.1.to_path_buf();
        self.0.start(&context).await
    }
    async fn poll(&mut self) -> Result<SourcePoll> {
        self.0.poll().await
    }
    async fn commit(&mut self, durable: &SourceOffsets) -> Result<()> {
        self.0.commit(durable).await
    }
    async fn stop(&mut self) -> Result<()> {
        self.0.stop().await
    }
}

fn tasks(properties: &Properties, folder: &Arc<Path>, tasks_max: usize) -> Vec<Box<dyn SourceTask>> {
    let made = KinesisSource.tasks(properties, tasks_max).unwrap();
    made.into_iter().map(|task| Box::new(InFolder(task, folder.clone())) as Box<dyn SourceTask>).collect()
}

async fn put(client: &Client, stream: &str, key: &str, data: &[u8]) {
    client.put_record().stream_name(stream).partition_key(key).data(Blob::new(data)).send().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_source_keeps_its_contract() {
    let folder = tempfile::tempdir().unwrap();
    let path: Arc<Path> = folder.path().into();
    let client = client(&path).await;
    client.create_stream().stream_name("posts").shard_count(3).send().await.unwrap();
    for n in 0..30 {
        put(&client, "posts", &format!("key-{}", n % 9), format!("«{n}»").as_bytes()).await;
    }
    for limit in ["4", "10000"] {
        let properties = source_properties("posts", &[("kinesis.record.limit", limit)]);
        SourceSuite::new(30, || tasks(&properties, &path, 1).remove(0))
            .tasks(|tasks_max| tasks(&properties, &path, tasks_max))
            .prefixes_max(12)
            .run()
            .await;
    }
}

/// A sink task whose state folder is the test's.
struct SinkInFolder(Box<dyn SinkTask>, Arc<Path>);

#[async_trait::async_trait]
impl SinkTask for SinkInFolder {
    async fn start(&mut self, context: &SinkTaskContext) -> Result<()> {
        let mut context = context.clone();
        context.state_dir = self.1.to_path_buf();
        self.0.start(&context).await
    }
    async fn open(&mut self, committed: &Positions) -> Result<Positions> {
        self.0.open(committed).await
    }
    async fn put(&mut self, batch: &SinkBatch) -> Result<()> {
        self.0.put(batch).await
    }
    async fn flush(&mut self, reason: FlushReason) -> Result<Positions> {
        self.0.flush(reason).await
    }
    async fn close(&mut self, partitions: &[TopicPartition], reason: CloseReason) -> Result<()> {
        self.0.close(partitions, reason).await
    }
    async fn tick(&mut self) -> Result<()> {
        self.0.tick().await
    }
    async fn stop(&mut self) -> Result<()> {
        self.0.stop().await
    }
}

/// Everything in a stream of one shard, in order.
async fn read(client: &Client, stream: &str) -> Vec<String> {
    let Ok(shards) = client.list_shards().stream_name(stream).send().await else { return Vec::new() };
    let mut texts = Vec::new();
    for shard in shards.shards() {
        let iterator = client.get_shard_iterator().stream_name(stream).shard_id(shard.shard_id());
        let iterator = iterator.shard_iterator_type(ShardIteratorType::TrimHorizon).send().await.unwrap();
        let mut next = iterator.shard_iterator;
        while let Some(iterator) = next {
            let page = client.get_records().shard_iterator(iterator).send().await.unwrap();
            let records =
                page.records().iter().map(|record| String::from_utf8(record.data().as_ref().to_vec()).unwrap());
            texts.extend(records);
            next = page.next_shard_iterator.filter(|_| page.millis_behind_latest != Some(0));
        }
    }
    texts
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sink_keeps_its_contract() {
    for (ordering, shards) in [("strict", "1"), ("batch", "1"), ("strict", "3")] {
        // An account of its own: all streams of the suite together would be more shards than one may have.
        let folder = tempfile::tempdir().unwrap();
        let path: Arc<Path> = folder.path().into();
        let client = client(&path).await;
        let name = |destination: &str| format!("{destination}-{ordering}-{shards}");
        let task = |destination: &str| {
            let properties = Properties::from_iter([
                ("kinesis.endpoint", "embedded"),
                ("kinesis.stream", &name(destination)),
                ("kinesis.ordering", ordering),
                ("kinesis.create.stream.shards", shards),
                ("kinesis.partition.key", "${topic}-${partition}"),
            ]);
            Box::new(SinkInFolder(KinesisSink.task(&properties).unwrap(), path.clone())) as Box<dyn SinkTask>
        };
        let read = |destination: String| {
            let (client, stream) = (client.clone(), name(&destination));
            async move { read(&client, &stream).await }
        };
        SinkSuite::new(task, read).at_least_once().run().await;
    }
}

#[test]
fn options_and_plugins_are_described_and_valid() {
    config_suite::check::<KinesisSourceConfig>(&Properties::from_iter([("kinesis.stream", "posts")]));
    config_suite::check::<KinesisSinkConfig>(&Properties::new());
    config_suite::check_plugins(PLUGINS);
}
