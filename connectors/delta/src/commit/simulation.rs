//! A table's log in memory and a few writers that all believe to own all partitions, again and again, each time from another
//! seed: they crash, answers get lost, commits land late, others change the table. In the end every record must be in the log
//! once, in order (G3, G4).
//!
//! There is one thread and no clock, so a seed is a history. A failure prints its seed; `OTTLA_SIMULATION_SEED=<n>` runs that
//! one alone, `OTTLA_SIMULATION_SEEDS=<n>` chooses how many are run.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use ottla_testkit::fault::Random;

use super::*;

/// Records of each partition.
const RECORDS: i64 = 12;
const PARTITIONS: usize = 3;
const WRITERS: u64 = 3;
/// Steps of a writer after which a history that has not ended hangs.
const STEPS_MAX: u32 = 10_000;

#[test]
fn every_record_is_committed_exactly_once_whatever_happens() {
    let only = std::env::var("OTTLA_SIMULATION_SEED").ok().map(|seed| seed.parse().expect("a number"));
    let seeds = std::env::var("OTTLA_SIMULATION_SEEDS").map_or(5000, |seeds| seeds.parse().expect("a number"));
    let mut seen = Seen::default();
    for seed in only.map_or(0..seeds, |seed: u64| seed..seed + 1) {
        let (broken, events) = simulate(seed, true);
        if let Some(broken) = broken {
            panic!("seed {seed}: {broken}");
        }
        seen.add(&events);
    }
    if only.is_none() && seeds >= 500 {
        // A simulation in which nothing happens proves nothing.
        let Seen { adopted, rivals, conflicts, late, crashes, changes } = seen;
        assert!([adopted, rivals, conflicts, late, crashes, changes].iter().all(|n| *n > 100), "{seen:?}");
    }
}

#[test]
fn the_checker_notices_commits_without_a_look_at_the_positions() {
    let found = (0..500).filter(|seed| simulate(*seed, false).0.is_some()).count();
    assert!(found > 100, "without the check, only {found} of 500 histories looked wrong");
}

/// Two writers look at the same version and want to move the same partition: one commits, the other gives way, whoever is
/// first and also where the first one's answer is lost.
#[test]
fn of_two_writers_of_one_partition_at_one_version_one_commits() {
    run(async {
        for lost in [false, true] {
            let world = World::new(1, Mode { faults: lost, trust: TRUST });
            let rules = Rules { trust: TRUST, check_positions: true, know_positions: true, pauses: false };
            let calm = SimLog { world: World { mode: Mode { faults: false, trust: TRUST }, ..world.clone() } };
            let mut ledgers = Vec::new();
            for _ in 0..2 {
                ledgers.push(Ledger::load(&calm, vec!["p0".into()], rules).await.unwrap());
            }
            let plans = ["a", "b"].map(|attempt| plan(attempt, &[(0, 0, 3)]));
            let log = SimLog { world };
            let first = loop {
                match ledgers[0].commit(&log, &plans[0]).await {
                    Ok(outcome) => break outcome,
                    Err(error) => assert!(error.is_retriable()),
                }
            };
            assert!(matches!(first, Outcome::Committed { version: 1, .. }), "{first:?}");
            // The same rows to the same end are in the table by then; to another end they would be a rival's.
            let other = plan("c", &[(0, 0, 2)]);
            assert_eq!(ledgers[1].commit(&calm, &other).await.unwrap(), Outcome::Rival);
            let same = ledgers[1].commit(&calm, &plans[1]).await.unwrap();
            assert_eq!(same, Outcome::Committed { version: 1, adopted: true, conflicts: 0 });
        }
    });
}

/// New columns are such a plan. That nothing has to move must not look as if everything had moved already.
#[test]
fn a_plan_that_moves_nothing_is_committed_too() {
    run(async {
        let log = SimLog { world: World::new(1, Mode { faults: false, trust: TRUST }) };
        let rules = Rules { trust: TRUST, check_positions: true, know_positions: true, pauses: false };
        let mut ledger = Ledger::load(&log, Vec::new(), rules).await.unwrap();
        let committed = ledger.commit(&log, &plan("a", &[])).await.unwrap();
        assert_eq!(committed, Outcome::Committed { version: 1, adopted: false, conflicts: 0 });
    });
}

/// What happened in a history, to know that the interesting things do.
#[derive(Debug, Default, Clone, Copy)]
struct Seen {
    adopted: u64,
    rivals: u64,
    conflicts: u64,
    late: u64,
    crashes: u64,
    changes: u64,
}

impl Seen {
    fn add(&mut self, other: &Self) {
        self.adopted += other.adopted;
        self.rivals += other.rivals;
        self.conflicts += other.conflicts;
        self.late += other.late;
        self.crashes += other.crashes;
        self.changes += other.changes;
    }
}

#[derive(Debug, Clone, Copy)]
struct Mode {
    faults: bool,
    trust: Duration,
}

/// The log, and commits on their way to it whose senders have given up.
#[derive(Debug, Clone)]
struct World {
    state: Arc<Mutex<State>>,
    mode: Mode,
}

#[derive(Debug)]
struct State {
    random: Random,
    versions: Vec<Bytes>,
    late: Vec<(u64, Bytes)>,
    seen: Seen,
}

impl World {
    fn new(seed: u64, mode: Mode) -> Self {
        let state = State {
            random: Random::new(seed),
            versions: vec![Bytes::from_static(b"table")],
            late: Vec::new(),
            seen: Seen::default(),
        };
        Self { state: Arc::new(Mutex::new(state)), mode }
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock().expect("no holder panics"))
    }

    fn below(&self, bound: u64) -> u64 {
        self.with(|state| state.random.below(bound))
    }

    fn happens(&self, one_in: u64) -> bool {
        self.mode.faults && self.below(one_in) == 0
    }

    /// Lets others go on.
    async fn pass(&self) {
        for _ in 0..self.below(4) {
            tokio::task::yield_now().await;
        }
        // What was on its way may arrive by now.
        self.with(|state| {
            if !state.late.is_empty() && state.random.below(3) == 0 {
                let index = state.random.below(state.late.len() as u64) as usize;
                let (version, commit) = state.late.swap_remove(index);
                if state.create(version, &commit) == Created::New {
                    state.seen.late += 1;
                }
            }
        });
    }
}

impl State {
    fn create(&mut self, version: u64, commit: &Bytes) -> Created {
        assert!(version <= self.versions.len() as u64, "a version is left out");
        if version == self.versions.len() as u64 {
            self.versions.push(commit.clone());
            Created::New
        } else {
            Created::Exists
        }
    }
}

/// A commit is a line of text: what it is, its attempt, then `partition:from-to` for each partition.
fn plan(attempt: &str, ranges: &[(usize, i64, i64)]) -> Plan {
    let words: Vec<String> = ranges.iter().map(|(partition, from, to)| format!("{partition}:{from}-{to}")).collect();
    let moves = ranges.iter().map(|(partition, from, to)| {
        let from = (*from > 0).then_some(*from);
        Move { id: format!("p{partition}"), from, to: *to }
    });
    let commit = format!("rows {attempt} {}", words.join(" "));
    Plan { attempt: attempt.to_owned(), moves: moves.collect(), commit: commit.into() }
}

fn ranges(commit: &Bytes) -> Vec<(usize, i64, i64)> {
    let text = std::str::from_utf8(commit).expect("text");
    let range = |word: &str| {
        let (partition, range) = word.split_once(':').expect("a range");
        let (from, to) = range.split_once('-').expect("a range");
        (partition.parse().expect("a number"), from.parse().expect("a number"), to.parse().expect("a number"))
    };
    if text.starts_with("rows ") { text.split(' ').skip(2).map(range).collect() } else { Vec::new() }
}

fn entry(commit: &Bytes) -> Entry {
    let text = std::str::from_utf8(commit).expect("text");
    Entry {
        attempt: text.strip_prefix("rows ").and_then(|rest| rest.split(' ').next()).map(str::to_owned),
        transactions: ranges(commit).into_iter().map(|(partition, _, to)| (format!("p{partition}"), to)).collect(),
        changes_table: text == "table",
    }
}

#[derive(Debug)]
struct SimLog {
    world: World,
}

#[async_trait]
impl Log for SimLog {
    async fn load(&self, ids: &[String]) -> Result<Loaded> {
        self.world.pass().await;
        if self.world.happens(10) {
            return Err(Error::retriable("load"));
        }
        let loaded = self.world.with(|state| {
            let mut positions = BTreeMap::new();
            for commit in &state.versions {
                positions.extend(entry(commit).transactions);
            }
            positions.retain(|id, _| ids.contains(id));
            Loaded { version: state.versions.len() as u64 - 1, positions }
        });
        self.world.pass().await;
        Ok(loaded)
    }

    async fn read(&self, version: u64) -> Result<Option<Entry>> {
        self.world.pass().await;
        if self.world.happens(10) {
            return Err(Error::retriable("read"));
        }
        Ok(self.world.with(|state| state.versions.get(version as usize).map(entry)))
    }

    async fn create(&self, version: u64, commit: &Bytes) -> Result<Created> {
        self.world.pass().await;
        match if self.world.mode.faults { self.world.below(8) } else { u64::MAX } {
            // Lost on its way there.
            0 => Err(Error::retriable("create")),
            // Lost on its way back.
            1 => {
                self.world.with(|state| state.create(version, commit));
                Err(Error::retriable("create"))
            }
            // Delayed, and the sender has lost patience.
            2 => {
                self.world.with(|state| state.late.push((version, commit.clone())));
                Err(Error::retriable("create"))
            }
            // A client that tries again by itself meets its own object.
            3 => {
                self.world.with(|state| state.create(version, commit));
                Ok(Created::Exists)
            }
            _ => {
                let created = self.world.with(|state| state.create(version, commit));
                self.world.pass().await;
                Ok(created)
            }
        }
    }
}

/// Works until all records are in the log, now and then as a new process that knows nothing.
async fn write(world: World, number: u64, check_positions: bool) -> Option<String> {
    let log = SimLog { world: world.clone() };
    let rules = Rules { trust: world.mode.trust, check_positions, know_positions: true, pauses: false };
    let ids: Vec<String> = (0..PARTITIONS).map(|partition| format!("p{partition}")).collect();
    let mut ledger: Option<Ledger> = None;
    let mut pending: Option<Plan> = None;
    for step in 0..STEPS_MAX {
        if world.happens(15) {
            world.with(|state| state.seen.crashes += 1);
            (ledger, pending) = (None, None);
        }
        let Some(known) = &mut ledger else {
            ledger = Ledger::load(&log, ids.clone(), rules).await.ok();
            continue;
        };
        if pending.is_none() {
            let mut ranges = Vec::new();
            for (partition, id) in ids.iter().enumerate() {
                let from = known.position(id).unwrap_or(0);
                let to = (from + 1 + world.below(4) as i64).min(RECORDS);
                if to > from && world.below(3) > 0 {
                    ranges.push((partition, from, to));
                }
            }
            if ranges.is_empty() {
                let done = ids.iter().all(|id| known.position(id) == Some(RECORDS));
                if done {
                    return None;
                }
                if known.catch_up(&log).await.is_ok() {
                    known.table_seen();
                }
                continue;
            }
            pending = Some(plan(&format!("w{number}s{step}"), &ranges));
        }
        let Some(plan) = &pending else { continue };
        match known.commit(&log, plan).await {
            Ok(Outcome::Committed { adopted, conflicts, .. }) => {
                world.with(|state| {
                    state.seen.adopted += u64::from(adopted);
                    state.seen.conflicts += u64::from(conflicts);
                });
                pending = None;
            }
            Ok(Outcome::Rival) => {
                world.with(|state| state.seen.rivals += 1);
                pending = None;
            }
            Ok(Outcome::TableChanged) => {
                world.with(|state| state.seen.changes += 1);
                known.table_seen();
                if world.below(2) == 0 {
                    pending = None;
                }
            }
            Err(error) if error.is_retriable() => {}
            Err(error) => return Some(error.to_string()),
        }
    }
    Some(format!("writer {number} does not come to an end"))
}

/// Somebody else, who appends rows of his own and changes the table.
async fn disturb(world: World) {
    for _ in 0..6 {
        for _ in 0..world.below(40) {
            tokio::task::yield_now().await;
        }
        world.with(|state| {
            let version = state.versions.len() as u64;
            let commit = if state.random.below(2) == 0 { &b"table"[..] } else { &b"other"[..] };
            state.create(version, &Bytes::from_static(commit));
        });
    }
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(work)
}

fn simulate(seed: u64, check_positions: bool) -> (Option<String>, Seen) {
    let mut random = Random::new(seed);
    let mode = Mode {
        faults: random.below(5) > 0,
        // A ledger that is never trusted reads everything anew each time.
        trust: if random.below(5) == 0 { Duration::ZERO } else { TRUST },
    };
    let world = World::new(random.next_u64(), mode);
    let broken = run(async {
        let writers = (0..WRITERS).map(|number| write(world.clone(), number, check_positions));
        let (broken, ()) = futures::join!(futures::future::join_all(writers), disturb(world.clone()));
        broken.into_iter().flatten().next()
    });
    world.with(|state| {
        // What is still on its way arrives at last, and must do no harm.
        for (version, commit) in std::mem::take(&mut state.late) {
            state.create(version, &commit);
        }
        (broken.or_else(|| check(&state.versions)), state.seen)
    })
}

/// Says what is wrong with a log, if anything is.
fn check(versions: &[Bytes]) -> Option<String> {
    let mut found: Vec<Vec<i64>> = vec![Vec::new(); PARTITIONS];
    for commit in versions {
        for (partition, from, to) in ranges(commit) {
            found[partition].extend(from..to);
        }
    }
    let wanted: Vec<i64> = (0..RECORDS).collect();
    let wrong = found.iter().position(|records| *records != wanted)?;
    Some(format!("partition {wrong} holds {:?}", found[wrong]))
}
