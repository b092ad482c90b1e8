//! One topic partition's records on their way into objects: the state machine behind exactly once, without any I/O.
//!
//! A writer belongs to an original topic partition. Inside it is one lane per topic that records end up in (a transformation
//! may have renamed theirs), and each lane is a chain of objects: the next object begins at the first record behind the one
//! before, and its name follows from that offset alone (K1). Because objects are never overwritten (K2), whoever creates an
//! object first decides where the next one begins, and everybody else goes on from there:
//!
//! * After assignment every lane is *recovering*: before an object is begun, the caller looks whether its name is taken
//!   (K5). If it is, the records are compared with the object's bytes as they come, and count as durable when the object is
//!   matched to its end (K4). A difference stops the task; nothing is skipped unseen. The first free name ends the recovery.
//! * When a creation is refused, the writer is thrown away and begun anew at its frontier, which means recovery again.
//! * All open files of a partition are ended together (K3).
//!
//! # The frontier
//!
//! A position may be committed when every record before it is durable *and* no object of any lane lies across it: an attempt
//! that starts there must compute the same names as this one. With one lane that is the first record that is not durable;
//! with several, a durable object holds the frontier back to its own beginning while a neighbour is still on its way.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use ottla_api::prelude::*;
use tokio::sync::mpsc;

use crate::client::{Chunk, NewObject};
use crate::object_name::Layout;
use crate::uploader::{Command, Finish, What};

/// How much of an existing object is compared at a time.
const WINDOW: u64 = 1024 * 1024;
/// S3 takes 10,000 parts; one is for the rest.
const PARTS_MAX: u64 = 9_999;
/// How many ended objects may wait for their upload. With `flush.size=1` this is how far consumption runs ahead, so that
/// other partitions get their turn meanwhile.
const QUEUED_FILES_MAX: usize = 1_000;
/// How many bytes may wait for their upload, at least.
const QUEUED_BYTES_MIN: usize = 64 * 1024 * 1024;
/// How many characters of the first record are shown.
const SAMPLE_CHARACTERS: usize = 200;

/// What decides about names and rotation.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) layout: Layout,
    pub(crate) flush_size: u64,
    /// Milliseconds of record time; none for never.
    pub(crate) rotate_interval: Option<i64>,
    pub(crate) part_size: usize,
    /// False only for the planted bug of the fault tests.
    pub(crate) recovery: bool,
}

/// One record, rendered.
#[derive(Debug)]
pub(crate) struct Line<'a> {
    pub(crate) topic: &'a Arc<str>,
    pub(crate) offset: i64,
    pub(crate) timestamp: Option<i64>,
    pub(crate) schema: Option<&'a Arc<Schema>>,
    /// JSON and a newline.
    pub(crate) text: &'a [u8],
}

/// What a writer answers to a record.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Offer {
    /// It is in a file, or matches the object that is being compared.
    Taken,
    /// It was the last record of an existing object, which is now known to be ours in content.
    Adopted {
        /// How many records the object holds.
        records: u64,
    },
    /// Not yet: first read this, give it to [`Writer::looked`], and offer the record again.
    Look(Look),
}

/// A range of an object to be read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) key: String,
    pub(crate) from: u64,
    pub(crate) length: u64,
}

/// The state of one topic partition. See the module.
#[derive(Debug)]
pub(crate) struct Writer {
    partition: TopicPartition,
    rules: Arc<Rules>,
    uploads: mpsc::UnboundedSender<Command>,
    /// Every record before this offset was taken, or needs no delivery. -1 before the first record of a partition that has
    /// no committed offset.
    next: i64,
    lanes: BTreeMap<Arc<str>, Lane>,
    /// What is between the frontier and `next`, in the order of beginning.
    extents: Vec<Extent>,
    files_begun: u64,
    /// Records in open files, for `flush.size`.
    open_records: u64,
    /// Timestamp of the first record in the open files.
    base_timestamp: Option<i64>,
    open_bytes: usize,
    queued_files: usize,
    queued_bytes: usize,
    trouble: Trouble,
}

/// The chain of objects of one topic.
#[derive(Debug)]
struct Lane {
    recovering: bool,
    file: Option<File>,
}

#[derive(Debug)]
enum File {
    Filling(Filling),
    Comparing(Comparing),
}

/// A file that will become an object.
#[derive(Debug)]
struct Filling {
    id: u64,
    object: NewObject,
    last: i64,
    records: u64,
    schema: Option<Arc<Schema>>,
    buffer: Vec<u8>,
    /// Length of the parts that went ahead.
    sent: u64,
    parts: u64,
    sample: Option<String>,
}

/// An object that exists already.
#[derive(Debug)]
struct Comparing {
    id: u64,
    key: String,
    total: u64,
    /// Up to here it matched.
    position: u64,
    records: u64,
    window: Bytes,
    window_start: u64,
}

/// The range of offsets of one file.
#[derive(Debug)]
struct Extent {
    file: u64,
    first: i64,
    last: i64,
    durable: bool,
}

/// How the uploads stand.
#[derive(Debug, Default)]
enum Trouble {
    #[default]
    None,
    /// An attempt has failed, and nobody was told yet.
    New(Error),
    /// It was told; another attempt will follow.
    Told,
    /// It was told, and there will be no other attempt.
    Final,
}

impl Writer {
    /// A writer that goes on at `next`.
    pub(crate) fn new(
        partition: TopicPartition,
        next: i64,
        rules: Arc<Rules>,
        uploads: mpsc::UnboundedSender<Command>,
    ) -> Self {
        Self {
            partition,
            rules,
            uploads,
            next,
            lanes: BTreeMap::new(),
            extents: Vec::new(),
            files_begun: 0,
            open_records: 0,
            base_timestamp: None,
            open_bytes: 0,
            queued_files: 0,
            queued_bytes: 0,
            trouble: Trouble::None,
        }
    }

    /// Offers the record at or behind [`next`](Self::next). An error names an object that holds something else.
    pub(crate) fn offer(&mut self, line: &Line<'_>) -> Result<Offer> {
        let lane = self
            .lanes
            .entry(line.topic.clone())
            .or_insert_with(|| Lane { recovering: self.rules.recovery, file: None });
        let offer = match &mut lane.file {
            Some(File::Comparing(object)) => match object.compare(line, &self.partition)? {
                Some(look) => return Ok(Offer::Look(look)),
                None if object.position == object.total => {
                    let (id, records) = (object.id, object.records);
                    lane.file = None;
                    self.extend(id, line.offset);
                    self.set_durable(id);
                    Offer::Adopted { records }
                }
                None => {
                    let id = object.id;
                    self.extend(id, line.offset);
                    Offer::Taken
                }
            },
            None if lane.recovering => {
                let key = self.rules.layout.key(line.topic, self.partition.partition, line.offset);
                return Ok(Offer::Look(Look { key, from: 0, length: WINDOW }));
            }
            _ => {
                self.fill(line);
                Offer::Taken
            }
        };
        self.next = line.offset + 1;
        Ok(offer)
    }

    /// Takes what [`Offer::Look`] asked for. False where the object has vanished or changed meanwhile: begin anew.
    #[must_use]
    pub(crate) fn looked(&mut self, line: &Line<'_>, look: Look, chunk: Option<Chunk>) -> bool {
        let lane = self.lanes.get_mut(line.topic).expect("the lane that asked");
        match (&mut lane.file, chunk) {
            (None, None) => lane.recovering = false,
            (None, Some(chunk)) => {
                let id = self.files_begun;
                self.files_begun += 1;
                lane.file = Some(File::Comparing(Comparing {
                    id,
                    key: look.key,
                    total: chunk.total,
                    position: 0,
                    records: 0,
                    window: chunk.bytes,
                    window_start: 0,
                }));
                self.extents.push(Extent { file: id, first: line.offset, last: line.offset, durable: false });
            }
            (Some(File::Comparing(object)), Some(chunk)) if chunk.total == object.total => {
                object.window = chunk.bytes;
                object.window_start = look.from;
            }
            _ => return false,
        }
        true
    }

    /// Moves on over records that need no delivery.
    pub(crate) fn pass(&mut self, next: i64) {
        self.next = self.next.max(next);
    }

    /// Appends to the lane's open file, beginning and ending files as the rules say.
    fn fill(&mut self, line: &Line<'_>) {
        if self.is_due(line) {
            self.cut();
        }
        let lane = self.lanes.get_mut(line.topic).expect("the lane of an offered record");
        let file = match &mut lane.file {
            Some(File::Filling(file)) => file,
            file => {
                let id = self.files_begun;
                self.files_begun += 1;
                self.extents.push(Extent { file: id, first: line.offset, last: line.offset, durable: false });
                let key = self.rules.layout.key(line.topic, self.partition.partition, line.offset);
                let new = File::Filling(Filling::new(id, key, line));
                let Some(File::Filling(file)) = Some(file.insert(new)) else { unreachable!("inserted above") };
                file
            }
        };
        let held = file.buffer.capacity();
        file.buffer.extend_from_slice(line.text);
        file.last = line.offset;
        file.records += 1;
        while file.buffer.len() > self.rules.part_size {
            let rest = file.buffer.split_off(self.rules.part_size);
            let mut part = std::mem::replace(&mut file.buffer, rest);
            part.shrink_to_fit();
            file.sent += part.len() as u64;
            file.parts += 1;
            self.queued_bytes += part.len();
            let command = Command::Part { file: file.id, object: file.object.clone(), body: part.into() };
            // A closed channel means that the uploader has failed; its event says so.
            let _ = self.uploads.send(command);
        }
        self.open_bytes = self.open_bytes + file.buffer.capacity() - held;
        let full = file.parts >= PARTS_MAX;
        self.open_records += 1;
        if self.open_records == 1 {
            self.base_timestamp = line.timestamp;
        }
        if full || self.open_records >= self.rules.flush_size {
            self.cut();
        }
    }

    /// True where the open files must end before this record.
    fn is_due(&self, line: &Line<'_>) -> bool {
        if self.open_records == 0 {
            return false;
        }
        if let (Some(interval), Some(base), Some(timestamp)) =
            (self.rules.rotate_interval, self.base_timestamp, line.timestamp)
            && timestamp.saturating_sub(base) >= interval
        {
            return true;
        }
        match self.lanes.get(line.topic).and_then(|lane| lane.file.as_ref()) {
            Some(File::Filling(file)) => !same_schema(file.schema.as_ref(), line.schema),
            _ => false,
        }
    }

    /// Ends all open files (K3). An object that is being compared has its own end, and stays.
    pub(crate) fn cut(&mut self) {
        let mut files: Vec<Filling> = self
            .lanes
            .values_mut()
            .filter_map(|lane| match lane.file.take() {
                Some(File::Filling(file)) => Some(file),
                other => {
                    lane.file = other;
                    None
                }
            })
            .collect();
        files.sort_by_key(|file| file.id);
        for file in files {
            self.extend(file.id, file.last);
            let held = file.buffer.capacity();
            self.queued_files += 1;
            self.queued_bytes += held;
            let finish = Finish {
                file: file.id,
                length: file.sent + file.buffer.len() as u64,
                in_parts: file.parts > 0,
                object: NewObject { last: Some(file.last), records: Some(file.records), ..file.object },
                body: file.buffer.into(),
                sample: file.sample,
                held,
            };
            let _ = self.uploads.send(Command::Finish(finish));
        }
        self.open_records = 0;
        self.base_timestamp = None;
        self.open_bytes = 0;
    }

    /// Notes what became of an upload. False where the writer must begin anew.
    #[must_use]
    pub(crate) fn uploaded(&mut self, what: &mut What) -> bool {
        match what {
            What::PartStored { held } => {
                self.queued_bytes -= *held;
                self.trouble = Trouble::None;
            }
            What::Created(finish) => {
                self.queued_bytes -= finish.held;
                self.queued_files -= 1;
                self.trouble = Trouble::None;
                self.set_durable(finish.file);
            }
            What::Contested { .. } => return false,
            What::Failed(error) => {
                // The error is for whoever asks first; what stays in the event is not looked at again.
                let kind = error.kind();
                self.trouble = Trouble::New(std::mem::replace(error, Error::new(kind, "told")));
            }
        }
        true
    }

    /// The failure of an upload, once.
    pub(crate) fn take_trouble(&mut self) -> Option<Error> {
        match std::mem::take(&mut self.trouble) {
            Trouble::New(error) => {
                self.trouble = if error.is_retriable() { Trouble::Told } else { Trouble::Final };
                Some(error)
            }
            Trouble::Final => {
                self.trouble = Trouble::Final;
                Some(
                    Error::fatal("the partition's uploads have stopped after an error")
                        .with("partition", &self.partition),
                )
            }
            other => {
                self.trouble = other;
                None
            }
        }
    }

    /// True where the last attempt at an upload has failed.
    pub(crate) fn is_troubled(&self) -> bool {
        !matches!(self.trouble, Trouble::None)
    }

    /// The position that may be committed. See the module.
    pub(crate) fn frontier(&self) -> i64 {
        let mut position = self.next;
        loop {
            let across = self
                .extents
                .iter()
                .filter(|extent| extent.first < position && (!extent.durable || extent.last >= position))
                .map(|extent| extent.first)
                .min();
            match across {
                Some(first) => position = first,
                None => return position,
            }
        }
    }

    /// Forgets what lies before the frontier.
    fn prune(&mut self) {
        let frontier = self.frontier();
        self.extents.retain(|extent| extent.last >= frontier);
    }

    fn extend(&mut self, file: u64, last: i64) {
        if let Some(extent) = self.extents.iter_mut().rev().find(|extent| extent.file == file) {
            extent.last = last;
        }
    }

    fn set_durable(&mut self, file: u64) {
        if let Some(extent) = self.extents.iter_mut().find(|extent| extent.file == file) {
            extent.durable = true;
        }
        self.prune();
    }

    /// Every record before this offset was taken.
    pub(crate) fn next(&self) -> i64 {
        self.next
    }

    /// True while too much waits for its upload to take more.
    pub(crate) fn is_full(&self) -> bool {
        self.queued_files >= QUEUED_FILES_MAX || self.queued_bytes >= QUEUED_BYTES_MIN.max(2 * self.rules.part_size)
    }

    /// True while ended files wait for their upload.
    pub(crate) fn is_uploading(&self) -> bool {
        self.queued_files > 0
    }

    /// Bytes in memory.
    pub(crate) fn buffered(&self) -> usize {
        self.open_bytes + self.queued_bytes
    }

    /// Bytes that a cut would send on their way.
    pub(crate) fn open_bytes(&self) -> usize {
        self.open_bytes
    }

    /// With the end of the topic reached: an error where an existing object goes on.
    pub(crate) fn check_ended(&self) -> Result<()> {
        for lane in self.lanes.values() {
            if let Some(File::Comparing(object)) = &lane.file {
                return Err(differs(
                    &object.key,
                    format!(
                        "holds more than the topic: after the record at offset {} it has {} more bytes, from byte {} on",
                        self.next - 1,
                        object.total - object.position,
                        object.position
                    ),
                )
                .with("partition", &self.partition));
            }
        }
        Ok(())
    }
}

impl Filling {
    fn new(id: u64, key: String, line: &Line<'_>) -> Self {
        let text = String::from_utf8_lossy(line.text.strip_suffix(b"\n").unwrap_or(line.text));
        Self {
            id,
            object: NewObject {
                key,
                attempt: uuid::Uuid::new_v4().to_string(),
                first: line.offset,
                last: None,
                records: None,
            },
            last: line.offset,
            records: 0,
            schema: line.schema.cloned(),
            buffer: Vec::new(),
            sent: 0,
            parts: 0,
            sample: Some(text.chars().take(SAMPLE_CHARACTERS).collect()),
        }
    }
}

impl Comparing {
    /// Compares the next bytes of the object with a record: moves on where they are equal, asks for bytes it lacks.
    fn compare(&mut self, line: &Line<'_>, partition: &TopicPartition) -> Result<Option<Look>> {
        let length = line.text.len() as u64;
        let left = self.total - self.position;
        if left < length {
            let what = if self.total == 0 {
                "is empty".to_owned()
            } else {
                format!(
                    "holds other records than the topic: at byte {} the record at offset {} has {length} bytes, and the \
                     object ends after {left}",
                    self.position, line.offset
                )
            };
            return Err(differs(&self.key, what).with("partition", partition));
        }
        let start = self.position.wrapping_sub(self.window_start);
        let found = usize::try_from(start).ok().and_then(|start| self.window.get(start..start + line.text.len()));
        let Some(found) = found else {
            return Ok(Some(Look { key: self.key.clone(), from: self.position, length: WINDOW.max(length) }));
        };
        if found != line.text {
            let at = found.iter().zip(line.text).position(|(found, expected)| found != expected).unwrap_or(0);
            return Err(differs(
                &self.key,
                format!(
                    "holds other records than the topic: at byte {} it differs from the record at offset {}",
                    self.position + at as u64,
                    line.offset
                ),
            )
            .with("partition", partition));
        }
        self.position += length;
        self.records += 1;
        Ok(None)
    }
}

/// An existing object is not what would have been written. The contents are not shown: they may be private.
fn differs(key: &str, what: String) -> Error {
    Error::fatal(format!(
        "object {key} exists and {what}. Nothing was overwritten or skipped. Likely reasons: the topic was deleted and made \
         anew; converters or transformations have changed; another connector writes under the same names; or two topics are \
         renamed to one. Ways out: move the old objects away, or write elsewhere with another topics.dir or s3.bucket.name"
    ))
}

/// Compares two schemas, quickly where they are one.
fn same_schema(one: Option<&Arc<Schema>>, other: Option<&Arc<Schema>>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => Arc::ptr_eq(one, other) || one == other,
        _ => false,
    }
}
