//! Which task reads which shard, and from where: parents before children. Pure; everything it knows is handed in.
//!
//! A split or a merge closes shards and opens others. A key's records go to the closed shard first and to its child after
//! that, so a child is begun only when what its parents held is durable. What is durable is in the stored offsets and
//! nowhere else: tasks see each other's, so a child in one task waits for its parents in others, across restarts and changes of
//! `tasks.max`.
//!
//! A stored offset is a [`Place`]. Its absence says that nobody has begun; where the first beginning is at `LATEST` or at a
//! time, the decision is stored too, so that it is made once and by the shard's owner.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_api::prelude::*;

use crate::config::Position;

/// One shard of one stream.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ShardKey {
    pub(crate) stream: Arc<str>,
    pub(crate) shard: Arc<str>,
}

impl ShardKey {
    pub(crate) fn new(stream: &Arc<str>, shard: impl Into<Arc<str>>) -> Self {
        Self { stream: stream.clone(), shard: shard.into() }
    }

    /// The source partition under which the shard's place is stored.
    pub(crate) fn partition(&self) -> SourcePartition {
        SourcePartition::new([("stream", self.stream.as_ref()), ("shard", self.shard.as_ref())])
    }

    /// The task that reads this shard. It depends on the shard's name alone, never on which other shards there are: a shard
    /// must not change its task while it is being read, whatever is split beside it. Kinesis numbers shards in order, so
    /// shards that are made together go to different tasks; the stream's name only says with which task the count begins.
    pub(crate) fn owner(&self, tasks: usize) -> usize {
        let digits = self.shard.trim_start_matches(|c: char| !c.is_ascii_digit());
        let number = digits.parse().unwrap_or_else(|_| fnv(&self.shard));
        (fnv(&self.stream).wrapping_add(number) % tasks.max(1) as u64) as usize
    }
}

/// FNV-1a: the same on every machine and in every version, as what decides about owners must be.
fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// What a stream says about a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shard {
    /// The shards it came of: none, one after a split, two after a merge. They need not be listed any more.
    pub(crate) parents: Vec<Arc<str>>,
    /// Its first sequence number.
    pub(crate) first: String,
    /// True where it takes no more records.
    pub(crate) closed: bool,
    /// The hash keys that belong to it, both ends included.
    pub(crate) hash_range: (u128, u128),
}

impl Shard {
    /// Whether `place` can be a place in this shard. A shard's first sequence number never changes, a shard that has ended never
    /// opens again, and no shard begins behind its own records: otherwise the stream was deleted and made anew, and this is
    /// another shard of the same name.
    pub(crate) fn may_hold(&self, place: &Place) -> bool {
        let other = place.first.as_deref().is_some_and(|first| compare_sequences(&self.first, first).is_ne());
        let behind = place.sequence.as_deref().is_some_and(|sequence| compare_sequences(&self.first, sequence).is_gt());
        !other && !behind && (self.closed || !place.ended)
    }
}

/// The shards of a stream by name. Shards whose records are all past retention are not listed.
pub(crate) type Listing = BTreeMap<Arc<str>, Shard>;

/// How far a shard is durable: its stored offset.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Place {
    /// As long as no record is delivered: the first sequence number of the shard, which tells it from one of the same name in a
    /// stream that was made anew. Offsets of older versions lack it.
    pub(crate) first: Option<String>,
    /// The last delivered record.
    pub(crate) sequence: Option<String>,
    /// Where that record is an aggregate that is delivered in part: its last delivered sub-record, from 0.
    pub(crate) sub_sequence: Option<i64>,
    /// Everything that arrived before this moment is delivered, in milliseconds since 1970.
    pub(crate) as_of: i64,
    /// Where reading began at a time, as long as no record was there.
    pub(crate) began: Option<i64>,
    /// The shard is closed and delivered to its end.
    pub(crate) ended: bool,
    /// The shard was closed already when the first beginning was at `LATEST`: nothing of it is delivered.
    pub(crate) skipped: bool,
}

impl Place {
    /// The stored form.
    pub(crate) fn to_offset(&self) -> SourceOffset {
        let mut fields: Vec<(&str, Value)> = Vec::with_capacity(5);
        if let Some(first) = &self.first {
            fields.push(("first.sequence.number", first.as_str().into()));
        }
        if let Some(sequence) = &self.sequence {
            fields.push(("sequence.number", sequence.as_str().into()));
        }
        if let Some(sub) = self.sub_sequence {
            fields.push(("sub.sequence", sub.into()));
        }
        fields.push(("arrival.ms", self.as_of.into()));
        if let Some(began) = self.began {
            fields.push(("began.ms", began.into()));
        }
        for (name, set) in [("ended", self.ended), ("skipped", self.skipped)] {
            if set {
                fields.push((name, Value::Boolean(true)));
            }
        }
        SourceOffset::new(fields)
    }

    /// Reads the stored form.
    ///
    /// # Errors
    ///
    /// Where it makes no sense. It never counts as no offset: that would read the shard from its beginning.
    pub(crate) fn from_offset(offset: &SourceOffset) -> Result<Self> {
        let flag = |name| matches!(offset.get(name), Some(Value::Boolean(true)));
        let place = Self {
            first: offset.get_str("first.sequence.number").map(str::to_owned),
            sequence: offset.get_str("sequence.number").map(str::to_owned),
            sub_sequence: offset.get_i64("sub.sequence"),
            as_of: offset.get_i64("arrival.ms").unwrap_or_default(),
            began: offset.get_i64("began.ms"),
            ended: flag("ended"),
            skipped: flag("skipped"),
        };
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let sense = match &place.sequence {
            Some(sequence) => digits(sequence),
            None => place.sub_sequence.is_none() && offset.get("arrival.ms").is_some(),
        };
        if sense && place.first.as_deref().is_none_or(digits) {
            Ok(place)
        } else {
            Err(Error::fatal(format!("the stored offset {} is no place in a shard", offset.to_json())))
        }
    }
}

/// What to do about a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Nothing any more.
    Done,
    /// Look again later: this parent is not durable to its end.
    Wait,
    /// Store that there is nothing to read.
    Skip,
    /// Read it.
    Read(Start),
    /// A parent was not read to its end and is gone: so are its last records.
    ParentGone {
        /// The parent.
        parent: Arc<str>,
        /// How far it was read.
        place: Place,
    },
}

/// From where a shard is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Start {
    /// Behind what is durable.
    Resume(Place),
    /// From its oldest record.
    Beginning,
    /// From this moment on, in milliseconds since 1970, because nothing of its parents was as young.
    At(i64),
    /// As the configuration says: nobody has read anything that leads here.
    Initial,
}

/// Decides about one shard. `stored` looks up the place of any shard of the stream; `goes_on` says that records lost with a
/// parent are accepted.
pub(crate) fn decide(
    name: &Arc<str>,
    shard: &Shard,
    listing: &Listing,
    initial: Position,
    goes_on: bool,
    mut stored: impl FnMut(&Arc<str>) -> Result<Option<Place>>,
) -> Result<Decision> {
    if let Some(place) = stored(name)? {
        // Whoever stored a place had read the parents; but those may be shards of another stream now, to be read first.
        for (parent, listed) in shard.parents.iter().filter_map(|parent| listing.get_key_value(parent)) {
            if !stored(parent)?.is_some_and(|place| place.ended && listed.may_hold(&place)) {
                return Ok(Decision::Wait);
            }
        }
        let done = place.ended && shard.may_hold(&place);
        return Ok(if done { Decision::Done } else { Decision::Read(Start::Resume(place)) });
    }
    let mut delivered = false;
    let mut began: Option<i64> = None;
    for parent in &shard.parents {
        match stored(parent)? {
            Some(place) if place.ended && listing.get(parent).is_none_or(|parent| parent.may_hold(&place)) => {
                // Without any record behind a time, that time is where the child begins as well.
                let nothing_yet = place.sequence.is_none() && place.began.is_some();
                delivered |= !place.skipped && !nothing_yet;
                began = began.into_iter().chain(place.began).min();
            }
            // Not listed: it is past retention. Nobody can read on there.
            Some(_) if !listing.contains_key(parent) && goes_on => delivered = true,
            Some(place) if !listing.contains_key(parent) => {
                return Ok(Decision::ParentGone { parent: parent.clone(), place });
            }
            None if !listing.contains_key(parent) => {}
            _ => return Ok(Decision::Wait),
        }
    }
    Ok(match (delivered, began, initial) {
        (true, _, _) => Decision::Read(Start::Beginning),
        (false, Some(began), _) => Decision::Read(Start::At(began)),
        (false, None, Position::Latest) if shard.closed => Decision::Skip,
        (false, None, _) => Decision::Read(Start::Initial),
    })
}

/// Compares sequence numbers, which are whole numbers of up to 186 bits in decimal digits.
pub(crate) fn compare_sequences(a: &str, b: &str) -> Ordering {
    let (a, b) = (a.trim_start_matches('0'), b.trim_start_matches('0'));
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Offsets of a parent and of a child that nothing was read from, both of an earlier stream of the same name.
    #[test]
    fn a_child_waits_for_its_parent_in_a_stream_that_was_made_anew() {
        let shard = |parents: &[&str], first: &str, closed| Shard {
            parents: parents.iter().map(|parent| Arc::from(*parent)).collect(),
            first: first.to_owned(),
            closed,
            hash_range: (0, u128::MAX),
        };
        let [parent, child] = ["shardId-000000000000", "shardId-000000000001"].map(Arc::<str>::from);
        let ended = Place { sequence: Some("12".to_owned()), ended: true, ..Place::default() };
        let nothing_yet = Place { first: Some("20".to_owned()), as_of: 5, ..Place::default() };
        let stored = BTreeMap::from([(parent.clone(), ended), (child.clone(), nothing_yet.clone())]);
        let ask = |first: [&str; 2], stored: &BTreeMap<Arc<str>, Place>| {
            let of_child = shard(&[&parent], first[1], true);
            let listing =
                Listing::from([(parent.clone(), shard(&[], first[0], true)), (child.clone(), of_child.clone())]);
            decide(&child, &of_child, &listing, Position::TrimHorizon, true, |name| Ok(stored.get(name).cloned()))
        };

        let resume = Decision::Read(Start::Resume(nothing_yet.clone()));
        assert_eq!(ask(["10", "20"], &stored).unwrap(), resume, "the stream of the offsets");
        assert_eq!(ask(["30", "40"], &stored).unwrap(), Decision::Wait, "the parent is another shard");
        let mut read_again = stored.clone();
        read_again.get_mut(&parent).unwrap().sequence = Some("35".to_owned());
        assert_eq!(ask(["30", "40"], &read_again).unwrap(), resume, "the parent was read");
        // That nothing was in the old child says nothing of the new one.
        read_again.get_mut(&child).unwrap().ended = true;
        assert!(matches!(ask(["30", "40"], &read_again).unwrap(), Decision::Read(Start::Resume(_))));
        assert_eq!(ask(["30", "20"], &read_again).unwrap(), Decision::Done);
        let offset = nothing_yet.to_offset();
        assert_eq!(Place::from_offset(&offset).unwrap(), nothing_yet);
    }
}
