//! One session of queries: its tables, its views, and the statements that run in it.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::csv::CsvFormat;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::logical_expr::{AggregateUDF, LogicalPlan};
use datafusion::physical_plan::SendableRecordBatchStream;
use datafusion::prelude::{SQLOptions, SessionConfig, SessionContext};
use datafusion::sql::parser::{DFParserBuilder, Statement as Parsed};
use datafusion::sql::sqlparser::ast::Statement as Sql;
use futures::StreamExt as _;
use object_store::{ObjectMeta, ObjectStore};
use ottla_api::error::ResultExt as _;
use ottla_api::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use url::Url;

use crate::error::from_datafusion;
use crate::location::{Kind, TableLocation};
use crate::percentile_disc::PercentileDisc;
use crate::store::{Found, S3Options, Stores, find};
use crate::{delta, json};

/// More parts than this only divide the memory of a laptop.
const PARTS_MAX: usize = 8;
/// How many bytes of JSON stay in memory, over all tables; see [`crate::json`].
const KEPT_JSON_MAX: u64 = 256 << 20;
/// How many of those that hold memory an error about memory names.
const CONSUMERS_NAMED: std::num::NonZeroUsize = std::num::NonZeroUsize::new(3).expect("not zero");

/// How a session works.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where buckets are.
    pub s3: S3Options,
    /// Bytes that queries may use before sorts, joins and aggregations go to temporary files, and fail where they can't.
    pub memory_limit: usize,
    /// Told about what is read, for somebody who waits.
    pub progress: Progress,
}

/// Tells somebody what is being read.
#[derive(Clone)]
pub struct Progress(Arc<dyn Fn(Step<'_>) + Send + Sync>);

/// What is happening.
#[derive(Debug, Clone, Copy)]
pub enum Step<'a> {
    /// A table is opened that has so many files.
    Table {
        /// Its name.
        name: &'a str,
        /// Its files.
        files: usize,
    },
    /// One of its files is read.
    File,
}

impl Progress {
    /// Calls `tell` for each step; from any thread, and often.
    pub fn new(tell: impl Fn(Step<'_>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }

    /// Tells nobody.
    pub fn none() -> Self {
        Self::new(|_| {})
    }

    pub(crate) fn file_read(&self) {
        (self.0)(Step::File);
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Progress")
    }
}

/// A session.
pub struct Session {
    context: SessionContext,
    stores: Stores,
    progress: Progress,
    parts: usize,
    /// Bytes of JSON in memory.
    kept: Mutex<u64>,
}

/// One statement, checked for its grammar only.
#[derive(Debug, Clone)]
pub struct Statement {
    /// Where it stands; none for the command line.
    origin: Option<String>,
    parsed: Parsed,
}

/// What a statement answers.
pub enum Answer {
    /// Rows, which are computed as they are taken.
    Rows(Rows),
    /// Nothing to show: a view was made, an option set.
    Done,
}

/// Rows of one type.
pub struct Rows {
    schema: SchemaRef,
    stream: SendableRecordBatchStream,
    origin: Option<String>,
}

impl Session {
    /// A session without tables.
    pub fn new(options: Options) -> Result<Self> {
        let parts = std::thread::available_parallelism().map_or(1, usize::from).min(PARTS_MAX);
        let pool = TrackConsumersPool::new(FairSpillPool::new(options.memory_limit), CONSUMERS_NAMED);
        let runtime = RuntimeEnvBuilder::new().with_memory_pool(Arc::new(pool)).build_arc();
        let runtime = runtime.or_error(ErrorKind::Fatal, "prepare queries")?;
        let config = SessionConfig::new().with_target_partitions(parts).with_information_schema(true);
        let context = SessionContext::new_with_config_rt(config, runtime);
        context.register_udaf(AggregateUDF::new_from_impl(PercentileDisc::new()));
        Ok(Self { context, stores: Stores::new(options.s3), progress: options.progress, parts, kept: Mutex::new(0) })
    }

    /// Opens a table and gives it its name.
    ///
    /// # Errors
    ///
    /// `Config` where there is nothing, or nothing that is a table; `Unreachable` and `RefreshAuth` by a store that does not
    /// answer or refuses the credentials. The message begins with the table's name.
    pub async fn add_table(&self, table: &TableLocation) -> Result<()> {
        let failed = |error: Error| error.during(format!("table {}", table.name));
        if self.tables().contains(&table.name) {
            return Err(failed(Error::config("there are two of this name; give each its own")));
        }
        let provider = self.open(table).await.map_err(failed)?;
        let registered = self.context.register_table(table.name.as_str(), provider);
        registered.map(|_| ()).map_err(|error| failed(from_datafusion(error, &[])))
    }

    async fn open(&self, table: &TableLocation) -> Result<Arc<dyn TableProvider>> {
        let (store, root) = self.stores.open(&table.place).await?;
        // Nothing else has versions.
        let kind = table.kind.or(table.version.is_some().then_some(Kind::Delta));
        let found = find(store.as_ref(), &table.place, kind).await?;
        let (kind, files) = match found {
            Found::Delta(folder) => {
                (self.progress.0)(Step::Table { name: &table.name, files: 0 });
                return delta::open(store, &root, &table.place, &folder, table.version).await;
            }
            Found::Files(kind, files) => (kind, files),
        };
        (self.progress.0)(Step::Table { name: &table.name, files: files.len() });
        match kind {
            Kind::Json => {
                let files = json::Files { store, place: table.place.clone(), files };
                let keep = {
                    let mut kept = self.kept.lock();
                    let keep = *kept + files.size() <= KEPT_JSON_MAX;
                    *kept += if keep { files.size() } else { 0 };
                    keep
                };
                json::open(files, self.parts, keep, &self.progress).await
            }
            Kind::Csv => {
                self.listed(table, store, &root, &files, Arc::new(CsvFormat::default().with_has_header(true))).await
            }
            Kind::Parquet => self.listed(table, store, &root, &files, Arc::new(ParquetFormat::default())).await,
            Kind::Delta => Err(Error::config(format!("{} is no Delta table", table.place))),
        }
    }

    /// Files that DataFusion reads itself.
    async fn listed(
        &self,
        table: &TableLocation,
        store: Arc<dyn ObjectStore>,
        root: &Url,
        files: &[ObjectMeta],
        format: Arc<dyn FileFormat>,
    ) -> Result<Arc<dyn TableProvider>> {
        self.context.runtime_env().register_object_store(root, store);
        let failed = |error: DataFusionError| from_datafusion(error, &[]).during(format!("read {}", table.place));
        let url = |file: &ObjectMeta| {
            let mut url = root.clone();
            url.set_path(&format!("/{}", file.location));
            ListingTableUrl::try_new(url, None).map_err(failed)
        };
        let urls = files.iter().map(url).collect::<Result<Vec<_>>>()?;
        let ending = |file: &ObjectMeta| file.location.extension().map_or(String::new(), |ending| format!(".{ending}"));
        let options = ListingOptions::new(format).with_file_extension(files.first().map(ending).unwrap_or_default());
        let state = self.context.state();
        let config = ListingTableConfig::new_with_multi_paths(urls).with_listing_options(options);
        let config = config.infer_schema(&state).await.map_err(failed)?;
        Ok(Arc::new(ListingTable::try_new(config).map_err(failed)?))
    }

    /// Takes a text apart into its statements. `origin` names the file.
    ///
    /// # Errors
    ///
    /// `Config`, with line and column.
    pub fn parse(&self, sql: &str, origin: Option<&str>) -> Result<Vec<Statement>> {
        let parsed = DFParserBuilder::new(sql).build().and_then(|mut parser| parser.parse_statements());
        let parsed = parsed.map_err(|error| in_file(from_datafusion(error, &[]), origin))?;
        Ok(parsed.into_iter().map(|parsed| Statement { origin: origin.map(str::to_owned), parsed }).collect())
    }

    /// Starts a statement.
    ///
    /// # Errors
    ///
    /// `Config` where the statement can't work on these tables; others as of [`add_table`](Self::add_table).
    pub async fn run(&self, statement: &Statement) -> Result<Answer> {
        let failed = |error| in_file(from_datafusion(error, &self.tables()), statement.origin.as_deref());
        let parsed = match &statement.parsed {
            Parsed::Statement(sql) if matches!(**sql, Sql::ShowTables { .. }) => self.show_tables()?,
            Parsed::CreateExternalTable(_) | Parsed::CopyTo(_) => {
                return Err(in_file(only_reads(), statement.origin.as_deref()));
            }
            parsed => parsed.clone(),
        };
        let plan = self.context.state().statement_to_plan(parsed).await.map_err(failed)?;
        if SQLOptions::new().with_allow_dml(false).verify_plan(&plan).is_err() {
            return Err(in_file(only_reads(), statement.origin.as_deref()));
        }
        let quiet = matches!(plan, LogicalPlan::Ddl(_) | LogicalPlan::Statement(_));
        let frame = self.context.execute_logical_plan(plan).await.map_err(failed)?;
        let stream = frame.execute_stream().await.map_err(failed)?;
        if quiet {
            return Ok(Answer::Done);
        }
        Ok(Answer::Rows(Rows { schema: stream.schema(), stream, origin: statement.origin.clone() }))
    }

    /// The names that a query may use.
    fn tables(&self) -> Vec<String> {
        let schema = self.context.catalog("datafusion").and_then(|catalog| catalog.schema("public"));
        let mut names = schema.map(|schema| schema.table_names()).unwrap_or_default();
        names.sort();
        names
    }

    /// DataFusion's own answer is mostly about its own catalog.
    fn show_tables(&self) -> Result<Parsed> {
        const SQL: &str = "select table_name, case table_type when 'VIEW' then 'view' else 'table' end as kind
            from information_schema.tables where table_schema = 'public' order by table_name";
        let mut statements = self.parse(SQL, None)?;
        Ok(statements.remove(0).parsed)
    }
}

impl Rows {
    /// Names and types of the columns.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The file that asked; none for the command line.
    pub fn origin(&self) -> Option<&str> {
        self.origin.as_deref()
    }

    /// The next rows; none after the last.
    pub async fn next(&mut self) -> Result<Option<arrow::array::RecordBatch>> {
        let batch = self.stream.next().await.transpose();
        batch.map_err(|error| in_file(from_datafusion(error, &[]), self.origin.as_deref()))
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("tables", &self.tables()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rows").field("schema", &self.schema).field("origin", &self.origin).finish_non_exhaustive()
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rows(rows) => rows.fmt(f),
            Self::Done => f.write_str("Done"),
        }
    }
}

fn in_file(error: Error, origin: Option<&str>) -> Error {
    match origin {
        Some(file) => error.during(file),
        None => error,
    }
}

fn only_reads() -> Error {
    Error::config(
        "queries read and change nothing; name tables with --table, and take results from standard output with --format",
    )
}
