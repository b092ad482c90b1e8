//! Reads for one member of a group.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use async_trait::async_trait;
use ottla_api::offset::{Positions, TopicPartition};
use ottla_api::record::RawRecord;
use ottla_api::{Error, Result};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::group::{GroupEvent, Groups, MemberId, not_ours};
use super::{Partition, Shared, blocking, group_key};
use crate::broker::{ConsumerEvent, ConsumerSpec, GroupConsumer, StartPosition};
use crate::storage::{Batch, Change, FreeSpace, Space};

#[derive(Debug)]
pub(super) struct EmbeddedConsumer {
    shared: Arc<Shared>,
    spec: ConsumerSpec,
    member: MemberId,
    /// Rung by the group and by partitions that we fetch. One bell that only we wait for, so a ring is never lost.
    notify: Arc<Notify>,
    assigned: BTreeMap<TopicPartition, Fetch>,
    /// The partition that was fetched last; the others come first.
    last_fetched: Option<TopicPartition>,
}

/// Where we stand in one partition.
#[derive(Debug)]
struct Fetch {
    partition: Arc<Partition>,
    /// None until [`GroupConsumer::start_at`], after an [`ConsumerEvent::OutOfRange`], and once it was asked back.
    position: Option<i64>,
    paused: bool,
    revoked: bool,
    /// Records that were read and did not fit into an event.
    rest: VecDeque<RawRecord>,
}

impl EmbeddedConsumer {
    pub(super) fn join(shared: Arc<Shared>, spec: ConsumerSpec) -> Self {
        let notify = Arc::<Notify>::default();
        let member = {
            let mut groups = shared.groups.lock();
            let sizes = shared.topic_sizes();
            groups.join(&spec.group, spec.subscription.clone(), notify.clone(), &sizes)
        };
        Self { shared, spec, member, notify, assigned: BTreeMap::new(), last_fetched: None }
    }

    /// What the group has to say to us.
    fn group_event(&mut self) -> Result<Option<ConsumerEvent>> {
        let mut groups = self.shared.groups.lock();
        let event = groups.next_event(&self.spec.group, self.member);
        Ok(match event {
            None => None,
            Some(GroupEvent::Assigned(partitions)) => {
                let committed = groups.by_name.get(&self.spec.group).map(|group| &group.committed);
                let position =
                    |id: &TopicPartition| committed.and_then(|positions| positions.get(id)).copied().unwrap_or(-1);
                let positions: Positions = partitions.iter().map(|id| (id.clone(), position(id))).collect();
                drop(groups);
                for id in partitions {
                    let partition = self.shared.partition(&id)?;
                    let fetch =
                        Fetch { partition, position: None, paused: false, revoked: false, rest: VecDeque::new() };
                    self.assigned.insert(id, fetch);
                }
                Some(ConsumerEvent::Assigned(positions))
            }
            Some(GroupEvent::Revoked(partitions)) => {
                drop(groups);
                for id in &partitions {
                    if let Some(fetch) = self.assigned.get_mut(id) {
                        fetch.stop(&self.notify);
                        fetch.revoked = true;
                    }
                }
                Some(ConsumerEvent::Revoked(partitions))
            }
        })
    }

    /// Records of the next partition in turn that has some.
    fn fetch(&mut self) -> Result<Option<ConsumerEvent>> {
        let ready = |(_, fetch): &(&TopicPartition, &mut Fetch)| {
            !fetch.paused && fetch.position.is_some_and(|position| position != fetch.partition.range().end)
        };
        let next = match &self.last_fetched {
            None => None,
            Some(last) => {
                let after = (std::ops::Bound::Excluded(last), std::ops::Bound::Unbounded);
                self.assigned.range_mut::<TopicPartition, _>(after).find(ready).map(|(id, _)| id.clone())
            }
        };
        let next = next.or_else(|| self.assigned.iter_mut().find(ready).map(|(id, _)| id.clone()));
        let Some(id) = next else { return Ok(None) };

        self.last_fetched = Some(id.clone());
        let fetch = self.assigned.get_mut(&id).expect("it was found there");
        let position = fetch.position.expect("a ready partition has a position");
        let range = fetch.partition.range();
        if position < range.start || position > range.end {
            fetch.stop(&self.notify);
            return Ok(Some(ConsumerEvent::OutOfRange { partition: id, position, range }));
        }
        let (shared, records_max) = (&self.shared, self.spec.batch_records_max.max(1));
        let records = blocking(|| shared.fetch(&fetch.partition, position, records_max, &mut fetch.rest))
            .map_err(|error| error.during(format!("read {id}")))?;
        let range = fetch.partition.range();
        if records.is_empty() && position < range.start {
            // Retention took them between the two looks.
            fetch.stop(&self.notify);
            return Ok(Some(ConsumerEvent::OutOfRange { partition: id, position, range }));
        }
        let next_offset = records.last().map_or(position, |record| record.offset + 1);
        fetch.position = Some(next_offset);
        Ok(Some(ConsumerEvent::Batch { partition: id, records, next_offset }))
    }

    fn fetch_of(&mut self, action: &str, id: &TopicPartition) -> Result<&mut Fetch> {
        self.assigned.get_mut(id).ok_or_else(|| not_ours(action, &[id]))
    }
}

impl Fetch {
    /// Begins to fetch at `position`, and to hear of new records.
    fn start(&mut self, position: i64, notify: &Arc<Notify>) {
        self.rest.clear();
        if self.position.replace(position).is_none() {
            self.partition.listeners.lock().push(notify.clone());
        }
    }

    fn stop(&mut self, notify: &Arc<Notify>) {
        self.rest.clear();
        if self.position.take().is_some() {
            self.partition.listeners.lock().retain(|listener| !Arc::ptr_eq(listener, notify));
        }
    }
}

#[async_trait]
impl GroupConsumer for EmbeddedConsumer {
    async fn next(&mut self) -> Result<ConsumerEvent> {
        loop {
            if let Some(event) = self.group_event()? {
                return Ok(event);
            }
            // Reading never waits, so a consumer that is never out of records must let others run: before it reads, because
            // dropping this future must not lose what was read.
            tokio::task::coop::consume_budget().await;
            if let Some(event) = self.fetch()? {
                return Ok(event);
            }
            self.notify.notified().await;
        }
    }

    async fn start_at(&mut self, positions: &Positions) -> Result<()> {
        for id in positions.keys() {
            self.fetch_of("start", id)?;
        }
        let (start, group) = (self.spec.start, self.spec.group.clone());
        let notify = self.notify.clone();
        for (id, position) in positions {
            let fetch = self.fetch_of("start", id)?;
            // What was asked back in the meantime is not fetched any more.
            if fetch.revoked {
                continue;
            }
            let range = fetch.partition.range();
            let position = match (position, start) {
                (0.., _) => *position,
                (_, StartPosition::Earliest) => range.start,
                (_, StartPosition::Latest) => range.end,
                (_, StartPosition::None) => {
                    return Err(Error::fatal(format!(
                        "group '{group}' has no committed offset for {id}, and auto.offset.reset is 'none'"
                    )));
                }
            };
            fetch.start(position, &notify);
        }
        Ok(())
    }

    async fn pause(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        for id in partitions {
            self.fetch_of("pause", id)?.paused = true;
        }
        Ok(())
    }

    async fn resume(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        for id in partitions {
            self.fetch_of("resume", id)?.paused = false;
        }
        Ok(())
    }

    async fn commit(&mut self, positions: &Positions) -> Result<()> {
        let foreign: Vec<_> = positions.keys().filter(|id| !self.assigned.contains_key(id)).collect();
        if !foreign.is_empty() {
            return Err(not_ours("commit for", &foreign));
        }
        let key = |id: &TopicPartition| Ok((id.clone(), group_key(&self.spec.group, &self.assigned[id].partition)?));
        let keys = positions.keys().map(key).collect::<Result<_>>()?;
        let (reply, answer) = oneshot::channel();
        self.shared.store.submit(Box::new(Commit {
            groups: self.shared.groups.clone(),
            group: self.spec.group.clone(),
            member: self.member,
            positions: positions.clone(),
            keys,
            reply,
        }));
        answer.await.unwrap_or_else(|_| Err(Error::fatal("the state store is closed")))
    }

    async fn release(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        let mut groups = self.shared.groups.lock();
        let sizes = self.shared.topic_sizes();
        groups.release(&self.spec.group, self.member, partitions, &sizes)?;
        drop(groups);
        for id in partitions {
            if let Some(mut fetch) = self.assigned.remove(id) {
                fetch.stop(&self.notify);
            }
        }
        Ok(())
    }

    async fn topic_identity(&mut self, topic: &str) -> Result<Option<String>> {
        let partition = self.shared.partition(&TopicPartition::new(topic, 0))?;
        Ok(Some(format!("{}/{}", self.shared.store.worker_id(), partition.topic)))
    }

    async fn close(self: Box<Self>) -> Result<()> {
        // Dropping it leaves the group.
        Ok(())
    }
}

impl Drop for EmbeddedConsumer {
    /// Leaves the group, also when its task panicked.
    fn drop(&mut self) {
        for fetch in self.assigned.values_mut() {
            fetch.stop(&self.notify);
        }
        let mut groups = self.shared.groups.lock();
        let sizes = self.shared.topic_sizes();
        groups.leave(&self.spec.group, self.member, &sizes);
    }
}

/// A commit on the store's thread, where it is checked again: the caller may have been dropped in the meantime.
struct Commit {
    groups: Arc<Mutex<Groups>>,
    group: String,
    member: MemberId,
    /// What is asked for; once prepared, what is written.
    positions: Positions,
    keys: BTreeMap<TopicPartition, Vec<u8>>,
    reply: oneshot::Sender<Result<()>>,
}

impl Change for Commit {
    fn prepare(&mut self, batch: &mut Batch, _: &FreeSpace) -> Result<()> {
        // G4: nobody commits for a partition that went to somebody else.
        let mut groups = self.groups.lock();
        let group = groups.by_name.entry(self.group.clone()).or_default();
        let asked = std::mem::take(&mut self.positions);
        self.positions = group.begin_commit(self.member, &asked)?;
        for (id, position) in &self.positions {
            batch.put(Space::State, &self.keys[id], &position.to_be_bytes());
        }
        Ok(())
    }

    fn finish(self: Box<Self>, result: Result<()>) {
        if let Some(group) = self.groups.lock().by_name.get_mut(&self.group) {
            group.end_commit(&self.positions, result.is_ok());
        }
        let _ = self.reply.send(result);
    }
}
