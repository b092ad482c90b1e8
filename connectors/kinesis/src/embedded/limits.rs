//! Sizes, which always hold, and rates, which hold where [`Options::rate_limits`](super::Options) says so.

use std::collections::HashMap;

use parking_lot::Mutex;

use super::wire::ApiError;

/// Records of one PutRecords.
pub(super) const PUT_RECORDS_MAX: usize = 500;
/// Bytes of data and partition keys of one PutRecords: the limit since large records (October 2025); it was 5 MiB before.
pub(super) const PUT_BYTES_MAX: usize = 10 << 20;
/// KiB of data and partition key of a record, unless CreateStream or UpdateMaxRecordSize say otherwise, and the most they may say.
pub(super) const RECORD_KIB_DEFAULT: u32 = 1024;
pub(super) const RECORD_KIB_MAX: u32 = 10_240;
/// Records and bytes of one GetRecords.
pub(super) const GET_RECORDS_MAX: usize = 10_000;
pub(super) const GET_BYTES_MAX: usize = 10 << 20;
/// Bytes of one event of a subscription, unless its first record is larger.
pub(super) const EVENT_BYTES_MAX: usize = 1 << 20;
/// Characters of a partition key.
pub(super) const PARTITION_KEY_MAX: usize = 256;
/// Consumers of one stream.
pub(super) const CONSUMERS_MAX: usize = 20;
/// Tags of one stream.
pub(super) const TAGS_MAX: usize = 50;
/// Hours of retention.
pub(super) const RETENTION_HOURS: std::ops::RangeInclusive<u32> = 24..=8760;

/// The rates of every shard: a second's worth may come at once, and what was taken too much is waited for.
///
/// Buckets live in memory only and cost a few dozen bytes a shard.
#[derive(Debug, Default)]
pub(super) struct Rates {
    shards: Mutex<HashMap<(u64, u32), ShardRates>>,
}

#[derive(Debug)]
struct ShardRates {
    write_records: Bucket,
    write_bytes: Bucket,
    read_calls: Bucket,
    read_bytes: Bucket,
}

/// What may still be taken, in units a second.
#[derive(Debug)]
struct Bucket {
    rate: f64,
    left: f64,
    at_ms: u64,
}

impl Bucket {
    fn full(rate: f64, now_ms: u64) -> Self {
        Self { rate, left: rate, at_ms: now_ms }
    }

    fn refill(&mut self, now_ms: u64) {
        let passed = now_ms.saturating_sub(self.at_ms) as f64 / 1000.0;
        self.left = (self.left + passed * self.rate).min(self.rate);
        self.at_ms = self.at_ms.max(now_ms);
    }
}

impl Rates {
    fn with<T>(&self, shard: (u64, u32), now_ms: u64, act: impl FnOnce(&mut ShardRates) -> T) -> T {
        let mut shards = self.shards.lock();
        let rates = shards.entry(shard).or_insert_with(|| ShardRates {
            write_records: Bucket::full(1000.0, now_ms),
            write_bytes: Bucket::full((1 << 20) as f64, now_ms),
            read_calls: Bucket::full(5.0, now_ms),
            read_bytes: Bucket::full((2 << 20) as f64, now_ms),
        });
        for bucket in [&mut rates.write_records, &mut rates.write_bytes, &mut rates.read_calls, &mut rates.read_bytes] {
            bucket.refill(now_ms);
        }
        act(rates)
    }

    /// Takes a record's share, or nothing.
    pub(super) fn write(&self, shard: (u64, u32), bytes: usize, now_ms: u64) -> bool {
        self.with(shard, now_ms, |rates| {
            // A record larger than a second's bytes passes while there is any room, and those after it pay.
            let admitted = rates.write_records.left >= 1.0 && rates.write_bytes.left > 0.0;
            if admitted {
                rates.write_records.left -= 1.0;
                rates.write_bytes.left -= bytes as f64;
            }
            admitted
        })
    }

    /// Admits a GetRecords.
    pub(super) fn read(&self, shard: (u64, u32), now_ms: u64) -> Result<(), ApiError> {
        self.with(shard, now_ms, |rates| {
            if rates.read_bytes.left <= 0.0 {
                return Err(ApiError::throttled("Rate exceeded for shard: more than 2 MiB per second were read."));
            }
            if rates.read_calls.left < 1.0 {
                return Err(ApiError::throttled(
                    "Rate exceeded for shard: more than 5 calls of GetRecords per second.",
                ));
            }
            rates.read_calls.left -= 1.0;
            Ok(())
        })
    }

    /// Accounts for what a GetRecords answered: 10 MiB are paid for over the next 5 seconds, as AWS has it.
    pub(super) fn was_read(&self, shard: (u64, u32), bytes: usize, now_ms: u64) {
        self.with(shard, now_ms, |rates| rates.read_bytes.left -= bytes as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_takes_a_thousand_records_a_second() {
        let rates = Rates::default();
        let admitted = |now_ms| (0..3000).filter(|_| rates.write((1, 1), 10, now_ms)).count();
        assert_eq!([admitted(0), admitted(100), admitted(2000)], [1000, 100, 1000]);
        assert!(rates.write((1, 2), 10, 0), "another shard has its own");
    }

    #[test]
    fn ten_mebibytes_are_paid_for_over_five_seconds() {
        let rates = Rates::default();
        rates.read((1, 1), 0).unwrap();
        rates.was_read((1, 1), 10 << 20, 0);
        let refused = [1000, 3999].map(|now_ms| rates.read((1, 1), now_ms).unwrap_err().code);
        assert_eq!(refused, ["ProvisionedThroughputExceededException"; 2]);
        rates.read((1, 1), 4001).unwrap();
    }

    #[test]
    fn the_sixth_call_in_a_second_is_refused() {
        let rates = Rates::default();
        let answers: Vec<_> = (0..6).map(|_| rates.read((1, 1), 0).is_ok()).collect();
        assert_eq!(answers, [true, true, true, true, true, false]);
    }
}
