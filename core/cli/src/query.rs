//! `ottla query`: SQL over what the pipelines have written.

use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use ottla_api::{Error, ErrorKind, Result, error::ResultExt as _};
use ottla_query::{
    Answer, Format, Options, PrintError, Progress, S3Options, Session, Statement, Step, TableLocation, print,
};

use crate::logging::Logging;

/// Options of `ottla query`.
#[derive(Debug, Args)]
#[command(after_help = "A location is a folder, a file or a pattern. What it holds is found out: JSON
lines, CSV, Parquet, or a Delta table; `json:`, `csv:`, `parquet:` or `delta:`
before it says so. `@12` or `@2026-11-21T10:00:00Z` behind it is an older state
of a Delta table. Credentials of s3:// come from where all of AWS's tools look:
AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, profiles, the machine.

The SQL is DataFusion's, and changes nothing. Of medians there are two:
percentile_cont(0.5) within group (order by x) is the exact one,
percentile_disc(0.5) within group (order by x) the lower one.

Examples:
  ottla query -t pin=ottla-lake/posts/cleaned/0a4e65e909bd.pin \\
    \"select category, count(*) as posts from pin group by category\"
  ottla query -t geo=delta:ottla-lake/tables/geo@12 \"describe geo\"
  ottla query -t pin='s3://posts/topics/*.pin' --format csv \\
    --s3-endpoint http://localhost:9000 \"select * from pin\" > pin.csv
  ottla query -t pin=.. -t geo=.. -t user=.. -f examples/pinterest/questions")]
pub(crate) struct QueryArgs {
    /// A table: its name in SQL, and where it lies. Repeatable.
    #[arg(short, long = "table", value_name = "NAME=LOCATION[@VERSION]")]
    tables: Vec<TableLocation>,
    /// Statements of a file; of all *.sql of a folder, in the order of their names; or of standard input, by `-`.
    /// Repeatable.
    #[arg(short, long = "file", value_name = "FILE|FOLDER")]
    files: Vec<PathBuf>,
    /// Statements, separated by semicolons. They run after those of files, and see their views.
    #[arg(value_name = "SQL")]
    sql: Option<String>,
    /// How answers are printed.
    #[arg(long, value_enum, default_value_t)]
    format: FormatArg,
    /// How many rows of an answer a table shows.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    max_rows: usize,
    /// Megabytes that a query may use before it goes on in temporary files.
    #[arg(long, value_name = "MB", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(16..=1 << 20))]
    memory_limit: u64,
    /// Address of an S3 endpoint, such as http://localhost:9000; without it, AWS.
    #[arg(long, value_name = "URL")]
    s3_endpoint: Option<String>,
    /// Region of the buckets.
    #[arg(long, value_name = "NAME")]
    s3_region: Option<String>,
}

/// How answers are printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum FormatArg {
    /// Columns for a person.
    #[default]
    Table,
    /// One JSON object a line.
    Json,
    /// Comma-separated, with names in the first line; a null is nothing, an empty text `""`.
    Csv,
}

/// Runs `ottla query`.
pub(crate) async fn run(args: QueryArgs, logging: &Logging) -> Result<()> {
    if args.files.is_empty() && args.sql.is_none() {
        return Err(Error::config("there is nothing to ask; give SQL, or a file of it with -f"));
    }
    let live = Live::new(logging);
    let session = Session::new(Options {
        s3: S3Options { endpoint: args.s3_endpoint, region: args.s3_region },
        memory_limit: usize::try_from(args.memory_limit << 20).unwrap_or(usize::MAX),
        progress: live.progress(),
    })?;
    // Mistakes of grammar show before anything is read.
    let mut statements = Vec::new();
    for file in sql_files(&args.files)? {
        statements.extend(session.parse(&text_of(&file)?, Some(&file.display().to_string()))?);
    }
    if let Some(sql) = &args.sql {
        statements.extend(session.parse(sql, None)?);
    }
    for table in &args.tables {
        session.add_table(table).await?;
    }
    live.clear();
    let format = match args.format {
        FormatArg::Table => Format::Table { rows_max: args.max_rows },
        FormatArg::Json => Format::Json,
        FormatArg::Csv => Format::Csv,
    };
    match answer(&session, &statements, format).await {
        // A closed pipe (`| head`) is the reader's choice.
        Err(PrintError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(PrintError::Output(error)) => Err(Error::fatal("write to standard output").caused_by(error)),
        Err(PrintError::Query(error)) => Err(error),
        Ok(()) => Ok(()),
    }
}

async fn answer(session: &Session, statements: &[Statement], format: Format) -> std::result::Result<(), PrintError> {
    let (mut answers, mut titled) = (0, None);
    for statement in statements {
        let Answer::Rows(rows) = session.run(statement).await? else { continue };
        let mut out = io::BufWriter::new(io::stdout());
        if answers > 0 && format != Format::Json {
            writeln!(out)?;
        }
        // Many answers in a row need a sign which is which.
        if let (Format::Table { .. }, Some(file)) = (format, rows.origin())
            && titled.as_deref() != Some(file)
        {
            writeln!(out, "-- {}", Path::new(file).file_name().unwrap_or_default().to_string_lossy())?;
            titled = Some(file.to_owned());
        }
        print(rows, format, &mut out).await?;
        answers += 1;
    }
    Ok(())
}

/// Files as they are; of a folder its `*.sql`, by name.
fn sql_files(named: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in named {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let doing = || format!("read the folder {}", path.display());
        let entries = std::fs::read_dir(path).or_error(ErrorKind::Config, doing())?;
        let paths: io::Result<Vec<PathBuf>> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
        let mut found = paths.or_error(ErrorKind::Config, doing())?;
        found.retain(|path| path.extension().is_some_and(|ending| ending == "sql"));
        if found.is_empty() {
            return Err(Error::config(format!("{} holds no *.sql", path.display())));
        }
        found.sort();
        files.append(&mut found);
    }
    Ok(files)
}

fn text_of(file: &Path) -> Result<String> {
    if file == Path::new("-") {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).or_error(ErrorKind::Config, "read SQL from standard input")?;
        return Ok(text);
    }
    std::fs::read_to_string(file).or_error(ErrorKind::Config, format!("read {}", file.display()))
}

/// A line about what is being read, where somebody watches.
struct Live(Option<ProgressBar>);

impl Live {
    fn new(logging: &Logging) -> Self {
        let watched = logging.terminal && io::stderr().is_terminal();
        Self(watched.then(|| {
            let style = ProgressStyle::with_template("{spinner} reading {msg}: {human_pos} of {human_len} files")
                .expect("a constant template");
            logging.live.add(ProgressBar::new(0).with_style(style))
        }))
    }

    fn progress(&self) -> Progress {
        let Some(bar) = self.0.clone() else { return Progress::none() };
        Progress::new(move |step| match step {
            Step::Table { name, files } => {
                bar.set_message(name.to_owned());
                bar.set_position(0);
                bar.set_length(files as u64);
            }
            Step::File => bar.inc(1),
        })
    }

    fn clear(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.clear();
    }
}
