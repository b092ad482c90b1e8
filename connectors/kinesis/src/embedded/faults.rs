//! Faults that a test asks for: the next calls of an action go wrong in a way that was written down beforehand.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use parking_lot::Mutex;

/// What goes wrong with one call.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// `ProvisionedThroughputExceededException`, and nothing happened.
    Throttled,
    /// `InternalFailure` with status 500, and nothing happened.
    Internal,
    /// `ServiceUnavailable` with status 503, and nothing happened.
    Unavailable,
    /// `ExpiredIteratorException`, and nothing happened.
    ExpiredIterator,
    /// Any other error of status 400: its `__type` and its message. Nothing happened.
    Error(&'static str, String),
    /// PutRecords fails for the records `first`, `first + every`, `first + 2 * every` and so on, counted from 0, and takes the
    /// others. `every` of 0 is the one record only. Any other action passes.
    FailRecords {
        /// The first record that fails.
        first: usize,
        /// The distance to the next one.
        every: usize,
        /// `InternalFailure` instead of `ProvisionedThroughputExceededException`.
        internal: bool,
    },
    /// The connection breaks before anything happened.
    CutBefore,
    /// It happens, and the connection breaks before the answer arrives. A SubscribeToShard breaks after its first event.
    CutAfter,
    /// The call takes longer, and then meets what is next in the script.
    Delay(Duration),
}

macro_rules! actions {
    ($($name:ident),+ $(,)?) => {
        /// An action of the API, by Kinesis's own name.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        #[allow(missing_docs, reason = "the names are AWS's, and so is what they mean")]
        pub enum Action {
            $($name),+
        }

        impl Action {
            /// By name. None where there is no such action here.
            pub(super) fn parse(name: &str) -> Option<Self> {
                match name {
                    $(stringify!($name) => Some(Self::$name),)+
                    _ => None,
                }
            }
        }
    };
}

actions!(
    AddTagsToStream,
    CreateStream,
    DecreaseStreamRetentionPeriod,
    DeleteStream,
    DeregisterStreamConsumer,
    DescribeLimits,
    DescribeStream,
    DescribeStreamConsumer,
    DescribeStreamSummary,
    GetRecords,
    GetShardIterator,
    IncreaseStreamRetentionPeriod,
    ListShards,
    ListStreamConsumers,
    ListStreams,
    ListTagsForResource,
    ListTagsForStream,
    MergeShards,
    PutRecord,
    PutRecords,
    RegisterStreamConsumer,
    RemoveTagsFromStream,
    SplitShard,
    SubscribeToShard,
    TagResource,
    UntagResource,
    UpdateMaxRecordSize,
    UpdateShardCount,
    UpdateStreamMode,
);

/// The script of what goes wrong, by action. Empty unless a test writes into it.
#[derive(Debug, Default)]
pub struct Faults {
    actions: Mutex<HashMap<Action, ActionFaults>>,
}

#[derive(Debug, Default)]
struct ActionFaults {
    script: VecDeque<Fault>,
    calls: u64,
}

impl Faults {
    /// The next call of `action` that has no fault yet meets this one.
    pub fn add(&self, action: Action, fault: Fault) {
        self.repeat(action, fault, 1);
    }

    /// The next `calls` calls of `action` that have no fault yet meet this one.
    pub fn repeat(&self, action: Action, fault: Fault, calls: usize) {
        let mut actions = self.actions.lock();
        actions.entry(action).or_default().script.extend(std::iter::repeat_n(fault, calls));
    }

    /// Faults of `action` that no call has met yet.
    pub fn pending(&self, action: Action) -> usize {
        self.actions.lock().get(&action).map_or(0, |faults| faults.script.len())
    }

    /// Calls of `action` since this Kinesis was opened, those that failed included.
    pub fn calls(&self, action: Action) -> u64 {
        self.actions.lock().get(&action).map_or(0, |faults| faults.calls)
    }

    /// Forgets every fault that no call has met yet.
    pub fn clear(&self) {
        self.actions.lock().values_mut().for_each(|faults| faults.script.clear());
    }

    /// What this call meets: delays, then at most one fault of another kind.
    pub(super) fn meet(&self, action: Action) -> (Duration, Option<Fault>) {
        let mut actions = self.actions.lock();
        let faults = actions.entry(action).or_default();
        faults.calls += 1;
        let mut delay = Duration::ZERO;
        loop {
            match faults.script.pop_front() {
                Some(Fault::Delay(longer)) => delay += longer,
                other => return (delay, other),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_meet_faults_in_the_order_of_the_script() {
        let faults = Faults::default();
        faults.add(Action::GetRecords, Fault::Delay(Duration::from_secs(1)));
        faults.repeat(Action::GetRecords, Fault::Throttled, 2);
        faults.add(Action::PutRecord, Fault::CutAfter);
        let met: Vec<_> = (0..3).map(|_| faults.meet(Action::GetRecords)).collect();
        let second = Duration::from_secs(1);
        assert_eq!(
            met,
            [(second, Some(Fault::Throttled)), (Duration::ZERO, Some(Fault::Throttled)), (Duration::ZERO, None)]
        );
        assert_eq!((faults.calls(Action::GetRecords), faults.pending(Action::PutRecord)), (3, 1));
        faults.clear();
        assert_eq!(faults.pending(Action::PutRecord), 0);
    }
}
