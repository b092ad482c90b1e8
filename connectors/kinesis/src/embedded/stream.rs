//! Streams, their shards, and how shards divide: hash ranges that cover the whole space exactly once, at any time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Release};

use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};

use super::sequence::SequenceNumber;

/// A stream, as it is stored. Values of this type don't change: a change makes a new one in its place.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Stream {
    /// Never used twice, so that a stream made again under its old name has nothing to do with the old one.
    pub(super) id: u64,
    pub(super) name: String,
    pub(super) created_ms: u64,
    pub(super) on_demand: bool,
    pub(super) retention_hours: u32,
    pub(super) record_kib_max: u32,
    /// What it is about to become, and when.
    pub(super) pending: Option<Pending>,
    /// By number. Shards whose records have all left retention are gone.
    pub(super) shards: Vec<Shard>,
    /// The number of the next shard to be made.
    pub(super) shards_made: u32,
    pub(super) consumers: Vec<Consumer>,
    pub(super) tags: BTreeMap<String, String>,
}

/// A change that has been asked for, and takes its time.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Pending {
    pub(super) due_ms: u64,
    pub(super) transition: Transition,
}

/// What happens to a stream when its time has come.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Transition {
    Create { shards: u32 },
    Delete,
    Split { shard: u32, at: HashKey },
    Merge { shard: u32, adjacent: u32 },
    Scale { shards: u32 },
}

/// A place in the space of hash keys. Stored as text: JSON's numbers are too short in most readers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct HashKey(pub(super) u128);

/// One shard.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Shard {
    pub(super) number: u32,
    pub(super) parent: Option<u32>,
    pub(super) adjacent_parent: Option<u32>,
    /// First and last hash key.
    pub(super) range: (HashKey, HashKey),
    /// See [`SequenceNumber`].
    pub(super) epoch: u64,
    pub(super) created_ms: u64,
    pub(super) closed: Option<Closed>,
    /// What is durable in it.
    #[serde(skip)]
    pub(super) tail: Arc<Tail>,
}

/// A shard's end.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Closed {
    /// Larger than the index of every record.
    pub(super) index: u64,
    pub(super) at_ms: u64,
}

/// The part of a shard that every put changes: shared by all versions of its stream, written after each commit.
#[derive(Debug, Default)]
pub(super) struct Tail {
    first: AtomicU64,
    next: AtomicU64,
    last_ms: AtomicU64,
}

/// A registered consumer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Consumer {
    pub(super) name: String,
    pub(super) created_ms: u64,
    pub(super) ready_ms: u64,
}

impl Tail {
    pub(super) fn new(first: u64, next: u64, last_ms: u64) -> Self {
        Self { first: first.into(), next: next.into(), last_ms: last_ms.into() }
    }

    /// No record lies below this index.
    pub(super) fn first(&self) -> u64 {
        self.first.load(Acquire)
    }

    /// The index that the next record gets, or a later one.
    pub(super) fn next(&self) -> u64 {
        self.next.load(Acquire)
    }

    /// When the last record arrived.
    pub(super) fn last_ms(&self) -> u64 {
        self.last_ms.load(Acquire)
    }

    pub(super) fn trimmed_to(&self, first: u64) {
        self.first.store(first, Release);
    }

    pub(super) fn grown_to(&self, next: u64, last_ms: u64) {
        self.last_ms.store(last_ms, Release);
        self.next.store(next, Release);
    }
}

impl HashKey {
    pub(super) const MAX: Self = Self(u128::MAX);

    /// The hash key of a partition key: its MD5 as a number.
    pub(super) fn of(partition_key: &str) -> Self {
        Self(u128::from_be_bytes(Md5::digest(partition_key.as_bytes()).into()))
    }

    /// Reads a decimal without sign or leading zeros, below 2^128.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let canonical = text == "0" || (text.starts_with(|c: char| c.is_ascii_digit()) && !text.starts_with('0'));
        canonical.then(|| text.parse().ok().map(Self)).flatten()
    }
}

impl std::fmt::Display for HashKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for HashKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HashKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("a hash key is not a number below 2^128"))
    }
}

impl Shard {
    /// `shardId-000000000000` and so on.
    pub(super) fn id(&self) -> String {
        shard_id(self.number)
    }

    pub(super) fn is_open(&self) -> bool {
        self.closed.is_none()
    }

    pub(super) fn contains(&self, key: HashKey) -> bool {
        self.range.0 <= key && key <= self.range.1
    }

    /// True where records could arrive at that time.
    pub(super) fn was_open_at(&self, ms: u64) -> bool {
        self.created_ms <= ms && self.closed.is_none_or(|closed| ms < closed.at_ms)
    }

    /// The number of a record at `index` that arrived at `ms`.
    pub(super) fn sequence_number(&self, index: u64, ms: u64) -> SequenceNumber {
        SequenceNumber { epoch: self.epoch, shard: self.number, index, second: ms / 1000 }
    }

    /// The lowest number of this shard.
    pub(super) fn first_sequence_number(&self) -> SequenceNumber {
        self.sequence_number(0, self.created_ms)
    }

    /// A number above all records, where it is closed.
    pub(super) fn last_sequence_number(&self) -> Option<SequenceNumber> {
        self.closed.map(|closed| self.sequence_number(closed.index, closed.at_ms))
    }
}

/// `shardId-` and twelve digits.
pub(super) fn shard_id(number: u32) -> String {
    format!("shardId-{number:012}")
}

/// The number in a shard's identifier. Zeros in front may be missing, as AWS allows it.
pub(super) fn parse_shard_id(id: &str) -> Option<u32> {
    let digits = id.strip_prefix("shardId-").unwrap_or(id);
    (digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.is_empty()).then(|| digits.parse().ok()).flatten()
}

/// What a change of shards needs from whoever holds the counters.
pub(super) trait Reshard {
    /// An index above everything in the shard, including what is about to be committed.
    fn end_of(&mut self, shard: &Shard) -> u64;

    /// A number larger than every epoch before.
    fn next_epoch(&mut self) -> u64;
}

impl Stream {
    /// The shard of that number.
    pub(super) fn shard(&self, number: u32) -> Option<&Shard> {
        self.shards.binary_search_by_key(&number, |shard| shard.number).ok().map(|at| &self.shards[at])
    }

    /// Shards that take records, in the order of their ranges.
    pub(super) fn open_shards(&self) -> Vec<&Shard> {
        let mut open: Vec<_> = self.shards.iter().filter(|shard| shard.is_open()).collect();
        open.sort_unstable_by_key(|shard| shard.range.0);
        open
    }

    /// Shards that continue this one.
    pub(super) fn children_of(&self, number: u32) -> impl Iterator<Item = &Shard> {
        let is_parent = move |parent: Option<u32>| parent == Some(number);
        self.shards.iter().filter(move |shard| is_parent(shard.parent) || is_parent(shard.adjacent_parent))
    }

    /// Milliseconds for which records are kept.
    pub(super) fn retention_ms(&self) -> u64 {
        u64::from(self.retention_hours) * 3_600_000
    }

    /// Records that arrived before this are gone.
    pub(super) fn horizon_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.retention_ms()).max(self.created_ms)
    }

    /// `CREATING`, `ACTIVE`, `UPDATING`, `DELETING`.
    pub(super) fn status(&self) -> &'static str {
        match self.pending.as_ref().map(|pending| &pending.transition) {
            None => "ACTIVE",
            Some(Transition::Create { .. }) => "CREATING",
            Some(Transition::Delete) => "DELETING",
            Some(Transition::Split { .. } | Transition::Merge { .. } | Transition::Scale { .. }) => "UPDATING",
        }
    }

    /// Does what was pending, but for a deletion.
    pub(super) fn settle(&mut self, now_ms: u64, reshard: &mut impl Reshard) {
        match self.pending.take().map(|pending| pending.transition) {
            None => {}
            Some(Transition::Create { shards }) => {
                let epoch = reshard.next_epoch();
                let starts = even_starts(shards);
                for (at, start) in starts.iter().enumerate() {
                    let end = starts.get(at + 1).map_or(HashKey::MAX, |next| HashKey(next.0 - 1));
                    self.add((*start, end), None, None, self.created_ms, epoch);
                }
            }
            Some(Transition::Delete) => {}
            Some(Transition::Split { shard, at }) => self.split(shard, at, now_ms, reshard),
            Some(Transition::Merge { shard, adjacent }) => self.merge(shard, adjacent, now_ms, reshard),
            Some(Transition::Scale { shards }) => self.scale(shards, now_ms, reshard),
        }
    }

    fn split(&mut self, number: u32, at: HashKey, now_ms: u64, reshard: &mut impl Reshard) {
        let Some(closed) = self.close(number, now_ms, reshard) else { return };
        let ((start, end), at_ms) = (closed.range, closed.closed.map_or(now_ms, |closed| closed.at_ms));
        let epoch = reshard.next_epoch();
        self.add((start, HashKey(at.0 - 1)), Some(number), None, at_ms, epoch);
        self.add((at, end), Some(number), None, at_ms, epoch);
    }

    fn merge(&mut self, number: u32, adjacent: u32, now_ms: u64, reshard: &mut impl Reshard) {
        let closed = [number, adjacent].map(|number| self.close(number, now_ms, reshard));
        let [Some(one), Some(other)] = closed else { return };
        let range = (one.range.0.min(other.range.0), one.range.1.max(other.range.1));
        let at_ms = [&one, &other].into_iter().filter_map(|shard| shard.closed).map(|closed| closed.at_ms).max();
        let epoch = reshard.next_epoch();
        self.add(range, Some(number), Some(adjacent), at_ms.unwrap_or(now_ms), epoch);
    }

    /// Splits at the boundaries that are missing, then merges over those that should not be there. As on AWS this makes shards
    /// in between that are closed at once.
    fn scale(&mut self, shards: u32, now_ms: u64, reshard: &mut impl Reshard) {
        let starts = even_starts(shards);
        for start in &starts {
            let holder = self.shards.iter().find(|shard| shard.is_open() && shard.contains(*start));
            if let Some(number) = holder.filter(|shard| shard.range.0 != *start).map(|shard| shard.number) {
                self.split(number, *start, now_ms, reshard);
            }
        }
        loop {
            let open = self.open_shards();
            let extra = open.windows(2).find(|pair| starts.binary_search(&pair[1].range.0).is_err());
            let Some((one, other)) = extra.map(|pair| (pair[0].number, pair[1].number)) else { break };
            self.merge(one, other, now_ms, reshard);
        }
    }

    /// Closes a shard and answers it as it is now.
    fn close(&mut self, number: u32, now_ms: u64, reshard: &mut impl Reshard) -> Option<Shard> {
        let at = self.shards.binary_search_by_key(&number, |shard| shard.number).ok()?;
        let shard = &mut self.shards[at];
        // A shard that lived for no time at all would be open at no time, and filters by time would miss it.
        let at_ms = now_ms.max(shard.created_ms + 1);
        shard.closed = Some(Closed { index: reshard.end_of(shard), at_ms });
        Some(shard.clone())
    }

    fn add(
        &mut self,
        range: (HashKey, HashKey),
        parent: Option<u32>,
        adjacent_parent: Option<u32>,
        created_ms: u64,
        epoch: u64,
    ) {
        let number = self.shards_made;
        self.shards_made += 1;
        let tail = Arc::new(Tail::new(1, 1, created_ms));
        self.shards.push(Shard { number, parent, adjacent_parent, range, epoch, created_ms, closed: None, tail });
    }
}

/// Where `n` ranges of equal size begin.
fn even_starts(n: u32) -> Vec<HashKey> {
    let n = u128::from(n.max(1));
    // 2^128 / n, without a number that holds 2^128. For n = 1 it is never used but for multiplying by zero.
    let size = u128::MAX / n + u128::from(u128::MAX % n == n - 1 && n > 1);
    (0..n).map(|at| HashKey(size.wrapping_mul(at))).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct Counters(u64);

    impl Reshard for Counters {
        fn end_of(&mut self, shard: &Shard) -> u64 {
            shard.tail.next()
        }

        fn next_epoch(&mut self) -> u64 {
            self.0 += 1;
            self.0
        }
    }

    fn stream(shards: u32, counters: &mut Counters) -> Stream {
        let mut stream = Stream {
            id: 1,
            name: "s".into(),
            created_ms: 1000,
            on_demand: false,
            retention_hours: 24,
            record_kib_max: 1024,
            pending: Some(Pending { due_ms: 0, transition: Transition::Create { shards } }),
            shards: Vec::new(),
            shards_made: 0,
            consumers: Vec::new(),
            tags: BTreeMap::new(),
        };
        stream.settle(1000, counters);
        stream
    }

    fn assert_covers_once(stream: &Stream) {
        let open = stream.open_shards();
        assert_eq!(open[0].range.0, HashKey(0));
        assert_eq!(open.last().unwrap().range.1, HashKey::MAX);
        assert!(open.windows(2).all(|pair| pair[0].range.1.0 + 1 == pair[1].range.0.0), "{open:?}");
    }

    #[test]
    fn ranges_of_a_new_stream_are_those_of_aws() {
        let stream = stream(3, &mut Counters(0));
        let ranges: Vec<_> =
            stream.shards.iter().map(|shard| (shard.range.0.to_string(), shard.range.1.to_string())).collect();
        let text = |pair: (&str, &str)| (pair.0.to_owned(), pair.1.to_owned());
        assert_eq!(
            ranges,
            [
                text(("0", "113427455640312821154458202477256070484")),
                text(("113427455640312821154458202477256070485", "226854911280625642308916404954512140969")),
                text(("226854911280625642308916404954512140970", "340282366920938463463374607431768211455")),
            ]
        );
        assert_eq!(even_starts(2)[1].0, 1 << 127);
    }

    #[test]
    fn identifiers_are_read_with_and_without_their_zeros() {
        assert_eq!(shard_id(17), "shardId-000000000017");
        assert_eq!(
            ["shardId-000000000017", "shardId-17", "17", "x", "shardId-"].map(parse_shard_id),
            [Some(17), Some(17), Some(17), None, None]
        );
    }

    proptest! {
        #[test]
        fn any_order_of_splits_merges_and_scalings_covers_the_space_once(
            shards in 1..6u32,
            steps in proptest::collection::vec((0..3u8, any::<u32>(), any::<u128>()), 0..30),
        ) {
            let mut counters = Counters(0);
            let mut stream = stream(shards, &mut counters);
            for (step, (kind, pick, at)) in steps.into_iter().enumerate() {
                let open: Vec<_> = stream.open_shards().into_iter().cloned().collect();
                let one = &open[pick as usize % open.len()];
                let transition = match kind {
                    0 if one.range.1.0 - one.range.0.0 > 1 => {
                        let at = one.range.0.0 + 1 + at % (one.range.1.0 - one.range.0.0);
                        Transition::Split { shard: one.number, at: HashKey(at) }
                    }
                    1 if open.len() > 1 => {
                        let left = pick as usize % (open.len() - 1);
                        Transition::Merge { shard: open[left].number, adjacent: open[left + 1].number }
                    }
                    _ => Transition::Scale { shards: 1 + pick % 9 },
                };
                let wanted = if let Transition::Scale { shards } = transition { Some(shards) } else { None };
                stream.pending = Some(Pending { due_ms: 0, transition });
                let now_ms = 1000 + step as u64;
                stream.settle(now_ms, &mut counters);
                assert_covers_once(&stream);
                if let Some(wanted) = wanted {
                    let starts: Vec<_> = stream.open_shards().iter().map(|shard| shard.range.0).collect();
                    prop_assert_eq!(starts, even_starts(wanted));
                }
                for shard in &stream.shards {
                    for parent in [shard.parent, shard.adjacent_parent].into_iter().flatten() {
                        let parent = stream.shard(parent).unwrap();
                        prop_assert!(parent.epoch < shard.epoch);
                        prop_assert!(parent.closed.is_some_and(|closed| closed.at_ms <= shard.created_ms));
                    }
                }
            }
        }
    }
}
