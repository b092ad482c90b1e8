//! What only the embedded Kinesis can show: that it remembers, that it goes wrong on demand, that time passes as it is told, and
//! that nothing is lost or read twice however shards are divided.

#![allow(clippy::print_stdout, reason = "what is not checked, and measurements, are for whoever runs this")]

#[allow(
    dead_code,
    missing_debug_implementations,
    unreachable_pub,
    unused_macros,
    reason = "shared by two tests; neither uses all"
)]
mod client_suite;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::error::SdkError;
use aws_sdk_kinesis::primitives::{Blob, DateTime};
use aws_sdk_kinesis::types::{ShardFilter, ShardFilterType, ShardIteratorType, StartingPosition, StreamStatus};
use client_suite::{SHARD_0, SHARD_1, SHARD_2, Target, TestStream, client, code, entry, next_event, numbers};
use ottla_connector_kinesis::embedded::{Action, EmbeddedKinesis, Fault, ManualClock, Options, SystemClock};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

const NO_WAIT: &str = "http://kinesis.invalid";

fn client_of(kinesis: &Arc<EmbeddedKinesis>) -> Client {
    client(NO_WAIT, Some(kinesis.http_client()))
}

fn open(dir: &Path, options: Options) -> Target {
    Target::new(client_of(&EmbeddedKinesis::open_with(dir, options).unwrap()))
}

/// No test of this file cares for a power cut.
fn fast() -> Options {
    Options { fsync: false, ..Options::default() }
}

#[tokio::test]
async fn everything_is_there_again_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let target = open(dir.path(), Options::default());
    let stream = TestStream::new(&target, 1).await;
    let consumer = stream.register("reader").await;
    target.client.add_tags_to_stream().stream_name(&stream.name).tags("a", "b").send().await.unwrap();
    stream.put_numbers(0..10).await;
    let split =
        target.client.split_shard().stream_name(&stream.name).shard_to_split(SHARD_0).new_starting_hash_key("9");
    split.send().await.unwrap();
    let before = stream.put_numbers(10..20).await;
    let iterator = stream.iterator(SHARD_2).await;
    let (name, shards) = (stream.name.clone(), stream.shards().await);
    drop(stream);
    drop(target);

    let target = open(dir.path(), Options::default());
    let described =
        target.client.describe_stream().stream_name(&name).send().await.unwrap().stream_description.unwrap();
    assert_eq!(described.shards, shards);
    let consumer = target.client.describe_stream_consumer().consumer_arn(consumer).send().await.unwrap();
    assert_eq!(consumer.consumer_description.unwrap().consumer_name, "reader");
    let tags = target.client.list_tags_for_stream().stream_name(&name).send().await.unwrap().tags;
    assert_eq!((tags[0].key.as_str(), tags[0].value.as_deref()), ("a", Some("b")));
    let read = target.client.get_records().shard_iterator(iterator).send().await.unwrap();
    assert_eq!(numbers(&read.records), Vec::from_iter(10..20), "an iterator outlives the process");
    let put = target.client.put_record().stream_name(&name).partition_key("k").data(Blob::new(20u32.to_be_bytes()));
    assert!(client_suite::larger(&put.send().await.unwrap().sequence_number, before.last().unwrap()));
}

#[tokio::test]
async fn one_folder_is_one_kinesis() {
    let dir = tempfile::tempdir().unwrap();
    let one = EmbeddedKinesis::open(dir.path()).unwrap();
    let other = EmbeddedKinesis::open(dir.path()).unwrap();
    assert!(Arc::ptr_eq(&one, &other));
    client_of(&one).create_stream().stream_name("shared").send().await.unwrap();
    let summary = client_of(&other).describe_stream_summary().stream_name("shared").send().await.unwrap();
    assert_eq!(summary.stream_description_summary.unwrap().open_shard_count, 5, "the gateway's default");
}

/// The child's side of the test below: puts numbers, one after the other by four tasks, and says which were answered.
#[test]
fn child_that_puts_until_it_is_killed() {
    let Ok(dir) = std::env::var("OTTLA_TEST_CHILD_DIR") else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let kinesis = EmbeddedKinesis::open(Path::new(&dir)).unwrap();
        client_of(&kinesis).create_stream().stream_name("kill").shard_count(2).send().await.unwrap();
        let tasks = (0..4u32).map(|task| {
            let client = client_of(&kinesis);
            tokio::spawn(async move {
                for at in 0.. {
                    let number = at * 4 + task;
                    let put = client.put_record().stream_name("kill").partition_key(format!("key {task}"));
                    put.data(Blob::new(number.to_be_bytes())).send().await.unwrap();
                    // One line, written at once: the other tasks write, too.
                    println!("answered {number}");
                }
            })
        });
        futures::future::join_all(tasks).await;
    });
}

#[tokio::test]
async fn what_was_answered_survives_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let another = {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_puts_until_it_is_killed", "--nocapture"])
            .env("OTTLA_TEST_CHILD_DIR", dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut answered = BTreeSet::new();
        let number = |line: String| line.strip_prefix("answered ").map(|number| number.parse::<u32>().unwrap());
        while answered.len() < 300 {
            answered.extend(number(lines.next().expect("the child goes on until it is killed")));
        }
        let another = EmbeddedKinesis::open(dir.path()).unwrap_err().to_string();
        child.kill().unwrap();
        child.wait().unwrap();
        answered.extend(lines.filter_map(number));
        let target = open(dir.path(), Options::default());
        let mut read = Vec::new();
        for shard in [SHARD_0, SHARD_1] {
            let place = target.client.get_shard_iterator().stream_name("kill").shard_id(shard);
            let place = place.shard_iterator_type(ShardIteratorType::TrimHorizon).send().await.unwrap();
            let page = target.client.get_records().shard_iterator(place.shard_iterator.unwrap()).send().await.unwrap();
            assert_eq!(page.millis_behind_latest, Some(0));
            read.extend(numbers(&page.records));
        }
        for task in 0..4 {
            let of_task: Vec<_> = read.iter().copied().filter(|number| number % 4 == task).collect();
            assert!(of_task.is_sorted_by(|one, other| one < other), "task {task}: {of_task:?}");
        }
        let missing: Vec<_> = answered.difference(&read.iter().copied().collect()).copied().collect();
        assert_eq!(missing, [0; 0], "answered and lost, of {} answered and {} read", answered.len(), read.len());
        another
    };
    assert!(another.contains("another process has this embedded Kinesis open"), "{another}");
}

/// A small world in which anything may happen in any order.
#[derive(Debug, Clone)]
enum Step {
    Put { key: u8, records: u8 },
    Split { pick: u16, at: u128 },
    Merge { pick: u16 },
    Scale { shards: u8 },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..12u8, 1..40u8).prop_map(|(key, records)| Step::Put { key, records }),
        2 => (any::<u16>(), any::<u128>()).prop_map(|(pick, at)| Step::Split { pick, at }),
        2 => any::<u16>().prop_map(|pick| Step::Merge { pick }),
        1 => (1..6u8).prop_map(|shards| Step::Scale { shards }),
        1 => Just(Step::Restart),
    ]
}

#[test]
fn every_record_is_read_once_and_in_order_per_key_however_shards_are_divided() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut runner = TestRunner::new(ProptestConfig { cases: 25, ..ProptestConfig::default() });
    let worlds = (1..4i32, proptest::collection::vec(step(), 1..25));
    // A failure prints the steps, shortened, which say more than a seed.
    let run = runner.run(&worlds, |(shards, steps)| {
        runtime.block_on(live_and_check(shards, &steps));
        Ok(())
    });
    run.unwrap();
}

async fn live_and_check(shards: i32, steps: &[Step]) {
    let dir = tempfile::tempdir().unwrap();
    let mut target = open(dir.path(), fast());
    let name = TestStream::new(&target, shards).await.name;
    let mut sent: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    let mut next = 0;
    for step in steps {
        let described = target.client.describe_stream().stream_name(&name).send().await.unwrap();
        let described = described.stream_description.unwrap().shards;
        client_suite::assert_covers_once(&described);
        let is_open = |shard: &&aws_sdk_kinesis::types::Shard| {
            shard.sequence_number_range.as_ref().unwrap().ending_sequence_number.is_none()
        };
        let mut open_shards: Vec<_> = described.iter().filter(is_open).collect();
        open_shards.sort_by_key(|shard| *client_suite::range(shard).start());
        let client = &target.client;
        match step {
            Step::Put { key, records } => {
                let key = format!("key {key}");
                let numbers = next..next + u32::from(*records);
                next = numbers.end;
                let entries = numbers.clone().map(|number| entry(&key, &number.to_be_bytes())).collect();
                let put = client.put_records().stream_name(&name).set_records(Some(entries)).send().await.unwrap();
                assert_eq!(put.failed_record_count, Some(0));
                sent.entry(key).or_default().extend(numbers);
            }
            Step::Split { pick, at } => {
                let shard = open_shards[usize::from(*pick) % open_shards.len()];
                let range = client_suite::range(shard);
                let width = range.end() - range.start();
                if width < 4 {
                    continue;
                }
                let at = range.start() + 1 + at % (width - 1);
                let split = client.split_shard().stream_name(&name).shard_to_split(&shard.shard_id);
                split.new_starting_hash_key(at.to_string()).send().await.unwrap();
            }
            Step::Merge { pick } if open_shards.len() > 1 => {
                let left = usize::from(*pick) % (open_shards.len() - 1);
                let merge = client.merge_shards().stream_name(&name).shard_to_merge(&open_shards[left].shard_id);
                merge.adjacent_shard_to_merge(&open_shards[left + 1].shard_id).send().await.unwrap();
            }
            Step::Merge { .. } => {}
            Step::Scale { shards } => {
                let wanted = i32::from(*shards).clamp((open_shards.len() as i32 + 1) / 2, open_shards.len() as i32 * 2);
                client.update_shard_count().stream_name(&name).target_shard_count(wanted).send().await.unwrap();
            }
            Step::Restart => {
                drop(target);
                target = open(dir.path(), fast());
            }
        }
    }
    assert_eq!(read_parents_first(&target.client, &name).await, sent);
}

/// Reads everything, each shard after its parents. What it answers is by partition key.
async fn read_parents_first(client: &Client, name: &str) -> BTreeMap<String, Vec<u32>> {
    let described = client.describe_stream().stream_name(name).limit(1000).send().await.unwrap();
    let mut waiting = described.stream_description.unwrap().shards;
    let (mut done, mut read) = (BTreeSet::new(), BTreeMap::<String, Vec<u32>>::new());
    while !waiting.is_empty() {
        let parents = |shard: &aws_sdk_kinesis::types::Shard| {
            [shard.parent_shard_id.clone(), shard.adjacent_parent_shard_id.clone()]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
        };
        let at = waiting.iter().position(|shard| parents(shard).iter().all(|parent| done.contains(parent)));
        let shard = waiting.remove(at.expect("a shard whose parents have been read"));
        let place = client.get_shard_iterator().stream_name(name).shard_id(&shard.shard_id);
        let place = place.shard_iterator_type(ShardIteratorType::TrimHorizon).send().await.unwrap();
        let mut iterator = place.shard_iterator;
        while let Some(token) = iterator {
            let page = client.get_records().shard_iterator(token).limit(7).send().await.unwrap();
            for record in &page.records {
                let number = numbers(std::slice::from_ref(record))[0];
                read.entry(record.partition_key.clone().unwrap()).or_default().push(number);
            }
            iterator = page.next_shard_iterator.filter(|_| page.millis_behind_latest != Some(0));
        }
        done.insert(shard.shard_id);
    }
    read
}

#[tokio::test]
async fn iterators_and_listings_expire() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(1_800_000_000_000));
    let target = open(dir.path(), Options { clock: clock.clone(), ..fast() });
    let stream = TestStream::new(&target, 2).await;
    let iterator = stream.iterator(SHARD_0).await;
    let listing = target.client.list_shards().stream_name(&stream.name).max_results(1).send().await.unwrap();
    clock.advance(Duration::from_secs(300));
    stream.get(&iterator, 1).await;
    clock.advance(Duration::from_millis(1));
    let get = target.client.get_records().shard_iterator(&iterator).send().await;
    assert_eq!(code(get), "ExpiredIteratorException");
    let list = target.client.list_shards().next_token(listing.next_token.unwrap()).send().await;
    assert_eq!(code(list), "ExpiredNextTokenException");
}

#[tokio::test]
async fn records_leave_after_their_retention_and_so_do_closed_shards() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(1_800_000_000_000));
    let trim_interval = Duration::from_millis(20);
    let target = open(dir.path(), Options { clock: clock.clone(), trim_interval, ..fast() });
    let stream = TestStream::new(&target, 1).await;
    let first = stream.put_numbers(0..3).await;
    clock.advance(Duration::from_secs(3600));
    stream.put_numbers(3..5).await;
    let split =
        target.client.split_shard().stream_name(&stream.name).shard_to_split(SHARD_0).new_starting_hash_key("9");
    split.send().await.unwrap();
    let all = numbers(&stream.read_to_end(SHARD_0).await.0);
    assert_eq!(all, [0, 1, 2, 3, 4]);

    clock.advance(Duration::from_secs(23 * 3600 + 1));
    let left = numbers(&stream.read_to_end(SHARD_0).await.0);
    assert_eq!(left, [3, 4], "gone from one moment to the next, whenever they are removed from the disk");
    let after = target.client.get_shard_iterator().stream_name(&stream.name).shard_id(SHARD_0);
    let after = after.shard_iterator_type(ShardIteratorType::AfterSequenceNumber).starting_sequence_number(&first[0]);
    let after = stream.get(&after.send().await.unwrap().shard_iterator.unwrap(), 10).await;
    assert_eq!(numbers(&after.records), [3, 4], "as on AWS, a position that is gone is the oldest there is");

    clock.advance(Duration::from_secs(3600));
    client_suite::wait_until("the closed shard to leave", || async { stream.shards().await.len() == 2 }).await;
    let filter = ShardFilter::builder().r#type(ShardFilterType::AtTrimHorizon).build().unwrap();
    let list = target.client.list_shards().stream_name(&stream.name).shard_filter(filter).send().await.unwrap();
    let ids: Vec<_> = list.shards().iter().map(|shard| shard.shard_id.as_str()).collect();
    assert_eq!(ids, [SHARD_1, SHARD_2]);
    let put = stream.put_numbers(5..6).await;
    assert!(client_suite::larger(&put[0], first.last().unwrap()));
}

#[tokio::test]
async fn changes_of_streams_take_their_time_where_that_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(1_800_000_000_000));
    let second = Duration::from_secs(1);
    let options = Options {
        clock: clock.clone(),
        create_duration: second,
        delete_duration: second,
        update_duration: second,
        register_duration: second,
        ..fast()
    };
    let client = open(dir.path(), options).client;
    let status = async || {
        let summary = client.describe_stream_summary().stream_name("slow").send().await.unwrap();
        summary.stream_description_summary.unwrap().stream_status
    };
    client.create_stream().stream_name("slow").shard_count(1).send().await.unwrap();
    assert_eq!(status().await, StreamStatus::Creating);
    let put = || client.put_record().stream_name("slow").partition_key("k").data(Blob::new("x")).send();
    assert_eq!(code(put().await), "ResourceNotFoundException");
    clock.advance(second);
    assert_eq!(status().await, StreamStatus::Active);
    let split = || client.split_shard().stream_name("slow").shard_to_split(SHARD_0).new_starting_hash_key("9").send();
    split().await.unwrap();
    assert_eq!(status().await, StreamStatus::Updating);
    assert_eq!(put().await.unwrap().shard_id, SHARD_0, "puts go on meanwhile");
    assert_eq!(code(split().await), "ResourceInUseException");
    clock.advance(second);
    assert_eq!(put().await.unwrap().shard_id, SHARD_2);
    assert_eq!(status().await, StreamStatus::Active);
    client.delete_stream().stream_name("slow").send().await.unwrap();
    assert_eq!(status().await, StreamStatus::Deleting);
    clock.advance(second);
    assert_eq!(code(put().await), "ResourceNotFoundException");
}

#[tokio::test]
async fn rates_are_limited_where_that_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(1_800_000_000_000));
    let target = open(dir.path(), Options { clock: clock.clone(), rate_limits: true, ..fast() });
    let stream = TestStream::new(&target, 1).await;
    let mut failed = Vec::new();
    for _ in 0..3 {
        let entries = (0..500u32).map(|number| entry("k", &number.to_be_bytes())).collect();
        let put =
            target.client.put_records().stream_name(&stream.name).set_records(Some(entries)).send().await.unwrap();
        let codes = put.records.iter().filter_map(|record| record.error_code.as_deref());
        assert!(codes.into_iter().all(|code| code == "ProvisionedThroughputExceededException"));
        failed.push(put.failed_record_count.unwrap());
    }
    assert_eq!(failed, [0, 0, 500]);
    let iterator = stream.iterator(SHARD_0).await;
    for _ in 0..5 {
        stream.get(&iterator, 1).await;
    }
    let sixth = target.client.get_records().shard_iterator(&iterator).send().await;
    assert_eq!(code(sixth), "ProvisionedThroughputExceededException");
    clock.advance(Duration::from_secs(1));
    assert_eq!(stream.get(&iterator, 10_000).await.records.len(), 1000);
}

#[tokio::test]
async fn each_fault_goes_wrong_in_its_way_once() {
    let dir = tempfile::tempdir().unwrap();
    let kinesis = EmbeddedKinesis::open_with(dir.path(), fast()).unwrap();
    let (target, faults) = (Target::new(client_of(&kinesis)), kinesis.faults());
    let stream = TestStream::new(&target, 1).await;
    let iterator = stream.iterator(SHARD_0).await;
    let get = || target.client.get_records().shard_iterator(&iterator).send();
    let put = |number: u32| {
        let put = target.client.put_record().stream_name(&stream.name).partition_key("k");
        put.data(Blob::new(number.to_be_bytes())).send()
    };
    for (fault, expected) in [
        (Fault::Throttled, "ProvisionedThroughputExceededException"),
        (Fault::Internal, "InternalFailure"),
        (Fault::Unavailable, "ServiceUnavailable"),
        (Fault::ExpiredIterator, "ExpiredIteratorException"),
        (Fault::Error("KMSThrottlingException", "slow down".into()), "KMSThrottlingException"),
    ] {
        faults.add(Action::GetRecords, fault);
        assert_eq!(code(get().await), expected);
        get().await.unwrap();
    }
    faults.add(Action::PutRecord, Fault::CutBefore);
    assert!(matches!(put(0).await, Err(SdkError::DispatchFailure(_))));
    assert_eq!(numbers(&get().await.unwrap().records), [0; 0]);
    faults.add(Action::PutRecord, Fault::CutAfter);
    assert!(matches!(put(1).await, Err(SdkError::DispatchFailure(_))));
    assert_eq!(numbers(&get().await.unwrap().records), [1], "the answer was lost, the record is there");

    faults.add(Action::PutRecords, Fault::FailRecords { first: 1, every: 2, internal: true });
    let entries = (2..7u32).map(|number| entry("k", &number.to_be_bytes())).collect();
    let answer = target.client.put_records().stream_name(&stream.name).set_records(Some(entries)).send().await.unwrap();
    let codes: Vec<_> = answer.records.iter().map(|record| record.error_code.as_deref()).collect();
    assert_eq!(codes, [None, Some("InternalFailure"), None, Some("InternalFailure"), None]);
    assert_eq!(answer.failed_record_count, Some(2));
    assert_eq!(numbers(&get().await.unwrap().records), [1, 2, 4, 6]);

    let asked = std::time::Instant::now();
    faults.add(Action::PutRecord, Fault::Delay(Duration::from_millis(50)));
    put(7).await.unwrap();
    assert!(asked.elapsed() >= Duration::from_millis(50));
    faults.repeat(Action::PutRecord, Fault::Internal, 3);
    faults.clear();
    assert_eq!(faults.pending(Action::PutRecord), 0);
    put(8).await.unwrap();
    assert_eq!(faults.calls(Action::PutRecord), 4);
}

#[tokio::test]
async fn faults_reach_callers_over_a_socket() {
    let dir = tempfile::tempdir().unwrap();
    let kinesis = EmbeddedKinesis::open_with(dir.path(), fast()).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = client(&format!("http://{}", listener.local_addr().unwrap()), None);
    let stop = tokio_util::sync::CancellationToken::new();
    let served = tokio::spawn(Arc::clone(&kinesis).serve(listener, stop.clone()));
    kinesis.faults().add(Action::CreateStream, Fault::CutAfter);
    let create = client.create_stream().stream_name("s").shard_count(1).send().await;
    assert!(!matches!(create, Ok(_) | Err(SdkError::ServiceError(_))), "{create:?}");
    client.describe_stream_summary().stream_name("s").send().await.expect("the stream is there all the same");
    kinesis.faults().add(Action::ListStreams, Fault::Internal);
    assert_eq!(code(client.list_streams().send().await), "InternalFailure");
    stop.cancel();
    served.await.unwrap();
}

#[tokio::test]
async fn a_second_subscription_waits_and_then_takes_over() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(1_800_000_000_000));
    let heartbeat = Duration::from_millis(10);
    let target = open(dir.path(), Options { clock: clock.clone(), subscription_heartbeat: heartbeat, ..fast() });
    let stream = TestStream::new(&target, 1).await;
    let consumer = stream.register("reader").await;
    let subscribe = || {
        let start = StartingPosition::builder().r#type(ShardIteratorType::TrimHorizon).build().unwrap();
        target.client.subscribe_to_shard().consumer_arn(&consumer).shard_id(SHARD_0).starting_position(start).send()
    };
    let mut first = subscribe().await.unwrap();
    assert_eq!(next_event(&mut first).await.unwrap().millis_behind_latest, 0);
    clock.advance(Duration::from_millis(4999));
    assert_eq!(code(subscribe().await), "ResourceInUseException");
    clock.advance(Duration::from_millis(1));
    let mut second = subscribe().await.unwrap();
    let refused = loop {
        match first.event_stream.recv().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the first subscription ended without a word"),
            Err(error) => break error,
        }
    };
    assert!(format!("{refused:?}").contains("ResourceInUseException"), "{refused:?}");
    stream.put_numbers(0..1).await;
    let mut read = Vec::new();
    while read.is_empty() {
        read = numbers(&next_event(&mut second).await.unwrap().records);
    }
    assert_eq!(read, [0]);
}

#[tokio::test]
async fn a_subscription_ends_after_its_life_and_a_cut_breaks_it() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { subscription_life: Duration::from_millis(30), resubscribe_pause: Duration::ZERO, ..fast() };
    let kinesis = EmbeddedKinesis::open_with(dir.path(), options).unwrap();
    let target = Target::new(client_of(&kinesis));
    let stream = TestStream::new(&target, 1).await;
    let consumer = stream.register("reader").await;
    stream.put_numbers(0..2).await;
    let subscribe = || {
        let start = StartingPosition::builder().r#type(ShardIteratorType::TrimHorizon).build().unwrap();
        target.client.subscribe_to_shard().consumer_arn(&consumer).shard_id(SHARD_0).starting_position(start).send()
    };
    let (mut subscription, mut read) = (subscribe().await.unwrap(), Vec::new());
    while let Some(event) = next_event(&mut subscription).await {
        read.extend(numbers(&event.records));
    }
    assert_eq!(read, [0, 1]);
    kinesis.faults().add(Action::SubscribeToShard, Fault::CutAfter);
    let mut subscription = subscribe().await.unwrap();
    assert_eq!(numbers(&next_event(&mut subscription).await.unwrap().records), [0, 1]);
    assert!(subscription.event_stream.recv().await.is_err(), "cut");
}

#[tokio::test]
async fn a_stream_made_anew_has_nothing_of_the_old_one() {
    let dir = tempfile::tempdir().unwrap();
    let trim_interval = Duration::from_millis(20);
    let target = open(dir.path(), Options { trim_interval, ..fast() });
    let old = TestStream::new(&target, 1).await;
    let number = old.put_numbers(0..3).await.remove(0);
    let iterator = old.iterator(SHARD_0).await;
    old.delete().await;
    target.client.create_stream().stream_name(&old.name).shard_count(1).send().await.unwrap();
    old.wait_active().await;
    let read = target.client.get_records().shard_iterator(iterator).send().await;
    assert_eq!(code(read), "ResourceNotFoundException");
    let place = target.client.get_shard_iterator().stream_name(&old.name).shard_id(SHARD_0);
    let place = place.shard_iterator_type(ShardIteratorType::AfterSequenceNumber).starting_sequence_number(&number);
    assert_eq!(code(place.send().await), "InvalidArgumentException");
    let fresh = old.put_numbers(7..8).await;
    assert!(client_suite::larger(&fresh[0], &number), "its numbers are larger, too");
    let future = target.client.get_shard_iterator().stream_name(&old.name).shard_id(SHARD_0);
    let future =
        future.shard_iterator_type(ShardIteratorType::AtTimestamp).timestamp(DateTime::from_secs(i32::MAX.into()));
    assert_eq!(code(future.send().await), "InvalidArgumentException");
}

/// What a script does, in the SDK that most scripts use.
const BOTO3: &str = r#"
import os, boto3
k = boto3.client("kinesis", region_name="eu-west-1", endpoint_url=os.environ["ENDPOINT"],
                 aws_access_key_id="a", aws_secret_access_key="b")
k.create_stream(StreamName="s", ShardCount=2)
k.get_waiter("stream_exists").wait(StreamName="s")
d = k.describe_stream_summary(StreamName="s")["StreamDescriptionSummary"]
print(d["StreamARN"], d["StreamStatus"], d["OpenShardCount"])
r = k.put_records(StreamName="s", Records=[
    {"Data": b"%d" % i, "PartitionKey": "k", "ExplicitHashKey": "0"} for i in range(5)])
print(r["FailedRecordCount"], sorted({e["ShardId"] for e in r["Records"]}))
it = k.get_shard_iterator(StreamName="s", ShardId="shardId-000000000000", ShardIteratorType="TRIM_HORIZON")
g = k.get_records(ShardIterator=it["ShardIterator"])
print([r["Data"] for r in g["Records"]], g["MillisBehindLatest"])
try:
    k.describe_stream(StreamName="no")
except k.exceptions.ResourceNotFoundException as e:
    print(e.response["Error"]["Message"])
c = k.register_stream_consumer(StreamARN=d["StreamARN"], ConsumerName="c")["Consumer"]
k.split_shard(StreamName="s", ShardToSplit="shardId-000000000000", NewStartingHashKey="9")
s = k.subscribe_to_shard(ConsumerARN=c["ConsumerARN"], ShardId="shardId-000000000000",
                         StartingPosition={"Type": "TRIM_HORIZON"})
for e in s["EventStream"]:
    e = e["SubscribeToShardEvent"]
    print([r["Data"] for r in e["Records"]], [c["ShardId"] for c in e.get("ChildShards", [])])
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn boto3_understands_it() {
    let dir = tempfile::tempdir().unwrap();
    let kinesis = EmbeddedKinesis::open_with(dir.path(), fast()).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let stop = tokio_util::sync::CancellationToken::new();
    let served = tokio::spawn(kinesis.serve(listener, stop.clone()));
    let python =
        |script: &str| tokio::process::Command::new("python3").args(["-c", script]).env("ENDPOINT", &endpoint).output();
    if !python("import boto3").await.is_ok_and(|output| output.status.success()) {
        println!("not checked, because there is no python3 with boto3");
        return;
    }
    let output = python(BOTO3).await.unwrap();
    let expected = "arn:aws:kinesis:eu-west-1:000000000000:stream/s ACTIVE 2\n\
                    0 ['shardId-000000000000']\n\
                    [b'0', b'1', b'2', b'3', b'4'] 0\n\
                    Stream no under account 000000000000 not found.\n\
                    [b'0', b'1', b'2', b'3', b'4'] ['shardId-000000000002', 'shardId-000000000003']\n";
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(said, expected, "{complained}");
    stop.cancel();
    served.await.unwrap();
}

/// Not a check but a measurement: `cargo test --release -p ottla-connector-kinesis --test embedded_behaviour rates -- --ignored
/// --nocapture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints rates, which mean something in a release build only"]
async fn rates_of_puts_and_gets() {
    const BATCHES: usize = 100;
    let dir = tempfile::tempdir().unwrap();
    let target = open(dir.path(), Options { clock: Arc::new(SystemClock), ..Options::default() });
    let stream = TestStream::new(&target, 4).await;
    let begun = std::time::Instant::now();
    let tasks = (0..4usize).map(|task| {
        let (client, name) = (target.client.clone(), stream.name.clone());
        tokio::spawn(async move {
            for batch in 0..BATCHES {
                let key = |at: usize| format!("key {task} {batch} {at}");
                let entries = (0..500).map(|at| entry(&key(at), &[7; 200])).collect();
                let put = client.put_records().stream_name(&name).set_records(Some(entries)).send().await.unwrap();
                assert_eq!(put.failed_record_count, Some(0));
            }
        })
    });
    futures::future::try_join_all(tasks).await.unwrap();
    let records = 4 * BATCHES * 500;
    println!("{:.0} puts of 200 B a second, with fsync", records as f64 / begun.elapsed().as_secs_f64());
    let begun = std::time::Instant::now();
    let mut read = 0;
    for shard in stream.shards().await {
        let mut iterator = stream.iterator(&shard.shard_id).await;
        loop {
            let page = stream.get(&iterator, 10_000).await;
            read += page.records.len();
            if page.millis_behind_latest == Some(0) {
                break;
            }
            iterator = page.next_shard_iterator.unwrap();
        }
    }
    println!("{:.0} gets a second", read as f64 / begun.elapsed().as_secs_f64());
    assert_eq!(read, records);
}
