//! A small world, again and again, each time from another seed: tasks come and go over one store, crash wherever they
//! happen to be, go on as zombies after they were replaced, and rotate their files at different moments, while requests
//! fail, answers get lost and clocks disagree. In the end every record must be in the store exactly once, in order (G2, G3).
//!
//! Time is simulated and there is one thread, so a seed is a history. A failure prints its seed;
//! `OTTLA_SIMULATION_SEED=<n>` runs that one alone, `OTTLA_SIMULATION_SEEDS=<n>` chooses how many are run.

mod double;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use double::{Double, Manners};
use jiff::Timestamp;
use ottla_api::prelude::*;
use ottla_api::sink::SinkTaskHost;
use ottla_connector_s3::{S3SinkConfig, S3SinkTask};
use ottla_testkit::fault::Random;

const TOPIC: &str = "t";
/// Simulated time after which a world that has not ended hangs.
const PATIENCE: Duration = Duration::from_secs(4 * 60 * 60);

#[test]
fn every_record_arrives_exactly_once_whatever_happens() {
    let only = std::env::var("OTTLA_SIMULATION_SEED").ok().map(|seed| seed.parse().expect("a number"));
    let seeds = std::env::var("OTTLA_SIMULATION_SEEDS").map_or(2000, |seeds| seeds.parse().expect("a number"));
    let mut seen = Seen::default();
    for seed in only.map_or(0..seeds, |seed: u64| seed..seed + 1) {
        let (broken, events) = simulate(seed, false);
        if let Some(broken) = broken {
            panic!("seed {seed}: {broken}");
        }
        seen.add(&events);
    }
    if only.is_none() && seeds >= 500 {
        // A simulation in which nothing happens proves nothing.
        assert!(seen.adopted > 0 && seen.rewinds > 0 && seen.parts > 0 && seen.crashes > 0, "{seen:?}");
    }
}

#[test]
fn the_checker_notices_a_store_that_overwrites() {
    let found = (0..200).filter(|seed| simulate(*seed, true).0.is_some()).count();
    assert!(found > 20, "with objects overwritten, only {found} of 200 histories looked wrong");
}

/// What happened in a history, to know that the interesting things do.
#[derive(Debug, Default, Clone)]
struct Seen {
    adopted: u64,
    rewinds: u64,
    parts: u64,
    crashes: u64,
}

impl Seen {
    fn add(&mut self, other: &Self) {
        self.adopted += other.adopted;
        self.rewinds += other.rewinds;
        self.parts += other.parts;
        self.crashes += other.crashes;
    }
}

/// Runs one history. The answer says what is wrong with its end, if anything is.
fn simulate(seed: u64, planted_bug: bool) -> (Option<String>, Seen) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    runtime.block_on(async {
        let world = Arc::new(World::new(seed, planted_bug));
        let ended = tokio::time::timeout(PATIENCE, run(world.clone())).await;
        let broken = match ended {
            Err(_) => Some("the world hangs".to_owned()),
            Ok(Err(broken)) => Some(broken),
            Ok(Ok(())) => world.check().err(),
        };
        let seen = world.seen.lock().unwrap().clone();
        (broken, seen)
    })
}

/// Everything that outlives a task.
struct World {
    planted_bug: bool,
    properties: Properties,
    part_size: usize,
    lanes: u64,
    /// What the topic holds, per partition.
    log: BTreeMap<TopicPartition, Vec<Entry>>,
    store: Double,
    group: Mutex<Group>,
    seen: Mutex<Seen>,
    random: Mutex<Random>,
    begun: tokio::time::Instant,
}

/// The consumer group: the newest generation owns all partitions, and only its commits count.
struct Group {
    generation: u64,
    committed: Positions,
}

/// One record of the topic.
#[derive(Clone)]
struct Entry {
    offset: i64,
    timestamp: i64,
    topic: String,
    /// None for a tombstone, which the sink is told to leave out.
    value: Option<String>,
}

impl World {
    fn new(seed: u64, planted_bug: bool) -> Self {
        let mut random = Random::new(seed);
        let mut pick = |from: &[u64]| from[random.below(from.len() as u64) as usize];
        let (flush_size, rotate, schedule) =
            (pick(&[1, 2, 3, 7, 20, 1000]), pick(&[0, 0, 3_000, 20_000]), pick(&[0, 500, 3_000, 10_000]));
        let (lanes, partitions, records) = (pick(&[1, 1, 2, 3]), pick(&[1, 1, 2]), pick(&[0, 10, 60, 150]));
        let part_size = pick(&[64, 200, 1 << 20]) as usize;
        let manners = Manners {
            latency_max: Duration::from_millis(pick(&[1, 40, 400])),
            failed_one_in: pick(&[0, 5, 30]),
            lost_one_in: pick(&[0, 5, 30]),
            metadata: pick(&[0, 1]) == 1,
            overwrite: planted_bug,
        };
        let mut properties = Properties::from_iter([("s3.bucket.name", "b"), ("behavior.on.null.values", "ignore")]);
        properties.set("flush.size", flush_size.to_string());
        if rotate > 0 {
            properties.set("rotate.interval.ms", rotate.to_string());
        }
        if schedule > 0 {
            properties.set("rotate.schedule.interval.ms", schedule.to_string());
        }
        let log = (0..partitions).map(|partition| {
            let (mut offset, mut timestamp) = (0, 1_577_836_800_000);
            let entries = (0..records).map(|number| {
                offset += if random.below(10) == 0 { random.below(5) as i64 } else { 0 };
                timestamp += random.below(2_000) as i64 - 200;
                let filler = "é".repeat(random.below(60) as usize);
                let entry = Entry {
                    offset,
                    timestamp,
                    topic: format!("{TOPIC}{}", random.below(lanes)),
                    value: (random.below(20) > 0)
                        .then(|| format!("{{\"p\":{partition},\"n\":{number},\"x\":\"{filler}\"}}")),
                };
                offset += 1;
                entry
            });
            (TopicPartition::new(TOPIC, partition as i32), entries.collect())
        });
        let log: BTreeMap<_, _> = log.collect();
        let committed = log.keys().map(|partition| (partition.clone(), -1)).collect();
        Self {
            planted_bug,
            properties,
            part_size,
            lanes,
            log,
            store: Double::new(manners, seed ^ 0x5eed),
            group: Mutex::new(Group { generation: 0, committed }),
            seen: Mutex::default(),
            random: Mutex::new(random),
            begun: tokio::time::Instant::now(),
        }
    }

    fn below(&self, bound: u64) -> u64 {
        self.random.lock().unwrap().below(bound)
    }

    /// The offset behind the last record.
    fn end(&self, partition: &TopicPartition) -> i64 {
        self.log[partition].last().map_or(0, |entry| entry.offset + 1)
    }

    /// Commits for the owner, and checks that what is committed is there; a zombie is refused.
    fn commit(&self, generation: u64, positions: &Positions) -> Result<bool, String> {
        let mut group = self.group.lock().unwrap();
        if group.generation != generation {
            return Ok(false);
        }
        for (partition, position) in positions {
            let committed = group.committed.get_mut(partition).expect("a partition of the topic");
            if *position < *committed {
                return Err(format!("{partition} went back from {committed} to {position}"));
            }
            *committed = *position;
            let stored = self.stored()?;
            let due = self.log[partition].iter().filter(|entry| entry.offset < *position);
            for entry in due {
                let Some(value) = &entry.value else { continue };
                let lines = stored.get(&(entry.topic.clone(), partition.partition));
                if !lines.is_some_and(|lines| lines.contains(value)) {
                    return Err(format!(
                        "{partition} is committed up to {position}, but record {} is missing",
                        entry.offset
                    ));
                }
            }
        }
        Ok(true)
    }

    /// The lines of each topic and partition, in the order of the objects' names. The names are read independently of the
    /// code that made them.
    fn stored(&self) -> Result<BTreeMap<(String, i32), Vec<String>>, String> {
        let mut stored: BTreeMap<(String, i32), Vec<String>> = BTreeMap::new();
        for (key, bytes) in self.store.objects() {
            if key == "topics/.ottla/probe" {
                continue;
            }
            let wrong = || format!("object {key} has no right to be there");
            let file = key.rsplit('/').next().ok_or_else(wrong)?;
            let [topic, partition, offset] = file.split('+').collect::<Vec<_>>()[..] else { return Err(wrong()) };
            if key != format!("topics/{topic}/partition={partition}/{file}") {
                return Err(wrong());
            }
            let partition: i32 = partition.parse().map_err(|_| wrong())?;
            let digits = offset.strip_suffix(".json").filter(|digits| digits.len() == 10).ok_or_else(wrong)?;
            let offset: i64 = digits.parse().map_err(|_| wrong())?;
            let text = std::str::from_utf8(&bytes).map_err(|_| wrong())?;
            let lines: Vec<String> = text.split_terminator('\n').map(str::to_owned).collect();
            let log = self.log.get(&TopicPartition::new(TOPIC, partition)).ok_or_else(wrong)?;
            let first = log.iter().find(|entry| entry.offset == offset && entry.topic == topic).ok_or_else(wrong)?;
            if !text.ends_with('\n') || lines.first() != first.value.as_ref() {
                return Err(format!("object {key} does not begin with the record that it is named after"));
            }
            stored.entry((topic.to_owned(), partition)).or_default().extend(lines);
        }
        Ok(stored)
    }

    /// Compares the whole store with the whole topic.
    fn check(&self) -> Result<(), String> {
        let stored = self.stored()?;
        for (partition, log) in &self.log {
            for lane in 0..self.lanes {
                let topic = format!("{TOPIC}{lane}");
                let due: Vec<&String> =
                    log.iter().filter(|entry| entry.topic == topic).filter_map(|entry| entry.value.as_ref()).collect();
                let found: Vec<&String> = stored
                    .get(&(topic.clone(), partition.partition))
                    .map_or_else(Vec::new, |lines| lines.iter().collect());
                if due != found {
                    let at = due.iter().zip(&found).position(|(due, found)| due != found);
                    return Err(format!(
                        "{topic} of {partition} should hold {} records and holds {}; they differ from number {} on; objects: {:?}",
                        due.len(),
                        found.len(),
                        at.unwrap_or(due.len().min(found.len())),
                        self.store.objects().keys().collect::<Vec<_>>(),
                    ));
                }
            }
        }
        Ok(())
    }
}

/// Tasks follow each other. Each may live on as a zombie for a while, and ends well or badly.
async fn run(world: Arc<World>) -> Result<(), String> {
    let mut zombies = Vec::new();
    for _ in 0..world.below(6) {
        let life = Life::begin(&world);
        let mut driver = tokio::spawn(life.run(false));
        let patience = Duration::from_millis(world.below(6_000));
        match tokio::time::timeout(patience, &mut driver).await {
            Ok(ended) => ended.expect("a driver does not panic")?,
            Err(_) if world.below(2) == 0 => {
                // kill -9, wherever it is.
                driver.abort();
                let _ = driver.await;
                world.seen.lock().unwrap().crashes += 1;
            }
            // It goes on, and does not know yet that it was replaced.
            Err(_) => zombies.push(driver),
        }
    }
    // Sooner or later the store recovers, and the last task brings everything home.
    let last = Life::begin(&world);
    let patience = Duration::from_millis(world.below(20_000));
    let healer = world.clone();
    let heal = tokio::spawn(async move {
        tokio::time::sleep(patience).await;
        healer.store.set_manners(Manners { overwrite: healer.planted_bug, ..Manners::good() });
    });
    last.run(true).await?;
    for zombie in zombies {
        zombie.await.expect("a driver does not panic")?;
    }
    heal.await.expect("healing does not panic");
    Ok(())
}

/// One task with the part of the runtime that belongs to it.
struct Life {
    world: Arc<World>,
    random: Random,
    generation: u64,
    task: S3SinkTask,
    host: Arc<Host>,
    /// Per open partition the position of the next batch.
    next: Positions,
}

#[derive(Default)]
struct Host {
    rewinds: Mutex<BTreeMap<TopicPartition, i64>>,
    adopted: Mutex<u64>,
}

impl SinkTaskHost for Host {
    fn report(&self, _partition: &TopicPartition, _record: &SinkRecord, _error: Error) -> Result<()> {
        Ok(())
    }

    fn buffered(&self, _bytes: usize) {}

    fn rewind(&self, partition: &TopicPartition, offset: i64) {
        self.rewinds.lock().unwrap().insert(partition.clone(), offset);
    }

    fn delivered(&self, _delivery: Delivery) {}

    fn count(&self, name: &'static str, n: u64) {
        if name == "objects.adopted" {
            *self.adopted.lock().unwrap() += n;
        }
    }

    fn gauge(&self, _name: &'static str, _value: u64) {}

    fn topic_identity(&self, _topic: &str) -> Option<String> {
        None
    }
}

/// Makes a call again while it fails with a retriable error, as the runtime does.
macro_rules! retry {
    ($life:ident, $what:literal, $call:expr) => {
        loop {
            match $call.await {
                Ok(done) => break done,
                Err(error) if error.is_retriable() => {
                    let pause = $life.random.below(2_000);
                    tokio::time::sleep(Duration::from_millis(pause)).await;
                }
                Err(error) => return Err(format!("{} failed: {error}", $what)),
            }
        }
    };
}

impl Life {
    /// Takes over all partitions.
    fn begin(world: &Arc<World>) -> Self {
        let mut group = world.group.lock().unwrap();
        group.generation += 1;
        let random = Random::new(world.below(u64::MAX));
        let config = S3SinkConfig::from_properties(&world.properties).expect("a valid configuration");
        // The machines' clocks differ by up to ten seconds.
        let (skew, begun) = (world.below(10_000) as i64, world.begun);
        let clock = move || {
            Timestamp::from_millisecond(1_600_000_000_000 + skew + begun.elapsed().as_millis() as i64)
                .expect("in range")
        };
        let mut task = S3SinkTask::new(&config, Arc::new(world.store.clone()))
            .with_clock(Arc::new(clock))
            .with_part_size(world.part_size);
        if world.planted_bug {
            task = task.without_recovery();
        }
        Self {
            world: world.clone(),
            random,
            generation: group.generation,
            task,
            host: Arc::default(),
            next: group.committed.clone(),
        }
    }

    /// Lives for a while, or until everything is committed.
    async fn run(mut self, to_the_end: bool) -> Result<(), String> {
        let outcome = self.live(to_the_end).await;
        let mut seen = self.world.seen.lock().unwrap();
        seen.adopted += *self.host.adopted.lock().unwrap();
        seen.parts += u64::from(self.world.part_size < 1000);
        outcome
    }

    async fn live(&mut self, to_the_end: bool) -> Result<(), String> {
        let context = SinkTaskContext::new("simulation", 0, "unused".into(), self.host.clone());
        retry!(self, "start", self.task.start(&context));
        let committed = self.next.clone();
        retry!(self, "open", self.task.open(&committed));
        let steps = 5 + self.random.below(60);
        let mut step = 0;
        while to_the_end || step < steps {
            step += 1;
            tokio::time::sleep(Duration::from_millis(self.random.below(300))).await;
            match self.random.below(20) {
                0 => self.flush(FlushReason::Interval).await?,
                1 => self.flush(FlushReason::Pressure).await?,
                2 | 3 => {
                    retry!(self, "tick", self.task.tick());
                    self.follow_rewinds();
                }
                4 => self.close_and_reopen().await?,
                _ => self.put().await?,
            }
            let put_all = self.next.iter().all(|(partition, next)| *next >= self.world.end(partition));
            if to_the_end && put_all {
                self.flush(FlushReason::CaughtUp).await?;
                let group = self.world.group.lock().unwrap();
                if group.committed.iter().all(|(partition, position)| *position >= self.world.end(partition)) {
                    break;
                }
            }
        }
        let open: Vec<TopicPartition> = self.next.keys().cloned().collect();
        let reason = match self.random.below(3) {
            0 => CloseReason::Lost,
            1 => CloseReason::Revoked,
            _ => CloseReason::Stopped,
        };
        if reason != CloseReason::Lost {
            self.flush(FlushReason::Closing).await?;
        }
        retry!(self, "close", self.task.close(&open, reason));
        retry!(self, "stop", self.task.stop());
        Ok(())
    }

    /// Puts a few records of one partition.
    async fn put(&mut self) -> Result<(), String> {
        let index = self.random.below(self.next.len() as u64) as usize;
        let (partition, position) =
            self.next.iter().nth(index).map(|(p, n)| (p.clone(), *n)).expect("an open partition");
        let log = &self.world.log[&partition];
        let begin = log.partition_point(|entry| entry.offset < position);
        let some = &log[begin..log.len().min(begin + self.random.below(30) as usize)];
        let next_offset = some.last().map_or(position.max(0), |entry| entry.offset + 1);
        let records = some.iter().map(|entry| record(&partition, entry)).collect();
        let batch = SinkBatch { partition: partition.clone(), records, next_offset };
        retry!(self, "put", {
            // A rewind that an earlier try asked for has made the batch void.
            if self.host.rewinds.lock().unwrap().contains_key(&partition) {
                self.follow_rewinds();
                return Ok(());
            }
            self.task.put(&batch)
        });
        self.next.insert(partition, next_offset);
        self.follow_rewinds();
        Ok(())
    }

    async fn flush(&mut self, reason: FlushReason) -> Result<(), String> {
        let durable = retry!(self, "flush", self.task.flush(reason));
        for (partition, position) in &durable {
            if *position > self.next[partition] {
                return Err(format!("{partition} is said to be durable up to {position}, beyond what was put"));
            }
        }
        self.world.commit(self.generation, &durable)?;
        self.follow_rewinds();
        Ok(())
    }

    /// A partition goes and comes back at once, as in a rebalance that changes nothing.
    async fn close_and_reopen(&mut self) -> Result<(), String> {
        let index = self.random.below(self.next.len() as u64) as usize;
        let partition = self.next.keys().nth(index).cloned().expect("an open partition");
        let reason = if self.random.below(2) == 0 { CloseReason::Lost } else { CloseReason::Revoked };
        if reason == CloseReason::Revoked {
            self.flush(FlushReason::Closing).await?;
        }
        retry!(self, "close", self.task.close(std::slice::from_ref(&partition), reason));
        let committed = self.world.group.lock().unwrap().committed[&partition];
        let opened = Positions::from([(partition.clone(), committed)]);
        retry!(self, "open", self.task.open(&opened));
        self.host.rewinds.lock().unwrap().remove(&partition);
        self.next.insert(partition, committed);
        Ok(())
    }

    fn follow_rewinds(&mut self) {
        for (partition, offset) in std::mem::take(&mut *self.host.rewinds.lock().unwrap()) {
            self.next.insert(partition, offset);
            self.world.seen.lock().unwrap().rewinds += 1;
        }
    }
}

fn record(partition: &TopicPartition, entry: &Entry) -> SinkRecord {
    let value = entry.value.clone().map(Bytes::from);
    SinkRecord {
        record: Record {
            topic: entry.topic.as_str().into(),
            partition: Some(partition.partition),
            key: Payload::null(),
            value: value.clone().map_or_else(Payload::null, Payload::json),
            timestamp: Some(entry.timestamp),
            headers: Headers::new(),
            offset: Some(entry.offset),
        },
        raw: RawRecord {
            offset: entry.offset,
            timestamp: Some(entry.timestamp),
            key: None,
            value,
            headers: Vec::new(),
        },
    }
}
