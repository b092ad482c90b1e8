//! The commit procedure: how rows and the positions they reach become one version of a table, once.
//!
//! A table's log is a row of files that are created and never changed, one for each version. Everything that exactly once
//! needs is in that: a [`Ledger`] knows a version and the positions stored up to it; a commit is a file with the next number.
//! Before it is created, every version that others have made meanwhile is read. So
//!
//! - a commit of the same source partition by somebody else (a zombie, or the new owner while we are the zombie) is seen
//!   before ours is created, or takes the number that ours wanted; then we give way ([`Outcome::Rival`]);
//! - commits of other partitions are in nobody's way: ours takes the next free number;
//! - a commit whose answer was lost is recognised by its attempt, however late it lands: all tries of one [`Plan`] carry one
//!   attempt, and a number is only ever skipped after the file that has it was read and was not ours.
//!
//! That is the reason why delta-rs' own loop is not used here: it answers an error of its post-commit work, or the conflict
//! with one's own lost commit, as it answers a failure; and it makes an append lose against a concurrent delete.
//!
//! Everything below works on the [`Log`] trait, three calls wide, so that a simulation can be the log.

#[cfg(test)]
mod simulation;

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use ottla_api::prelude::*;

/// How long what was read of a log is trusted. Versions are deleted some time after a checkpoint (an hour at the very least,
/// thirty days by default), oldest first; a ledger older than this is read anew, because the next number could be free for
/// the reason that it was deleted.
const TRUST: Duration = Duration::from_secs(15 * 60);

/// How often a number may be lost to others within one call. Each time somebody has made progress; then the caller hears of
/// it and tries again with the same plan.
const CONFLICTS_MAX: u32 = 64;

/// First and longest pause after a number was lost; drawn between nothing and the limit, so that writers drift apart.
const PAUSE_FIRST: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// What the procedure needs of a table's log.
#[async_trait]
pub(crate) trait Log: Send + Sync {
    /// The newest version, and what it holds under these transaction identifiers.
    async fn load(&self, ids: &[String]) -> Result<Loaded>;

    /// What a version says, or nothing where there is no such version (yet, or any more).
    async fn read(&self, version: u64) -> Result<Option<Entry>>;

    /// Creates a version. An error may also mean that it was created, or will be.
    async fn create(&self, version: u64, commit: &Bytes) -> Result<Created>;
}

/// The answer of [`Log::create`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Created {
    /// It is there, by this call.
    New,
    /// There is one of this number, by whomever.
    Exists,
}

/// A table's log as it was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Loaded {
    /// The newest version.
    pub(crate) version: u64,
    /// What the transaction identifiers asked for hold, where they hold something.
    pub(crate) positions: BTreeMap<String, i64>,
}

/// What one version of a log says, as far as it matters here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The attempt of the sink that made it, where it was one.
    pub(crate) attempt: Option<String>,
    /// Its transaction identifiers with their versions.
    pub(crate) transactions: Vec<(String, i64)>,
    /// True where it changes schema, partitioning, properties or protocol.
    pub(crate) changes_table: bool,
}

/// What is to be committed.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Names this plan in the log; the same for every try.
    pub(crate) attempt: String,
    /// What the transaction identifiers must hold before, and hold after.
    pub(crate) moves: Vec<Move>,
    /// The file of the version.
    pub(crate) commit: Bytes,
}

/// One transaction identifier of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Move {
    pub(crate) id: String,
    pub(crate) from: Option<i64>,
    pub(crate) to: i64,
}

/// What became of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is in the log, once.
    Committed {
        version: u64,
        /// True where an earlier try had landed without its answer.
        adopted: bool,
        /// How often the wanted number was somebody else's.
        conflicts: u32,
    },
    /// It is not in the log and never will be: somebody else has moved one of its identifiers.
    Rival,
    /// It is not in the log and never will be under this ledger: the table was changed.
    TableChanged,
}

/// What a writer knows of a table's log.
#[derive(Debug, Clone)]
pub(crate) struct Ledger {
    version: u64,
    positions: BTreeMap<String, i64>,
    /// Identifiers that were asked for, so that they are asked for again.
    ids: Vec<String>,
    read_at: SystemTime,
    /// The table has changed since the caller looked at its schema.
    table_changed: bool,
    rules: Rules,
}

/// What a test may change about the procedure.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// See [`TRUST`].
    trust: Duration,
    /// False plants the bug of committing without a look at the stored positions, which a checker must notice.
    check_positions: bool,
    /// False plants the bug of not knowing them when a partition is opened either.
    know_positions: bool,
    /// False goes on at once after a lost number; for a world without a clock.
    pauses: bool,
}

impl Default for Rules {
    fn default() -> Self {
        let planted = std::env::var_os("OTTLA_FAULT_SKIP_POSITION_CHECK").is_some_and(|value| value == "1");
        // In release builds the bug can't be planted.
        let sound = !(cfg!(debug_assertions) && planted);
        Self { trust: TRUST, check_positions: sound, know_positions: sound, pauses: true }
    }
}

impl Ledger {
    /// Reads the newest version and these identifiers.
    pub(crate) async fn load(log: &dyn Log, ids: Vec<String>, rules: Rules) -> Result<Self> {
        let Loaded { version, positions } = log.load(&ids).await?;
        Ok(Self { version, positions, ids, read_at: SystemTime::now(), table_changed: false, rules })
    }

    /// The newest version known.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// What an identifier holds, as far as known.
    pub(crate) fn position(&self, id: &str) -> Option<i64> {
        self.positions.get(id).copied().filter(|_| self.rules.know_positions)
    }

    /// Reads what others have committed since. True where one of them has changed the table; the caller then looks at the
    /// schema and calls [`table_seen`](Self::table_seen).
    pub(crate) async fn catch_up(&mut self, log: &dyn Log) -> Result<bool> {
        self.catch_up_looking_for(log, None).await?;
        Ok(self.table_changed)
    }

    /// The caller knows the table as this ledger's version has it.
    pub(crate) fn table_seen(&mut self) {
        self.table_changed = false;
    }

    /// As [`catch_up`](Self::catch_up). Answers the version of this plan where it is in the log.
    async fn catch_up_looking_for(&mut self, log: &dyn Log, plan: Option<&Plan>) -> Result<Option<u64>> {
        if self.is_trusted() {
            while let Some(entry) = log.read(self.version + 1).await? {
                self.version += 1;
                self.table_changed |= entry.changes_table;
                self.positions.extend(entry.transactions);
                // What was found is said at once: an error at the next version must not make us forget it.
                if plan.is_some_and(|plan| entry.attempt.as_ref() == Some(&plan.attempt)) {
                    return Ok(Some(self.version));
                }
            }
            self.read_at = SystemTime::now();
            return Ok(None);
        }
        // Too long ago to go on from, or the clock went back. What the versions between say isn't known: assume a change.
        let newer = Self::load(log, self.ids.clone(), self.rules).await?;
        *self = Self { table_changed: self.table_changed || newer.version != self.version, ..newer };
        Ok(None)
    }

    fn is_trusted(&self) -> bool {
        self.read_at.elapsed().is_ok_and(|age| age < self.rules.trust)
    }

    /// Brings a plan into the log. Called again after an error, it goes on with the same plan.
    ///
    /// # Errors
    ///
    /// Those of the log; whether the plan has landed is then unknown, and found out by the next call.
    pub(crate) async fn commit(&mut self, log: &dyn Log, plan: &Plan) -> Result<Outcome> {
        // A position only ever grows; a plan that would take one back is a mistake of ours, and would put records in twice.
        if let Some(back) = plan.moves.iter().find(|wanted| {
            !wanted.id.contains('#') && wanted.from.is_some_and(|from| wanted.to < from) && self.rules.check_positions
        }) {
            return Err(Error::fatal(format!(
                "a commit would take the position of '{}' back from {:?} to {}; nothing was written",
                back.id, back.from, back.to
            )));
        }
        let mut conflicts = 0;
        loop {
            if let Some(version) = self.catch_up_looking_for(log, Some(plan)).await? {
                return Ok(Outcome::Committed { version, adopted: true, conflicts });
            }
            let holds = |position: fn(&Move) -> Option<i64>| {
                plan.moves.iter().all(|wanted| self.position(&wanted.id) == position(wanted))
            };
            // Where everything is as this plan leaves it, its records are in the table: by an earlier try that was read
            // before the plan was looked for, or by somebody who had the same records. Either way they must not go in again.
            if self.rules.check_positions && !plan.moves.is_empty() && holds(|wanted| Some(wanted.to)) {
                return Ok(Outcome::Committed { version: self.version, adopted: true, conflicts });
            }
            if self.rules.check_positions && !holds(|wanted| wanted.from) {
                return Ok(Outcome::Rival);
            }
            if self.table_changed {
                return Ok(Outcome::TableChanged);
            }
            let next = self.version + 1;
            let created = log.create(next, &plan.commit).await;
            match created {
                Ok(Created::New) if self.is_trusted() => {
                    self.version = next;
                    self.positions.extend(plan.moves.iter().map(|wanted| (wanted.id.clone(), wanted.to)));
                    return Ok(Outcome::Committed { version: next, adopted: false, conflicts });
                }
                // This process slept in between: only the log can tell whether that number still counted.
                Ok(Created::New) => {}
                Ok(Created::Exists) => {
                    conflicts += 1;
                    if conflicts >= CONFLICTS_MAX {
                        return Err(Error::retriable(format!(
                            "{conflicts} times in a row another writer has committed first; fewer tasks or rarer commits \
                             per table help (flush.interval.ms)"
                        )));
                    }
                    if self.rules.pauses {
                        tokio::time::sleep(pause(conflicts)).await;
                    }
                }
                Err(error) => {
                    // The answer was lost, not necessarily the commit: look before saying anything.
                    if let Some(version) = self.catch_up_looking_for(log, Some(plan)).await? {
                        return Ok(Outcome::Committed { version, adopted: true, conflicts });
                    }
                    return Err(error);
                }
            }
        }
    }
}

/// Full jitter: anything up to a limit that doubles.
fn pause(conflicts: u32) -> Duration {
    let limit = PAUSE_FIRST.saturating_mul(1 << conflicts.min(16)).min(PAUSE_MAX);
    // Random enough for writers that must not march in step, and at hand.
    let random = (uuid::Uuid::new_v4().as_u128() & 0xffff) as u32;
    limit * random / 0xffff
}
