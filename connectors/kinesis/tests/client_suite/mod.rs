//! What a client sees of a Kinesis, as one suite: it runs against the embedded Kinesis by both its ways in, and against
//! independent servers, so that it says what Kinesis does and not what ours does.
//!
//! A check that a server is known not to pass names the [`Feature`] it needs; [`Target::lacks`] says which server lacks what.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::{BehaviorVersion, Credentials, Region, SharedHttpClient};
use aws_sdk_kinesis::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kinesis::operation::get_records::GetRecordsOutput;
use aws_sdk_kinesis::primitives::{Blob, DateTime};
use aws_sdk_kinesis::types::{
    ConsumerStatus, PutRecordsRequestEntry, Record, ScalingType, Shard, ShardFilter, ShardFilterType,
    ShardIteratorType, StartingPosition, StreamStatus, SubscribeToShardEvent, SubscribeToShardEventStream,
};
use md5::{Digest, Md5};

/// Something that a server may lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Feature {
    /// A closed shard is refused where it is to be split.
    ClosedShards,
    /// `ChildShards` in the last answer of a closed shard.
    ChildShards,
    /// RegisterStreamConsumer and its relatives.
    Consumers,
    /// DescribeStream answers at most `Limit` shards.
    DescribePages,
    /// SubscribeToShard as the SDK's event stream.
    FanOut,
    /// A sequence number of another shard is refused.
    ForeignNumbers,
    /// `InvalidArgumentException` for an iterator that is none.
    InvalidIterators,
    /// ListShards: pages, filters, by ARN.
    ListShardsInFull,
    /// `MillisBehindLatest` above 0 before the tip.
    MillisBehind,
    /// 500 records a PutRecords.
    PutRecordsCount,
    /// Actions take a StreamARN.
    StreamArns,
    /// TagResource, UntagResource, ListTagsForResource.
    TagResource,
    /// UpdateShardCount.
    UpdateShardCount,
    /// `ValidationException` where a parameter is wrong whatever the stream; `InvalidArgumentException` elsewhere.
    ValidationCode,
}

/// A Kinesis under test.
pub struct Target {
    pub client: Client,
    lacks: BTreeSet<Feature>,
}

impl Target {
    /// One that lacks nothing.
    pub fn new(client: Client) -> Self {
        Self { client, lacks: BTreeSet::new() }
    }

    /// kinesis-local 0.6.2: it takes more than 500 records and sequence numbers of other shards, answers 500 to a malformed
    /// iterator, has one code for all wrong parameters, and its event streams begin without the initial-response that SDKs
    /// wait for.
    pub fn kinesis_local(client: Client) -> Self {
        let lacks = [
            Feature::FanOut,
            Feature::ForeignNumbers,
            Feature::InvalidIterators,
            Feature::PutRecordsCount,
            Feature::ValidationCode,
        ];
        Self { client, lacks: lacks.into() }
    }

    /// kinesalite 3.3.3: an API of 2016 and nothing newer. MillisBehindLatest is always 0, DescribeStream ignores its limit, and
    /// a closed shard can be split again.
    pub fn kinesalite(client: Client) -> Self {
        let lacks = [
            Feature::ChildShards,
            Feature::ClosedShards,
            Feature::Consumers,
            Feature::DescribePages,
            Feature::FanOut,
            Feature::ListShardsInFull,
            Feature::MillisBehind,
            Feature::StreamArns,
            Feature::TagResource,
            Feature::UpdateShardCount,
        ];
        Self { client, lacks: lacks.into() }
    }

    /// A parameter was refused that is wrong whatever the stream.
    fn assert_invalid<T, E, R>(&self, answer: Result<T, SdkError<E, R>>)
    where
        E: ProvideErrorMetadata + std::fmt::Debug,
        R: std::fmt::Debug,
    {
        let lacks = self.lacks.contains(&Feature::ValidationCode);
        assert_eq!(code(answer), if lacks { "InvalidArgumentException" } else { "ValidationException" });
    }

    fn lacks(&self, feature: Feature) -> bool {
        let lacks = self.lacks.contains(&feature);
        if lacks {
            println!("not checked, because this server lacks it: {feature:?}");
        }
        lacks
    }
}

/// A client of the server at `endpoint`, or of `http` whatever the endpoint.
pub fn client(endpoint: &str, http: Option<SharedHttpClient>) -> Client {
    let config = aws_sdk_kinesis::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("test", "test", None, None, "test"))
        .retry_config(aws_sdk_kinesis::config::retry::RetryConfig::disabled())
        .endpoint_url(endpoint);
    let http = http.unwrap_or_else(|| aws_smithy_http_client::Builder::new().build_http());
    Client::from_conf(config.http_client(http).build())
}

/// The checks, for a macro that makes tests of them: `checks!(test)` calls `test!(name, name, ..)`.
#[macro_export]
macro_rules! checks {
    ($each:ident) => {
        $each!(
            a_stream_is_made_described_and_deleted,
            streams_are_listed_by_pages,
            names_that_exist_or_do_not_are_refused,
            records_come_back_whole_in_order_from_the_shard_of_their_hash,
            an_explicit_hash_key_decides_the_shard,
            a_sequence_number_for_ordering_is_taken,
            each_kind_of_iterator_begins_at_its_place,
            pages_go_on_where_the_last_one_ended,
            how_far_behind_is_said_before_the_tip,
            a_split_closes_the_parent_and_opens_two_children,
            a_merge_closes_both_parents_and_opens_one_child,
            the_shard_count_is_changed,
            shards_are_listed_by_pages_and_filters,
            sizes_are_limited,
            iterators_that_are_none_are_refused,
            numbers_of_other_shards_are_refused,
            retention_is_changed,
            a_stream_is_named_by_its_arn,
            tags_are_kept,
            consumers_are_registered,
            a_subscription_brings_what_is_there_and_what_comes,
            a_subscription_ends_with_its_shard,
        );
    };
}

pub async fn a_stream_is_made_described_and_deleted(target: &Target) {
    let stream = TestStream::new(target, 3).await;
    let described = target.client.describe_stream().stream_name(&stream.name).send().await.unwrap();
    let described = described.stream_description.unwrap();
    assert_eq!(described.stream_name, stream.name);
    assert_eq!(described.stream_status, StreamStatus::Active);
    assert_eq!(described.retention_period_hours, 24);
    assert!(!described.has_more_shards);
    assert!(described.stream_arn.ends_with(&format!(":stream/{}", stream.name)), "{}", described.stream_arn);
    let ids: Vec<_> = described.shards.iter().map(|shard| shard.shard_id.as_str()).collect();
    assert_eq!(ids, ["shardId-000000000000", "shardId-000000000001", "shardId-000000000002"]);
    assert_covers_once(&described.shards);

    let summary = target.client.describe_stream_summary().stream_name(&stream.name).send().await.unwrap();
    let summary = summary.stream_description_summary.unwrap();
    assert_eq!((summary.stream_arn, summary.open_shard_count), (described.stream_arn, 3));

    if !target.lacks(Feature::DescribePages) {
        let page = target.client.describe_stream().stream_name(&stream.name).limit(2).send().await.unwrap();
        let page = page.stream_description.unwrap();
        assert_eq!((&page.shards[..], page.has_more_shards), (&described.shards[..2], true));
        let last = page.shards[1].shard_id.clone();
        let rest = target.client.describe_stream().stream_name(&stream.name).exclusive_start_shard_id(last);
        assert_eq!(rest.send().await.unwrap().stream_description.unwrap().shards, described.shards[2..]);
    }
    stream.delete().await;
    let gone = target.client.describe_stream().stream_name(&stream.name).send().await;
    assert_eq!(code(gone), "ResourceNotFoundException");
}

pub async fn streams_are_listed_by_pages(target: &Target) {
    let prefix = format!("list-{}", uuid::Uuid::new_v4().simple());
    let mut streams = Vec::new();
    for at in 0..3 {
        streams.push(TestStream::named(target, format!("{prefix}-{at}"), 1).await);
    }
    let (mut names, mut after) = (Vec::new(), prefix.clone());
    loop {
        let list = target.client.list_streams().limit(2).exclusive_start_stream_name(after);
        let page = list.send().await.unwrap();
        names.extend(page.stream_names.into_iter().filter(|name| name.starts_with(&prefix)));
        after = names.last().cloned().unwrap_or_default();
        if !page.has_more_streams || names.len() >= 3 {
            break;
        }
    }
    assert_eq!(names, [format!("{prefix}-0"), format!("{prefix}-1"), format!("{prefix}-2")]);
    for stream in streams {
        stream.delete().await;
    }
}

pub async fn names_that_exist_or_do_not_are_refused(target: &Target) {
    let stream = TestStream::new(target, 1).await;
    let again = target.client.create_stream().stream_name(&stream.name).shard_count(1).send().await;
    assert_eq!(code(again), "ResourceInUseException");
    let put = target.client.put_record().stream_name("no-such-stream").partition_key("k").data(Blob::new("x"));
    assert_eq!(code(put.send().await), "ResourceNotFoundException");
    let shard = target.client.get_shard_iterator().stream_name(&stream.name).shard_id("shardId-000000000009");
    let shard = shard.shard_iterator_type(ShardIteratorType::TrimHorizon).send().await;
    assert_eq!(code(shard), "ResourceNotFoundException");
    let bad = target.client.create_stream().stream_name("a name with spaces").shard_count(1).send().await;
    target.assert_invalid(bad);
    stream.delete().await;
}

pub async fn records_come_back_whole_in_order_from_the_shard_of_their_hash(target: &Target) {
    let stream = TestStream::new(target, 4).await;
    let shards = stream.shards().await;
    let mut sent: BTreeMap<String, Vec<(String, Vec<u8>)>> = BTreeMap::new();
    let records: Vec<_> = (0..200u32)
        .map(|at| (format!("clé-{}", at % 23), [&at.to_be_bytes()[..], &vec![at as u8; at as usize * 7]].concat()))
        .collect();
    for batch in records.chunks(64) {
        let put = target.client.put_records().stream_name(&stream.name);
        let put = put.set_records(Some(batch.iter().map(|(key, data)| entry(key, data)).collect()));
        let answer = put.send().await.unwrap();
        assert_eq!(answer.failed_record_count, Some(0));
        for ((key, data), placed) in batch.iter().zip(answer.records) {
            let hash = u128::from_be_bytes(Md5::digest(key.as_bytes()).into());
            let shard = shards.iter().find(|shard| range(shard).contains(&hash)).unwrap();
            assert_eq!(placed.shard_id.as_ref(), Some(&shard.shard_id), "of {key}");
            sent.entry(shard.shard_id.clone()).or_default().push((key.clone(), data.clone()));
        }
    }
    for shard in &shards {
        let records = stream.read_from_start(&shard.shard_id, 200).await;
        let parts = |record: &Record| (record.partition_key.clone().unwrap(), record.data.clone().into_inner());
        let read: Vec<_> = records.iter().map(parts).collect();
        assert_eq!(read, sent.remove(&shard.shard_id).unwrap_or_default(), "{}", shard.shard_id);
        assert_ascending(&records);
        let starts = &shard.sequence_number_range.as_ref().unwrap().starting_sequence_number;
        assert!(records.iter().all(|record| larger(&record.sequence_number, starts)));
        assert!(records.iter().all(|record| record.sequence_number.len() == 56), "186 bits have 56 digits");
    }
    stream.delete().await;
}

pub async fn an_explicit_hash_key_decides_the_shard(target: &Target) {
    let stream = TestStream::new(target, 2).await;
    let shards = stream.shards().await;
    let edges = [range(&shards[0]), range(&shards[1])];
    for (hash, shard) in [(0, 0), (*edges[0].end(), 0), (*edges[1].start(), 1), (u128::MAX, 1)] {
        let put = target.client.put_record().stream_name(&stream.name).partition_key("same").data(Blob::new("x"));
        let placed = put.explicit_hash_key(hash.to_string()).send().await.unwrap();
        assert_eq!(placed.shard_id, format!("shardId-00000000000{shard}"), "of {hash}");
    }
    let put = target.client.put_record().stream_name(&stream.name).partition_key("same").data(Blob::new("x"));
    let beyond = put.explicit_hash_key("340282366920938463463374607431768211456").send().await;
    assert_eq!(code(beyond), "InvalidArgumentException");
    stream.delete().await;
}

pub async fn a_sequence_number_for_ordering_is_taken(target: &Target) {
    let stream = TestStream::new(target, 1).await;
    let put = || target.client.put_record().stream_name(&stream.name).partition_key("k").data(Blob::new("x"));
    let first = put().send().await.unwrap().sequence_number;
    let second = put().sequence_number_for_ordering(&first).send().await.unwrap().sequence_number;
    assert!(larger(&second, &first));
    stream.delete().await;
}

pub async fn each_kind_of_iterator_begins_at_its_place(target: &Target) {
    let stream = TestStream::new(target, 1).await;
    let early = stream.put_numbers(0..3).await;
    let between = arrivals(&stream.read_from_start(SHARD_0, 3).await)[2] + 2;
    wait_until("the clock to pass the first records", || async { now_ms() > between }).await;
    let late = stream.put_numbers(3..6).await;

    let place = |kind: ShardIteratorType| {
        target.client.get_shard_iterator().stream_name(&stream.name).shard_id(SHARD_0).shard_iterator_type(kind)
    };
    let latest = place(ShardIteratorType::Latest).send().await.unwrap().shard_iterator.unwrap();
    stream.put_numbers(6..8).await;
    let read = async |iterator: String, n| numbers(&stream.read(iterator, n).await);
    assert_eq!(read(latest, 2).await, [6, 7]);
    let all = place(ShardIteratorType::TrimHorizon).send().await.unwrap().shard_iterator.unwrap();
    assert_eq!(read(all, 8).await, [0, 1, 2, 3, 4, 5, 6, 7]);
    let at = place(ShardIteratorType::AtSequenceNumber).starting_sequence_number(&early[1]).send().await.unwrap();
    assert_eq!(read(at.shard_iterator.unwrap(), 7).await, [1, 2, 3, 4, 5, 6, 7]);
    let after = place(ShardIteratorType::AfterSequenceNumber).starting_sequence_number(&late[0]).send().await.unwrap();
    assert_eq!(read(after.shard_iterator.unwrap(), 4).await, [4, 5, 6, 7]);
    let time =
        place(ShardIteratorType::AtTimestamp).timestamp(DateTime::from_millis(between as i64)).send().await.unwrap();
    assert_eq!(read(time.shard_iterator.unwrap(), 5).await, [3, 4, 5, 6, 7]);
    let epoch = place(ShardIteratorType::AtTimestamp).timestamp(DateTime::from_millis(0)).send().await.unwrap();
    assert_eq!(read(epoch.shard_iterator.unwrap(), 8).await, [0, 1, 2, 3, 4, 5, 6, 7]);
    stream.delete().await;
}

pub async fn pages_go_on_where_the_last_one_ended(target: &Target) {
    let stream = TestStream::new(target, 1).await;
    stream.put_numbers(0..25).await;
    let (mut iterator, mut pages) = (stream.iterator(SHARD_0).await, Vec::new());
    while pages.iter().map(Vec::len).sum::<usize>() < 25 {
        let page = stream.get(&iterator, 10).await;
        pages.push(numbers(&page.records));
        iterator = page.next_shard_iterator.unwrap();
    }
    assert_eq!(pages, [Vec::from_iter(0..10), Vec::from_iter(10..20), Vec::from_iter(20..25)]);
    let empty = stream.get(&iterator, 10).await;
    assert_eq!((empty.records, empty.millis_behind_latest), (vec![], Some(0)));
    assert!(empty.next_shard_iterator.is_some(), "an open shard has no end");
    stream.delete().await;
}

pub async fn how_far_behind_is_said_before_the_tip(target: &Target) {
    if target.lacks(Feature::MillisBehind) {
        return;
    }
    let stream = TestStream::new(target, 1).await;
    stream.put_numbers(0..4).await;
    let put_by = now_ms();
    wait_until("a little age", || async { now_ms() > put_by + 5 }).await;
    let iterator = stream.iterator(SHARD_0).await;
    let middle = stream.get(&iterator, 2).await;
    assert!(middle.millis_behind_latest.unwrap() > 0);
    let tip = stream.get(&middle.next_shard_iterator.unwrap(), 2).await;
    assert_eq!((numbers(&tip.records), tip.millis_behind_latest), (vec![2, 3], Some(0)));
    stream.delete().await;
}

pub async fn a_split_closes_the_parent_and_opens_two_children(target: &Target) {
    let stream = TestStream::new(target, 1).await;
    let before = stream.put_numbers(0..5).await;
    let middle = 1u128 << 127;
    let split = target.client.split_shard().stream_name(&stream.name).shard_to_split(SHARD_0);
    split.new_starting_hash_key(middle.to_string()).send().await.unwrap();
    stream.wait_active().await;

    let shards = stream.shards().await;
    let family: Vec<_> =
        shards.iter().map(|shard| (shard.shard_id.as_str(), shard.parent_shard_id.as_deref(), range(shard))).collect();
    assert_eq!(
        family,
        [
            (SHARD_0, None, 0..=u128::MAX),
            (SHARD_1, Some(SHARD_0), 0..=middle - 1),
            (SHARD_2, Some(SHARD_0), middle..=u128::MAX)
        ]
    );
    let ends: Vec<_> = shards
        .iter()
        .map(|shard| shard.sequence_number_range.as_ref().unwrap().ending_sequence_number.is_some())
        .collect();
    assert_eq!(ends, [true, false, false]);
    assert_covers_once(&shards);

    let after = stream.put_numbers(5..25).await;
    assert!(after.iter().all(|number| larger(number, before.last().unwrap())), "children's numbers are larger");
    let (records, last) = stream.read_to_end(SHARD_0).await;
    assert_eq!(numbers(&records), Vec::from_iter(0..5));
    if !target.lacks(Feature::ChildShards) {
        let children: Vec<_> = last.child_shards.unwrap_or_default();
        let children: Vec<_> =
            children.iter().map(|child| (child.shard_id.as_str(), &child.parent_shards[..])).collect();
        let parents = [SHARD_0.to_owned()];
        assert_eq!(children, [(SHARD_1, &parents[..]), (SHARD_2, &parents[..])]);
    }
    let mut read = Vec::new();
    for shard in [SHARD_1, SHARD_2] {
        read.extend(numbers(
            &stream.read_until(shard, |records| records.len() + read.len() >= 20 || shard == SHARD_1).await,
        ));
    }
    read.sort_unstable();
    assert_eq!(read, Vec::from_iter(5..25));
    if !target.lacks(Feature::ClosedShards) {
        let again =
            target.client.split_shard().stream_name(&stream.name).shard_to_split(SHARD_0).new_starting_hash_key("5");
        assert!(again.send().await.is_err(), "a closed shard can't be split");
    }
    stream.delete().await;
}

pub async fn a_merge_closes_both_parents_and_opens_one_child(target: &Target) {
    let stream = TestStream::new(target, 3).await;
    let merge = |one, other| {
        target.client.merge_shards().stream_name(&stream.name).shard_to_merge(one).adjacent_shard_to_merge(other)
    };
    assert_eq!(code(merge(SHARD_0, SHARD_2).send().await), "InvalidArgumentException");
    merge(SHARD_0, SHARD_1).send().await.unwrap();
    stream.wait_active().await;
    let shards = stream.shards().await;
    let child = shards.iter().find(|shard| shard.shard_id == "shardId-000000000003").unwrap();
    assert_eq!(
        (child.parent_shard_id.as_deref(), child.adjacent_parent_shard_id.as_deref()),
        (Some(SHARD_0), Some(SHARD_1))
    );
    assert_eq!(range(child), 0..=*range(&shards[1]).end());
    assert_covers_once(&shards);
    for shard in [SHARD_0, SHARD_1] {
        assert_eq!(stream.read_to_end(shard).await.0, []);
    }
    stream.delete().await;
}

pub async fn the_shard_count_is_changed(target: &Target) {
    if target.lacks(Feature::UpdateShardCount) {
        return;
    }
    let stream = TestStream::new(target, 2).await;
    for (current, wanted) in [(2, 4), (4, 3), (3, 2)] {
        let update = target.client.update_shard_count().stream_name(&stream.name).target_shard_count(wanted);
        let answer = update.scaling_type(ScalingType::UniformScaling).send().await.unwrap();
        assert_eq!((answer.current_shard_count, answer.target_shard_count), (Some(current), Some(wanted)));
        stream.wait_active().await;
        let shards = stream.shards().await;
        assert_covers_once(&shards);
        assert_eq!(open(&shards).len(), wanted as usize);
    }
    stream.delete().await;
}

pub async fn shards_are_listed_by_pages_and_filters(target: &Target) {
    if target.lacks(Feature::ListShardsInFull) {
        return;
    }
    let stream = TestStream::new(target, 3).await;
    let made = now_ms();
    wait_until("a little age", || async { now_ms() > made + 5 }).await;
    let split = target.client.split_shard().stream_name(&stream.name).shard_to_split(SHARD_0);
    split.new_starting_hash_key("7").send().await.unwrap();
    stream.wait_active().await;

    let divided = now_ms();
    // kinesis-local knows the time of a split to the second only.
    wait_until("the split to be past", || async { now_ms() / 1000 > divided / 1000 + 1 }).await;

    let page = target.client.list_shards().stream_name(&stream.name).max_results(2).send().await.unwrap();
    assert_eq!(ids(page.shards()), [0, 1]);
    let token = page.next_token.unwrap();
    let rest = target.client.list_shards().next_token(token).max_results(10).send().await.unwrap();
    assert_eq!((ids(rest.shards()), rest.next_token), (vec![2, 3, 4], None));
    let after =
        target.client.list_shards().stream_name(&stream.name).exclusive_start_shard_id(SHARD_2).send().await.unwrap();
    assert_eq!(ids(after.shards()), [3, 4]);

    let filtered = async |kind: ShardFilterType, id: Option<&str>, ms: Option<u64>| {
        let filter = ShardFilter::builder().r#type(kind).set_shard_id(id.map(str::to_owned));
        let filter = filter.set_timestamp(ms.map(|ms| DateTime::from_millis(ms as i64))).build().unwrap();
        let list = target.client.list_shards().stream_name(&stream.name).shard_filter(filter).send().await.unwrap();
        ids(list.shards())
    };
    assert_eq!(filtered(ShardFilterType::AtLatest, None, None).await, [1, 2, 3, 4]);
    assert_eq!(filtered(ShardFilterType::AfterShardId, Some(SHARD_1), None).await, [2, 3, 4]);
    assert_eq!(filtered(ShardFilterType::FromTrimHorizon, None, None).await, [0, 1, 2, 3, 4]);
    assert_eq!(filtered(ShardFilterType::FromTimestamp, None, Some(made)).await, [0, 1, 2, 3, 4]);
    assert_eq!(filtered(ShardFilterType::FromTimestamp, None, Some(now_ms())).await, [1, 2, 3, 4]);
    stream.delete().await;
}

pub async fn sizes_are_limited(target: &Target) {
    let stream = TestStream::new(target, 1).await;
    let put = |bytes: usize| {
        target.client.put_record().stream_name(&stream.name).partition_key("key").data(Blob::new(vec![7; bytes]))
    };
    put((1 << 20) - 3).send().await.unwrap();
    target.assert_invalid(put((1 << 20) + 1).send().await);
    let empty =
        target.client.put_record().stream_name(&stream.name).partition_key("").data(Blob::new("x")).send().await;
    target.assert_invalid(empty);
    let long = target.client.put_record().stream_name(&stream.name).partition_key("k".repeat(257)).data(Blob::new("x"));
    target.assert_invalid(long.send().await);
    let many = |n| {
        let records = std::iter::repeat_n(entry("k", b"x"), n).collect();
        target.client.put_records().stream_name(&stream.name).set_records(Some(records))
    };
    many(500).send().await.unwrap();
    if !target.lacks(Feature::PutRecordsCount) {
        target.assert_invalid(many(501).send().await);
    }
    let iterator = stream.iterator(SHARD_0).await;
    let get = target.client.get_records().shard_iterator(iterator).limit(10_001).send().await;
    target.assert_invalid(get);
    stream.delete().await;
}

pub async fn iterators_that_are_none_are_refused(target: &Target) {
    if target.lacks(Feature::InvalidIterators) {
        return;
    }
    for text in ["no", "AAAAAAAAAAHSywljv0zEgPX4NyKdZ5wryMzP9yALs8NeKbUjp1IxtZs1Sp"] {
        assert_eq!(code(target.client.get_records().shard_iterator(text).send().await), "InvalidArgumentException");
    }
}

pub async fn numbers_of_other_shards_are_refused(target: &Target) {
    if target.lacks(Feature::ForeignNumbers) {
        return;
    }
    let stream = TestStream::new(target, 2).await;
    let put = target.client.put_record().stream_name(&stream.name).partition_key("k").explicit_hash_key("0");
    let number = put.data(Blob::new("x")).send().await.unwrap().sequence_number;
    let place = |number: &str| {
        let place = target.client.get_shard_iterator().stream_name(&stream.name).shard_id(SHARD_1);
        place.shard_iterator_type(ShardIteratorType::AfterSequenceNumber).starting_sequence_number(number)
    };
    assert_eq!(code(place(&number).send().await), "InvalidArgumentException");
    stream.delete().await;
}

pub async fn retention_is_changed(target: &Target) {
    let stream = TestStream::new(target, 1).await;
    let hours = async || {
        let summary = target.client.describe_stream_summary().stream_name(&stream.name).send().await.unwrap();
        summary.stream_description_summary.unwrap().retention_period_hours
    };
    let client = &target.client;
    client
        .increase_stream_retention_period()
        .stream_name(&stream.name)
        .retention_period_hours(48)
        .send()
        .await
        .unwrap();
    stream.wait_active().await;
    assert_eq!(hours().await, 48);
    let less =
        client.increase_stream_retention_period().stream_name(&stream.name).retention_period_hours(30).send().await;
    assert_eq!(code(less), "InvalidArgumentException");
    client
        .decrease_stream_retention_period()
        .stream_name(&stream.name)
        .retention_period_hours(24)
        .send()
        .await
        .unwrap();
    stream.wait_active().await;
    assert_eq!(hours().await, 24);
    stream.delete().await;
}

pub async fn a_stream_is_named_by_its_arn(target: &Target) {
    if target.lacks(Feature::StreamArns) {
        return;
    }
    let stream = TestStream::new(target, 1).await;
    let (client, arn) = (&target.client, stream.arn().await);
    client.put_record().stream_arn(&arn).partition_key("k").data(Blob::new(5u32.to_be_bytes())).send().await.unwrap();
    let shards = client.list_shards().stream_arn(&arn).send().await.unwrap();
    let place = client.get_shard_iterator().stream_arn(&arn).shard_id(&shards.shards()[0].shard_id);
    let place = place.shard_iterator_type(ShardIteratorType::TrimHorizon).send().await.unwrap();
    let got = client.get_records().stream_arn(&arn).shard_iterator(place.shard_iterator.unwrap()).send().await.unwrap();
    assert_eq!(numbers(&got.records), [5]);
    client.delete_stream().stream_arn(&arn).send().await.unwrap();
    stream.wait_gone().await;
}

pub async fn tags_are_kept(target: &Target) {
    let stream = TestStream::new(target, 1).await;
    let client = &target.client;
    let tags = async || {
        let list = client.list_tags_for_stream().stream_name(&stream.name).send().await.unwrap();
        let mut tags: Vec<_> = list.tags.into_iter().map(|tag| (tag.key, tag.value.unwrap_or_default())).collect();
        tags.sort();
        tags
    };
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    client.add_tags_to_stream().stream_name(&stream.name).tags("team", "posts").tags("tier", "1").send().await.unwrap();
    assert_eq!(tags().await, [pair("team", "posts"), pair("tier", "1")]);
    client.remove_tags_from_stream().stream_name(&stream.name).tag_keys("team").send().await.unwrap();
    assert_eq!(tags().await, [pair("tier", "1")]);
    if !target.lacks(Feature::TagResource) {
        let arn = stream.arn().await;
        client.tag_resource().resource_arn(&arn).tags("a", "b").send().await.unwrap();
        client.untag_resource().resource_arn(&arn).tag_keys("tier").send().await.unwrap();
        let list = client.list_tags_for_resource().resource_arn(&arn).send().await.unwrap().tags.unwrap_or_default();
        let list: Vec<_> = list.into_iter().map(|tag| (tag.key, tag.value.unwrap_or_default())).collect();
        assert_eq!(list, [pair("a", "b")]);
    }
    stream.delete().await;
}

pub async fn consumers_are_registered(target: &Target) {
    if target.lacks(Feature::Consumers) {
        return;
    }
    let stream = TestStream::new(target, 1).await;
    let (client, arn) = (&target.client, stream.arn().await);
    let mut arns = Vec::new();
    for name in ["one", "two"] {
        let registered = client.register_stream_consumer().stream_arn(&arn).consumer_name(name).send().await.unwrap();
        let consumer = registered.consumer.unwrap();
        assert_eq!(consumer.consumer_name, name);
        assert!(consumer.consumer_arn.starts_with(&format!("{arn}/consumer/{name}:")), "{}", consumer.consumer_arn);
        arns.push(consumer.consumer_arn);
    }
    let again = client.register_stream_consumer().stream_arn(&arn).consumer_name("one").send().await;
    assert_eq!(code(again), "ResourceInUseException");
    wait_consumer_active(client, &arns[0]).await;
    let described = client.describe_stream_consumer().stream_arn(&arn).consumer_name("two").send().await.unwrap();
    let described = described.consumer_description.unwrap();
    assert_eq!((&described.consumer_arn, &described.stream_arn), (&arns[1], &arn));
    let list = async || {
        let list = client.list_stream_consumers().stream_arn(&arn).send().await.unwrap().consumers.unwrap_or_default();
        BTreeSet::from_iter(list.into_iter().map(|consumer| consumer.consumer_name))
    };
    assert_eq!(list().await, BTreeSet::from(["one".to_owned(), "two".to_owned()]));
    wait_consumer_active(client, &arns[1]).await;
    client.deregister_stream_consumer().consumer_arn(&arns[0]).send().await.unwrap();
    wait_until("the consumer to go", || async { list().await.len() == 1 }).await;
    assert_eq!(list().await, BTreeSet::from(["two".to_owned()]));
    client.delete_stream().stream_name(&stream.name).enforce_consumer_deletion(true).send().await.unwrap();
    stream.wait_gone().await;
}

pub async fn a_subscription_brings_what_is_there_and_what_comes(target: &Target) {
    if target.lacks(Feature::FanOut) {
        return;
    }
    let stream = TestStream::new(target, 1).await;
    let consumer = stream.register("reader").await;
    stream.put_numbers(0..5).await;
    let subscribe = |position: StartingPosition| {
        let subscribe = target.client.subscribe_to_shard().consumer_arn(&consumer).shard_id(SHARD_0);
        subscribe.starting_position(position)
    };
    let start = StartingPosition::builder().r#type(ShardIteratorType::TrimHorizon).build().unwrap();
    let mut subscription = subscribe(start.clone()).send().await.unwrap();
    assert_eq!(code(subscribe(start).send().await), "ResourceInUseException");
    let (mut read, mut put) = (Vec::new(), 5);
    let mut continuation = String::new();
    while read.len() < 8 {
        let event = next_event(&mut subscription).await.expect("a subscription to an open shard goes on");
        if event.millis_behind_latest == 0 && put < 8 {
            stream.put_numbers(put..put + 1).await;
            put += 1;
        }
        read.extend(numbers(&event.records));
        continuation = event.continuation_sequence_number;
    }
    assert_eq!(read, Vec::from_iter(0..8));
    let place = target.client.get_shard_iterator().stream_name(&stream.name).shard_id(SHARD_0);
    let place =
        place.shard_iterator_type(ShardIteratorType::AfterSequenceNumber).starting_sequence_number(continuation);
    stream.put_numbers(8..9).await;
    let after = stream.read(place.send().await.unwrap().shard_iterator.unwrap(), 1).await;
    assert_eq!(numbers(&after), [8]);
    drop(subscription);
    stream.delete_with_consumers().await;
}

pub async fn a_subscription_ends_with_its_shard(target: &Target) {
    if target.lacks(Feature::FanOut) {
        return;
    }
    let stream = TestStream::new(target, 1).await;
    let consumer = stream.register("reader").await;
    let start = StartingPosition::builder().r#type(ShardIteratorType::Latest).build().unwrap();
    let subscribe = target.client.subscribe_to_shard().consumer_arn(&consumer).shard_id(SHARD_0);
    let mut subscription = subscribe.starting_position(start).send().await.unwrap();
    stream.put_numbers(0..2).await;
    let split = target.client.split_shard().stream_name(&stream.name).shard_to_split(SHARD_0);
    split.new_starting_hash_key("9").send().await.unwrap();
    let (mut read, mut children) = (Vec::new(), Vec::new());
    while let Some(event) = next_event(&mut subscription).await {
        read.extend(numbers(&event.records));
        children.extend(event.child_shards.unwrap_or_default().into_iter().map(|child| child.shard_id));
    }
    assert_eq!((read, children), (vec![0, 1], vec![SHARD_1.to_owned(), SHARD_2.to_owned()]));
    stream.delete_with_consumers().await;
}

pub const SHARD_0: &str = "shardId-000000000000";
pub const SHARD_1: &str = "shardId-000000000001";
pub const SHARD_2: &str = "shardId-000000000002";

/// Long enough for a server that starts slowly; nothing waits for it where all is well.
const DEADLINE: Duration = Duration::from_secs(30);

/// A stream of one check.
pub struct TestStream<'a> {
    client: &'a Client,
    pub name: String,
}

impl<'a> TestStream<'a> {
    pub async fn new(target: &'a Target, shards: i32) -> Self {
        Self::named(target, format!("suite-{}", uuid::Uuid::new_v4().simple()), shards).await
    }

    async fn named(target: &'a Target, name: String, shards: i32) -> Self {
        target.client.create_stream().stream_name(&name).shard_count(shards).send().await.unwrap();
        let stream = Self { client: &target.client, name };
        stream.wait_active().await;
        stream
    }

    pub async fn wait_active(&self) {
        wait_until("the stream to be ACTIVE", || async {
            let summary = self.client.describe_stream_summary().stream_name(&self.name).send().await.unwrap();
            summary.stream_description_summary.unwrap().stream_status == StreamStatus::Active
        })
        .await;
    }

    pub async fn delete(&self) {
        self.client.delete_stream().stream_name(&self.name).send().await.unwrap();
        self.wait_gone().await;
    }

    async fn delete_with_consumers(&self) {
        self.client.delete_stream().stream_name(&self.name).enforce_consumer_deletion(true).send().await.unwrap();
        self.wait_gone().await;
    }

    async fn wait_gone(&self) {
        let describe = || self.client.describe_stream_summary().stream_name(&self.name).send();
        wait_until("the stream to be gone", || async { describe().await.is_err() }).await;
    }

    async fn arn(&self) -> String {
        let summary = self.client.describe_stream_summary().stream_name(&self.name).send().await.unwrap();
        summary.stream_description_summary.unwrap().stream_arn
    }

    /// A consumer that is ready, by its ARN.
    pub async fn register(&self, name: &str) -> String {
        let register = self.client.register_stream_consumer().stream_arn(self.arn().await).consumer_name(name);
        let arn = register.send().await.unwrap().consumer.unwrap().consumer_arn;
        wait_consumer_active(self.client, &arn).await;
        arn
    }

    pub async fn shards(&self) -> Vec<Shard> {
        let described = self.client.describe_stream().stream_name(&self.name).send().await.unwrap();
        described.stream_description.unwrap().shards
    }

    /// Puts one record for each number, each under a key of its own. Answers the sequence numbers.
    pub async fn put_numbers(&self, numbers: std::ops::Range<u32>) -> Vec<String> {
        let mut placed = Vec::new();
        for number in numbers {
            let put = self.client.put_record().stream_name(&self.name).partition_key(format!("key {number}"));
            placed.push(put.data(Blob::new(number.to_be_bytes())).send().await.unwrap().sequence_number);
        }
        placed
    }

    pub async fn iterator(&self, shard: &str) -> String {
        let place = self.client.get_shard_iterator().stream_name(&self.name).shard_id(shard);
        place.shard_iterator_type(ShardIteratorType::TrimHorizon).send().await.unwrap().shard_iterator.unwrap()
    }

    pub async fn get(&self, iterator: &str, limit: i32) -> GetRecordsOutput {
        self.client.get_records().shard_iterator(iterator).limit(limit).send().await.unwrap()
    }

    /// Reads until there are `n` records, or the tip was seen twice.
    async fn read(&self, mut iterator: String, n: usize) -> Vec<Record> {
        let (mut records, deadline) = (Vec::new(), Instant::now() + DEADLINE);
        while records.len() < n {
            assert!(Instant::now() < deadline, "{} of {n} records came", records.len());
            let page = self.get(&iterator, 10_000).await;
            records.extend(page.records);
            let Some(next) = page.next_shard_iterator else { break };
            iterator = next;
        }
        records
    }

    /// At most `n` records, as many as are there.
    async fn read_from_start(&self, shard: &str, n: usize) -> Vec<Record> {
        self.read_until(shard, |records| records.len() >= n).await
    }

    async fn read_until(&self, shard: &str, done: impl Fn(&[Record]) -> bool) -> Vec<Record> {
        let (mut iterator, mut records) = (self.iterator(shard).await, Vec::new());
        loop {
            let page = self.get(&iterator, 10_000).await;
            // Independent servers are caught up at their word only after an empty page.
            let empty = page.records.is_empty();
            records.extend(page.records);
            match page.next_shard_iterator {
                Some(next) if !(empty || done(&records) && page.millis_behind_latest == Some(0)) => iterator = next,
                _ => return records,
            }
        }
    }

    /// Everything in a closed shard, and the last answer.
    pub async fn read_to_end(&self, shard: &str) -> (Vec<Record>, GetRecordsOutput) {
        let (mut iterator, mut records) = (self.iterator(shard).await, Vec::new());
        let deadline = Instant::now() + DEADLINE;
        loop {
            assert!(Instant::now() < deadline, "the closed shard {shard} has no end");
            let mut page = self.get(&iterator, 3).await;
            records.append(&mut page.records);
            match page.next_shard_iterator.take() {
                Some(next) => iterator = next,
                None => return (records, page),
            }
        }
    }
}

pub async fn next_event(
    subscription: &mut aws_sdk_kinesis::operation::subscribe_to_shard::SubscribeToShardOutput,
) -> Option<SubscribeToShardEvent> {
    let event = tokio::time::timeout(DEADLINE, subscription.event_stream.recv()).await.expect("an event in time");
    match event.expect("an event that can be read")? {
        SubscribeToShardEventStream::SubscribeToShardEvent(event) => Some(event),
        other => panic!("an event of another kind: {other:?}"),
    }
}

async fn wait_consumer_active(client: &Client, arn: &str) {
    wait_until("the consumer to be ACTIVE", || async {
        let described = client.describe_stream_consumer().consumer_arn(arn).send().await.unwrap();
        described.consumer_description.unwrap().consumer_status == ConsumerStatus::Active
    })
    .await;
}

/// Asks until it is so.
pub async fn wait_until<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let deadline = Instant::now() + DEADLINE;
    while !is_so().await {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// The `__type` of the error that should have come.
pub fn code<T, E: ProvideErrorMetadata + std::fmt::Debug, R: std::fmt::Debug>(
    answer: Result<T, SdkError<E, R>>,
) -> String {
    match answer {
        Ok(_) => panic!("it should have been refused"),
        Err(error) => match &error {
            SdkError::ServiceError(inner) => inner.err().code().unwrap_or("no code").to_owned(),
            other => panic!("no answer: {other:?}"),
        },
    }
}

pub fn entry(key: &str, data: &[u8]) -> PutRecordsRequestEntry {
    PutRecordsRequestEntry::builder().partition_key(key).data(Blob::new(data)).build().unwrap()
}

/// What [`TestStream::put_numbers`] put.
pub fn numbers(records: &[Record]) -> Vec<u32> {
    let number = |record: &Record| u32::from_be_bytes(record.data.as_ref().try_into().expect("four bytes"));
    records.iter().map(number).collect()
}

pub fn range(shard: &Shard) -> std::ops::RangeInclusive<u128> {
    let range = shard.hash_key_range.as_ref().unwrap();
    range.starting_hash_key.parse().unwrap()..=range.ending_hash_key.parse().unwrap()
}

fn open(shards: &[Shard]) -> Vec<&Shard> {
    let is_open = |shard: &&Shard| shard.sequence_number_range.as_ref().unwrap().ending_sequence_number.is_none();
    shards.iter().filter(is_open).collect()
}

/// Open shards hold every hash key exactly once.
pub fn assert_covers_once(shards: &[Shard]) {
    let mut ranges: Vec<_> = open(shards).into_iter().map(range).collect();
    ranges.sort_by_key(|range| *range.start());
    assert_eq!((*ranges[0].start(), *ranges.last().unwrap().end()), (0, u128::MAX));
    assert!(ranges.windows(2).all(|pair| pair[0].end() + 1 == *pair[1].start()), "{ranges:?}");
}

fn ids(shards: &[Shard]) -> Vec<u32> {
    shards.iter().map(|shard| shard.shard_id.strip_prefix("shardId-").unwrap().parse().unwrap()).collect()
}

fn arrivals(records: &[Record]) -> Vec<u64> {
    let ms = |record: &Record| record.approximate_arrival_timestamp.as_ref().unwrap().to_millis().unwrap() as u64;
    records.iter().map(ms).collect()
}

/// Decimal numbers are compared by length first.
pub fn larger(one: &str, other: &str) -> bool {
    (one.len(), one) > (other.len(), other)
}

fn assert_ascending(records: &[Record]) {
    assert!(records.windows(2).all(|pair| larger(&pair[1].sequence_number, &pair[0].sequence_number)));
}

pub fn now_ms() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64
}
