//! What goes wrong between the connectors and Kinesis: resharding under way, expired iterators, throttling, failures, lost answers,
//! aggregates, gaps. All of it on the embedded Kinesis, whose faults are scripted.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::primitives::Blob;
use bytes::Bytes;
use md5::{Digest, Md5};
use ottla_api::prelude::*;
use ottla_connector_kinesis::embedded::{Action, EmbeddedKinesis, Fault, ManualClock, Options};
use ottla_connector_kinesis::{ConnectionConfig, KinesisSink, KinesisSource, connect};
use ottla_testkit::harness::{SinkHarness, SourceHarness, sink_batch, sink_value};

struct World {
    folder: tempfile::TempDir,
    kinesis: Arc<EmbeddedKinesis>,
    client: Client,
}

impl World {
    async fn new(stream: &str, shards: i32) -> Self {
        Self::with(stream, shards, Options::default()).await
    }

    async fn with(stream: &str, shards: i32, options: Options) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let kinesis = EmbeddedKinesis::open_with(folder.path(), options).unwrap();
        let properties = Properties::from_iter([("kinesis.endpoint", "embedded")]);
        let client = connect(&ConnectionConfig::from_properties(&properties).unwrap(), folder.path()).await.unwrap();
        client.create_stream().stream_name(stream).shard_count(shards).send().await.unwrap();
        Self { folder, kinesis, client }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    async fn put(&self, stream: &str, key: &str, data: impl Into<Vec<u8>>) -> String {
        let put = self.client.put_record().stream_name(stream).partition_key(key).data(Blob::new(data.into()));
        put.send().await.unwrap().shard_id
    }

    async fn source(&self, more: &[(&str, &str)], durable: &SourceOffsets) -> SourceHarness {
        let mut tasks = KinesisSource.tasks(&source_properties(more), 1).unwrap();
        SourceHarness::start_in(tasks.remove(0), durable, self.path()).await.unwrap()
    }
}

fn source_properties(more: &[(&str, &str)]) -> Properties {
    let mut properties = Properties::from_iter([
        ("kinesis.endpoint", "embedded"),
        ("kinesis.stream", "s"),
        ("kinesis.reads.per.second", "1000"),
        ("kinesis.empty.records.backoff.ms", "5"),
    ]);
    for (key, value) in more {
        properties.set(*key, *value);
    }
    properties
}

fn bytes(record: &SourceRecord) -> Vec<u8> {
    match record.record.value.clone().value().unwrap() {
        Value::Bytes(bytes) => bytes.to_vec(),
        other => panic!("a value is bytes, not {other:?}"),
    }
}

fn texts(records: &[SourceRecord]) -> Vec<String> {
    records.iter().map(|record| String::from_utf8(bytes(record)).unwrap()).collect()
}

/// The texts by partition key, which is what keeps an order.
fn by_key(records: &[SourceRecord]) -> BTreeMap<String, Vec<String>> {
    let mut keys: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for record in records {
        let key = record.record.key.clone().value().unwrap().as_str().unwrap().to_owned();
        keys.entry(key).or_default().extend(texts(std::slice::from_ref(record)));
    }
    keys
}

/// Polls until the task says that it has caught up; what came until then, commits included.
async fn read_until_caught_up(harness: &mut SourceHarness) -> Vec<SourceRecord> {
    let mut records = Vec::new();
    loop {
        match harness.poll().await.unwrap() {
            SourcePoll::Records(more) => records.extend(more),
            SourcePoll::Offsets(_) => {}
            SourcePoll::CaughtUp => return records,
            SourcePoll::Finished => panic!("a stream has no end"),
        }
        harness.commit().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn children_come_after_their_parents_in_both_modes() {
    for (mode, tasks_max) in [("polling", 1), ("polling", 3), ("fan-out", 1)] {
        let world = World::with(
            "s",
            1,
            Options {
                resubscribe_pause: Duration::ZERO,
                subscription_heartbeat: Duration::from_millis(20),
                ..Options::default()
            },
        )
        .await;
        let mut expected: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let put = async |from: usize, expected: &mut BTreeMap<String, Vec<String>>| {
            for n in from..from + 40 {
                let key = format!("k{}", n % 8);
                world.put("s", &key, n.to_string()).await;
                expected.entry(key).or_default().push(n.to_string());
            }
        };
        put(0, &mut expected).await;
        let middle = (1u128 << 127).to_string();
        let split = world.client.split_shard().stream_name("s").shard_to_split("shardId-000000000000");
        split.new_starting_hash_key(&middle).send().await.unwrap();
        put(100, &mut expected).await;
        let merge = world.client.merge_shards().stream_name("s").shard_to_merge("shardId-000000000001");
        merge.adjacent_shard_to_merge("shardId-000000000002").send().await.unwrap();
        put(200, &mut expected).await;
        let made = KinesisSource.tasks(&source_properties(&[("kinesis.mode", mode)]), tasks_max).unwrap();
        let mut harnesses = Vec::new();
        for task in made {
            harnesses.push(SourceHarness::start_in(task, &SourceOffsets::new(), world.path()).await.unwrap());
        }
        let mut records = Vec::new();
        let deadline = tokio::time::Instant::now() + Duration::from_secs(25);
        while records.len() < 120 {
            assert!(tokio::time::Instant::now() < deadline, "{mode}, {tasks_max} tasks: {} of 120", records.len());
            for at in 0..harnesses.len() {
                if let Some(Ok(SourcePoll::Records(more))) = harnesses[at].poll_for(Duration::from_millis(100)).await {
                    records.extend(more);
                }
                // Offsets of one task are what the others wait for.
                let durable = harnesses[at].offsets().clone();
                for harness in &mut harnesses {
                    harness.store(&durable);
                }
            }
        }
        assert_eq!(by_key(&records), expected, "{mode}, {tasks_max} tasks");
        let offset = |shard: &str| {
            let partition = SourcePartition::new([("stream", "s"), ("shard", shard)]);
            harnesses.iter().find_map(|harness| harness.offsets().get(&partition)).map(SourceOffset::to_json)
        };
        for shard in ["shardId-000000000000", "shardId-000000000001", "shardId-000000000002"] {
            let offset = offset(shard).unwrap();
            assert!(offset.ends_with(r#""ended":true}"#), "{mode}: {shard} {offset}");
        }
        for harness in &mut harnesses {
            harness.stop().await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_read_meets_every_record_comes_once() {
    let faults = [
        Fault::ExpiredIterator,
        Fault::Throttled,
        Fault::Internal,
        Fault::Unavailable,
        Fault::CutBefore,
        Fault::CutAfter,
        Fault::Delay(Duration::from_millis(20)),
    ];
    for action in [Action::GetRecords, Action::GetShardIterator, Action::ListShards] {
        for fault in faults.clone() {
            let world = World::new("s", 2).await;
            let mut expected = Vec::new();
            for n in 0..30 {
                world.put("s", &format!("k{n}"), n.to_string()).await;
                expected.push(n.to_string());
            }
            world.kinesis.faults().repeat(action, fault.clone(), 2);
            let mut source = world.source(&[("kinesis.record.limit", "4")], &SourceOffsets::new()).await;
            let mut found = texts(&source.read(30).await.unwrap());
            found.sort_by_key(|text| text.parse::<u32>().unwrap());
            assert_eq!(found, expected, "{action:?} {fault:?}");
            let counts = source.counts();
            match (action, fault) {
                (Action::GetRecords, Fault::ExpiredIterator) => assert!(counts["iterators.expired"] >= 1, "{counts:?}"),
                (Action::GetRecords | Action::GetShardIterator, Fault::Throttled) => assert_eq!(counts["throttled"], 2),
                _ => {}
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_that_ends_breaks_or_is_taken_goes_on_behind_the_last_record() {
    let in_use = Fault::Error("ResourceInUseException", "another one is subscribed".to_owned());
    // The subscription's own end comes every few milliseconds in all of them.
    for fault in [None, Some(in_use), Some(Fault::Throttled), Some(Fault::CutBefore), Some(Fault::CutAfter)] {
        let options = Options {
            subscription_life: Duration::from_millis(30),
            resubscribe_pause: Duration::ZERO,
            subscription_heartbeat: Duration::from_millis(5),
            ..Options::default()
        };
        let world = World::with("s", 1, options).await;
        if let Some(fault) = &fault {
            world.kinesis.faults().repeat(Action::SubscribeToShard, fault.clone(), 2);
        }
        let properties = [("kinesis.mode", "fan-out"), ("kinesis.consumer.name", "c")];
        let mut source = world.source(&properties, &SourceOffsets::new()).await;
        let mut found = Vec::new();
        for n in 0..4 {
            for part in ["a", "b"] {
                world.put("s", "k", format!("{n}{part}")).await;
            }
            found.extend(texts(&source.read(2).await.unwrap()));
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
        assert_eq!(found, ["0a", "0b", "1a", "1b", "2a", "2b", "3a", "3b"], "{fault:?}");
        assert!(world.kinesis.faults().calls(Action::SubscribeToShard) > 2, "{fault:?}");
        assert_eq!(world.kinesis.faults().calls(Action::GetRecords), 0, "never by polling");
        source.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_at_latest_is_kept_over_restarts_without_a_record() {
    let world = World::new("s", 1).await;
    world.put("s", "k", "before").await;
    // Older than the difference of clocks that a restart allows for.
    let properties = [("kinesis.position", "LATEST")];
    let mut first = world.source(&properties, &SourceOffsets::new()).await;
    assert!(read_until_caught_up(&mut first).await.is_empty());
    first.stop().await.unwrap();
    let durable = first.offsets().clone();
    assert_eq!(durable.len(), 1, "the beginning is stored although there was no record");
    world.put("s", "k", "while nobody was there").await;
    let mut second = world.source(&properties, &durable).await;
    let found = texts(&read_until_caught_up(&mut second).await);
    assert_eq!(found.last().map(String::as_str), Some("while nobody was there"));
}

/// Sixteen sub-records in one record, with two partition keys, the first without and the second with an explicit hash key.
fn aggregate() -> Vec<u8> {
    let mut message = Vec::new();
    for key in ["a", "b"] {
        message.extend([0x0A, 1]);
        message.extend(key.as_bytes());
    }
    message.extend([0x12, 1, b'7']);
    for n in 0..16u8 {
        let text = format!("{n:02}");
        let mut record = vec![0x08, n % 2];
        if n % 2 == 1 {
            record.extend([0x10, 0]);
        }
        record.extend([0x1A, 2]);
        record.extend(text.as_bytes());
        message.extend([0x1A, record.len() as u8]);
        message.extend(record);
    }
    let mut bytes = vec![0xF3, 0x89, 0x9A, 0xC2];
    bytes.extend(&message);
    bytes.extend(Md5::digest(&message));
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn an_aggregate_resumes_at_any_of_its_records() {
    let world = World::new("s", 1).await;
    world.put("s", "k", "plain").await;
    world.put("s", "k", aggregate()).await;
    let mut broken = aggregate();
    *broken.last_mut().unwrap() ^= 1;
    world.put("s", "k", broken.clone()).await;
    let mut expected = vec![b"plain".to_vec()];
    expected.extend((0..16).map(|n| format!("{n:02}").into_bytes()));
    expected.push(broken);
    let mut source = world.source(&[], &SourceOffsets::new()).await;
    let records = source.read(18).await.unwrap();
    assert_eq!(records.iter().map(bytes).collect::<Vec<_>>(), expected);
    assert_eq!(records[2].record.key, Payload::schemaless("b"));
    assert_eq!(source.counts().get("kpl.out.of.range"), None, "one shard holds every hash key");
    for delivered in 1..18 {
        let last = &records[delivered - 1];
        let durable = SourceOffsets::from([(last.source_partition.clone(), last.source_offset.clone())]);
        let mut source = world.source(&[], &durable).await;
        let rest = source.read(18 - delivered).await.unwrap();
        assert_eq!(rest.iter().map(bytes).collect::<Vec<_>>(), expected[delivered..], "after {delivered}");
    }
    let mut whole = world.source(&[("kpl.aggregation", "false")], &SourceOffsets::new()).await;
    assert_eq!(bytes(&whole.read(3).await.unwrap()[1]), aggregate());
}

#[tokio::test(flavor = "multi_thread")]
async fn sub_records_of_other_shards_are_kept_or_dropped_and_counted() {
    let world = World::new("s", 2).await;
    // Hash key 7 and the key "a" (0cc1..) belong to the first shard; only a key of the second shard carries it there.
    let mut n = 0;
    while world.put("s", &format!("k{n}"), aggregate()).await != "shardId-000000000001" {
        n += 1;
    }
    let expected = 16 * (n + 1);
    let mut keep = world.source(&[], &SourceOffsets::new()).await;
    assert_eq!(read_until_caught_up(&mut keep).await.len(), expected);
    assert_eq!(keep.counts()["kpl.out.of.range"], 16);
    let mut drop = world.source(&[("kpl.hash.range.check", "drop")], &SourceOffsets::new()).await;
    assert_eq!(read_until_caught_up(&mut drop).await.len(), expected - 16);
    assert_eq!(drop.counts()["kpl.out.of.range"], 16);
    let durable = drop.offsets().clone();
    assert_eq!(durable.len(), if n == 0 { 1 } else { 2 }, "what was dropped moved the place on as well");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_has_left_retention_is_an_error_that_shows_the_gap() {
    let now = jiff::Timestamp::now().as_millisecond() as u64;
    let hour = Duration::from_secs(3600);
    let clock = Arc::new(ManualClock::new(now - 60 * 3_600_000));
    let world = World::with("s", 1, Options { clock: clock.clone(), ..Options::default() }).await;
    world.put("s", "k", "one").await;
    let mut source = world.source(&[], &SourceOffsets::new()).await;
    let first = source.read(1).await.unwrap();
    let durable = SourceOffsets::from([(first[0].source_partition.clone(), first[0].source_offset.clone())]);
    source.stop().await.unwrap();
    // Still there: as long as the oldest record is not behind the place, nothing is missing.
    clock.advance(hour * 10);
    world.put("s", "k", "two, which nobody reads").await;
    clock.advance(hour * 50);
    world.put("s", "k", "three").await;
    let mut resumed = world.source(&[], &durable).await;
    let error = resumed.poll().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fatal);
    let text = error.to_string();
    for part in [
        "records may be lost",
        "the stream keeps records for 24 hours",
        "kinesis.on.gap = earliest",
        "shard=shardId-000000000000",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let mut accepted = world.source(&[("kinesis.on.gap", "earliest")], &durable).await;
    assert_eq!(texts(&read_until_caught_up(&mut accepted).await), ["three"]);
    assert_eq!(accepted.counts()["gaps"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_was_made_anew_is_noticed() {
    let world = World::new("s", 1).await;
    world.put("s", "k", "old").await;
    let mut source = world.source(&[], &SourceOffsets::new()).await;
    let first = source.read(1).await.unwrap();
    let durable = SourceOffsets::from([(first[0].source_partition.clone(), first[0].source_offset.clone())]);
    source.stop().await.unwrap();
    world.client.delete_stream().stream_name("s").send().await.unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
    world.client.create_stream().stream_name("s").shard_count(1).send().await.unwrap();
    world.put("s", "k", "new").await;
    let mut resumed = world.source(&[], &durable).await;
    let error = resumed.poll().await.unwrap_err().to_string();
    assert!(error.contains("the stream was made anew"), "{error}");
}

/// The end of a shard of the old stream must not pass for the end of the shard of that name in the new one.
#[tokio::test(flavor = "multi_thread")]
async fn a_shard_that_had_ended_and_is_open_is_one_of_another_stream() {
    let world = World::new("s", 1).await;
    let split = async || {
        let split = world.client.split_shard().stream_name("s").shard_to_split("shardId-000000000000");
        split.new_starting_hash_key((1u128 << 127).to_string()).send().await.unwrap();
    };
    world.put("s", "k", "old").await;
    split().await;
    let mut source = world.source(&[], &SourceOffsets::new()).await;
    assert_eq!(texts(&read_until_caught_up(&mut source).await), ["old"]);
    source.stop().await.unwrap();
    for closed in [false, true] {
        world.client.delete_stream().stream_name("s").send().await.unwrap();
        world.client.create_stream().stream_name("s").shard_count(1).send().await.unwrap();
        world.put("s", "k", "new").await;
        if closed {
            split().await;
            world.put("s", "k", "newer").await;
        }
        let mut failing = world.source(&[], source.offsets()).await;
        let error = failing.poll().await.unwrap_err().to_string();
        assert!(error.contains("the stream was made anew"), "closed={closed}: {error}");
        let mut accepted = world.source(&[("kinesis.on.gap", "earliest")], source.offsets()).await;
        let expected = if closed { vec!["new", "newer"] } else { vec!["new"] };
        assert_eq!(texts(&read_until_caught_up(&mut accepted).await), expected, "closed={closed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_made_anew_while_it_is_read_is_noticed() {
    let world = World::new("s", 1).await;
    world.put("s", "k", "old").await;
    let mut source = world.source(&[], &SourceOffsets::new()).await;
    assert_eq!(texts(&read_until_caught_up(&mut source).await), ["old"]);
    world.client.delete_stream().stream_name("s").send().await.unwrap();
    world.client.create_stream().stream_name("s").shard_count(1).send().await.unwrap();
    world.put("s", "k", "new").await;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    let error = loop {
        match source.poll_for(Duration::from_secs(1)).await {
            Some(Err(error)) => break error.to_string(),
            Some(Ok(SourcePoll::Records(records))) => panic!("{:?}", texts(&records)),
            _ => assert!(tokio::time::Instant::now() < deadline, "nobody noticed"),
        }
    };
    assert!(error.contains("deleted"), "{error}");
    // The runtime starts it again, and the place that is stored is one of the old stream.
    let mut again = world.source(&[], source.offsets()).await;
    let error = again.poll().await.unwrap_err().to_string();
    assert!(error.contains("the stream was made anew"), "{error}");
}

/// As the runtime does it: every task is made by a connector of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_saw_a_shard_end_is_caught_up_when_the_children_of_other_tasks_are() {
    let world = World::new("s", 1).await;
    let mut harnesses = Vec::new();
    for number in 0..2 {
        let task = KinesisSource.tasks(&source_properties(&[]), 2).unwrap().swap_remove(number);
        harnesses.push(SourceHarness::start_in(task, &SourceOffsets::new(), world.path()).await.unwrap());
    }
    for harness in &mut harnesses {
        assert!(read_until_caught_up(harness).await.is_empty());
    }
    let split = world.client.split_shard().stream_name("s").shard_to_split("shardId-000000000000");
    split.new_starting_hash_key((1u128 << 127).to_string()).send().await.unwrap();
    let mut expected = BTreeMap::new();
    for n in 0..20 {
        world.put("s", &format!("k{n}"), n.to_string()).await;
        expected.insert(format!("k{n}"), vec![n.to_string()]);
    }
    let partition = SourcePartition::new([("stream", "s"), ("shard", "shardId-000000000000")]);
    let saw = harnesses.iter().position(|harness| harness.offsets().contains_key(&partition)).unwrap();
    let mut records = Vec::new();
    let until = tokio::time::Instant::now() + Duration::from_secs(3);
    while tokio::time::Instant::now() < until {
        match harnesses[saw].poll_for(Duration::from_millis(300)).await.transpose().unwrap() {
            Some(SourcePoll::Records(more)) => records.extend(more),
            Some(SourcePoll::CaughtUp) => panic!("the other task has not looked at its child yet"),
            _ => {}
        }
        let durable = harnesses[saw].offsets().clone();
        harnesses.iter().for_each(|harness| harness.store(&durable));
    }
    for at in [1 - saw, saw] {
        records.extend(read_until_caught_up(&mut harnesses[at]).await);
    }
    assert_eq!(by_key(&records), expected);
}

/// While nobody asks for events they lie in the connection, and say of that time that nothing is there.
#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_is_caught_up_by_fresh_events_alone() {
    let options = Options { subscription_heartbeat: Duration::from_millis(250), ..Options::default() };
    let world = World::with("s", 1, options).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let stop = tokio_util::sync::CancellationToken::new();
    let served = tokio::spawn(world.kinesis.clone().serve(listener, stop.clone()));
    let more = [("kinesis.endpoint", endpoint.as_str()), ("kinesis.mode", "fan-out"), ("kinesis.consumer.name", "c")];
    let mut source = world.source(&more, &SourceOffsets::new()).await;
    world.put("s", "k", "0").await;
    assert_eq!(texts(&source.read(1).await.unwrap()), ["0"]);
    // As long as a slow broker may take; several events are sent meanwhile.
    tokio::time::sleep(Duration::from_millis(900)).await;
    world.put("s", "k", "1").await;
    assert_eq!(texts(&read_until_caught_up(&mut source).await), ["1"]);
    source.stop().await.unwrap();
    stop.cancel();
    served.await.unwrap();
}

async fn sink(world: &World, more: &[(&str, &str)]) -> SinkHarness {
    let mut properties = Properties::from_iter([
        ("kinesis.endpoint", "embedded"),
        ("kinesis.stream", "s"),
        ("kinesis.batch.records", "10"),
        ("kinesis.throughput.exceeded.backoff.ms", "50"),
    ]);
    for (key, value) in more {
        properties.set(*key, *value);
    }
    SinkHarness::start_in(KinesisSink.task(&properties).unwrap(), world.path()).await.unwrap()
}

/// What the sink wrote, by partition key.
async fn written(world: &World) -> BTreeMap<String, Vec<String>> {
    let mut source = world.source(&[], &SourceOffsets::new()).await;
    by_key(&read_until_caught_up(&mut source).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn order_per_key_holds_whatever_a_put_meets() {
    let faults = [
        (Fault::FailRecords { first: 0, every: 2, internal: false }, false),
        (Fault::FailRecords { first: 1, every: 3, internal: true }, false),
        (Fault::Throttled, false),
        (Fault::CutBefore, true),
        (Fault::Internal, true),
        (Fault::CutAfter, true),
    ];
    let partition = TopicPartition::new("t", 0);
    let mut expected: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for offset in 0..60 {
        expected.entry(format!("key-{}", offset % 7)).or_default().push(sink_value(&partition, offset));
    }
    for (fault, unsure) in faults {
        let world = World::new("s", 2).await;
        world.kinesis.faults().repeat(Action::PutRecords, fault.clone(), 3);
        let mut sink = sink(&world, &[]).await;
        sink.open(&Positions::from([(partition.clone(), 0)])).await.unwrap();
        for from in [0, 20, 40] {
            sink.put(sink_batch(&partition, from..from + 20, from + 20)).await.unwrap();
        }
        let flushed = sink.flush(FlushReason::CaughtUp).await.unwrap();
        assert_eq!(flushed, Positions::from([(partition.clone(), 60)]), "{fault:?}");
        let found = written(&world).await;
        if fault == Fault::CutAfter {
            // Stored although the answer was lost, and sent again: repeated, and still in order.
            for (key, mut texts) in found {
                texts.dedup();
                assert_eq!(texts, expected[&key], "{fault:?}");
            }
        } else {
            assert_eq!(found, expected, "{fault:?}");
        }
        assert_eq!(sink.counts().contains_key("records.repeated.possible"), unsure, "{fault:?} {:?}", sink.counts());
        sink.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_without_commit_and_records_has_no_position() {
    let world = World::new("s", 1).await;
    let (quiet, busy) = (TopicPartition::new("t", 0), TopicPartition::new("t", 1));
    let mut sink = sink(&world, &[]).await;
    sink.open(&Positions::from([(quiet, -1), (busy.clone(), -1)])).await.unwrap();
    sink.put(sink_batch(&busy, 0..3, 3)).await.unwrap();
    assert_eq!(sink.flush(FlushReason::CaughtUp).await.unwrap(), Positions::from([(busy, 3)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_kinesis_would_refuse_is_reported_and_the_rest_goes_on() {
    let world = World::new("s", 1).await;
    let partition = TopicPartition::new("t", 0);
    let mut sink = sink(&world, &[("kinesis.partition.key", "field:k")]).await;
    sink.open(&Positions::from([(partition.clone(), 0)])).await.unwrap();
    let mut batch = sink_batch(&partition, 0..4, 4);
    let json = |text: String| Payload::json(Bytes::from(text));
    batch.records[0].record.value = json(format!(r#"{{"k":"{}"}}"#, "x".repeat(257)));
    batch.records[1].record.value = json(format!(r#"{{"k":"a","v":"{}"}}"#, "x".repeat(1 << 20)));
    batch.records[2].record.value = Payload::null();
    batch.records[3].record.value = json(r#"{"k":"a"}"#.to_owned());
    sink.put(batch).await.unwrap();
    let flushed = sink.flush(FlushReason::CaughtUp).await.unwrap();
    assert_eq!(flushed, Positions::from([(partition.clone(), 4)]));
    let reported: Vec<(i64, String)> = sink.reported().into_iter().map(|(_, offset, error)| (offset, error)).collect();
    assert_eq!(
        reported,
        [
            (0, "the partition key has 257 characters; Kinesis takes 256".to_owned()),
            (1, "value and partition key have 1048593 bytes; stream 's' takes 1048576".to_owned()),
            (2, "the record has no value; behavior.on.null.values = ignore or empty accepts that".to_owned()),
        ]
    );
    assert_eq!(written(&world).await, BTreeMap::from([("a".to_owned(), vec![r#"{"k":"a"}"#.to_owned()])]));
}
