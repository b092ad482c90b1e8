//! Folders of JSON lines as tables: the columns from every row, the rows kept in memory where they are few.
//!
//! A table is read once to learn its columns. What is small stays in memory, so that ten questions cost one reading and see
//! the same rows. What is large is read anew by each statement, part by part; the list of its files stays that of the
//! beginning, so a sink that goes on writing meanwhile changes no answer.

mod shape;

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::json::ReaderBuilder;
use arrow::json::reader::Decoder;
use bytes::{Bytes, BytesMut};
use datafusion::catalog::TableProvider;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::datasource::MemTable;
use datafusion::error::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt as _};
use ottla_api::error::ResultExt as _;
use ottla_api::{Error, ErrorKind, Result};
use serde::de::DeserializeSeed as _;

use crate::error::from_store;
use crate::location::Place;
use crate::session::Progress;
use crate::store::shown;
use shape::{Row, Shape};

/// How many files of one part of a table are on their way at once.
const FILES_AHEAD: usize = 16;
/// Rows of a batch.
const BATCH_ROWS: usize = 8192;
/// Larger files come in pieces.
const WHOLE_FILE_MAX: u64 = 8 << 20;

/// What a table is read from.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) place: Place,
    pub(crate) files: Vec<ObjectMeta>,
}

impl Files {
    /// Bytes in all files.
    pub(crate) fn size(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }

    /// As many parts as asked for, fewer where there are not so many files, of about the same size and in order.
    fn parts(&self, count: usize) -> Vec<Vec<ObjectMeta>> {
        let target = self.size().div_ceil(count.max(1) as u64).max(1);
        let (mut parts, mut size) = (vec![Vec::new()], 0);
        for file in &self.files {
            if size >= target && parts.len() < count {
                parts.push(Vec::new());
                size = 0;
            }
            size += file.size;
            parts.last_mut().expect("never empty").push(file.clone());
        }
        parts
    }
}

/// Opens a table of JSON lines; with `keep` its rows stay in memory.
pub(crate) async fn open(
    files: Files,
    parts: usize,
    keep: bool,
    progress: &Progress,
) -> Result<Arc<dyn TableProvider>> {
    let parts = files.parts(parts);
    let reader = Reader { store: Arc::clone(&files.store), place: files.place.clone() };
    let looks = parts.iter().map(|part| {
        // A task each, so that all processors read.
        let look = look(reader.clone(), part.clone(), keep, progress.clone());
        async { tokio::spawn(look).await.or_error(ErrorKind::Fatal, "read a table")? }
    });
    let looks = futures::future::try_join_all(looks).await?;
    let mut shape = Shape::default();
    let mut kept = Vec::new();
    for (part, bytes) in looks {
        shape
            .merge(part, "the row")
            .map_err(|error| Error::config(format!("{}: {error}; {ONE_SHAPE}", files.place)))?;
        kept.push(bytes);
    }
    let schema = Arc::new(shape.schema());
    if schema.fields().is_empty() {
        return Err(Error::config(format!("{} holds no rows, or rows without fields", files.place)));
    }
    let failed = |error| crate::error::from_datafusion(error, &[]).during(format!("read {}", files.place));
    if keep {
        let decode = |bytes: Vec<Bytes>| {
            let (schema, place) = (Arc::clone(&schema), files.place.to_string());
            async move {
                let decoded = tokio::task::spawn_blocking(move || decode_all(&schema, bytes)).await;
                decoded.or_error(ErrorKind::Fatal, "read a table")?.or_error(ErrorKind::Fatal, format!("read {place}"))
            }
        };
        let batches = futures::future::try_join_all(kept.into_iter().map(decode)).await?;
        return Ok(Arc::new(MemTable::try_new(schema, batches).map_err(failed)?));
    }
    let part = |files| -> Arc<dyn PartitionStream> {
        Arc::new(Part { reader: reader.clone(), schema: Arc::clone(&schema), files })
    };
    let parts = parts.into_iter().map(part).collect();
    Ok(Arc::new(StreamingTable::try_new(schema, parts).map_err(failed)?))
}

/// What to do about rows that don't fit into one table.
const ONE_SHAPE: &str = "a table needs rows of one shape, choose them by a pattern such as 'folder/*.json'";

/// Fetches files, and says their names where something is wrong.
#[derive(Debug, Clone)]
struct Reader {
    store: Arc<dyn ObjectStore>,
    place: Place,
}

impl Reader {
    /// The files in order, several on their way at once, each as the chunks in which it comes.
    fn fetch(
        self,
        files: Vec<ObjectMeta>,
    ) -> impl Stream<Item = Result<(ObjectMeta, BoxStream<'static, Result<Bytes>>)>> {
        let ahead = if files.iter().any(|file| file.size > WHOLE_FILE_MAX) { 1 } else { FILES_AHEAD };
        let fetch = move |file: ObjectMeta| {
            let reader = self.clone();
            async move {
                let name = shown(&reader.place, &file.location);
                let failed = move |error| from_store(error, "read", &name);
                let found = reader.store.get(&file.location).await.map_err(&failed)?;
                let chunks = if file.size > WHOLE_FILE_MAX {
                    found.into_stream().map_err(failed).boxed()
                } else {
                    let bytes = found.bytes().await.map_err(failed)?;
                    futures::stream::once(async { Ok(bytes) }).boxed()
                };
                Ok((file, chunks))
            }
        };
        futures::stream::iter(files).map(fetch).buffered(ahead)
    }
}

/// Learns the shape of the rows of some files; what they hold comes along where it is to be kept.
async fn look(reader: Reader, files: Vec<ObjectMeta>, keep: bool, progress: Progress) -> Result<(Shape, Vec<Bytes>)> {
    let (mut shape, mut kept) = (Shape::default(), Vec::new());
    let place = reader.place.clone();
    let mut fetched = std::pin::pin!(reader.fetch(files));
    while let Some((file, mut chunks)) = fetched.try_next().await? {
        let name = shown(&place, &file.location);
        let mut lines = Lines { shape: &mut shape, name: &name, line: 0, rest: BytesMut::new() };
        while let Some(chunk) = chunks.try_next().await? {
            lines.chunk(&chunk)?;
            if keep {
                kept.push(chunk);
            }
        }
        lines.end()?;
        if keep {
            // A file may end without a line break, and the next one begins a line.
            kept.push(Bytes::from_static(b"\n"));
        }
        progress.file_read();
    }
    Ok((shape, kept))
}

/// Takes a file apart into lines.
struct Lines<'a> {
    shape: &'a mut Shape,
    name: &'a str,
    line: usize,
    /// The beginning of a line whose end is in the next chunk.
    rest: BytesMut,
}

impl Lines<'_> {
    fn chunk(&mut self, chunk: &[u8]) -> Result<()> {
        let Some(last) = memchr::memrchr(b'\n', chunk) else {
            self.rest.extend_from_slice(chunk);
            return Ok(());
        };
        let mut lines = chunk[..last].split(|byte| *byte == b'\n');
        if !self.rest.is_empty() {
            self.rest.extend_from_slice(lines.next().unwrap_or_default());
            let whole = self.rest.split();
            self.line(&whole)?;
        }
        for line in lines {
            self.line(line)?;
        }
        self.rest.extend_from_slice(&chunk[last + 1..]);
        Ok(())
    }

    fn end(mut self) -> Result<()> {
        let whole = self.rest.split();
        self.line(&whole)
    }

    fn line(&mut self, line: &[u8]) -> Result<()> {
        self.line += 1;
        if line.trim_ascii().is_empty() {
            return Ok(());
        }
        let mut json = serde_json::Deserializer::from_slice(line);
        let read = Row(self.shape).deserialize(&mut json).and_then(|()| json.end());
        read.map_err(|error| {
            let text = error.to_string();
            let text = text.split(" at line ").next().unwrap_or_default();
            let place = format!("{} line {}", self.name, self.line);
            match error.classify() {
                serde_json::error::Category::Data if text.starts_with('\'') => {
                    Error::config(format!("{place}: {text}; {ONE_SHAPE}"))
                }
                serde_json::error::Category::Data => Error::config(format!("{place}: {text}")),
                _ => Error::config(format!("{place} column {}: broken JSON: {text}", error.column())),
            }
        })
    }
}

fn decoder(schema: &SchemaRef) -> Result<Decoder, arrow::error::ArrowError> {
    // Numbers stand in text columns where a column holds both.
    ReaderBuilder::new(Arc::clone(schema)).with_batch_size(BATCH_ROWS).with_coerce_primitive(true).build_decoder()
}

fn decode_all(schema: &SchemaRef, chunks: Vec<Bytes>) -> Result<Vec<RecordBatch>, arrow::error::ArrowError> {
    let mut decoder = decoder(schema)?;
    let mut batches = Vec::new();
    for chunk in chunks {
        let mut at = 0;
        while at < chunk.len() {
            at += decoder.decode(&chunk[at..])?;
            if at < chunk.len() {
                batches.extend(decoder.flush()?);
            }
        }
    }
    batches.extend(decoder.flush()?);
    Ok(batches)
}

/// One part of a table that is read anew by each statement.
struct Part {
    reader: Reader,
    schema: SchemaRef,
    files: Vec<ObjectMeta>,
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} files of {}", self.files.len(), self.reader.place)
    }
}

impl PartitionStream for Part {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let chunks = self.reader.clone().fetch(self.files.clone());
        // A file may end without a line break, and the next one begins a line.
        let line_break = || futures::stream::iter([Ok(Bytes::from_static(b"\n"))]);
        let chunks = chunks.map_ok(move |(_, chunks)| chunks.chain(line_break())).try_flatten();
        let outside = |error: Error| DataFusionError::External(Box::new(error));
        let batches = match decoder(&self.schema) {
            Err(error) => futures::stream::once(async { Err(error.into()) }).boxed(),
            Ok(decoder) => {
                let state = Some((chunks.boxed(), decoder, Bytes::new()));
                futures::stream::try_unfold(state, move |state| async move {
                    let Some((mut chunks, mut decoder, mut chunk)) = state else { return Ok(None) };
                    loop {
                        if !chunk.is_empty() {
                            let read = decoder.decode(&chunk)?;
                            let _ = chunk.split_to(read);
                            if !chunk.is_empty()
                                && let Some(batch) = decoder.flush()?
                            {
                                return Ok(Some((batch, Some((chunks, decoder, chunk)))));
                            }
                            continue;
                        }
                        match chunks.try_next().await.map_err(outside)? {
                            Some(next) => chunk = next,
                            None => return Ok(decoder.flush()?.map(|batch| (batch, None))),
                        }
                    }
                })
                .boxed()
            }
        };
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches))
    }
}

#[cfg(test)]
mod tests {
    use arrow::util::pretty::pretty_format_batches;
    use datafusion::prelude::SessionContext;
    use object_store::local::LocalFileSystem;

    use super::*;
    use crate::store::{Found, find};

    #[tokio::test]
    async fn rows_are_the_same_whether_they_are_kept_or_read_anew() {
        let folder = tempfile::tempdir().expect("a folder");
        let rows = |range: std::ops::Range<usize>| -> String {
            range
                .map(|n| format!("{{\"n\":{n},\"text\":\"row {n}\",\"list\":[{n}],\"odd\":{}}}\n", n % 2 == 1))
                .collect()
        };
        // The first comes in pieces, the others whole; the last line of one has no end.
        let large = rows(0..170_000);
        assert!(large.len() as u64 > WHOLE_FILE_MAX);
        std::fs::write(folder.path().join("a.json"), large).expect("a file");
        std::fs::write(folder.path().join("b.json"), rows(170_000..170_001).trim_end()).expect("a file");
        std::fs::write(folder.path().join("c.json"), rows(170_001..170_100)).expect("a file");
        let store: Arc<dyn ObjectStore> = Arc::new(LocalFileSystem::new());
        let place: Place = folder.path().display().to_string().parse().expect("a place");
        let Found::Files(_, found) = find(store.as_ref(), &place, None).await.expect("files") else { panic!("files") };
        let files = Files { store, place, files: found };

        let context = SessionContext::new();
        for (name, keep, parts) in [("kept", true, 2), ("anew", false, 2), ("one", false, 1)] {
            let table = open(files.clone(), parts, keep, &Progress::none()).await.expect("a table");
            context.register_table(name, table).expect("a name");
            let all =
                format!("select count(*) as n, sum(n) as s, count(distinct text) as t, sum(list[1]) as l from {name}");
            let last = format!("select list, n, text, odd from {name} where n > 170097 order by n");
            for (sql, expected) in [
                (
                    all,
                    "\
+--------+-------------+--------+-------------+
| n      | s           | t      | l           |
+--------+-------------+--------+-------------+
| 170100 | 14466919950 | 170100 | 14466919950 |
+--------+-------------+--------+-------------+",
                ),
                (
                    last,
                    "\
+----------+--------+------------+-------+
| list     | n      | text       | odd   |
+----------+--------+------------+-------+
| [170098] | 170098 | row 170098 | false |
| [170099] | 170099 | row 170099 | true  |
+----------+--------+------------+-------+",
                ),
            ] {
                let batches = context.sql(&sql).await.expect("a plan").collect().await.expect("rows");
                assert_eq!(pretty_format_batches(&batches).expect("text").to_string(), expected, "{sql}");
            }
        }
    }

    #[test]
    fn lines_are_found_across_chunks() {
        let text = "{\"a\":1}\n\n{\"b\":\"é\"}\r\n{\"c\":[1]}";
        for size in 1..=text.len() {
            let mut shape = Shape::default();
            let mut lines = Lines { shape: &mut shape, name: "x", line: 0, rest: BytesMut::new() };
            for chunk in text.as_bytes().chunks(size) {
                lines.chunk(chunk).expect("rows");
            }
            lines.end().expect("a row");
            let names: Vec<String> = shape.schema().fields().iter().map(|field| field.name().clone()).collect();
            assert_eq!(names, ["a", "b", "c"], "in chunks of {size}");
        }
    }

    #[test]
    fn parts_are_in_order_and_about_equal() {
        let file = |(n, size): (usize, u64)| ObjectMeta {
            location: format!("f{n}").into(),
            last_modified: Default::default(),
            size,
            e_tag: None,
            version: None,
        };
        let files = Files {
            store: Arc::new(LocalFileSystem::new()),
            place: "x".parse().expect("a place"),
            files: [5, 1, 1, 1, 9, 1].into_iter().enumerate().map(file).collect(),
        };
        let sizes = |count| -> Vec<Vec<u64>> {
            files.parts(count).iter().map(|part| part.iter().map(|file| file.size).collect()).collect()
        };
        assert_eq!(sizes(1), [vec![5, 1, 1, 1, 9, 1]]);
        assert_eq!(sizes(2), [vec![5, 1, 1, 1, 9], vec![1]]);
        assert_eq!(sizes(3), [vec![5, 1], vec![1, 1, 9], vec![1]]);
        assert_eq!(sizes(50), [vec![5], vec![1], vec![1], vec![1], vec![9], vec![1]]);
    }
}
