//! Consumer groups: who reads which partition, and how far each group has come.
//!
//! Assignment is cooperative and sticky: everyone keeps what they have as far as balance allows, and a partition that moves
//! is first asked back from its owner and given on only when the owner let go.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use ottla_api::offset::{Positions, TopicPartition};
use ottla_api::{Error, Result};
use tokio::sync::Notify;

use crate::broker::Subscription;

pub(super) type MemberId = u64;

/// Topics and how many partitions each has.
pub(super) type TopicSizes = BTreeMap<Arc<str>, usize>;

#[derive(Debug, Default)]
pub(super) struct Groups {
    pub(super) by_name: BTreeMap<String, Group>,
    next_member: MemberId,
}

#[derive(Debug, Default)]
pub(super) struct Group {
    /// Durable positions.
    pub(super) committed: Positions,
    /// Positions on their way to the disk.
    committing: Positions,
    members: BTreeMap<MemberId, Member>,
    owners: BTreeMap<TopicPartition, Owner>,
}

#[derive(Debug)]
struct Member {
    subscription: Subscription,
    events: VecDeque<GroupEvent>,
    notify: Arc<Notify>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Owner {
    member: MemberId,
    /// Asked to let go.
    revoking: bool,
}

/// What a member has yet to hear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum GroupEvent {
    Assigned(Vec<TopicPartition>),
    Revoked(Vec<TopicPartition>),
}

impl Groups {
    /// Adds a member. What it gets to read comes as an event.
    pub(super) fn join(
        &mut self,
        group: &str,
        subscription: Subscription,
        notify: Arc<Notify>,
        topics: &TopicSizes,
    ) -> MemberId {
        let id = self.next_member;
        self.next_member += 1;
        let group = self.by_name.entry(group.to_owned()).or_default();
        group.members.insert(id, Member { subscription, events: VecDeque::new(), notify });
        group.rebalance(topics);
        id
    }

    /// Takes a member out; what it had goes to the others at once.
    pub(super) fn leave(&mut self, group: &str, member: MemberId, topics: &TopicSizes) {
        if let Some(group) = self.by_name.get_mut(group) {
            group.members.remove(&member);
            group.owners.retain(|_, owner| owner.member != member);
            group.rebalance(topics);
        }
    }

    /// Gives new topics to those who want them.
    pub(super) fn topics_changed(&mut self, topics: &TopicSizes) {
        self.by_name.values_mut().for_each(|group| group.rebalance(topics));
    }

    pub(super) fn next_event(&mut self, group: &str, member: MemberId) -> Option<GroupEvent> {
        self.by_name.get_mut(group)?.members.get_mut(&member)?.events.pop_front()
    }

    /// Lets go of partitions that were asked back.
    pub(super) fn release(
        &mut self,
        group: &str,
        member: MemberId,
        partitions: &[TopicPartition],
        topics: &TopicSizes,
    ) -> Result<()> {
        let Some(group) = self.by_name.get_mut(group) else { return Ok(()) };
        for partition in partitions {
            match group.owners.get(partition) {
                Some(owner) if owner.member == member && !owner.revoking => {
                    return Err(Error::fatal(format!("partition {partition} was released without being asked back")));
                }
                _ => {}
            }
        }
        for partition in partitions {
            if group.owners.get(partition).is_some_and(|owner| owner.member == member) {
                group.owners.remove(partition);
            }
        }
        group.rebalance(topics);
        Ok(())
    }
}

impl Group {
    /// Which of these are not the member's.
    pub(super) fn not_owned<'a>(
        &self,
        member: MemberId,
        partitions: impl IntoIterator<Item = &'a TopicPartition>,
    ) -> Vec<&'a TopicPartition> {
        let owns =
            |partition: &&TopicPartition| self.owners.get(*partition).is_some_and(|owner| owner.member == member);
        partitions.into_iter().filter(|partition| !owns(partition)).collect()
    }

    /// Begins a commit: which of these positions are to be written. Others are behind what is stored already.
    pub(super) fn begin_commit(&mut self, member: MemberId, positions: &Positions) -> Result<Positions> {
        let foreign = self.not_owned(member, positions.keys());
        if !foreign.is_empty() {
            return Err(not_ours("commit for", &foreign));
        }
        let mut ahead = Positions::new();
        for (partition, position) in positions {
            let stored = self.committing.get(partition).or_else(|| self.committed.get(partition));
            if stored.is_none_or(|stored| stored < position) {
                ahead.insert(partition.clone(), *position);
            }
        }
        self.committing.extend(ahead.clone());
        Ok(ahead)
    }

    /// Ends it. All commits that are on their way share one fate, so none is behind another here.
    pub(super) fn end_commit(&mut self, positions: &Positions, durable: bool) {
        for (partition, position) in positions {
            self.committing.remove(partition);
            if durable {
                let stored = self.committed.entry(partition.clone()).or_insert(*position);
                *stored = (*stored).max(*position);
            }
        }
    }

    /// How far this group has come in a partition, for retention: none where nothing of the topic concerns it, -1 where it has
    /// yet to begin.
    pub(super) fn progress(&self, partition: &TopicPartition) -> Option<i64> {
        if let Some(position) = self.committed.get(partition) {
            return Some(*position);
        }
        let topic = &partition.topic;
        let reads = self.members.values().any(|member| member.subscription.matches(topic));
        let has_read = self.committed.range(TopicPartition::new(topic.clone(), 0)..).next();
        (reads || has_read.is_some_and(|(other, _)| other.topic == *topic)).then_some(-1)
    }

    /// Brings assignment in line with members and topics.
    fn rebalance(&mut self, topics: &TopicSizes) {
        let plan = self.plan(topics);
        let mut assigned: BTreeMap<MemberId, Vec<TopicPartition>> = BTreeMap::new();
        let mut revoked: BTreeMap<MemberId, Vec<TopicPartition>> = BTreeMap::new();
        for (member, partitions) in plan {
            for partition in partitions {
                match self.owners.get_mut(&partition) {
                    None => {
                        self.owners.insert(partition.clone(), Owner { member, revoking: false });
                        assigned.entry(member).or_default().push(partition);
                    }
                    Some(owner) if owner.member != member && !owner.revoking => {
                        owner.revoking = true;
                        revoked.entry(owner.member).or_default().push(partition);
                    }
                    // It stays, or its owner has yet to let go.
                    Some(_) => {}
                }
            }
        }
        let revoked = revoked.into_iter().map(|(member, partitions)| (member, GroupEvent::Revoked(partitions)));
        let assigned = assigned.into_iter().map(|(member, partitions)| (member, GroupEvent::Assigned(partitions)));
        for (member, event) in revoked.chain(assigned) {
            let member = self.members.get_mut(&member).expect("plans and owners name members only");
            member.events.push_back(event);
            member.notify.notify_one();
        }
    }

    /// Who should have what: as now, as far as nobody has two more than somebody who could take one.
    fn plan(&self, topics: &TopicSizes) -> BTreeMap<MemberId, BTreeSet<TopicPartition>> {
        let mut plan: BTreeMap<MemberId, BTreeSet<TopicPartition>> =
            self.members.keys().map(|member| (*member, BTreeSet::new())).collect();
        let mut readers: BTreeMap<&str, Vec<MemberId>> = BTreeMap::new();
        let mut free = Vec::new();
        for (topic, partitions) in topics {
            let interested: Vec<MemberId> = self
                .members
                .iter()
                .filter(|(_, member)| member.subscription.matches(topic))
                .map(|(id, _)| *id)
                .collect();
            if interested.is_empty() {
                continue;
            }
            for number in 0..*partitions {
                let partition = TopicPartition::new(topic.clone(), number as i32);
                match self.owners.get(&partition) {
                    Some(owner) if !owner.revoking => plan.get_mut(&owner.member).map(|has| has.insert(partition)),
                    _ => {
                        free.push(partition);
                        None
                    }
                };
            }
            readers.insert(topic, interested);
        }
        for partition in free {
            let candidates = readers[partition.topic.as_ref()].iter().copied();
            let least = candidates.min_by_key(|member| plan[member].len()).expect("a topic here has readers");
            plan.get_mut(&least).expect("readers are members").insert(partition);
        }
        while let Some((giver, taker, partition)) = self.next_move(&plan, &readers) {
            plan.get_mut(&giver).expect("givers are members").remove(&partition);
            plan.get_mut(&taker).expect("takers are members").insert(partition);
        }
        plan
    }

    /// A move that makes the plan more even, or none. What nobody owns yet moves before what somebody would lose.
    fn next_move(
        &self,
        plan: &BTreeMap<MemberId, BTreeSet<TopicPartition>>,
        readers: &BTreeMap<&str, Vec<MemberId>>,
    ) -> Option<(MemberId, MemberId, TopicPartition)> {
        let mut by_load: Vec<(MemberId, usize)> = plan.iter().map(|(member, has)| (*member, has.len())).collect();
        by_load.sort_by_key(|(_, load)| *load);
        for (giver, most) in by_load.iter().rev() {
            for (taker, _) in by_load.iter().take_while(|(_, least)| least + 2 <= *most) {
                let movable = |partition: &&TopicPartition| readers[partition.topic.as_ref()].contains(taker);
                let owned = |partition: &&TopicPartition| {
                    self.owners.get(*partition).is_some_and(|owner| owner.member == *giver && !owner.revoking)
                };
                let candidates = || plan[giver].iter().rev().filter(movable);
                let partition = candidates().find(|partition| !owned(partition)).or_else(|| candidates().next());
                if let Some(partition) = partition {
                    return Some((*giver, *taker, partition.clone()));
                }
            }
        }
        None
    }
}

/// The error for a member that acts on partitions it does not have (any more).
pub(super) fn not_ours(action: &str, partitions: &[&TopicPartition]) -> Error {
    let names: Vec<String> = partitions.iter().map(ToString::to_string).collect();
    Error::fatal(format!("{action} partitions that belong to another consumer now: {}", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Members that do at once what they are asked.
    struct Simulation {
        groups: Groups,
        topics: TopicSizes,
        has: BTreeMap<MemberId, BTreeSet<TopicPartition>>,
        moved: usize,
    }

    impl Simulation {
        fn new(topics: &[(&str, usize)]) -> Self {
            let topics = topics.iter().map(|(name, partitions)| (Arc::from(*name), *partitions)).collect();
            Self { groups: Groups::default(), topics, has: BTreeMap::new(), moved: 0 }
        }

        fn join(&mut self, topics: &[&str]) -> MemberId {
            let subscription = Subscription::Topics(topics.iter().map(ToString::to_string).collect());
            let id = self.groups.join("g", subscription, Arc::default(), &self.topics);
            self.has.insert(id, BTreeSet::new());
            self.settle();
            id
        }

        fn leave(&mut self, member: MemberId) {
            self.has.remove(&member);
            self.groups.leave("g", member, &self.topics);
            self.settle();
        }

        fn settle(&mut self) {
            loop {
                let members: Vec<MemberId> = self.has.keys().copied().collect();
                let next = members.iter().find_map(|id| Some((*id, self.groups.next_event("g", *id)?)));
                match next {
                    Some((member, GroupEvent::Assigned(partitions))) => {
                        for partition in partitions {
                            assert!(
                                self.has.values().all(|has| !has.contains(&partition)),
                                "{partition} has two owners"
                            );
                            self.has.get_mut(&member).unwrap().insert(partition);
                        }
                    }
                    Some((member, GroupEvent::Revoked(partitions))) => {
                        self.moved += partitions.len();
                        partitions.iter().for_each(|partition| {
                            assert!(self.has.get_mut(&member).unwrap().remove(partition));
                        });
                        self.groups.release("g", member, &partitions, &self.topics).unwrap();
                    }
                    None => break,
                }
            }
        }

        fn loads(&self) -> Vec<usize> {
            self.has.values().map(BTreeSet::len).collect()
        }
    }

    #[test]
    fn partitions_are_divided_evenly_and_few_of_them_move() {
        let mut group = Simulation::new(&[("a", 7), ("b", 3)]);
        let first = group.join(&["a", "b"]);
        assert_eq!(group.loads(), [10]);
        group.join(&["a", "b"]);
        assert_eq!((group.loads(), group.moved), (vec![5, 5], 5));
        group.join(&["a", "b"]);
        assert_eq!((group.loads(), group.moved), (vec![4, 3, 3], 8));
        group.leave(first);
        assert_eq!((group.loads(), group.moved), (vec![5, 5], 8));
    }

    #[test]
    fn a_member_gets_only_what_it_subscribed_to() {
        let mut group = Simulation::new(&[("a", 4), ("b", 4)]);
        let everything = group.join(&["a", "b"]);
        let only_b = group.join(&["b"]);
        assert_eq!(group.loads(), [4, 4]);
        assert!(group.has[&only_b].iter().all(|partition| partition.topic.as_ref() == "b"));
        group.leave(everything);
        assert_eq!(group.loads(), [4]);
    }

    #[test]
    fn more_members_than_partitions_leaves_some_without() {
        let mut group = Simulation::new(&[("a", 2)]);
        for _ in 0..4 {
            group.join(&["a"]);
        }
        let mut loads = group.loads();
        loads.sort_unstable();
        assert_eq!(loads, [0, 0, 1, 1]);
    }

    #[test]
    fn topics_that_appear_are_given_out() {
        let mut group = Simulation::new(&[]);
        group.join(&["a"]);
        group.join(&["a"]);
        group.topics.insert("a".into(), 4);
        group.groups.topics_changed(&group.topics);
        group.settle();
        assert_eq!((group.loads(), group.moved), (vec![2, 2], 0));
    }

    #[test]
    fn a_commit_on_its_way_is_not_overtaken_by_a_lower_one() {
        let mut groups = Groups::default();
        let topics = TopicSizes::from([("a".into(), 1)]);
        let member = groups.join("g", Subscription::Topics(vec!["a".into()]), Arc::default(), &topics);
        let group = groups.by_name.get_mut("g").unwrap();
        let at = |position| Positions::from([(TopicPartition::new("a", 0), position)]);
        assert_eq!(group.begin_commit(member, &at(5)).unwrap(), at(5));
        assert_eq!(group.begin_commit(member, &at(3)).unwrap(), Positions::new());
        group.end_commit(&at(5), false);
        assert_eq!(group.begin_commit(member, &at(3)).unwrap(), at(3));
    }
}
