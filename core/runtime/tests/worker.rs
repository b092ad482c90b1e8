//! A whole worker over embedded topics, with connectors that misbehave on purpose: what it contains, and what it ends with.

mod doubles;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use ottla_api::plugin::{Constructor, Plugin};
use ottla_api::prelude::*;
use ottla_runtime::broker::embedded::EmbeddedBroker;
use ottla_runtime::broker::{Broker as _, ConsumerEvent, ConsumerSpec, ProducerRecord, StartPosition, Subscription};
use ottla_runtime::config::load;
use ottla_runtime::plugins::{Registry, builtin};
use ottla_runtime::storage::StateStore;
use ottla_runtime::worker::{Outcome, Until, Worker};

const CAUGHT_UP: Until = Until::CaughtUp { give_up_after: Duration::from_secs(60) };
const DEADLINE: Duration = Duration::from_secs(60);

/// A sink that has everything durable at once, and panics at a record that says so unless the file named by
/// `calm.when` exists; then it makes that file.
#[derive(Debug, Config)]
struct MoodySinkConfig {
    /// A file that tells it to stay calm.
    #[config(name = "calm.when")]
    calm_when: Option<std::path::PathBuf>,
    /// How long its start takes.
    #[config(name = "start.ms", default = "0")]
    start: Duration,
}

struct MoodySink;

impl SinkConnector for MoodySink {
    fn task(&self, properties: &Properties) -> Result<Box<dyn SinkTask>> {
        let config = MoodySinkConfig::from_properties(properties)?;
        Ok(Box::new(MoodyTask { config, put: Positions::new() }))
    }
}

struct MoodyTask {
    config: MoodySinkConfig,
    put: Positions,
}

#[async_trait]
impl SinkTask for MoodyTask {
    async fn start(&mut self, _: &SinkTaskContext) -> Result<()> {
        tokio::time::sleep(self.config.start).await;
        Ok(())
    }

    async fn open(&mut self, _: &Positions) -> Result<Positions> {
        Ok(Positions::new())
    }

    async fn put(&mut self, batch: &SinkBatch) -> Result<()> {
        for record in &batch.records {
            let panics = record.raw.value.as_ref().is_some_and(|value| value.as_ref() == b"\"panic\"");
            if let Some(calm) = self.config.calm_when.as_ref().filter(|calm| panics && !calm.exists()) {
                std::fs::write(calm, "").expect("write a file");
                panic!("as told");
            }
        }
        self.put.insert(batch.partition.clone(), batch.next_offset);
        Ok(())
    }

    async fn flush(&mut self, _: FlushReason) -> Result<Positions> {
        Ok(self.put.clone())
    }

    async fn close(&mut self, closed: &[TopicPartition], _: CloseReason) -> Result<()> {
        self.put.retain(|partition, _| !closed.contains(partition));
        Ok(())
    }
}

fn registry() -> Registry {
    let sink = Plugin {
        name: "moody-sink",
        aliases: &[],
        version: "1",
        doc: "A double.",
        definition: &MoodySinkConfig::definition,
        constructor: Constructor::Sink(&|| Box::new(MoodySink)),
    };
    Registry::new([builtin(), ottla_converters::plugins(), vec![sink]].concat())
}

/// A worker in `folder` with this text of connectors.
async fn start(folder: &Path, connectors: &str, until: Until) -> Worker {
    let file = folder.join("worker.toml");
    let state = folder.join("state");
    let text = format!(
        "[worker]\nbootstrap.servers = \"embedded\"\nstate.dir = \"{}\"\noffset.flush.interval.ms = 50\n\
         task.restart.backoff.ms = 10\nvalue.converter = {{ class = \"json\", schemas.enable = false }}\n{connectors}",
        state.display()
    );
    std::fs::write(&file, text).expect("write the configuration");
    let configuration = load(&[file], &[], &registry()).unwrap_or_else(|errors| panic!("{errors}"));
    Worker::start(configuration, until).await.expect("start the worker")
}

/// Writes values into topic `a`, before the worker starts, and has group `connect-s` commit a position.
async fn prepare(folder: &Path, values: &[&'static str], committed: Option<i64>) {
    let store = StateStore::open(&folder.join("state"), false).expect("open the state folder");
    let broker: Arc<EmbeddedBroker> =
        EmbeddedBroker::open(store, 1, Duration::from_secs(3600)).expect("open the topics");
    let record = |value: &&'static str| ProducerRecord {
        topic: "a".into(),
        partition: None,
        key: None,
        value: Some(Bytes::from_static(value.as_bytes())),
        timestamp: None,
        headers: Vec::new(),
    };
    let records: Vec<_> = values.iter().map(record).collect();
    let mut producer = broker.producer("test", &Properties::new()).await.expect("make a producer");
    producer.send(&records, &SourceOffsets::new(), "test").await.expect("write");
    let Some(committed) = committed else { return };
    let spec = ConsumerSpec {
        group: "connect-s".into(),
        client_id: "test".into(),
        instance_id: None,
        subscription: Subscription::Topics(vec!["a".into()]),
        start: StartPosition::Earliest,
        settings: Properties::new(),
        batch_records_max: 1,
        ahead_bytes_max: 1 << 20,
    };
    let mut consumer = broker.consumer(spec).await.expect("make a consumer");
    let event = consumer.next().await.expect("an event");
    let ConsumerEvent::Assigned(positions) = event else { panic!("{event:?}") };
    let positions = positions.into_keys().map(|partition| (partition, committed)).collect();
    consumer.commit(&positions).await.expect("commit");
    consumer.close().await.expect("leave");
}

async fn run(worker: Worker, until: Until) -> Outcome {
    tokio::time::timeout(DEADLINE, worker.run(until)).await.expect("the run ends by itself")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_ends_one_task_which_is_started_again_and_its_records_come_again() {
    let folder = tempfile::tempdir().unwrap();
    prepare(folder.path(), &["1", "\"panic\"", "3"], None).await;
    let calm = folder.path().join("calm");
    let connectors = format!(
        "[connectors.s]\nconnector.class = \"moody-sink\"\ntopics = \"a\"\ncalm.when = \"{}\"\n\
         [connectors.neighbour]\nconnector.class = \"moody-sink\"\ntopics = \"a\"\n",
        calm.display()
    );
    let worker = start(folder.path(), &connectors, Until::Stopped).await;
    let (status, stop) = (worker.status(), worker.stop_token());
    let run = tokio::spawn(run(worker, Until::Stopped));
    let counters = |index: usize| {
        let connector = Arc::clone(&status.connectors()[index]);
        move |of: fn(&ottla_runtime::status::Counters) -> &std::sync::atomic::AtomicU64| {
            of(&connector.counters).load(std::sync::atomic::Ordering::Relaxed)
        }
    };
    let (moody, neighbour) = (counters(0), counters(1));
    let both = async {
        while moody(|c| &c.written) < 3 || neighbour(|c| &c.written) < 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, both).await.expect("both sinks get all records");
    assert_eq!((moody(|c| &c.restarts), neighbour(|c| &c.restarts)), (1, 0));
    stop.cancel();
    assert_eq!(run.await.unwrap().exit_code(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_ends_when_all_is_committed_whatever_its_topics_hold() {
    let folder = tempfile::tempdir().unwrap();
    prepare(folder.path(), &["1", "2"], None).await;
    // One sink with more tasks than partitions, one whose topic nobody has made.
    let connectors = "[connectors.many]\nconnector.class = \"moody-sink\"\ntopics.regex = \"a.*\"\ntasks.max = 3\n\
                      [connectors.none]\nconnector.class = \"moody-sink\"\ntopics = \"missing\"\n";
    let worker = start(folder.path(), connectors, CAUGHT_UP).await;
    let status = worker.status();
    let outcome = run(worker, CAUGHT_UP).await;
    assert_eq!(outcome.exit_code(), 0, "{outcome:?}");
    assert_eq!(status.connectors()[0].counters.written.load(std::sync::atomic::Ordering::Relaxed), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_over_a_topic_that_was_made_anew_fails_instead_of_counting_old_offsets_as_read() {
    let folder = tempfile::tempdir().unwrap();
    prepare(folder.path(), &["1", "2"], Some(100)).await;
    // Slow, so that whoever takes the old offset for an answer has the time to.
    let connectors = "[connectors.s]\nconnector.class = \"moody-sink\"\ntopics = \"a\"\nstart.ms = 500\n";
    let worker = start(folder.path(), connectors, CAUGHT_UP).await;
    let outcome = run(worker, CAUGHT_UP).await;
    assert_eq!(outcome.exit_code(), 1, "{outcome:?}");
    let (task, error) = &outcome.failures[0];
    assert_eq!(task, "s-0");
    assert!(
        error.to_string().starts_with("there is no record at offset 100 of a-0, where the group goes on"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_ends_at_the_first_task_that_fails() {
    let folder = tempfile::tempdir().unwrap();
    prepare(folder.path(), &["\"panic\""], None).await;
    let calm = folder.path().join("calm");
    let connectors = format!(
        "[connectors.s]\nconnector.class = \"moody-sink\"\ntopics = \"a\"\ncalm.when = \"{}\"\n",
        calm.display()
    );
    let worker = start(folder.path(), &connectors, CAUGHT_UP).await;
    let outcome = run(worker, CAUGHT_UP).await;
    assert_eq!(outcome.exit_code(), 1);
    assert_eq!(outcome.failures[0].1.to_string(), "the task panicked: as told");
}
