//! The sink and the source against a Kinesis of somebody else's: the address is in `OTTLA_TEST_KINESIS`, without it nothing is
//! tested here.

use std::collections::BTreeMap;
use std::time::Duration;

use ottla_api::prelude::*;
use ottla_connector_kinesis::{ConnectionConfig, KinesisSink, KinesisSource, connect};
use ottla_testkit::harness::{SinkHarness, SourceHarness, sink_batch, sink_value};

#[tokio::test(flavor = "multi_thread")]
async fn what_the_sink_writes_the_source_reads_over_a_split() {
    let Ok(address) = std::env::var("OTTLA_TEST_KINESIS") else {
        eprintln!("skipped: OTTLA_TEST_KINESIS is not set");
        return;
    };
    let address = if address.contains("://") { address } else { format!("http://{address}") };
    let stream = format!("live-{}", uuid::Uuid::new_v4());
    let endpoint = Properties::from_iter([("kinesis.endpoint", address.as_str())]);
    let folder = tempfile::tempdir().unwrap();
    let client = connect(&ConnectionConfig::from_properties(&endpoint).unwrap(), folder.path()).await.unwrap();
    let with = |more: &[(&str, &str)]| {
        let mut properties = endpoint.clone();
        properties.set("kinesis.stream", stream.as_str());
        properties.set("kinesis.create.stream.shards", "1");
        for (key, value) in more {
            properties.set(*key, *value);
        }
        properties
    };

    let partition = TopicPartition::new("t", 0);
    let mut expected: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut sink = SinkHarness::start(KinesisSink.task(&with(&[])).unwrap()).await.unwrap();
    sink.open(&Positions::from([(partition.clone(), 0)])).await.unwrap();
    for from in [0, 50] {
        for offset in from..from + 50 {
            expected.entry(format!("key-{}", offset % 7)).or_default().push(sink_value(&partition, offset));
        }
        sink.put(sink_batch(&partition, from..from + 50, from + 50)).await.unwrap();
        let flushed = sink.flush(FlushReason::CaughtUp).await.unwrap();
        assert_eq!(flushed, Positions::from([(partition.clone(), from + 50)]));
        if from == 0 {
            let split = client.split_shard().stream_name(&stream).shard_to_split("shardId-000000000000");
            split.new_starting_hash_key((1u128 << 127).to_string()).send().await.unwrap();
            // Until the split is done, puts go to the parent or are refused and sent again.
            let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
            while client.list_shards().stream_name(&stream).send().await.unwrap().shards().len() < 3 {
                assert!(tokio::time::Instant::now() < deadline, "the split is never done");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    sink.stop().await.unwrap();

    let properties = with(&[("kinesis.reads.per.second", "50"), ("kinesis.empty.records.backoff.ms", "20")]);
    let task = KinesisSource.tasks(&properties, 1).unwrap().remove(0);
    let mut source = SourceHarness::start(task, &SourceOffsets::new()).await.unwrap();
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut count = 0;
    while count < 100 {
        if let SourcePoll::Records(records) = source.poll().await.unwrap() {
            for record in records {
                let mut record = record.record;
                let key = record.key.value().unwrap().as_str().unwrap().to_owned();
                let Value::Bytes(bytes) = record.value.value().unwrap() else { panic!("a value is bytes") };
                found.entry(key).or_default().push(String::from_utf8(bytes.to_vec()).unwrap());
                count += 1;
            }
        }
        source.commit().await.unwrap();
    }
    assert_eq!(found, expected);
    source.stop().await.unwrap();
    client.delete_stream().stream_name(&stream).send().await.unwrap();
}
