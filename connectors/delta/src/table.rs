//! One table: rows on their way into it, and the positions that it stores.
//!
//! Rows of all source partitions are collected in one set of columns, written as Parquet files, and committed together with
//! the positions that they reach. Per source partition the table stores, as Delta transaction identifiers:
//!
//! | Identifier | Version |
//! |---|---|
//! | `ottla/<app>/<topic>/<partition>` | *position*: every record of this table before it is in the table |
//! | `..#topic` | the topic's identity, as a number: positions of a topic of the same name that was made anew mean nothing |
//! | `..#all` | every record of the partition before it is wherever it belongs, in any table or the dead letter queue; where it is missing, the position |
//!
//! # Why several tables of one partition are right
//!
//! Each table stores its own position, and takes no record below it. So whatever offset the records come again from, each
//! is in its table once. What a restart may begin with is another question: a record below one table's position can be one
//! that another table never got. So a commit stores as `#all` the lowest offset of the partition that is settled nowhere at
//! that moment: another table holds it in memory, or has dropped it so that it comes again, or it was reported and the dead
//! letter queue may not have it yet. A restart begins at the `#all` of the topic's own table, or at the committed offset where
//! that is higher (which says the same, G2). A table that gets no record of a partition stores nothing about it and holds
//! nobody up.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::datatypes::SchemaRef;
use buoyant_kernel::table_properties::DataSkippingNumIndexedCols;
use bytes::Bytes;
use deltalake_core::datafile::writer::{DeltaWriter, WriterConfig};
use deltalake_core::kernel::transaction::CommitData;
use deltalake_core::kernel::{Action, Add, Transaction};
use deltalake_core::logstore::LogStoreRef;
use deltalake_core::protocol::{DeltaOperation, SaveMode};
use deltalake_core::table::config::DEFAULT_NUM_INDEX_COLS;
use ottla_api::data::Schema;
use ottla_api::data::json::{self, WriteOptions};
use ottla_api::prelude::*;
use parquet::file::properties::WriterProperties;
use tokio::time::Instant;

use crate::columns::{Columns, conform};
use crate::commit::{Created, Ledger, Log as _, Move, Outcome, Plan, Rules};
use crate::config::TableOptions;
use crate::encoding;
use crate::log::{ATTEMPT, DeltaLog, TableSchema, new_table, widened};
use crate::schema::{find, same_name};
use crate::store::Store;
use crate::upsert::{self, Keys};

/// How often the table may change under one commit before the caller hears of it.
const TABLE_CHANGES_MAX: u32 = 20;
/// How soon a table that somebody else may make is looked for again.
const LOOK_PAUSE: Duration = Duration::from_secs(1);
/// How many rows are encoded in one go. Between two goes the size of the file is looked at (`target.file.size`).
const SLICE_ROWS: usize = 16 * 1024;
/// How much of a record is shown as a sample.
const SAMPLE_CHARACTERS: usize = 200;

/// One table of a task.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) name: Arc<str>,
    log: DeltaLog,
    options: TableOptions,
    /// `ottla/<app>`.
    prefix: Arc<str>,
    rules: Rules,
    /// The table as it was last seen; nothing while there is none.
    found: Option<Found>,
    columns: Columns,
    /// For each row in `columns`, the number of its place.
    owners: Vec<u32>,
    /// Which rows delete, in mode upsert.
    keys: Keys,
    chunks: Vec<Chunk>,
    places: BTreeMap<TopicPartition, Place>,
    places_made: u32,
    bytes: usize,
    since: Option<Instant>,
    sample: Option<String>,
    pending: Option<Pending>,
    /// When a table was looked for last because the rows made none.
    looked: Option<Instant>,
    /// There is no table, and records without any value are not to wait for one any more.
    refuses_hollow: bool,
}

/// An existing table.
#[derive(Debug)]
struct Found {
    ledger: Ledger,
    schema: TableSchema,
}

/// Rows that left the builders.
#[derive(Debug)]
struct Chunk {
    batch: RecordBatch,
    owners: Vec<u32>,
    keys: Keys,
}

/// What this table has to do with one source partition.
#[derive(Debug)]
struct Place {
    number: u32,
    id: String,
    /// The position that the table holds, as it was when this place was made or after our last commit.
    stored: Option<i64>,
    /// What `#all` holds.
    stored_all: Option<i64>,
    /// What `#topic` holds, and what it has to hold.
    stored_topic: Option<i64>,
    topic: Option<i64>,
    /// Records below this offset are in the table or on their way.
    taken: i64,
    /// The first record that is on its way.
    first: Option<i64>,
}

/// Files that are written and belong into the log.
#[derive(Debug)]
struct Pending {
    work: Work,
    moves: Vec<(TopicPartition, Reached)>,
    rows: u64,
    bytes: u64,
    sample: Option<String>,
}

/// How the rows get in.
#[derive(Debug)]
enum Work {
    Append(Plan),
    Merge(upsert::Merge),
}

/// What a partition's identifiers hold after a commit.
#[derive(Debug, Clone, Copy)]
struct Reached {
    position: i64,
    all: Option<i64>,
    topic: Option<i64>,
}

/// What a flush came to.
#[derive(Debug)]
pub(crate) enum Flushed {
    Nothing,
    Committed(Commit),
    /// The rows are dropped; the records of these partitions have to come again from these offsets on.
    Dropped {
        reason: &'static str,
        again: Vec<(TopicPartition, i64)>,
    },
}

/// What was committed.
#[derive(Debug)]
pub(crate) struct Commit {
    pub(crate) version: u64,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    pub(crate) sample: Option<String>,
    pub(crate) adopted: bool,
    pub(crate) conflicts: u32,
}

/// Why a table is to be committed, where its rows have no columns yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// It is time: rows without columns can wait.
    Due,
    /// Memory is short: rows that hold memory must go.
    Memory,
    /// Nothing more will come: nothing can wait.
    Last,
}

/// What a table makes of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    Yes,
    /// It is in the table already.
    Skipped,
}

impl Table {
    pub(crate) fn new(
        name: Arc<str>,
        store: &Store,
        options: TableOptions,
        app_id: &str,
        rules: Rules,
    ) -> Result<Self> {
        let log =
            DeltaLog { store: store.clone(), log_store: store.log_store(&name)?, location: store.location(&name) };
        let columns = Columns::new(&options.fields, options.grows);
        Ok(Self {
            name,
            log,
            columns,
            keys: Keys::new(options.upsert_key.as_deref()),
            options,
            prefix: format!("ottla/{app_id}").into(),
            rules,
            found: None,
            owners: Vec::new(),
            chunks: Vec::new(),
            places: BTreeMap::new(),
            places_made: 0,
            bytes: 0,
            since: None,
            sample: None,
            pending: None,
            looked: None,
            refuses_hollow: false,
        })
    }

    pub(crate) fn log_store(&self) -> &LogStoreRef {
        &self.log.log_store
    }

    pub(crate) fn location(&self) -> &str {
        &self.log.location
    }

    /// Makes places for partitions and reads what the table stores about them. `topic` is each one's identity.
    ///
    /// # Errors
    ///
    /// `Fatal` where the table's position belongs to another topic of the same name.
    pub(crate) async fn open(&mut self, partitions: &[(TopicPartition, Option<i64>)]) -> Result<()> {
        let prefix = Arc::clone(&self.prefix);
        let ids = |partition: &TopicPartition| {
            let id = format!("{prefix}/{}/{}", partition.topic, partition.partition);
            [id.clone(), format!("{id}#topic"), format!("{id}#all")]
        };
        let known = self.places.keys();
        let all = known.chain(partitions.iter().map(|(partition, _)| partition)).flat_map(ids).collect();
        self.look(all).await?;
        for (partition, topic) in partitions {
            let [id, topic_id, all_id] = ids(partition);
            let holds = |id: &str| self.found.as_ref().and_then(|found| found.ledger.position(id));
            let (stored, stored_topic, stored_all) = (holds(&id), holds(&topic_id), holds(&all_id));
            if let (Some(found), Some(own)) = (stored_topic, topic)
                && found != *own
            {
                return Err(Error::fatal(format!(
                    "{} holds the records of another topic '{}' up to offset {}: the topic was deleted and made anew, or the \
                     state folder was. Nothing was written. Ways out: set delta.app.id to a new name to append this topic \
                     from its first record on, or bring back the state folder or topic that belongs to the table",
                    self.log.location,
                    partition.topic,
                    stored.unwrap_or(0)
                ))
                .with("partition", partition));
            }
            let number = self.places_made;
            self.places_made += 1;
            let taken = stored.unwrap_or(i64::MIN);
            let place = Place { number, id, stored, stored_all, stored_topic, topic: *topic, taken, first: None };
            self.places.insert(partition.clone(), place);
        }
        Ok(())
    }

    pub(crate) fn has_place(&self, partition: &TopicPartition) -> bool {
        self.places.contains_key(partition)
    }

    /// From where on a partition's records may still be missing in some table, as far as this table knows.
    pub(crate) fn resume_position(&self, partition: &TopicPartition) -> Option<i64> {
        let place = self.places.get(partition)?;
        place.stored_all.or(place.stored)
    }

    /// The first record of a partition that is taken and not durable.
    pub(crate) fn first_on_its_way(&self, partition: &TopicPartition) -> Option<i64> {
        self.places.get(partition).and_then(|place| place.first)
    }

    /// Bytes in memory. What the encoder holds of a file while that is written is not in it.
    pub(crate) fn buffered(&self) -> usize {
        let chunks = self.chunks.iter().map(|chunk| {
            chunk.batch.get_array_memory_size() + chunk.owners.capacity() * size_of::<u32>() + chunk.keys.memory()
        });
        let merge = match &self.pending {
            Some(Pending { work: Work::Merge(merge), .. }) => merge.memory(),
            _ => 0,
        };
        let rows = self.columns.memory() + self.owners.capacity() * size_of::<u32>() + self.keys.memory();
        rows + chunks.sum::<usize>() + merge
    }

    /// Rows that wait for a commit.
    pub(crate) fn rows(&self) -> usize {
        self.columns.rows() + self.chunks.iter().map(|chunk| chunk.batch.num_rows()).sum::<usize>()
    }

    /// True while written files wait for their commit.
    pub(crate) fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// True where the rows are to be committed now.
    pub(crate) fn is_due(&self, rows: usize, bytes: usize, age: Duration) -> bool {
        self.is_pending()
            || self.rows() >= rows
            || self.bytes >= bytes
            || self.since.is_some_and(|since| since.elapsed() >= age)
    }

    /// The way in for records of an open partition.
    pub(crate) fn lane(&mut self, partition: &TopicPartition) -> Result<Lane<'_>> {
        let Some(place) = self.places.get_mut(partition) else {
            return Err(Error::fatal("a record of a partition that this table was not opened for"));
        };
        Ok(Lane {
            place,
            columns: &mut self.columns,
            owners: &mut self.owners,
            keys: &mut self.keys,
            bytes: &mut self.bytes,
            since: &mut self.since,
            sample: &mut self.sample,
            refuses_hollow: self.refuses_hollow,
        })
    }

    /// Forgets partitions and their rows.
    ///
    /// Files whose commit has no answer yet are forgotten with them, and so the records of other partitions in these files
    /// are wanted again: the answer says from where on. Should the commit land nonetheless, the positions in it show.
    pub(crate) fn close(&mut self, partitions: &[TopicPartition]) -> Result<Vec<(TopicPartition, i64)>> {
        let mut again = Vec::new();
        if let Some(pending) = &self.pending
            && pending.moves.iter().any(|(partition, _)| partitions.contains(partition))
        {
            again = self.drop_all(None);
            again.retain(|(partition, _)| !partitions.contains(partition));
        }
        let closed: Vec<Place> = partitions.iter().filter_map(|partition| self.places.remove(partition)).collect();
        if closed.iter().any(|place| place.first.is_some()) {
            self.cut()?;
            for chunk in &mut self.chunks {
                let keep: Vec<bool> =
                    chunk.owners.iter().map(|owner| closed.iter().all(|place| place.number != *owner)).collect();
                let mask = BooleanArray::from(keep.clone());
                let kept = arrow::compute::filter_record_batch(&chunk.batch, &mask);
                chunk.batch = kept.or_error(ErrorKind::Fatal, "drop a closed partition's rows")?;
                chunk.keys.retain(&keep);
                let mut keep = keep.iter();
                chunk.owners.retain(|_| *keep.next().unwrap_or(&true));
            }
            self.chunks.retain(|chunk| chunk.batch.num_rows() > 0);
            if self.chunks.is_empty() {
                self.forget_rows();
            }
        }
        Ok(again)
    }

    /// Commits what there is. `settled` says, per partition, before which offset nothing is missing elsewhere.
    ///
    /// Rows of a table that does not exist, and that there are no columns for yet, wait for a record that has them. When
    /// nothing more will come, records without any value are asked for again, to be reported one by one.
    ///
    /// # Errors
    ///
    /// Those of the store; then the files are remembered and the next call goes on with them. `Config` where the rows can't
    /// wait and have no value for a column of `partition.columns`.
    pub(crate) async fn flush(&mut self, settled: &Positions, urgency: Urgency) -> Result<Flushed> {
        if self.pending.is_none() {
            if self.rows() == 0 {
                return Ok(Flushed::Nothing);
            }
            if self.found.is_none() && !self.makes_a_table() {
                // Somebody else may have made it.
                if urgency == Urgency::Due && self.looked.is_some_and(|looked| looked.elapsed() < LOOK_PAUSE) {
                    return Ok(Flushed::Nothing);
                }
                self.look(self.ids()).await?;
                self.looked = Some(Instant::now());
                match urgency {
                    _ if self.found.is_some() => {}
                    Urgency::Due => return Ok(Flushed::Nothing),
                    // They hold next to nothing.
                    Urgency::Memory if self.columns.is_hollow() => return Ok(Flushed::Nothing),
                    Urgency::Last if self.columns.is_hollow() => {
                        self.refuses_hollow = true;
                        let again = self.drop_all(None);
                        let reason = "no record has a value so far, which makes no table";
                        return Ok(Flushed::Dropped { reason, again });
                    }
                    Urgency::Memory | Urgency::Last => {}
                }
            }
            match self.write(settled).await {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::PoisonRecord => {
                    // The rows were right for the table as it was when they were taken.
                    tracing::warn!(table = self.log.location, %error, "the table has changed; its rows are read again");
                    let again = self.start_over().await?;
                    return Ok(Flushed::Dropped { reason: "the table was changed by somebody else", again });
                }
                Err(error) => return Err(error),
            }
        }
        self.settle().await
    }

    /// Brings written files into the log.
    async fn settle(&mut self) -> Result<Flushed> {
        for _ in 0..TABLE_CHANGES_MAX {
            let (Some(pending), Some(found)) = (&mut self.pending, &mut self.found) else {
                return Ok(Flushed::Nothing);
            };
            let outcome = match &pending.work {
                Work::Append(plan) => found.ledger.commit(&self.log, plan).await?,
                Work::Merge(merge) => merge.commit(&self.log, &mut found.ledger).await?,
            };
            match outcome {
                Outcome::Committed { version, adopted, conflicts } => {
                    return Ok(Flushed::Committed(self.committed(version, adopted, conflicts)));
                }
                Outcome::Rival => {
                    let again = self.start_over().await?;
                    return Ok(Flushed::Dropped { reason: "another task has committed the same partitions", again });
                }
                Outcome::TableChanged => {
                    let schema = self.log.schema_of(&mut found.ledger).await?;
                    let same = schema.fields == found.schema.fields
                        && schema.partition_columns == found.schema.partition_columns;
                    found.schema = schema;
                    if !same {
                        let again = self.start_over().await?;
                        return Ok(Flushed::Dropped { reason: "the table was changed by somebody else", again });
                    }
                }
            }
        }
        Err(Error::retriable("the table is changed again and again by somebody else").with("table", &self.log.location))
    }

    fn committed(&mut self, version: u64, adopted: bool, conflicts: u32) -> Commit {
        let pending = self.pending.take().expect("only what is pending is committed");
        for (partition, reached) in pending.moves {
            if let Some(place) = self.places.get_mut(&partition) {
                place.stored = Some(reached.position);
                place.stored_all = reached.all.or(place.stored_all);
                place.stored_topic = reached.topic.or(place.stored_topic);
                place.first = None;
            }
        }
        self.bytes = 0;
        let Pending { rows, bytes, sample, .. } = pending;
        Commit { version, rows, bytes, sample, adopted, conflicts }
    }

    /// Drops everything and looks at the table again.
    async fn start_over(&mut self) -> Result<Vec<(TopicPartition, i64)>> {
        self.look(self.ids()).await?;
        Ok(self.drop_all(self.found.as_ref().map(|found| found.ledger.clone())))
    }

    /// Drops rows and files. Answers from where on each partition's records are wanted again.
    fn drop_all(&mut self, ledger: Option<Ledger>) -> Vec<(TopicPartition, i64)> {
        let mut again = Vec::new();
        for (partition, place) in &mut self.places {
            if let Some(ledger) = &ledger {
                place.stored = ledger.position(&place.id);
                place.stored_topic = ledger.position(&format!("{}#topic", place.id));
                place.stored_all = ledger.position(&format!("{}#all", place.id));
            }
            if let Some(first) = place.first.take() {
                // What the table has by now is passed over when it comes again.
                place.taken = place.stored.map_or(first, |stored| stored.max(first));
                again.push((partition.clone(), first));
            } else if let Some(stored) = place.stored {
                // Nothing of it is on its way, but a rival may have brought the table further than we have taken.
                place.taken = place.taken.max(stored);
            }
        }
        self.pending = None;
        self.forget_rows();
        again
    }

    fn forget_rows(&mut self) {
        let fields = self.found.as_ref().map_or(&self.options.fields, |found| &found.schema.fields);
        self.columns = Columns::new(fields, self.options.grows);
        self.owners.clear();
        self.keys.clear();
        self.chunks.clear();
        self.bytes = 0;
        self.since = None;
        self.sample = None;
    }

    /// Reads the newest version: these identifiers, and the schema.
    async fn look(&mut self, ids: Vec<String>) -> Result<()> {
        if !self.log.exists().await? {
            return self.found.as_ref().map_or(Ok(()), |found| Err(self.log.gone(found.ledger.version())));
        }
        let mut ledger = Ledger::load(&self.log, ids, self.rules).await?;
        let schema = self.log.schema_of(&mut ledger).await?;
        check_against(&schema, &self.options).map_err(|error| error.with("table", &self.log.location))?;
        if self.rows() == 0 {
            self.columns = Columns::new(&schema.fields, self.options.grows);
        }
        self.found = Some(Found { ledger, schema });
        self.refuses_hollow = false;
        Ok(())
    }

    /// Makes sure that there is a table with a column for everything that the rows have.
    async fn prepare(&mut self) -> Result<()> {
        for _ in 0..TABLE_CHANGES_MAX {
            let Some(found) = &mut self.found else {
                self.create().await?;
                continue;
            };
            if found.ledger.catch_up(&self.log).await? {
                found.schema = self.log.schema_of(&mut found.ledger).await?;
            }
            let Some((metadata, new)) = widened(&found.schema, &self.columns.fields())? else { return Ok(()) };
            let names: Vec<&str> = new.iter().map(|field| field.name().as_str()).collect();
            tracing::info!(table = self.log.location, columns = names.join(", "), "new columns");
            let operation = DeltaOperation::AddColumn { fields: new };
            let plan = plan(vec![Action::Metadata(metadata)], operation, Vec::new(), Vec::new())?;
            match found.ledger.commit(&self.log, &plan).await? {
                Outcome::Committed { .. } => {
                    found.schema = self.log.schema_of(&mut found.ledger).await?;
                }
                // Somebody else was first, perhaps with the same columns: look again.
                Outcome::TableChanged | Outcome::Rival => {}
            }
        }
        Err(Error::retriable("the table is changed again and again by somebody else").with("table", &self.log.location))
    }

    /// The identifiers of all places.
    fn ids(&self) -> Vec<String> {
        let of = |place: &Place| [place.id.clone(), format!("{}#topic", place.id), format!("{}#all", place.id)];
        self.places.values().flat_map(of).collect()
    }

    /// True where the rows so far have columns enough for a new table.
    fn makes_a_table(&self) -> bool {
        let mut known = self.columns.fields();
        known.retain(|field| field.data_type.to_delta().is_some());
        let divided_by = &self.options.partition_columns;
        known.len() > divided_by.len() && divided_by.iter().all(|name| find(&known, name).is_some())
    }

    /// Creates the table as version 0, or finds that somebody else has.
    async fn create(&mut self) -> Result<()> {
        let fields = self.columns.fields();
        let known: Vec<_> = fields.iter().filter(|field| field.data_type.to_delta().is_some()).cloned().collect();
        let mut divided_by = Vec::new();
        for name in &self.options.partition_columns {
            let Some(index) = find(&known, name) else {
                return Err(Error::config(format!(
                    "partition.columns names '{name}', which none of the first {} records has with a value; give the \
                     columns with schema.{}",
                    self.rows(),
                    self.name
                ))
                .with("table", &self.log.location));
            };
            let single = known[index].check_single();
            single.map_err(|error| {
                Error::config(format!("partition.columns {error}")).with("table", &self.log.location)
            })?;
            // As the column is spelled, however the option is.
            divided_by.push(known[index].name.clone());
        }
        for name in self.options.upsert_key.iter().flatten() {
            if let Some(index) = find(&known, name) {
                let single = known[index].check_single();
                single
                    .map_err(|error| Error::config(format!("upsert.key {error}")).with("table", &self.log.location))?;
            }
        }
        if known.len() <= divided_by.len() {
            return Err(Error::config(format!(
                "partition.columns names every column that the first records have; one at least must be left. Name fewer, or \
                 give the columns with schema.{}",
                self.name
            ))
            .with("table", &self.log.location));
        }
        let (protocol, metadata, described) = new_table(&known, &divided_by)?;
        let operation = DeltaOperation::Create {
            mode: SaveMode::ErrorIfExists,
            location: self.log.log_store.root_url().clone(),
            protocol: match &protocol {
                Action::Protocol(protocol) => protocol.clone(),
                _ => return Err(Error::fatal("a new table's protocol is no protocol")),
            },
            metadata: described,
        };
        let plan = plan(vec![protocol, metadata], operation, Vec::new(), Vec::new())?;
        if self.log.create(0, &plan.commit).await? == Created::New {
            tracing::info!(table = self.log.location, "new table");
        }
        let mut ledger = Ledger::load(&self.log, self.ids(), self.rules).await?;
        let schema = self.log.schema_of(&mut ledger).await?;
        self.found = Some(Found { ledger, schema });
        self.refuses_hollow = false;
        Ok(())
    }

    /// Takes the rows out of the builders.
    fn cut(&mut self) -> Result<()> {
        if self.columns.rows() > 0 {
            let batch = self.columns.finish(false)?;
            let (owners, keys) = (std::mem::take(&mut self.owners), self.keys.take());
            self.chunks.push(Chunk { batch, owners, keys });
        }
        Ok(())
    }

    /// Writes the rows into files, and plans their commit.
    async fn write(&mut self, settled: &Positions) -> Result<()> {
        self.cut()?;
        self.prepare().await?;
        let Some(found) = &self.found else { return Err(Error::fatal("a table that was just created is not there")) };
        let schema = found.schema.blind.arrow_schema();
        let schema = schema.map_err(|error| self.log.failure(&error, "read the table's schema"))?;
        let batches: Vec<RecordBatch> =
            self.chunks.iter().map(|chunk| conform(&chunk.batch, &schema)).collect::<Result<_>>()?;
        let (mut moves, mut transactions, mut reached) = (Vec::new(), Vec::new(), Vec::new());
        for (partition, place) in self.places.iter().filter(|(_, place)| place.first.is_some()) {
            let position = place.taken;
            let all = settled.get(partition).map_or(position, |settled| position.min(*settled));
            // Once said, it has to be said each time; and it never goes back.
            let all = (all != position || place.stored_all.is_some()).then(|| all.max(place.stored_all.unwrap_or(all)));
            let topic = place.topic.filter(|_| place.stored_topic.is_none());
            let wanted = [
                (place.id.clone(), place.stored, Some(position)),
                (format!("{}#topic", place.id), place.stored_topic, topic),
                (format!("{}#all", place.id), place.stored_all, all),
            ];
            for (id, from, to) in wanted {
                if let Some(to) = to {
                    transactions.push(Transaction::new(&id, to));
                    moves.push(Move { id, from, to });
                }
            }
            reached.push((partition.clone(), Reached { position, all, topic }));
        }
        let rows = batches.iter().map(|batch| batch.num_rows() as u64).sum();
        let (work, bytes) = match &self.options.upsert_key {
            Some(key) => {
                let keys = self.chunks.iter().map(|chunk| &chunk.keys);
                let source = upsert::last_of_each(&batches, key, keys)?;
                let bytes = source.get_array_memory_size() as u64;
                let operation = DeltaOperation::Write { mode: SaveMode::Append, partition_by: None, predicate: None };
                let plan = plan(Vec::new(), operation, moves, transactions.clone())?;
                (Work::Merge(upsert::Merge::new(key.clone(), source, plan, transactions)), bytes)
            }
            None => {
                let properties = encoding::properties(self.options.codec, &batches)?;
                let adds =
                    write_files(&self.log, writer(found, &schema, properties, self.options.target_file_size), batches)
                        .await?;
                let bytes = adds.iter().map(|add| u64::try_from(add.size).unwrap_or(0)).sum();
                let partition_by = Some(found.schema.partition_columns.clone()).filter(|columns| !columns.is_empty());
                let operation = DeltaOperation::Write { mode: SaveMode::Append, partition_by, predicate: None };
                let actions = adds.into_iter().map(Action::Add).collect();
                (Work::Append(plan(actions, operation, moves, transactions)?), bytes)
            }
        };
        let sample = self.sample.take();
        let fields = found.schema.fields.clone();
        self.pending = Some(Pending { work, moves: reached, rows, bytes, sample });
        self.chunks.clear();
        self.since = None;
        self.columns = Columns::new(&fields, self.options.grows);
        Ok(())
    }
}

/// Where the records of one partition go into a table.
#[derive(Debug)]
pub(crate) struct Lane<'a> {
    place: &'a mut Place,
    columns: &'a mut Columns,
    owners: &'a mut Vec<u32>,
    keys: &'a mut Keys,
    bytes: &'a mut usize,
    since: &'a mut Option<Instant>,
    sample: &'a mut Option<String>,
    refuses_hollow: bool,
}

impl Lane<'_> {
    /// Takes a record. One without a value is a deletion, which only mode upsert takes.
    ///
    /// # Errors
    ///
    /// `PoisonRecord` for a record that does not fit; nothing of it is taken.
    pub(crate) fn take(&mut self, record: &SinkRecord) -> Result<Taken> {
        let offset = record.offset();
        if offset < self.place.taken {
            return Ok(Taken::Skipped);
        }
        match &record.record.value {
            Payload::Json(text) if !self.keys.are_needed() => self.columns.append_text(text)?,
            Payload::Json(text) => self.append(record, None, &json::parse(text)?)?,
            Payload::Data { schema, value } => self.append(record, schema.as_ref(), value)?,
        }
        if self.refuses_hollow && self.columns.is_hollow() {
            self.columns.take_back();
            return Err(Error::data(
                "the record has no field with a value, nor has any before it, so there are no columns to make a table of; give \
                 them with schema or schema.<table>",
            ));
        }
        self.keys.push(record.record.is_tombstone());
        self.owners.push(self.place.number);
        self.place.taken = offset + 1;
        self.place.first.get_or_insert(offset);
        *self.bytes += record.record.value.size_estimate() + size_of::<u32>();
        self.since.get_or_insert_with(Instant::now);
        if self.sample.is_none() {
            *self.sample = Some(sample(&record.record.value));
        }
        Ok(Taken::Yes)
    }

    fn append(&mut self, record: &SinkRecord, schema: Option<&Arc<Schema>>, value: &Value) -> Result<()> {
        if value.is_null() {
            // A deletion is a row of nothing but its key.
            self.keys.check(None, &record.record.key)?;
            return self.columns.append(schema, &Value::Map(self.keys.row_of(&record.record.key)?));
        }
        self.keys.check(Some(value), &record.record.key)?;
        self.columns.append(schema, value)
    }
}

/// The beginning of a record, for a person to look at.
fn sample(value: &Payload) -> String {
    let mut text = Vec::new();
    value.write_json(&WriteOptions { decimal_numeric: true, time_iso: true }, &mut text);
    String::from_utf8_lossy(&text).chars().take(SAMPLE_CHARACTERS).collect()
}

/// The library's writer under its writers for tables: those hand rows on in slices of 1,024, and each slice costs.
fn writer(found: &Found, schema: &SchemaRef, properties: WriterProperties, target_file_size: u64) -> DeltaWriter {
    let (blind, configured) = (&found.schema.blind, found.schema.blind.table_properties());
    let indexed = configured.data_skipping_num_indexed_cols;
    let indexed = indexed.unwrap_or(DataSkippingNumIndexedCols::NumColumns(DEFAULT_NUM_INDEX_COLS));
    let statistics = blind.metadata().configuration().get("delta.dataSkippingStatsColumns");
    let config = WriterConfig::new(
        Arc::clone(schema),
        found.schema.partition_columns.clone(),
        Some(properties),
        NonZeroU64::new(target_file_size),
        Some(SLICE_ROWS),
        indexed,
        statistics.map(|names| names.split(',').map(str::to_owned).collect()),
    );
    DeltaWriter::new(blind.object_store(), config)
}

/// Encodes and stores files beside the runtime's threads.
async fn write_files(log: &DeltaLog, mut writer: DeltaWriter, batches: Vec<RecordBatch>) -> Result<Vec<Add>> {
    let runtime = tokio::runtime::Handle::current();
    let written = tokio::task::spawn_blocking(move || {
        runtime.block_on(async {
            for batch in batches {
                if let Err(error) = writer.write(&batch).await {
                    // Parts of files that were sent are let go of; where that fails, the store's rules do it.
                    let _ = writer.abort().await;
                    return Err(error);
                }
            }
            writer.close().await
        })
    });
    let written = written.await.or_error(ErrorKind::Fatal, "write a Parquet file")?;
    written.map_err(|error| log.failure(&error, "write a Parquet file"))
}

/// The file of a version.
fn plan(
    actions: Vec<Action>,
    operation: DeltaOperation,
    moves: Vec<Move>,
    transactions: Vec<Transaction>,
) -> Result<Plan> {
    let attempt = uuid::Uuid::new_v4().to_string();
    let is_append = matches!(operation, DeltaOperation::Write { .. });
    let mut metadata = std::collections::HashMap::from([(ATTEMPT.to_owned(), attempt.clone().into())]);
    metadata.insert("isBlindAppend".to_owned(), is_append.into());
    let commit = CommitData::new(actions, operation, metadata, transactions).get_bytes();
    let commit: Bytes = commit.or_error(ErrorKind::Fatal, "put a commit into words")?;
    Ok(Plan { attempt, moves, commit })
}

/// Compares an existing table with what the configuration says about it.
fn check_against(schema: &TableSchema, options: &TableOptions) -> Result<()> {
    for field in &options.fields {
        if let Some(index) = find(&schema.fields, &field.name)
            && schema.fields[index].data_type != field.data_type
        {
            return Err(Error::config(format!(
                "schema says that the column '{}' is {}, but the table has {}; correct schema, or write to another table",
                field.name, field.data_type, schema.fields[index].data_type
            )));
        }
    }
    let same = options.partition_columns.len() == schema.partition_columns.len()
        && options.partition_columns.iter().zip(&schema.partition_columns).all(|(one, other)| same_name(one, other));
    if !options.partition_columns.is_empty() && !same {
        return Err(Error::config(format!(
            "partition.columns is '{}', but the table is divided by '{}', which can't be changed",
            options.partition_columns.join(","),
            schema.partition_columns.join(",")
        )));
    }
    Ok(())
}
