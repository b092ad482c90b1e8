//! Reading rows: the connector, and a task for each mode.
//!
//! **Emulate.** All tables are one source partition, because the order over the tables is part of what is emulated. A round
//! draws a sleep and a row number, and yields that row of each table; the offset is the number of the round and the table.
//! A restart draws the rounds before it again, which is cheap, and goes on after the table.
//!
//! **Bulk.** Each table is a source partition, read a page at a time; the offset is the key of the row.
//!
//! **Cancellation.** `poll` decides what to read before it waits for anything, and moves on after the last wait. What
//! lies between can be dropped and done again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ottla_api::prelude::*;
use tokio::time::Instant;

use crate::client::{Client, Column, PagePosition, PageRow, Table};
use crate::config::{DatabaseUrl, Mode, Pace, RdsSourceConfig, RowChoice};
use crate::emulator;
use crate::python_random::PythonRandom;

/// The connector `rds-source`.
#[derive(Debug)]
pub(crate) struct RdsSource;

impl SourceConnector for RdsSource {
    fn validate(&self, properties: &Properties) -> Vec<ConfigError> {
        // Mistakes in single options were reported before; they must not come twice.
        match RdsSourceConfig::from_properties(properties) {
            Ok(config) => config.mistakes(),
            Err(_) => Vec::new(),
        }
    }

    fn tasks(&self, properties: &Properties, tasks_max: usize) -> Result<Vec<Box<dyn SourceTask>>> {
        let config = RdsSourceConfig::from_properties(properties)?;
        if let Some(mistake) = config.mistakes().first() {
            return Err(Error::config(mistake.to_string()));
        }
        match config.mode {
            Mode::Emulate => Ok(vec![Box::new(EmulateTask::new(config))]),
            Mode::Bulk => {
                let named = config.bulk_tables();
                // Which tables there are is known only after connecting, so all of them are one task's.
                let tasks = named.as_ref().map_or(1, Vec::len).min(tasks_max).max(1);
                let share = |task| named.iter().flatten().skip(task).step_by(tasks).cloned().collect::<Vec<_>>();
                let make = |task| {
                    let tables = named.is_some().then(|| share(task));
                    Box::new(BulkTask::new(config.clone(), tables)) as Box<dyn SourceTask>
                };
                Ok((0..tasks).map(make).collect())
            }
        }
    }
}

/// Connects, with the emulated database made first if that is the one.
async fn connect(config: &RdsSourceConfig, context: &SourceTaskContext) -> Result<Client> {
    let emulator = match config.connection.url {
        DatabaseUrl::Emulator => Some(emulator::open(&context.state_dir).await?),
        _ => None,
    };
    Client::connect(&config.connection, emulator.as_deref(), config.datetime_format).await
}

/// A poll came before a start, or after a stop: a mistake of the caller.
fn not_started() -> Error {
    Error::fatal("the task is not started")
}

/// One table of the emulation.
struct EmulatedTable {
    table: Table,
    key: Vec<Column>,
    topic: Arc<str>,
}

/// A row that was drawn and not yet read.
#[derive(Debug, Clone, Copy)]
struct Drawn {
    round: u64,
    table: usize,
    row: u64,
}

/// What the next batch is made of.
#[derive(Debug)]
struct Plan {
    due: Instant,
    rows: Vec<Drawn>,
}

/// What [`EmulateTask::start`] prepares.
struct Emulation {
    context: SourceTaskContext,
    client: Client,
    tables: Vec<EmulatedTable>,
    random: PythonRandom,
    /// Rounds drawn so far.
    round: u64,
    /// Tables of the last drawn round that are still to be yielded, after a restart in the middle of it.
    rest_of_round: Vec<Drawn>,
    /// When the next round is due, at a fixed pace.
    next_due: Instant,
    /// Kept until its rows are read, so that a dropped or failed poll loses nothing.
    plan: Option<Plan>,
}

/// Yields rows drawn at random.
struct EmulateTask {
    config: RdsSourceConfig,
    partition: SourcePartition,
    emulation: Option<Emulation>,
}

impl EmulateTask {
    fn new(config: RdsSourceConfig) -> Self {
        let partition = SourcePartition::new([("emulate", config.seed.digits())]);
        Self { config, partition, emulation: None }
    }
}

#[async_trait]
impl SourceTask for EmulateTask {
    async fn start(&mut self, context: &SourceTaskContext) -> Result<()> {
        let config = &self.config;
        let client = connect(config, context).await?;
        let mut tables = Vec::with_capacity(config.emulate_topics.len());
        for (name, topic) in &config.emulate_topics {
            let table = client.table(name).await?;
            let named = config.emulate_keys.iter().find(|(table, _)| table == name).map(|(_, column)| column.as_str());
            let key = table.key(named)?;
            tables.push(EmulatedTable { table, key, topic: topic.as_str().into() });
        }
        let mut emulation = Emulation {
            context: context.clone(),
            client,
            tables,
            random: PythonRandom::new(&config.seed),
            round: 0,
            rest_of_round: Vec::new(),
            next_due: Instant::now(),
            plan: None,
        };
        if let Some(offset) = context.offset(&self.partition)? {
            emulation.resume(&offset, config).await?;
        }
        self.emulation = Some(emulation);
        Ok(())
    }

    async fn poll(&mut self) -> Result<SourcePoll> {
        let emulation = self.emulation.as_mut().ok_or_else(not_started)?;
        if emulation.plan.is_none() {
            emulation.plan = emulation.draw_plan(&self.config);
        }
        let Some(plan) = &emulation.plan else { return Ok(SourcePoll::Finished) };
        tokio::time::sleep_until(plan.due).await;
        let rows = emulation.read(&plan.rows, self.config.row).await?;
        // Nothing waits from here on, so that what was read is returned.
        let plan = emulation.plan.take().map(|plan| plan.rows).unwrap_or_default();
        let mut records = Vec::with_capacity(plan.len());
        let mut missing = 0;
        for drawn in plan {
            let EmulatedTable { table, topic, .. } = &emulation.tables[drawn.table];
            let Some(values) = rows[drawn.table].get(&drawn.row) else {
                missing += 1;
                continue;
            };
            let record = Record::new(topic.clone(), Value::Map(table.map(values.clone())));
            let offset = [("round", Value::Int64(drawn.round as i64)), ("table", Value::from(table.name.as_str()))];
            records.push(SourceRecord::new(record, self.partition.clone(), SourceOffset::new(offset)));
        }
        if missing > 0 {
            emulation.context.count("rows.missing", missing);
        }
        Ok(SourcePoll::Records(records))
    }

    async fn stop(&mut self) -> Result<()> {
        if let Some(emulation) = self.emulation.take() {
            emulation.client.close().await;
        }
        Ok(())
    }
}

impl Emulation {
    /// Goes on after the row that `offset` names.
    async fn resume(&mut self, offset: &SourceOffset, config: &RdsSourceConfig) -> Result<()> {
        // Draws so many rounds between two looks at whether the task should stop.
        const ROUNDS_AT_ONCE: u64 = 100_000;
        let unreadable = || Error::fatal(format!("the stored offset {} has no round and table", offset.to_json()));
        let round = offset.get_i64("round").and_then(|round| u64::try_from(round).ok()).ok_or_else(unreadable)?;
        let last = offset.get_str("table").ok_or_else(unreadable)?;
        let mut row = 0;
        while self.round < round {
            row = self.draw_round(config).1;
            if self.round.is_multiple_of(ROUNDS_AT_ONCE) {
                tokio::task::yield_now().await;
            }
        }
        // A table that is not emulated any more ended its round: nobody can say which tables came before it.
        let rest = match self.tables.iter().position(|emulated| emulated.table.name == last) {
            Some(table) => table + 1..self.tables.len(),
            None => 0..0,
        };
        self.rest_of_round = rest.map(|table| Drawn { round, table, row }).collect();
        Ok(())
    }

    /// Draws the next round as the original does: first the sleep, then the row.
    fn draw_round(&mut self, config: &RdsSourceConfig) -> (Duration, u64) {
        self.round += 1;
        let sleep = Duration::from_secs(self.random.below(2));
        (sleep, self.random.below(config.draw_max + 1))
    }

    /// Draws what comes next; nothing after the last round. Doesn't wait.
    fn draw_plan(&mut self, config: &RdsSourceConfig) -> Option<Plan> {
        let now = Instant::now();
        if !self.rest_of_round.is_empty() {
            return Some(Plan { due: now, rows: std::mem::take(&mut self.rest_of_round) });
        }
        let left = config.rounds.map_or(u64::MAX, |rounds| rounds.saturating_sub(self.round));
        if left == 0 {
            return None;
        }
        let batch = (config.batch_max_rows / self.tables.len()).max(1) as u64;
        let (rounds, mut due) = match config.pace {
            Pace::Original => (1, now),
            Pace::None => (batch, now),
            Pace::Every(interval) => {
                // After a pause or an outage the rounds go on at their pace; they don't all come at once.
                const BEHIND_MAX: Duration = Duration::from_secs(1);
                if now.saturating_duration_since(self.next_due) > BEHIND_MAX.max(interval) {
                    self.next_due = now;
                }
                let behind = now.saturating_duration_since(self.next_due);
                let passed = behind.as_nanos() / interval.as_nanos().max(1);
                let rounds = u64::try_from(passed).unwrap_or(u64::MAX).saturating_add(1).min(batch).min(left);
                let due = self.next_due;
                self.next_due += interval.saturating_mul(u32::try_from(rounds).unwrap_or(u32::MAX));
                (rounds, due)
            }
        };
        let mut rows = Vec::with_capacity(rounds.min(left) as usize * self.tables.len());
        for _ in 0..rounds.min(left) {
            let (sleep, row) = self.draw_round(config);
            if config.pace == Pace::Original {
                due += sleep;
            }
            let round = self.round;
            rows.extend((0..self.tables.len()).map(|table| Drawn { round, table, row }));
        }
        Some(Plan { due, rows })
    }

    /// Reads the rows of a plan: for each table the rows that exist, by what was drawn.
    async fn read(&self, plan: &[Drawn], choice: RowChoice) -> Result<Vec<BTreeMap<u64, Vec<Value>>>> {
        let mut rows = Vec::with_capacity(self.tables.len());
        for (number, emulated) in self.tables.iter().enumerate() {
            let wanted = plan.iter().filter(|drawn| drawn.table == number).map(|drawn| drawn.row).collect();
            rows.push(self.read_table(emulated, wanted, choice).await?);
        }
        Ok(rows)
    }

    /// Reads rows of one table: many by one query where that is sure to give the same rows, the others one by one.
    async fn read_table(
        &self,
        emulated: &EmulatedTable,
        mut wanted: BTreeSet<u64>,
        choice: RowChoice,
    ) -> Result<BTreeMap<u64, Vec<Value>>> {
        // Looking for gaps costs about as much as a few rows by offset.
        const WORTH_A_LOOK: usize = 4;
        let EmulatedTable { table, key, .. } = emulated;
        let mut rows = BTreeMap::new();
        if wanted.len() >= WORTH_A_LOOK && table.is_integer_key(key) {
            // Without gaps the row at offset n has the key least + n. A row that vanishes between the two queries is not
            // found by its key, and is looked for by its offset then.
            let least = match choice {
                RowChoice::Key => Some(0),
                RowChoice::Offset => match self.client.gapless(table, &key[0]).await? {
                    Some((least, count)) => {
                        wanted.retain(|offset| *offset < count);
                        u64::try_from(least).ok()
                    }
                    None => None,
                },
            };
            if let Some(least) = least {
                let keys: Vec<u64> = wanted.iter().map(|number| least + number).collect();
                let found = self.client.rows_by_key(table, &key[0], &keys).await?;
                rows.extend(found.into_iter().map(|(number, row)| (number - least, row)));
            }
        }
        for number in wanted {
            if !rows.contains_key(&number) {
                let row = match choice {
                    RowChoice::Key => self.client.row_by_key(table, &key[0], number).await?,
                    RowChoice::Offset => self.client.row_at(table, key, number).await?,
                };
                rows.extend(row.map(|row| (number, row)));
            }
        }
        Ok(rows)
    }
}

/// A table that is read in whole.
struct BulkTable {
    table: Table,
    topic: Arc<str>,
    partition: SourcePartition,
    position: Option<PagePosition>,
    /// How many of its rows have about [`BATCH_BYTES`].
    rows_at_once: usize,
}

/// What the rows of one batch should have at most, about, as JSON.
const BATCH_BYTES: usize = 4 << 20;

/// How many rows are read at once before anything is known of their size.
const FIRST_ROWS: usize = 100;

/// Yields each of its tables once.
struct BulkTask {
    config: RdsSourceConfig,
    /// Names of its tables; nothing for all there are.
    names: Option<Vec<String>>,
    client: Option<Client>,
    /// Tables that are not read to their end, the current one last.
    tables: Vec<BulkTable>,
}

impl BulkTask {
    fn new(config: RdsSourceConfig, names: Option<Vec<String>>) -> Self {
        Self { config, names, client: None, tables: Vec::new() }
    }
}

#[async_trait]
impl SourceTask for BulkTask {
    async fn start(&mut self, context: &SourceTaskContext) -> Result<()> {
        let client = connect(&self.config, context).await?;
        let names = match &self.names {
            Some(names) => names.clone(),
            None => {
                let excluded = self.config.table_blacklist.as_deref().unwrap_or_default();
                let all = client.table_names(false).await?;
                all.into_iter().filter(|name| !excluded.contains(name)).collect()
            }
        };
        self.tables.clear();
        for name in names {
            let table = client.table(&name).await?;
            let partition = SourcePartition::new([("table", name.as_str())]);
            let position = context.offset(&partition)?.map(|offset| position(&offset)).transpose()?;
            let topic = self.config.bulk_topic(&name).into();
            self.tables.push(BulkTable { table, topic, partition, position, rows_at_once: FIRST_ROWS });
        }
        self.tables.reverse();
        self.client = Some(client);
        Ok(())
    }

    async fn poll(&mut self) -> Result<SourcePoll> {
        let client = self.client.as_ref().ok_or_else(not_started)?;
        while let Some(current) = self.tables.last_mut() {
            let rows = self.config.batch_max_rows.min(current.rows_at_once);
            let page = client.page(&current.table, current.position.as_ref(), rows).await?;
            // Nothing waits from here on unless there was nothing, so that what was read is returned.
            let ended = page.len() < rows;
            let mut records = Vec::with_capacity(page.len());
            let mut bytes = 0;
            if let Some(last) = page.last() {
                current.position = Some(last.position.clone());
            }
            for PageRow { payload, position } in page {
                bytes += payload.size_estimate();
                let mut record = Record::new(current.topic.clone(), Value::Null);
                record.value = payload;
                records.push(SourceRecord::new(record, current.partition.clone(), offset(position)));
            }
            current.rows_at_once = (BATCH_BYTES / (bytes / records.len().max(1)).max(1)).max(1);
            if ended {
                self.tables.pop();
            }
            if !records.is_empty() {
                return Ok(SourcePoll::Records(records));
            }
        }
        Ok(SourcePoll::Finished)
    }

    async fn stop(&mut self) -> Result<()> {
        if let Some(client) = self.client.take() {
            client.close().await;
        }
        Ok(())
    }
}

/// A position as it is stored.
fn offset(position: PagePosition) -> SourceOffset {
    match position {
        PagePosition::After(key) => SourceOffset::new([("key", Value::Array(key))]),
        PagePosition::Skip(rows) => SourceOffset::new([("rows", rows as i64)]),
    }
}

/// A stored position.
fn position(offset: &SourceOffset) -> Result<PagePosition> {
    let rows = offset.get_i64("rows").and_then(|rows| u64::try_from(rows).ok());
    match (offset.get("key"), rows) {
        (Some(Value::Array(key)), _) => Ok(PagePosition::After(key.clone())),
        (None, Some(rows)) => Ok(PagePosition::Skip(rows)),
        _ => Err(Error::fatal(format!("the stored offset {} has neither key nor rows", offset.to_json()))),
    }
}
