//! Kinesis streams as another program sees them: made, written, split and merged with AWS's own client.

use std::collections::BTreeMap;
use std::fmt;

use aws_credential_types::Credentials;
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::retry::RetryConfig;
use aws_sdk_kinesis::config::{BehaviorVersion, Region};
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{PutRecordsRequestEntry, Shard, ShardIteratorType, StreamStatus};
use tokio::runtime::Runtime;

use crate::wait::{self, SOON};

/// A client of one endpoint.
pub struct Kinesis {
    client: Client,
    runtime: Runtime,
}

impl Kinesis {
    /// A client of the endpoint at this address, such as `http://127.0.0.1:4567`.
    pub fn connect(endpoint: &str) -> Self {
        let config = aws_sdk_kinesis::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .endpoint_url(endpoint)
            // A put that is sent again is a record twice, and not the worker's mistake.
            .retry_config(RetryConfig::disabled())
            .credentials_provider(Credentials::new("test", "test", None, None, "tests"))
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .build();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        Self { client: Client::from_conf(config), runtime: runtime.expect("a runtime") }
    }

    /// Makes a stream and waits until it is there.
    pub fn make_stream(&self, stream: &str, shards: i32) {
        let made = self.runtime.block_on(self.client.create_stream().stream_name(stream).shard_count(shards).send());
        made.unwrap_or_else(|error| panic!("make stream {stream}: {error:?}"));
        self.wait_until_active(stream);
    }

    /// Removes a stream.
    pub fn delete_stream(&self, stream: &str) {
        let deleted = self.runtime.block_on(self.client.delete_stream().stream_name(stream).send());
        deleted.unwrap_or_else(|error| panic!("delete stream {stream}: {error:?}"));
    }

    fn wait_until_active(&self, stream: &str) {
        wait::until(&format!("stream {stream} to be active"), SOON, || {
            let described = self.runtime.block_on(self.client.describe_stream_summary().stream_name(stream).send());
            let described = described.map_err(|error| format!("{error:?}"))?;
            match described.stream_description_summary().map(|summary| summary.stream_status().clone()) {
                Some(StreamStatus::Active) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
    }

    /// Writes records, key and data each, in this order.
    pub fn put(&self, stream: &str, records: &[(String, String)]) {
        let entry = |(key, data): &(String, String)| {
            let entry = PutRecordsRequestEntry::builder().partition_key(key).data(Blob::new(data.as_bytes()));
            entry.build().expect("a whole entry")
        };
        let put = self.client.put_records().stream_name(stream).set_records(Some(records.iter().map(entry).collect()));
        let put = self.runtime.block_on(put.send()).unwrap_or_else(|error| panic!("put to {stream}: {error:?}"));
        assert_eq!(put.failed_record_count(), Some(0), "{put:?}");
    }

    /// The shards that still take records.
    pub fn open_shards(&self, stream: &str) -> Vec<Shard> {
        self.shards(stream)
            .into_iter()
            .filter(|shard| shard.sequence_number_range().is_none_or(|range| range.ending_sequence_number().is_none()))
            .collect()
    }

    /// All shards.
    pub fn shards(&self, stream: &str) -> Vec<Shard> {
        let listed = self.runtime.block_on(self.client.list_shards().stream_name(stream).send());
        listed.unwrap_or_else(|error| panic!("list shards of {stream}: {error:?}")).shards().to_vec()
    }

    /// Splits a shard in the middle of its hash range.
    pub fn split(&self, stream: &str, shard: &Shard) {
        let (start, end) = hash_range(shard);
        let middle = start + (end - start) / 2 + 1;
        let split = self.client.split_shard().stream_name(stream).shard_to_split(shard.shard_id());
        let split = self.runtime.block_on(split.new_starting_hash_key(middle.to_string()).send());
        split.unwrap_or_else(|error| panic!("split {}: {error:?}", shard.shard_id()));
        self.wait_until_active(stream);
    }

    /// Merges the first two open shards that lie side by side.
    pub fn merge(&self, stream: &str) {
        let mut shards = self.open_shards(stream);
        shards.sort_by_key(|shard| hash_range(shard).0);
        let [one, other, ..] = shards.as_slice() else { panic!("{stream} has fewer than two open shards") };
        let merge = self.client.merge_shards().stream_name(stream).shard_to_merge(one.shard_id());
        let merged = self.runtime.block_on(merge.adjacent_shard_to_merge(other.shard_id()).send());
        merged.unwrap_or_else(|error| panic!("merge {} and {}: {error:?}", one.shard_id(), other.shard_id()));
        self.wait_until_active(stream);
    }

    /// Everything in a stream: per shard, in its order, key and data of each record.
    pub fn read(&self, stream: &str) -> BTreeMap<String, Vec<(String, String)>> {
        let read = |shard: Shard| async move {
            let iterator = self.client.get_shard_iterator().stream_name(stream).shard_id(shard.shard_id());
            let iterator = iterator.shard_iterator_type(ShardIteratorType::TrimHorizon).send().await;
            let mut next = iterator.unwrap_or_else(|error| panic!("iterator: {error:?}")).shard_iterator;
            let mut found = Vec::new();
            while let Some(iterator) = next {
                let page = self.client.get_records().shard_iterator(iterator).send().await;
                let page = page.unwrap_or_else(|error| panic!("get records: {error:?}"));
                for record in page.records() {
                    let data = String::from_utf8(record.data().as_ref().to_vec()).expect("the data are text");
                    found.push((record.partition_key().unwrap_or_default().to_owned(), data));
                }
                let at_end = page.records().is_empty() && page.millis_behind_latest().unwrap_or(0) == 0;
                next = page.next_shard_iterator.filter(|_| !at_end);
            }
            (shard.shard_id().to_owned(), found)
        };
        let shards = self.shards(stream);
        self.runtime
            .block_on(async { futures::future::join_all(shards.into_iter().map(read)).await })
            .into_iter()
            .collect()
    }
}

impl fmt::Debug for Kinesis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kinesis")
    }
}

fn hash_range(shard: &Shard) -> (u128, u128) {
    let range = shard.hash_key_range().expect("a shard has a hash range");
    let number = |text: &str| text.parse().unwrap_or_else(|_| panic!("{text} is no hash key"));
    (number(range.starting_hash_key()), number(range.ending_hash_key()))
}
