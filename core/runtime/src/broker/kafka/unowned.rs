//! Partitions of a group that no member has, and that none is about to give up.
//!
//! A cooperative group moves a partition in two steps: its owner is told to give it up, and joins again when it has; only then is
//! it somebody's. Who remembers that is the owner alone. Where it is killed in between and comes back under its name
//! (`group.instance.id`) before its session ends, the coordinator gives it what the last decision had left it, without another
//! decision, as KIP-345 wants it. The others are told nothing, and the partition would be nobody's for as long as the group lives.
//!
//! The same holds for partitions that a topic got while all members were away: the coordinator doesn't tell a member that comes
//! back that it leads the group (unless it can JoinGroup v9, which librdkafka can't), so nobody looks.
//!
//! Who comes back can tell both. The coordinator knows of each member what it was given last and what it had when it joined, and
//! who has come back had nothing then. A partition that is in neither of any member waits for nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use ottla_api::offset::TopicPartition;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaResult;

use super::context::Context;
use super::{partitions_among, topics_of};

/// Asks the cluster for the partitions of `topics` that wait for nobody. Empty where the group is about to decide anew, or
/// can't be understood.
pub(super) fn unowned(
    consumer: &BaseConsumer<Context>,
    group: &str,
    topics: &[String],
    timeout: Duration,
) -> KafkaResult<BTreeSet<TopicPartition>> {
    let begun = Instant::now();
    let known: BTreeMap<String, usize> = match topics {
        [topic] => topics_of(&consumer.fetch_metadata(Some(topic), timeout)?),
        _ => topics_of(&consumer.fetch_metadata(None, timeout)?),
    };
    let groups = consumer.fetch_group_list(Some(group), timeout.saturating_sub(begun.elapsed()))?;
    let group = groups.groups().iter().find(|found| found.name() == group);
    let Some(group) = group.filter(|group| group.state() == "Stable" && group.protocol_type() == "consumer") else {
        return Ok(BTreeSet::new());
    };
    let mut partitions: BTreeSet<TopicPartition> = partitions_among(topics, &known).into_iter().collect();
    for member in group.members() {
        let had = member.metadata().and_then(owned);
        let has = member.assignment().and_then(assigned);
        let (Some(had), Some(has)) = (had, has) else { return Ok(BTreeSet::new()) };
        for partition in had.iter().chain(&has) {
            partitions.remove(partition);
        }
    }
    Ok(partitions)
}

/// What a member had when it joined: of Kafka's `ConsumerProtocolSubscription`, version 1 or later.
fn owned(subscription: &[u8]) -> Option<Vec<TopicPartition>> {
    let mut rest = Fields(subscription);
    if rest.int16()? < 1 {
        return None;
    }
    for _ in 0..rest.int32()? {
        rest.string()?;
    }
    rest.bytes()?;
    rest.partitions()
}

/// What a member was given: of Kafka's `ConsumerProtocolAssignment`. Nothing at all is what one gets that is to have none.
fn assigned(assignment: &[u8]) -> Option<Vec<TopicPartition>> {
    if assignment.is_empty() {
        return Some(Vec::new());
    }
    let mut rest = Fields(assignment);
    rest.int16()?;
    rest.partitions()
}

/// Reads Kafka's big-endian fields one after the other; nothing where they end too early.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn int16(&mut self) -> Option<i16> {
        Some(i16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    fn int32(&mut self) -> Option<i32> {
        Some(i32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    fn string(&mut self) -> Option<&'a str> {
        let length = usize::try_from(self.int16()?).ok()?;
        std::str::from_utf8(self.take(length)?).ok()
    }

    /// A length of -1 stands for null.
    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.int32()?;
        self.take(usize::try_from(length.max(0)).ok()?)
    }

    fn partitions(&mut self) -> Option<Vec<TopicPartition>> {
        let mut partitions = Vec::new();
        for _ in 0..self.int32()? {
            let topic = self.string()?;
            for _ in 0..self.int32()? {
                partitions.push(TopicPartition::new(topic, self.int32()?));
            }
        }
        Some(partitions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fields as Kafka writes them: a topic `t` with these partitions.
    fn topic(partitions: &[i32]) -> Vec<u8> {
        let mut bytes = vec![0, 0, 0, 1, 0, 1, b't'];
        bytes.extend((partitions.len() as i32).to_be_bytes());
        bytes.extend(partitions.iter().flat_map(|partition| partition.to_be_bytes()));
        bytes
    }

    fn of_t(partitions: &[i32]) -> Vec<TopicPartition> {
        partitions.iter().map(|partition| TopicPartition::new("t", *partition)).collect()
    }

    #[test]
    fn what_a_member_had_and_was_given_is_read_whole_or_not_at_all() {
        // Version 3, one topic, user data of three bytes, owned partitions; generation and rack follow.
        let mut subscription = vec![0, 3, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 3, 9, 9, 9];
        subscription.extend(topic(&[0, 3]));
        let behind = [0, 0, 0, 7, 0xff, 0xff];
        assert_eq!(owned(&[&subscription[..], &behind].concat()), Some(of_t(&[0, 3])));
        for length in 0..subscription.len() {
            assert_eq!(owned(&subscription[..length]), None, "the first {length} bytes");
        }
        // Null user data, and nothing owned.
        let nothing = [0, 1, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
        assert_eq!(owned(&nothing), Some(Vec::new()));
        // The first version does not say what is owned.
        assert_eq!(owned(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), None);

        let assignment = [&[0, 0], &topic(&[1, 2])[..]].concat();
        assert_eq!(assigned(&[&assignment[..], &[0xff; 4]].concat()), Some(of_t(&[1, 2])));
        for length in 1..assignment.len() {
            assert_eq!(assigned(&assignment[..length]), None, "the first {length} bytes");
        }
        assert_eq!(assigned(&[]), Some(Vec::new()));
        // Lengths that can't be.
        assert_eq!(assigned(&[0, 0, 0x7f, 0xff, 0xff, 0xff]), None);
        assert_eq!(assigned(&[0, 0, 0, 0, 0, 1, 0xff, 0xff]), None);
    }
}
