//! How answers are printed: a table for people, CSV and JSON lines for programs.

use std::borrow::Cow;
use std::io::{self, IsTerminal as _, Write};
use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::{DataType, FieldRef};
use arrow::error::ArrowError;
use arrow::json::LineDelimitedWriter;
use arrow::json::writer::{EncoderOptions, LineDelimited, NullableEncoder, WriterBuilder, make_encoder};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use ottla_api::{Error, ErrorKind};

use crate::session::Rows;

/// A form of answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Columns for a person, of at most so many rows.
    Table {
        /// How many rows are shown.
        rows_max: usize,
    },
    /// One JSON object a line.
    Json,
    /// Comma-separated, with the names in the first line. A null is nothing, an empty text `""`.
    Csv,
}

/// What went wrong while printing.
#[derive(Debug)]
pub enum PrintError {
    /// The query.
    Query(Error),
    /// Whoever reads.
    Output(io::Error),
}

impl From<Error> for PrintError {
    fn from(error: Error) -> Self {
        Self::Query(error)
    }
}

impl From<io::Error> for PrintError {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// Arrow wraps what a pipe says.
impl From<ArrowError> for PrintError {
    fn from(error: ArrowError) -> Self {
        match error {
            ArrowError::IoError(_, error) => Self::Output(error),
            error => Self::Query(Error::new(ErrorKind::Fatal, "print the answer").caused_by(error)),
        }
    }
}

/// Prints all rows as they come; a table when its last row is known.
pub async fn print(mut rows: Rows, format: Format, out: &mut impl Write) -> Result<(), PrintError> {
    match format {
        Format::Table { rows_max } => table(&mut rows, rows_max, out).await?,
        Format::Json => json(&mut rows, out).await?,
        Format::Csv => csv(&mut rows, out).await?,
    }
    out.flush()?;
    Ok(())
}

async fn table(rows: &mut Rows, rows_max: usize, out: &mut impl Write) -> Result<(), PrintError> {
    let schema = Arc::clone(rows.schema());
    // A plan is a drawing of several lines; anything else keeps to one.
    let plan = schema.fields().iter().map(|field| field.name().as_str()).eq(["plan_type", "plan"]);
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(schema.fields().iter().map(|field| field.name().as_str()));
    if io::stdout().is_terminal() {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    let (mut count, mut more) = (0, false);
    while let Some(batch) = rows.next().await? {
        let all = for_each_row(&batch, |cells| {
            if count == rows_max {
                return Ok(false);
            }
            table.add_row(cells.iter().map(|cell| match cell.as_deref() {
                None => "null".into(),
                Some(drawing) if plan => drawing.into(),
                Some(text) => one_line(text),
            }));
            count += 1;
            Ok(true)
        })?;
        if !all {
            more = true;
            break;
        }
    }
    for (column, field) in table.column_iter_mut().zip(schema.fields()) {
        column.set_padding((0, 2));
        if field.data_type().is_numeric() {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    writeln!(out, "{}", table.trim_fmt())?;
    let noun = if count == 1 { "row" } else { "rows" };
    if more {
        writeln!(out, "({count} {noun}, and there are more: --max-rows N, or --format csv or json, shows them)")?;
    } else {
        writeln!(out, "({count} {noun})")?;
    }
    Ok(())
}

async fn json(rows: &mut Rows, out: &mut impl Write) -> Result<(), PrintError> {
    let mut writer: LineDelimitedWriter<_> =
        WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(&mut *out);
    while let Some(batch) = rows.next().await? {
        writer.write(&batch)?;
    }
    writer.finish()?;
    Ok(())
}

async fn csv(rows: &mut Rows, out: &mut impl Write) -> Result<(), PrintError> {
    let names: Vec<String> = rows.schema().fields().iter().map(|field| quoted(field.name())).collect();
    writeln!(out, "{}", names.join(","))?;
    while let Some(batch) = rows.next().await? {
        for_each_row(&batch, |cells| {
            let cells: Vec<String> =
                cells.iter().map(|cell| cell.as_deref().map_or_else(String::new, quoted)).collect();
            writeln!(out, "{}", cells.join(","))?;
            Ok(true)
        })?;
    }
    Ok(())
}

/// Quotes where RFC 4180 asks for it, and around nothing, which would otherwise be a null.
fn quoted(text: &str) -> String {
    let special = |c: char| matches!(c, ',' | '"' | '\n' | '\r');
    if text.is_empty() || text.contains(special) || text.trim() != text {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

/// Line breaks and the like would tear a row apart.
fn one_line(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return text.into();
    }
    let mut line = String::new();
    for c in text.chars() {
        if c.is_control() { line.extend(c.escape_default()) } else { line.push(c) }
    }
    line.into()
}

/// The values of a column as text: numbers with all their digits, times in ISO 8601, lists and objects as JSON.
enum Cells<'a> {
    Null,
    Plain(&'a dyn Array, ArrayFormatter<'a>),
    Json(&'a dyn Array, NullableEncoder<'a>),
}

impl<'a> Cells<'a> {
    fn of(array: &'a dyn Array, field: &'a FieldRef, json: &'a EncoderOptions) -> Result<Self, ArrowError> {
        const PLAIN: FormatOptions<'static> = FormatOptions::new();
        Ok(match array.data_type() {
            DataType::Null => Self::Null,
            kind if kind.is_nested() => Self::Json(array, make_encoder(field, array, json)?),
            _ => Self::Plain(array, ArrayFormatter::try_new(array, &PLAIN)?),
        })
    }

    fn text(&mut self, row: usize) -> Result<Option<String>, ArrowError> {
        match self {
            Self::Plain(array, plain) if array.is_valid(row) => plain.value(row).try_to_string().map(Some),
            Self::Json(array, json) if array.is_valid(row) => {
                let mut text = Vec::new();
                json.encode(row, &mut text);
                Ok(Some(String::from_utf8_lossy(&text).into_owned()))
            }
            _ => Ok(None),
        }
    }
}

/// Calls `take` for each row of a batch, until it has had enough.
fn for_each_row(
    batch: &RecordBatch,
    mut take: impl FnMut(&[Option<String>]) -> Result<bool, PrintError>,
) -> Result<bool, PrintError> {
    let schema = batch.schema();
    let json = EncoderOptions::default().with_explicit_nulls(true);
    let columns = batch.columns().iter().zip(schema.fields());
    let mut columns = columns.map(|(array, field)| Cells::of(array, field, &json)).collect::<Result<Vec<_>, _>>()?;
    for row in 0..batch.num_rows() {
        let cells = columns.iter_mut().map(|cells| cells.text(row)).collect::<Result<Vec<_>, _>>()?;
        if !take(&cells)? {
            return Ok(false);
        }
    }
    Ok(true)
}
