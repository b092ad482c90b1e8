//! The connector and its task: which record goes into which table, and when tables are committed.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ottla_api::prelude::*;

use crate::commit::Rules;
use crate::config::{DeltaSinkConfig, Mode, NullValues};
use crate::maintenance::Maintenance;
use crate::store::Store;
use crate::table::{Flushed, Lane, Table, Taken, Urgency};

/// How long `flush(Closing)` waits for a commit whose answer is outstanding. What is not known by then, the next owner of the
/// partitions finds in the table.
const CLOSING_PATIENCE: Duration = Duration::from_secs(20);

/// Writes topics into Delta tables. See the crate's documentation.
#[derive(Debug, Default)]
pub struct DeltaSinkConnector;

impl SinkConnector for DeltaSinkConnector {
    fn validate(&self, properties: &Properties) -> Vec<ConfigError> {
        // Mistakes in single options are reported from the definition already.
        DeltaSinkConfig::from_properties(properties).map_or_else(|_| Vec::new(), |config| config.check())
    }

    fn task(&self, properties: &Properties) -> Result<Box<dyn SinkTask>> {
        let config = DeltaSinkConfig::from_properties(properties)?;
        let store = Store::new(&config.store)?;
        Ok(Box::new(DeltaSinkTask::new(config, store)))
    }

    fn destination(&self, properties: &Properties) -> Option<String> {
        DeltaSinkConfig::from_properties(properties).ok().map(|config| config.store.destination())
    }
}

/// One task of the sink.
pub struct DeltaSinkTask {
    config: DeltaSinkConfig,
    store: Store,
    rules: Rules,
    /// Set by `start`.
    running: Option<Running>,
    partitions: BTreeMap<TopicPartition, Partition>,
    /// By name. A table stays when its partitions go: they may come back.
    tables: BTreeMap<Arc<str>, Table>,
}

/// What exists only between `start` and `stop`.
struct Running {
    context: SinkTaskContext,
    app_id: Arc<str>,
    maintenance: Maintenance,
}

/// An open partition.
#[derive(Debug)]
struct Partition {
    /// Every record before this offset was taken, reported or passed over; -1 before the first.
    next: i64,
    /// The offset of a record that was asked for again and must be among the next ones.
    awaited: Option<i64>,
    /// The first record that the running call of `put` has reported. The dead letter queue has it for sure when the next call
    /// comes, and not before.
    reported: Option<i64>,
    /// What tells its topic from another of the same name, as a number.
    identity: Option<i64>,
}

impl DeltaSinkTask {
    /// A task that writes to the tables of `store`.
    pub fn new(config: DeltaSinkConfig, store: Store) -> Self {
        Self {
            config,
            store,
            rules: Rules::default(),
            running: None,
            partitions: BTreeMap::new(),
            tables: BTreeMap::new(),
        }
    }

    fn running(&self) -> &Running {
        self.running.as_ref().expect("the runtime starts a task before it uses it")
    }

    /// The table of this name, made known where it is not.
    fn table(&mut self, name: &str) -> Result<&mut Table> {
        if !self.tables.contains_key(name) {
            let name: Arc<str> = name.into();
            let options = self.config.table(&name);
            let table = Table::new(name.clone(), &self.store, options, &self.running().app_id, self.rules)?;
            self.tables.insert(name.clone(), table);
        }
        Ok(self.tables.get_mut(name).expect("it was just put there"))
    }

    /// Puts the records of a batch into their tables' columns.
    async fn take(&mut self, batch: &SinkBatch) -> Result<()> {
        let partition = &batch.partition;
        let (mut rest, mut skipped) = (batch.records.as_slice(), 0);
        while let Some(first) = rest.first() {
            let Some(found) = self.partitions.get(partition) else { return Ok(()) };
            // After an error the same batch comes again; what was taken then is known by its offset.
            if first.offset() < found.next {
                rest = &rest[1..];
                continue;
            }
            // Mostly one topic, and so one table, for the whole batch.
            let topic = &first.record.topic;
            let same = |record: &SinkRecord| Arc::ptr_eq(&record.record.topic, topic) || record.record.topic == *topic;
            let (run, behind) = rest.split_at(rest.iter().position(|record| !same(record)).unwrap_or(rest.len()));
            let (name, identity) = (self.config.table_name(topic), found.identity);
            let table = self.table(&name)?;
            if !table.has_place(partition) {
                table.open(&[(partition.clone(), identity)]).await?;
            }
            skipped += self.take_run(partition, &name, run)?;
            rest = behind;
        }
        if let Some(found) = self.partitions.get_mut(partition) {
            found.next = found.next.max(batch.next_offset);
        }
        if skipped > 0 {
            self.running().context.count("rows.skipped", skipped);
        }
        Ok(())
    }

    /// Takes records of one table. Answers how many of them the table has already.
    fn take_run(&mut self, partition: &TopicPartition, name: &str, run: &[SinkRecord]) -> Result<u64> {
        let (Some(found), Some(table)) = (self.partitions.get_mut(partition), self.tables.get_mut(name)) else {
            return Err(Error::fatal("records of a partition that their table was not opened for"));
        };
        let mut lane = table.lane(partition)?;
        let mut skipped = 0;
        for record in run {
            match take_one(&self.config, &mut lane, record) {
                Ok(Taken::Yes) => {}
                Ok(Taken::Skipped) => skipped += 1,
                Err(error) if error.kind() == ErrorKind::PoisonRecord && !is_unwanted(record, self.config.mode) => {
                    let error = error.with("table", self.store.location(name));
                    let running = self.running.as_ref().expect("the runtime starts a task before it uses it");
                    running.context.report(partition, record, error)?;
                    found.reported.get_or_insert(record.offset());
                }
                Err(error) => return Err(error.with("partition", partition).with("offset", record.offset())),
            }
            found.next = record.offset() + 1;
        }
        Ok(skipped)
    }

    /// Commits the tables for which `due` says so.
    async fn flush_tables(&mut self, due: impl Fn(&Table) -> bool, urgency: Urgency) -> Result<()> {
        let names: Vec<Arc<str>> =
            self.tables.iter().filter(|(_, table)| due(table)).map(|(name, _)| name.clone()).collect();
        for name in names {
            let settled = self.settled_elsewhere(&name);
            let Some(table) = self.tables.get_mut(&name) else { continue };
            let flushed = table.flush(&settled, urgency).await?;
            self.flushed(&name, flushed);
        }
        Ok(())
    }

    /// Per partition the offset before which nothing is missing but what this table has on its way: no record that another
    /// table has, that was dropped and comes again, or that the dead letter queue may not have yet.
    fn settled_elsewhere(&self, name: &str) -> Positions {
        let settled = |partition: &TopicPartition, found: &Partition| {
            let others = self.tables.values().filter(|table| &*table.name != name);
            let firsts = others.filter_map(|table| table.first_on_its_way(partition));
            firsts.chain(found.reported).min().map_or(found.next, |first| first.min(found.next))
        };
        self.partitions.iter().map(|(partition, found)| (partition.clone(), settled(partition, found))).collect()
    }

    /// Tells of a commit, or asks for dropped records again.
    fn flushed(&mut self, name: &str, flushed: Flushed) {
        let (Some(running), Some(table)) = (&self.running, self.tables.get(name)) else { return };
        let context = &running.context;
        match flushed {
            Flushed::Nothing => {}
            Flushed::Committed(commit) => {
                context.count("commits", 1);
                context.count("commits.conflicts", commit.conflicts.into());
                context.count("commits.adopted", commit.adopted.into());
                tracing::debug!(table = table.location(), version = commit.version, rows = commit.rows, "committed");
                running.maintenance.committed(name, table.log_store(), commit.version);
                context.delivered(Delivery {
                    location: table.location().to_owned(),
                    records: commit.rows,
                    bytes: commit.bytes,
                    sample: commit.sample,
                });
            }
            Flushed::Dropped { reason, again } => {
                tracing::info!(table = table.location(), reason, "rows are dropped and read again");
                self.rewind(again);
            }
        }
    }

    fn rewind(&mut self, again: Vec<(TopicPartition, i64)>) {
        for (partition, offset) in again {
            if let Some(found) = self.partitions.get_mut(&partition) {
                found.next = found.next.min(offset);
                found.awaited = Some(found.awaited.map_or(offset, |awaited| awaited.min(offset)));
                let next = found.next;
                self.running().context.rewind(&partition, next);
            }
        }
    }

    /// Makes sure that nothing was left out after a rewind: what was asked for again has been there once.
    fn check_rewound(&mut self, batch: &SinkBatch) -> Result<()> {
        let Some(found) = self.partitions.get_mut(&batch.partition) else { return Ok(()) };
        let Some(awaited) = found.awaited else { return Ok(()) };
        let first = batch.records.first().map_or(batch.next_offset, SinkRecord::offset);
        if first > awaited {
            return Err(Error::fatal(format!(
                "the record at offset {awaited} was asked for again, but the next one has offset {first}; a restart reads \
                 from the committed offset on"
            ))
            .with("partition", &batch.partition));
        }
        if batch.next_offset > awaited {
            found.awaited = None;
        }
        Ok(())
    }

    fn due(&self) -> impl Fn(&Table) -> bool + use<> {
        let (rows, bytes, age) = (self.config.flush_rows, self.config.flush_bytes, self.config.flush_interval);
        move |table| table.is_due(rows, bytes, age)
    }

    fn report_memory(&self) {
        self.running().context.buffered(self.tables.values().map(Table::buffered).sum());
    }

    fn positions(&self) -> Positions {
        let position = |partition: &TopicPartition, next: i64| {
            let firsts = self.tables.values().filter_map(|table| table.first_on_its_way(partition));
            firsts.min().map_or(next, |first| first.min(next))
        };
        self.partitions
            .iter()
            .map(|(partition, found)| (partition.clone(), position(partition, found.next)))
            // A partition without a committed offset and without records has no position yet.
            .filter(|(_, position)| *position >= 0)
            .collect()
    }
}

fn take_one(config: &DeltaSinkConfig, lane: &mut Lane<'_>, record: &SinkRecord) -> Result<Taken> {
    if is_unwanted(record, config.mode) {
        return match config.null_values {
            NullValues::Ignore => Ok(Taken::Yes),
            NullValues::Fail => Err(Error::data(
                "record without a value; set behavior.on.null.values=ignore to leave such records out, or delta.mode=upsert to \
                 delete rows by them",
            )),
        };
    }
    lane.take(record)
}

/// A record that mode append has no row for.
fn is_unwanted(record: &SinkRecord, mode: Mode) -> bool {
    record.record.is_tombstone() && mode == Mode::Append
}

/// A text as a number that Delta can store: 62 bits of FNV-1a, which is the same in every release and on every machine.
fn number_of(identity: &str) -> i64 {
    let hash = identity
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    i64::try_from(hash >> 2).unwrap_or(i64::MAX)
}

#[async_trait]
impl SinkTask for DeltaSinkTask {
    async fn start(&mut self, context: &SinkTaskContext) -> Result<()> {
        if let Some(error) = self.config.check().into_iter().next() {
            return Err(Error::config(error.to_string()));
        }
        self.store.probe().await?;
        let app_id = self.config.app_id.as_deref().unwrap_or(&context.connector).into();
        let maintenance = Maintenance::start(self.config.maintenance.clone(), context);
        self.running = Some(Running { context: context.clone(), app_id, maintenance });
        Ok(())
    }

    async fn open(&mut self, committed: &Positions) -> Result<Positions> {
        let mut by_table: BTreeMap<String, Vec<(TopicPartition, Option<i64>)>> = BTreeMap::new();
        for partition in committed.keys() {
            let identity = self.running().context.topic_identity(&partition.topic).map(|text| number_of(&text));
            by_table.entry(self.config.table_name(&partition.topic)).or_default().push((partition.clone(), identity));
        }
        let (mut better, mut opened) = (Positions::new(), Vec::new());
        for (name, partitions) in by_table {
            let table = self.table(&name)?;
            table.open(&partitions).await?;
            for (partition, identity) in partitions {
                let stored = table.resume_position(&partition);
                let known = committed.get(&partition).copied().unwrap_or(-1);
                let next = stored.map_or(known, |stored| stored.max(known));
                if next > known {
                    better.insert(partition.clone(), next);
                }
                if stored.is_none() && known > 0 {
                    tracing::warn!(
                        %partition,
                        offset = known,
                        table = table.location(),
                        "going on where the consumer group stands, although the table holds nothing of this partition; if the \
                         table was deleted, what it held is filled in again by a connector of another name, which begins anew"
                    );
                }
                opened.push((partition, Partition { next, awaited: None, reported: None, identity }));
            }
        }
        // Not before all is well: after an error the same call comes again.
        self.partitions.extend(opened);
        Ok(better)
    }

    async fn put(&mut self, batch: &SinkBatch) -> Result<()> {
        let partition = &batch.partition;
        if !self.partitions.contains_key(partition) {
            return Err(Error::fatal("records of a partition that is not open").with("partition", partition));
        }
        self.check_rewound(batch)?;
        // Files that wait for their commit come first; until then no table takes more.
        self.flush_tables(Table::is_pending, Urgency::Due).await?;
        if self.partitions.get(partition).is_some_and(|found| found.awaited.is_some()) {
            // This very call has asked for earlier records; these here come again behind them.
            return Ok(());
        }
        self.take(batch).await?;
        self.flush_tables(self.due(), Urgency::Due).await?;
        if let Some(found) = self.partitions.get_mut(partition) {
            found.reported = None;
        }
        self.report_memory();
        Ok(())
    }

    async fn flush(&mut self, reason: FlushReason) -> Result<Positions> {
        match reason {
            FlushReason::Interval => {}
            FlushReason::Pressure => self.flush_tables(|_| true, Urgency::Memory).await?,
            FlushReason::CaughtUp => self.flush_tables(|_| true, Urgency::Last).await?,
            FlushReason::Closing => {
                let settled =
                    tokio::time::timeout(CLOSING_PATIENCE, self.flush_tables(Table::is_pending, Urgency::Due)).await;
                if !matches!(settled, Ok(Ok(()))) {
                    tracing::info!(
                        "a commit has no answer yet; the next owner of the partitions finds it in the table"
                    );
                }
            }
        }
        self.report_memory();
        Ok(self.positions())
    }

    async fn close(&mut self, partitions: &[TopicPartition], _reason: CloseReason) -> Result<()> {
        // Whatever the reason: what is not in a table by now is the next owner's.
        let mut again = Vec::new();
        for table in self.tables.values_mut() {
            again.extend(table.close(partitions)?);
        }
        for partition in partitions {
            self.partitions.remove(partition);
        }
        self.rewind(again);
        self.report_memory();
        Ok(())
    }

    async fn tick(&mut self) -> Result<()> {
        self.flush_tables(self.due(), Urgency::Due).await?;
        self.report_memory();
        Ok(())
    }

    async fn stop(&mut self) -> Result<()> {
        self.tables.clear();
        self.partitions.clear();
        if let Some(running) = self.running.take() {
            running.maintenance.stop().await;
        }
        Ok(())
    }
}

impl fmt::Debug for DeltaSinkTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tables: Vec<&Arc<str>> = self.tables.keys().collect();
        f.debug_struct("DeltaSinkTask")
            .field("store", &self.store)
            .field("tables", &tables)
            .field("partitions", &self.partitions)
            .finish_non_exhaustive()
    }
}
