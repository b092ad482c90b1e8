//! A stream that is split and merged at random while tasks read it, crash between any two steps, and come back in other numbers.
//!
//! Only [`decide`] and [`ShardKey::owner`] are the real thing; Kinesis, the stored offsets and the topic are modelled in a few
//! lines. What was delivered is compared with what was put, record by record.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;

use ottla_testkit::fault::Random;

use super::shards::{Decision, Listing, Place, Shard, ShardKey, Start, decide};
use crate::config::Position;

const KEYS: u64 = 12;
const STEPS: usize = 600;

/// A record: its key, its number among those of the key, and the step at which it was put.
type Put = (u64, u64, i64);

struct ModelShard {
    keys: Range<u64>,
    parents: Vec<Arc<str>>,
    closed: bool,
    /// By sequence number.
    records: BTreeMap<u64, Put>,
    first: u64,
}

struct Model {
    shards: BTreeMap<Arc<str>, ModelShard>,
    sequence: u64,
    counts: HashMap<u64, u64>,
    puts: Vec<Put>,
    now: i64,
}

impl Model {
    fn new() -> Self {
        let mut model = Self { shards: BTreeMap::new(), sequence: 1, counts: HashMap::new(), puts: Vec::new(), now: 1 };
        model.open(0..KEYS / 2, Vec::new());
        model.open(KEYS / 2..KEYS, Vec::new());
        model
    }

    fn open(&mut self, keys: Range<u64>, parents: Vec<Arc<str>>) {
        let name = format!("shardId-{:012}", self.shards.len()).into();
        self.sequence += 1;
        let shard = ModelShard { keys, parents, closed: false, records: BTreeMap::new(), first: self.sequence };
        self.shards.insert(name, shard);
    }

    fn put(&mut self, key: u64) {
        self.sequence += 1;
        let number = self.counts.entry(key).or_default();
        let put = (key, *number, self.now);
        *number += 1;
        let open = self.shards.values_mut().find(|shard| !shard.closed && shard.keys.contains(&key));
        open.expect("the open shards cover all keys").records.insert(self.sequence, put);
        self.puts.push(put);
    }

    fn open_names(&self) -> Vec<Arc<str>> {
        self.shards.iter().filter(|(_, shard)| !shard.closed).map(|(name, _)| name.clone()).collect()
    }

    fn close(&mut self, name: &Arc<str>) -> Range<u64> {
        let shard = self.shards.get_mut(name).expect("it is there");
        shard.closed = true;
        shard.keys.clone()
    }

    fn reshard(&mut self, random: &mut Random) {
        let names = self.open_names();
        let name = &names[random.below(names.len() as u64) as usize];
        let keys = self.shards[name].keys.clone();
        let neighbour = names.iter().find(|other| self.shards[*other].keys.start == keys.end).cloned();
        match neighbour {
            Some(neighbour) if random.below(2) == 0 => {
                let (low, high) = (self.close(name), self.close(&neighbour));
                self.open(low.start..high.end, vec![name.clone(), neighbour]);
            }
            _ if keys.end - keys.start > 1 => {
                let middle = keys.start + 1 + random.below(keys.end - keys.start - 1);
                self.close(name);
                self.open(keys.start..middle, vec![name.clone()]);
                self.open(middle..keys.end, vec![name.clone()]);
            }
            _ => {}
        }
    }

    fn list(&self) -> Listing {
        let shard = |shard: &ModelShard| Shard {
            parents: shard.parents.clone(),
            first: shard.first.to_string(),
            closed: shard.closed,
            hash_range: (0, u128::MAX),
        };
        self.shards.iter().map(|(name, found)| (name.clone(), shard(found))).collect()
    }
}

/// A shard that a task reads: the next read begins behind this number, and among records at least as young.
struct Reading {
    after: u64,
    since: i64,
    place: Place,
}

#[derive(Default)]
struct Task {
    listing: Listing,
    reading: BTreeMap<Arc<str>, Reading>,
    /// Read to the end.
    done: BTreeSet<Arc<str>>,
    /// Returned and not yet durable, in order: records and the place behind them.
    returned: Vec<(Arc<str>, Vec<Put>, Place)>,
}

struct Run {
    model: Model,
    tasks: Vec<Task>,
    stored: HashMap<Arc<str>, Place>,
    delivered: Vec<Put>,
    position: Position,
    timestamp: i64,
    stream: Arc<str>,
    /// Plants the bug of not waiting for parents.
    hasty: bool,
}

impl Run {
    /// Whether this task did anything.
    fn step(&mut self, number: usize, random: &mut Random) -> bool {
        let Self { model, tasks, stored, stream, .. } = self;
        let tasks_max = tasks.len();
        let task = &mut tasks[number];
        let mut worked = false;
        if random.below(3) == 0 {
            task.listing = model.list();
        }
        for (name, shard) in &task.listing {
            let mine = ShardKey::new(stream, name.clone()).owner(tasks_max) == number;
            if !mine || task.reading.contains_key(name) || task.done.contains(name) {
                continue;
            }
            // A shard whose end was returned is not begun again; its place is stored soon.
            if task.returned.iter().any(|(returned, _, place)| returned == name && place.ended) {
                continue;
            }
            let decision =
                decide(name, shard, &task.listing, self.position, false, |name| Ok(stored.get(name).cloned()));
            let mut place = Place::default();
            let (after, since) = match decision.expect("offsets of the model can be read") {
                Decision::Wait if self.hasty => (0, 0),
                Decision::Done | Decision::Wait => continue,
                Decision::ParentGone { parent, .. } => panic!("{parent} is gone, says {name}"),
                Decision::Skip => {
                    place = Place { ended: true, skipped: true, ..place };
                    task.returned.push((name.clone(), Vec::new(), place));
                    continue;
                }
                Decision::Read(Start::Resume(stored)) => {
                    place = stored.clone();
                    let after = stored.sequence.map_or(0, |sequence| sequence.parse().expect("a number"));
                    (after, stored.began.unwrap_or_default())
                }
                Decision::Read(Start::Beginning) => (0, 0),
                Decision::Read(Start::At(began)) => {
                    place.began = Some(began);
                    (0, began)
                }
                Decision::Read(Start::Initial) => match self.position {
                    Position::TrimHorizon => (0, 0),
                    Position::AtTimestamp => {
                        place.began = Some(self.timestamp);
                        (0, self.timestamp)
                    }
                    Position::Latest => {
                        place.began = Some(model.now);
                        task.returned.push((name.clone(), Vec::new(), place.clone()));
                        (0, model.now)
                    }
                },
            };
            task.reading.insert(name.clone(), Reading { after, since, place });
            worked = true;
        }
        let names: Vec<_> = task.reading.keys().cloned().collect();
        for name in names {
            if random.below(2) == 0 {
                continue;
            }
            let (reading, shard) = (task.reading.get_mut(&name).expect("listed"), &model.shards[&name]);
            let limit = 1 + random.below(4) as usize;
            let found = shard.records.range(reading.after + 1..).filter(|(_, put)| put.2 >= reading.since);
            let found: Vec<(u64, Put)> = found.take(limit).map(|(sequence, put)| (*sequence, *put)).collect();
            if let Some((last, _)) = found.last() {
                reading.after = *last;
                reading.place = Place { sequence: Some(last.to_string()), ..Place::default() };
            }
            let ended = shard.closed && shard.records.range(reading.after + 1..).all(|(_, put)| put.2 < reading.since);
            if ended {
                reading.place.ended = true;
                if self.position != Position::AtTimestamp {
                    reading.place.began = None;
                }
            }
            if ended || !found.is_empty() {
                let puts = found.into_iter().map(|(_, put)| put).collect();
                task.returned.push((name.clone(), puts, reading.place.clone()));
                worked = true;
            }
            if ended {
                task.reading.remove(&name);
                task.done.insert(name);
            }
        }
        // What was returned first becomes durable first; records and places together.
        let durable = random.below(task.returned.len() as u64 + 1) as usize;
        for (name, puts, place) in task.returned.drain(..durable) {
            self.delivered.extend(puts);
            self.stored.insert(name, place);
            worked = true;
        }
        worked
    }

    fn is_done(&self) -> bool {
        let ended = |name: &Arc<str>| self.stored.get(name).is_some_and(|place| place.ended);
        let read = |name: &Arc<str>, shard: &ModelShard| {
            let behind = |task: &Task| {
                task.reading.get(name).is_some_and(|reading| {
                    shard.records.range(reading.after + 1..).all(|(_, put)| put.2 < reading.since)
                })
            };
            self.tasks.iter().any(behind)
        };
        self.tasks.iter().all(|task| task.returned.is_empty())
            && self.model.shards.iter().all(|(name, shard)| if shard.closed { ended(name) } else { read(name, shard) })
    }
}

/// Runs one seed; the mistake that it shows, if any.
fn simulate(seed: u64, position: Position, hasty: bool) -> Result<(), String> {
    let mut random = Random::new(seed);
    let mut run = Run {
        model: Model::new(),
        tasks: Vec::new(),
        stored: HashMap::new(),
        delivered: Vec::new(),
        position,
        timestamp: 50,
        stream: format!("s{seed}").as_str().into(),
        hasty,
    };
    // Some history before the first start.
    for _ in 0..random.below(80) {
        run.model.now += 1;
        run.model.put(random.below(KEYS));
        if random.below(9) == 0 {
            run.model.reshard(&mut random);
        }
    }
    for step in 0..STEPS {
        run.model.now += 1;
        if step == 0 || random.below(40) == 0 {
            // A crash of everything, and another number of tasks.
            run.tasks = (0..1 + random.below(4)).map(|_| Task::default()).collect();
        }
        match random.below(10) {
            0..4 => run.model.put(random.below(KEYS)),
            4 if step < STEPS / 2 => run.model.reshard(&mut random),
            _ => {
                let number = random.below(run.tasks.len() as u64) as usize;
                run.step(number, &mut random);
            }
        }
    }
    let mut rounds = 0;
    while !run.is_done() {
        run.model.now += 1;
        for number in 0..run.tasks.len() {
            run.step(number, &mut random);
        }
        rounds += 1;
        assert!(rounds < 100_000, "seed {seed}, {position:?}: never done");
    }
    for key in 0..KEYS {
        let of_key = |puts: &[Put]| puts.iter().filter(|put| put.0 == key).copied().collect::<Vec<_>>();
        let (put, delivered) = (of_key(&run.model.puts), of_key(&run.delivered));
        let expected = match position {
            Position::TrimHorizon => put,
            Position::AtTimestamp => put.into_iter().filter(|put| put.2 >= run.timestamp).collect(),
            // From some moment on, everything.
            Position::Latest => put[put.len() - delivered.len().min(put.len())..].to_vec(),
        };
        if delivered != expected {
            return Err(format!("seed {seed}, {position:?}, key {key}: {expected:?} became {delivered:?}"));
        }
    }
    Ok(())
}

#[test]
fn no_record_is_lost_repeated_or_overtaken_by_one_of_its_key() {
    for seed in 0..100 {
        for position in [Position::TrimHorizon, Position::Latest, Position::AtTimestamp] {
            assert_eq!(simulate(seed, position, false), Ok(()));
        }
    }
}

/// A test of the test: what compares has to notice.
#[test]
fn children_that_do_not_wait_are_noticed() {
    let noticed = (0..20).filter(|seed| simulate(*seed, Position::TrimHorizon, true).is_err()).count();
    assert!(noticed > 0, "none of twenty runs showed the planted bug");
}
