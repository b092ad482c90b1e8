//! What waits to be sent, in an order that keeps the records of a partition key one behind the other. Pure.
//!
//! A *lane* holds the records of one partition key of one stream. While a request carries records of a lane, no other does; what
//! that request did not get through goes back to the lane's front. So a record is never sent before an earlier one of its lane
//! is stored, except, with [`Ordering::Batch`], within one request.
//!
//! Offsets are released per assignment of a topic partition: the position before which nothing is outstanding (G2).

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::config::Ordering;

/// The first pause before something is sent again; the following ones double.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// A record on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) key: Arc<str>,
    pub(crate) data: Bytes,
    /// The assignment that it came in, see [`Outbox::open`].
    pub(crate) assignment: u64,
    pub(crate) offset: i64,
}

impl Entry {
    /// What counts against Kinesis' limits.
    pub(crate) fn size(&self) -> usize {
        self.key.len() + self.data.len()
    }
}

/// The content of one request.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) stream: Arc<str>,
    pub(crate) entries: Vec<Entry>,
}

/// Limits and rules.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    pub(crate) ordering: Ordering,
    pub(crate) records_max: usize,
    pub(crate) bytes_max: usize,
    pub(crate) backoff_max: Duration,
}

#[derive(Debug)]
pub(crate) struct Outbox {
    rules: Rules,
    streams: BTreeMap<Arc<str>, Lanes>,
    assignments: BTreeMap<u64, Progress>,
    next_assignment: u64,
    bytes: usize,
    queued: usize,
    in_flight: usize,
    /// Nothing new is begun.
    halted: bool,
}

#[derive(Debug, Default)]
struct Lanes {
    lanes: HashMap<Arc<str>, Lane>,
    /// Keys of lanes that have something to send, in the order in which it came.
    ready: VecDeque<Arc<str>>,
    /// Keys of lanes that wait until then.
    delayed: BTreeSet<(Instant, Arc<str>)>,
    /// The whole stream waits until then, after a request that failed as a whole.
    paused: Option<Instant>,
    failures: u32,
}

#[derive(Debug, Default)]
struct Lane {
    entries: VecDeque<Entry>,
    failures: u32,
}

#[derive(Debug)]
struct Progress {
    /// Everything before this was accepted.
    accepted: i64,
    outstanding: BTreeSet<i64>,
    in_flight: usize,
}

impl Outbox {
    pub(crate) fn new(rules: Rules) -> Self {
        Self {
            rules,
            streams: BTreeMap::new(),
            assignments: BTreeMap::new(),
            next_assignment: 0,
            bytes: 0,
            queued: 0,
            in_flight: 0,
            halted: false,
        }
    }

    /// Begins an assignment of a topic partition, whose records come from this position on; -1 where nobody knows yet.
    pub(crate) fn open(&mut self, position: i64) -> u64 {
        self.next_assignment += 1;
        let progress = Progress { accepted: position, outstanding: BTreeSet::new(), in_flight: 0 };
        self.assignments.insert(self.next_assignment, progress);
        self.next_assignment
    }

    /// Ends an assignment: what is not on its way is thrown away.
    pub(crate) fn close(&mut self, assignment: u64) {
        let Self { streams, bytes, queued, .. } = self;
        for lanes in streams.values_mut() {
            for lane in lanes.lanes.values_mut() {
                lane.entries.retain(|entry| {
                    let stays = entry.assignment != assignment;
                    if !stays {
                        *bytes -= entry.size();
                        *queued -= 1;
                    }
                    stays
                });
            }
        }
        if let Some(progress) = self.assignments.get_mut(&assignment)
            && progress.in_flight > 0
        {
            progress.outstanding.clear();
            progress.accepted = i64::MIN;
        } else {
            self.assignments.remove(&assignment);
        }
    }

    /// True while a request carries records of this assignment.
    pub(crate) fn is_in_flight(&self, assignment: u64) -> bool {
        self.assignments.get(&assignment).is_some_and(|progress| progress.in_flight > 0)
    }

    /// Up to where records of this assignment were accepted.
    pub(crate) fn accepted(&self, assignment: u64) -> i64 {
        self.assignments.get(&assignment).map_or(i64::MIN, |progress| progress.accepted)
    }

    /// Notes that everything before `next_offset` was accepted, or needs no delivery.
    pub(crate) fn accept(&mut self, assignment: u64, next_offset: i64) {
        if let Some(progress) = self.assignments.get_mut(&assignment) {
            progress.accepted = progress.accepted.max(next_offset);
        }
    }

    /// The position before which every record of this assignment is stored.
    pub(crate) fn position(&self, assignment: u64) -> Option<i64> {
        let progress = self.assignments.get(&assignment)?;
        Some(progress.outstanding.first().copied().unwrap_or(progress.accepted))
    }

    /// Takes a record that is to be sent.
    pub(crate) fn push(&mut self, stream: &Arc<str>, entry: Entry) {
        if let Some(progress) = self.assignments.get_mut(&entry.assignment) {
            progress.outstanding.insert(entry.offset);
        }
        self.bytes += entry.size();
        self.queued += 1;
        let lanes = self.streams.entry(stream.clone()).or_default();
        match lanes.lanes.get_mut(&entry.key) {
            // It is ready, delayed or in flight already.
            Some(lane) => lane.entries.push_back(entry),
            None => {
                lanes.ready.push_back(entry.key.clone());
                lanes.lanes.insert(entry.key.clone(), Lane { entries: [entry].into(), failures: 0 });
            }
        }
    }

    /// The next request, if something may be sent now.
    pub(crate) fn next_batch(&mut self, now: Instant) -> Option<Batch> {
        if self.halted {
            return None;
        }
        let Self { rules, streams, assignments, .. } = self;
        let (stream, entries) = streams.iter_mut().find_map(|(stream, lanes)| {
            let entries = lanes.take(rules, now);
            (!entries.is_empty()).then(|| (stream.clone(), entries))
        })?;
        for entry in &entries {
            if let Some(progress) = assignments.get_mut(&entry.assignment) {
                progress.in_flight += 1;
            }
        }
        self.queued -= entries.len();
        self.in_flight += 1;
        Some(Batch { stream, entries })
    }

    /// Takes the outcome of a request: for each of its records whether it is stored. `whole` says that the request failed as a
    /// whole. The answer is how many stored records have overtaken an earlier one of their lane. `random` is between 0 and 1.
    pub(crate) fn settle(&mut self, batch: Batch, stored: &[bool], whole: bool, now: Instant, random: f64) -> usize {
        self.in_flight -= 1;
        let pause = |failures: u32| {
            let pause = FIRST_PAUSE.saturating_mul(1 << failures.min(16)).min(self.rules.backoff_max);
            pause.mul_f64(0.5 + random / 2.0)
        };
        let lanes = self.streams.entry(batch.stream).or_default();
        lanes.paused = whole.then(|| now + pause(lanes.failures));
        lanes.failures = if whole { lanes.failures + 1 } else { 0 };
        let mut touched = BTreeMap::new();
        let mut refused: BTreeMap<Arc<str>, Vec<Entry>> = BTreeMap::new();
        let mut overtaken = 0;
        for (entry, stored) in batch.entries.into_iter().zip(stored) {
            let failed = touched.entry(entry.key.clone()).or_insert(false);
            let mut gone = *stored;
            if let Some(progress) = self.assignments.get_mut(&entry.assignment) {
                progress.in_flight -= 1;
                if gone {
                    progress.outstanding.remove(&entry.offset);
                }
                if progress.accepted == i64::MIN {
                    // Closed meanwhile.
                    gone = true;
                    if progress.in_flight == 0 {
                        self.assignments.remove(&entry.assignment);
                    }
                }
            }
            if gone {
                overtaken += usize::from(*failed && *stored);
                self.bytes -= entry.size();
            } else {
                *failed = true;
                self.queued += 1;
                refused.entry(entry.key.clone()).or_default().push(entry);
            }
        }
        for (key, failed) in touched {
            let Some(lane) = lanes.lanes.get_mut(&key) else { continue };
            for entry in refused.remove(&key).into_iter().flatten().rev() {
                lane.entries.push_front(entry);
            }
            if lane.entries.is_empty() {
                lanes.lanes.remove(&key);
            } else if failed && !whole {
                let due = now + pause(lane.failures);
                lane.failures += 1;
                lanes.delayed.insert((due, key));
            } else {
                lane.failures = 0;
                // What was refused as a whole comes first again; what is new waits for its turn.
                if failed { lanes.ready.push_front(key) } else { lanes.ready.push_back(key) }
            }
        }
        overtaken
    }

    /// When something may be sent that may not be sent now.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let due = |lanes: &Lanes| {
            let delayed = lanes.delayed.first().map(|(due, _)| *due);
            let due = if lanes.ready.is_empty() { delayed? } else { lanes.paused? };
            Some(due.max(lanes.paused.unwrap_or(due)))
        };
        if self.halted { None } else { self.streams.values().filter_map(due).min() }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// True where everything that was pushed is stored or thrown away.
    pub(crate) fn is_empty(&self) -> bool {
        self.queued == 0 && self.in_flight == 0
    }

    /// Begins nothing new until told otherwise.
    pub(crate) fn halt(&mut self, halted: bool) {
        self.halted = halted;
    }
}

impl Lanes {
    fn take(&mut self, rules: &Rules, now: Instant) -> Vec<Entry> {
        if self.paused.is_some_and(|until| until > now) {
            return Vec::new();
        }
        while self.delayed.first().is_some_and(|(due, _)| *due <= now) {
            self.ready.extend(self.delayed.pop_first().map(|(_, key)| key));
        }
        let (mut entries, mut bytes) = (Vec::new(), 0);
        while entries.len() < rules.records_max {
            let Some(key) = self.ready.front() else { break };
            let Some(lane) = self.lanes.get_mut(key) else {
                self.ready.pop_front();
                continue;
            };
            let most = match rules.ordering {
                Ordering::Strict => 1,
                Ordering::Batch => rules.records_max - entries.len(),
            };
            let before = entries.len();
            while entries.len() - before < most
                && let Some(entry) =
                    lane.entries.pop_front_if(|entry| bytes == 0 || bytes + entry.size() <= rules.bytes_max)
            {
                bytes += entry.size();
                entries.push(entry);
            }
            let full = entries.len() == before && !lane.entries.is_empty();
            if full {
                break;
            }
            let key = self.ready.pop_front().expect("it was looked at above");
            if entries.len() == before {
                // Emptied by the end of an assignment.
                self.lanes.remove(&key);
            }
        }
        entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outbox(ordering: Ordering) -> Outbox {
        let backoff_max = Duration::from_secs(1);
        Outbox::new(Rules { ordering, records_max: 4, bytes_max: 100, backoff_max })
    }

    fn push(outbox: &mut Outbox, assignment: u64, offset: i64, key: &str) {
        let entry = Entry { key: key.into(), data: Bytes::from(vec![b'x'; 10]), assignment, offset };
        outbox.push(&"s".into(), entry);
        outbox.accept(assignment, offset + 1);
    }

    fn offsets(batch: &Batch) -> Vec<i64> {
        batch.entries.iter().map(|entry| entry.offset).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_record_holds_back_its_key_and_nothing_else() {
        let mut outbox = outbox(Ordering::Strict);
        let id = outbox.open(0);
        for (offset, key) in [(0, "a"), (1, "b"), (2, "a"), (3, "b"), (4, "c")] {
            push(&mut outbox, id, offset, key);
        }
        let now = Instant::now();
        let first = outbox.next_batch(now).unwrap();
        assert_eq!(offsets(&first), [0, 1, 4]);
        assert!(outbox.next_batch(now).is_none(), "a and b are under way");
        assert_eq!(outbox.settle(first, &[false, true, true], false, now, 1.0), 0);
        assert_eq!(outbox.position(id), Some(0));
        let second = outbox.next_batch(now).unwrap();
        assert_eq!(offsets(&second), [3], "a waits, b goes on");
        outbox.settle(second, &[true], false, now, 1.0);
        assert_eq!(outbox.next_due(), Some(now + FIRST_PAUSE));
        let later = now + FIRST_PAUSE;
        for expected in [0, 2] {
            let batch = outbox.next_batch(later).unwrap();
            assert_eq!(offsets(&batch), [expected]);
            outbox.settle(batch, &[true], false, later, 1.0);
        }
        assert_eq!(outbox.position(id), Some(5));
        assert!(outbox.is_empty() && outbox.bytes() == 0);
    }

    #[tokio::test(start_paused = true)]
    async fn many_records_of_a_key_share_a_request_where_that_is_asked_for() {
        let mut outbox = outbox(Ordering::Batch);
        let id = outbox.open(0);
        for offset in 0..6 {
            push(&mut outbox, id, offset, "a");
        }
        let now = Instant::now();
        let batch = outbox.next_batch(now).unwrap();
        assert_eq!(offsets(&batch), [0, 1, 2, 3]);
        assert!(outbox.next_batch(now).is_none());
        assert_eq!(outbox.settle(batch, &[true, false, true, false], false, now, 1.0), 1, "2 has overtaken 1");
        assert_eq!(outbox.position(id), Some(1));
        let batch = outbox.next_batch(now + FIRST_PAUSE).unwrap();
        assert_eq!(offsets(&batch), [1, 3, 4, 5]);
    }

    #[tokio::test(start_paused = true)]
    async fn requests_stay_within_the_limits() {
        let mut outbox = outbox(Ordering::Strict);
        let id = outbox.open(0);
        for offset in 0..12 {
            push(&mut outbox, id, offset, &format!("k{offset:08}"));
        }
        outbox.rules.records_max = 500;
        let now = Instant::now();
        let sizes: Vec<usize> =
            std::iter::from_fn(|| outbox.next_batch(now)).map(|batch| batch.entries.len()).collect();
        assert_eq!(sizes, [5, 5, 2], "19 bytes each, 100 in a request");
    }

    #[tokio::test(start_paused = true)]
    async fn a_closed_assignment_is_not_sent_again() {
        let mut outbox = outbox(Ordering::Strict);
        let (lost, kept) = (outbox.open(0), outbox.open(0));
        push(&mut outbox, lost, 0, "a");
        push(&mut outbox, lost, 1, "b");
        push(&mut outbox, lost, 2, "a");
        push(&mut outbox, kept, 0, "a");
        let now = Instant::now();
        let batch = outbox.next_batch(now).unwrap();
        outbox.close(lost);
        assert!(outbox.is_in_flight(lost));
        outbox.settle(batch, &[false, true], false, now, 1.0);
        assert!(!outbox.is_in_flight(lost));
        assert_eq!(outbox.position(lost), None);
        let batch = outbox.next_batch(now + FIRST_PAUSE).unwrap();
        assert_eq!(batch.entries.iter().map(|entry| entry.assignment).collect::<Vec<_>>(), [kept]);
    }
}
