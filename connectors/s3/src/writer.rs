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
use ottla_api::data::json::WriteOptions;
use ottla_api::prelude::*;
use tokio::sync::mpsc;

use crate::buffer::{self, Buffer};
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
/// How many bytes may wait for their upload; two uploads may wait whatever their size, so that one is always at hand when the
/// one before it ends.
const QUEUED_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The same while the process holds much.
const QUEUED_BYTES_TIGHT: usize = 1024 * 1024;
/// How many characters of the first record are shown.
const SAMPLE_CHARACTERS: usize = 200;
/// How many of a writer's objects come with a sample. A connector shows that of its first few deliveries.
const SAMPLES_MAX: u8 = 3;

/// What decides about names and rotation.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) layout: Layout,
    pub(crate) flush_size: u64,
    /// Milliseconds of record time; none for never.
    pub(crate) rotate_interval: Option<i64>,
    pub(crate) part_size: usize,
    /// The smallest part that the store takes, other than the last.
    pub(crate) part_size_min: usize,
    /// Parts go ahead as soon as the store takes them while this process holds more bytes than this.
    pub(crate) early_parts_from: usize,
    /// A partition holds no more than such a part while this process holds more bytes than this.
    pub(crate) tight_from: usize,
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
    /// How many ended files wait for their upload.
    queued_files: usize,
    /// How many parts of open files do.
    queued_parts: usize,
    /// What both take in memory.
    queued_bytes: usize,
    samples_left: u8,
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
    buffer: Buffer,
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
            queued_files: 0,
            queued_parts: 0,
            queued_bytes: 0,
            samples_left: SAMPLES_MAX,
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

    /// Takes records from the front of `records` for as long as they go into a file of a lane that is not recovering, and
    /// says how many those were. What it leaves needs the careful way: [`offer`](Self::offer). `scratch` is for rendering.
    ///
    /// The first record of each run is looked at as closely as there; those behind it are only compared with it.
    pub(crate) fn take_run(&mut self, records: &[SinkRecord], options: &WriteOptions, scratch: &mut Vec<u8>) -> usize {
        let mut taken = 0;
        while let Some(record) = records.get(taken) {
            let topic = &record.record.topic;
            let fills = self.lanes.get(topic).is_some_and(|lane| match &lane.file {
                Some(file) => matches!(file, File::Filling(_)),
                None => !lane.recovering,
            });
            if !fills || record.record.is_tombstone() || self.is_full() {
                break;
            }
            scratch.clear();
            self.fill(&Line::render(record, options, scratch));
            self.next = record.offset() + 1;
            taken += 1 + self.fill_run(topic, &records[taken + 1..], options, scratch);
        }
        taken
    }

    /// Appends records that go to the open file of this lane, up to the first that has to be looked at, and says how many.
    fn fill_run(
        &mut self,
        topic: &Arc<str>,
        records: &[SinkRecord],
        options: &WriteOptions,
        scratch: &mut Vec<u8>,
    ) -> usize {
        let Some(Lane { file: Some(File::Filling(file)), .. }) = self.lanes.get_mut(topic) else { return 0 };
        let room = usize::try_from(self.rules.flush_size - self.open_records).unwrap_or(usize::MAX);
        let records = &records[..room.min(records.len())];
        let rotation = Rotation { base: self.base_timestamp, interval: self.rules.rotate_interval };
        scratch.clear();
        let taken = file.append_run(topic, records, rotation, options, scratch);
        let Some(last) = taken.checked_sub(1).and_then(|last| records.get(last)) else { return 0 };
        file.last = last.offset();
        file.records += taken as u64;
        self.open_records += taken as u64;
        self.next = file.last + 1;
        if !scratch.is_empty() {
            self.append(topic, scratch);
        }
        self.end_when_full(topic);
        taken
    }

    /// Appends to the lane's open file, beginning and ending files as the rules say.
    fn fill(&mut self, line: &Line<'_>) {
        if self.is_due(line) {
            self.cut();
        }
        let lane = self.lanes.get_mut(line.topic).expect("the lane of an offered record");
        if lane.file.is_none() {
            let id = self.files_begun;
            self.files_begun += 1;
            self.extents.push(Extent { file: id, first: line.offset, last: line.offset, durable: false });
            let key = self.rules.layout.key(line.topic, self.partition.partition, line.offset);
            let shown = self.samples_left > 0;
            self.samples_left = self.samples_left.saturating_sub(1);
            lane.file = Some(File::Filling(Filling::new(id, key, line, &self.rules, shown)));
        }
        if let Some(File::Filling(file)) = &mut lane.file {
            file.last = line.offset;
            file.records += 1;
        }
        self.open_records += 1;
        if self.open_records == 1 {
            self.base_timestamp = line.timestamp;
        }
        self.append(line.topic, line.text);
        self.end_when_full(line.topic);
    }

    /// Ends the open files where `flush.size` says so, or the lane's has as many parts as a store takes.
    fn end_when_full(&mut self, topic: &Arc<str>) {
        let parts = match self.lanes.get(topic).and_then(|lane| lane.file.as_ref()) {
            Some(File::Filling(file)) => file.parts,
            _ => 0,
        };
        if parts >= PARTS_MAX || self.open_records >= self.rules.flush_size {
            self.cut();
        }
    }

    /// Appends to the lane's open file, whatever the length; parts that are full go ahead.
    fn append(&mut self, topic: &Arc<str>, text: &[u8]) {
        let Some(Lane { file: Some(File::Filling(file)), .. }) = self.lanes.get_mut(topic) else { return };
        let mut rest = text;
        loop {
            rest = &rest[file.buffer.push(rest)..];
            if rest.is_empty() {
                return;
            }
            let whole = file.buffer.len() / self.rules.part_size_min * self.rules.part_size_min;
            if file.buffer.is_full() {
                self.queued_bytes += file.send_part(self.rules.part_size, &self.uploads);
                self.queued_parts += 1;
            } else if whole > 0 && buffer::held() > self.rules.early_parts_from {
                self.queued_bytes += file.send_part(whole, &self.uploads);
                self.queued_parts += 1;
            }
            file.buffer.grow(rest.len(), self.rules.flush_size == 1);
        }
    }

    /// Sends what the store takes as parts of the open files ahead, without ending them. False where that is nothing.
    pub(crate) fn send_parts(&mut self) -> bool {
        let mut sent = false;
        for lane in self.lanes.values_mut() {
            if let Some(File::Filling(file)) = &mut lane.file {
                let length = file.buffer.splittable();
                if length > 0 {
                    self.queued_bytes += file.send_part(length, &self.uploads);
                    self.queued_parts += 1;
                    sent = true;
                }
            }
        }
        sent
    }

    /// True where the open files must end before this record.
    fn is_due(&self, line: &Line<'_>) -> bool {
        if self.open_records == 0 {
            return false;
        }
        if (Rotation { base: self.base_timestamp, interval: self.rules.rotate_interval }).is_due(line.timestamp) {
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
            let length = file.sent + file.buffer.len() as u64;
            let (body, held) = file.buffer.finish();
            self.queued_files += 1;
            self.queued_bytes += held;
            let finish = Finish {
                file: file.id,
                length,
                in_parts: file.parts > 0,
                object: NewObject { last: Some(file.last), records: Some(file.records), ..file.object },
                body,
                sample: file.sample,
                held,
            };
            let _ = self.uploads.send(Command::Finish(finish));
        }
        self.open_records = 0;
        self.base_timestamp = None;
    }

    /// Notes what became of an upload. False where the writer must begin anew.
    #[must_use]
    pub(crate) fn uploaded(&mut self, what: &mut What) -> bool {
        match what {
            What::PartStored { held } => {
                self.queued_bytes -= *held;
                self.queued_parts -= 1;
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

    /// True where there will be no other attempt.
    pub(crate) fn is_stopped(&self) -> bool {
        match &self.trouble {
            Trouble::New(error) => !error.is_retriable(),
            Trouble::Final => true,
            Trouble::None | Trouble::Told => false,
        }
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

    /// True while too much waits for its upload to take more. Never where nothing waits.
    pub(crate) fn is_full(&self) -> bool {
        let queued = self.queued_files + self.queued_parts;
        if queued == 0 {
            return false;
        }
        self.queued_files >= QUEUED_FILES_MAX
            || (queued >= 2 && self.queued_bytes >= QUEUED_BYTES_MAX)
            || (buffer::held() > self.rules.tight_from
                && (self.queued_bytes + self.open_bytes() >= self.rules.part_size_min
                    || (queued >= 2 && self.queued_bytes >= QUEUED_BYTES_TIGHT)))
    }

    /// True while ended files wait for their upload.
    pub(crate) fn is_uploading(&self) -> bool {
        self.queued_files > 0
    }

    /// True while anything waits for its upload, parts of open files too.
    pub(crate) fn is_sending(&self) -> bool {
        self.queued_files + self.queued_parts > 0
    }

    /// Bytes in memory.
    pub(crate) fn buffered(&self) -> usize {
        let lanes = self.lanes.values().map(|lane| match &lane.file {
            Some(File::Filling(file)) => file.buffer.held(),
            Some(File::Comparing(object)) => object.window.len(),
            None => 0,
        });
        lanes.sum::<usize>() + self.queued_bytes
    }

    /// Bytes that a cut would send on their way.
    pub(crate) fn open_bytes(&self) -> usize {
        let lanes = self.lanes.values().map(|lane| match &lane.file {
            Some(File::Filling(file)) => file.buffer.held(),
            _ => 0,
        });
        lanes.sum()
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

/// Rotation by the records' timestamps.
#[derive(Debug, Clone, Copy)]
struct Rotation {
    /// Timestamp of the first record in the open files.
    base: Option<i64>,
    /// Milliseconds; none for never.
    interval: Option<i64>,
}

impl Rotation {
    /// True where the open files must end before a record of this timestamp.
    #[inline]
    fn is_due(self, timestamp: Option<i64>) -> bool {
        match (self.interval, self.base, timestamp) {
            (Some(interval), Some(base), Some(timestamp)) => timestamp.saturating_sub(base) >= interval,
            _ => false,
        }
    }
}

impl<'a> Line<'a> {
    /// Renders a record into `text`, which is empty.
    pub(crate) fn render(record: &'a SinkRecord, options: &WriteOptions, text: &'a mut Vec<u8>) -> Self {
        let Record { topic, value, timestamp, .. } = &record.record;
        value.write_json(options, text);
        text.push(b'\n');
        Line { topic, offset: record.offset(), timestamp: *timestamp, schema: value.schema(), text }
    }
}

impl Filling {
    fn new(id: u64, key: String, line: &Line<'_>, rules: &Rules, shown: bool) -> Self {
        let sample = shown.then(|| {
            // As many bytes as so many characters take at most.
            let text = line.text.strip_suffix(b"\n").unwrap_or(line.text);
            let beginning = &text[..text.len().min(SAMPLE_CHARACTERS * 4)];
            String::from_utf8_lossy(beginning).chars().take(SAMPLE_CHARACTERS).collect()
        });
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
            buffer: Buffer::new(rules.part_size, rules.part_size_min),
            sent: 0,
            parts: 0,
            sample,
        }
    }

    /// Appends records until one is not for this file, or the buffer's chunk ends. A record that was begun before that end
    /// is taken, with its rest in `over`.
    fn append_run(
        &mut self,
        topic: &Arc<str>,
        records: &[SinkRecord],
        rotation: Rotation,
        options: &WriteOptions,
        over: &mut Vec<u8>,
    ) -> usize {
        let mut taken = 0;
        for SinkRecord { record, .. } in records {
            let same_topic = Arc::ptr_eq(&record.topic, topic) || record.topic == *topic;
            if !same_topic || rotation.is_due(record.timestamp) {
                break;
            }
            let pushed = match &record.value {
                Payload::Json(text) => self.schema.is_none() && self.buffer.push_line(text),
                Payload::Data { value: Value::Null, .. } => false,
                Payload::Data { schema, .. } => {
                    same_schema(self.schema.as_ref(), schema.as_ref())
                        && self.buffer.push_rendered(over, |out| record.value.write_json(options, out))
                }
            };
            if !pushed {
                break;
            }
            taken += 1;
            if !over.is_empty() {
                break;
            }
        }
        taken
    }

    /// Sends the first `length` bytes ahead, and says what they take in memory.
    fn send_part(&mut self, length: usize, uploads: &mpsc::UnboundedSender<Command>) -> usize {
        let (body, held) = self.buffer.take(length);
        self.sent += body.len();
        self.parts += 1;
        // A closed channel means that the uploader has failed; its event says so.
        let _ = uploads.send(Command::Part { file: self.id, object: self.object.clone(), body, held });
        held
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
         anew, or the state folder was; converters or transformations have changed; another connector writes under the same names; or two topics are \
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

#[cfg(test)]
mod tests {
    use ottla_api::data::SchemaType;
    use ottla_testkit::fault::Random;

    use super::*;

    /// A writer, the objects that exist, and what the writer sent to its uploader.
    struct Bench {
        writer: Writer,
        commands: mpsc::UnboundedReceiver<Command>,
        objects: BTreeMap<String, &'static str>,
    }

    impl Bench {
        fn new(flush_size: u64, objects: &[(i64, &'static str)]) -> Self {
            let layout = Layout {
                topics_dir: "d".into(),
                directory_delimiter: "/".into(),
                file_delimiter: "+".into(),
                offset_digits: 3,
            };
            let objects = objects.iter().map(|(first, text)| (layout.key("a", 0, *first), *text)).collect();
            let rules = Rules {
                layout,
                flush_size,
                rotate_interval: Some(1000),
                part_size: 1 << 20,
                part_size_min: 1 << 20,
                early_parts_from: usize::MAX,
                tight_from: usize::MAX,
                recovery: true,
            };
            let (sender, commands) = mpsc::unbounded_channel();
            let writer = Writer::new(TopicPartition::new("a", 0), 0, Arc::new(rules), sender);
            Self { writer, commands, objects }
        }

        /// Offers a record until it is taken; true where it ended an existing object.
        fn take(&mut self, topic: &str, offset: i64, timestamp: i64, schema: Option<&Arc<Schema>>) -> Result<bool> {
            let (topic, text) = (Arc::from(topic), format!("{offset}\n"));
            let line = Line { topic: &topic, offset, timestamp: Some(timestamp), schema, text: text.as_bytes() };
            loop {
                match self.writer.offer(&line)? {
                    Offer::Taken => return Ok(false),
                    Offer::Adopted { .. } => return Ok(true),
                    Offer::Look(look) => {
                        let chunk = self.objects.get(&look.key).map(|text| Chunk {
                            bytes: Bytes::from_static(&text.as_bytes()[look.from as usize..]),
                            total: text.len() as u64,
                        });
                        assert!(self.writer.looked(&line, look, chunk));
                    }
                }
            }
        }

        fn put(&mut self, topic: &str, offset: i64) -> bool {
            self.take(topic, offset, 0, None).unwrap()
        }

        /// The objects sent since the last call: name and contents.
        fn sent(&mut self) -> Vec<(String, String, Box<Finish>)> {
            let mut sent = Vec::new();
            while let Ok(Command::Finish(finish)) = self.commands.try_recv() {
                let text = String::from_utf8(finish.body.to_bytes().to_vec()).unwrap();
                sent.push((finish.object.key.clone(), text.replace('\n', " "), Box::new(finish)));
            }
            sent
        }

        fn names(&mut self) -> Vec<(String, String)> {
            self.sent().into_iter().map(|(key, text, _)| (key, text)).collect()
        }
    }

    fn named(key: &str, text: &str) -> (String, String) {
        (key.to_owned(), text.to_owned())
    }

    #[test]
    fn flush_size_counts_the_records_of_all_lanes_which_end_together() {
        let mut bench = Bench::new(3, &[]);
        bench.put("b", 0);
        bench.put("a", 1);
        bench.put("a", 2);
        bench.put("a", 3);
        assert_eq!(
            bench.names(),
            [named("d/b/partition=0/b+0+000.json", "0 "), named("d/a/partition=0/a+0+001.json", "1 2 ")]
        );
    }

    #[test]
    fn record_time_and_a_new_schema_end_files() {
        let mut bench = Bench::new(100, &[]);
        let (one, same) = (Schema::of(SchemaType::String), Schema::of(SchemaType::String));
        for (offset, timestamp, schema) in [
            (0, 5000, None),
            (1, 5999, None),
            (2, 6000, None),
            (3, 6001, Some(&one)),
            (4, 6002, Some(&same)),
            (5, 6003, Some(&Schema::of(SchemaType::Int64))),
            (6, 6004, None),
        ] {
            bench.take("a", offset, timestamp, schema).unwrap();
        }
        bench.writer.cut();
        let texts: Vec<String> = bench.names().into_iter().map(|(_, text)| text).collect();
        assert_eq!(texts, ["0 1 ", "2 ", "3 4 ", "5 ", "6 "]);
    }

    #[test]
    fn existing_objects_are_adopted_one_after_the_other_until_a_name_is_free() {
        let mut bench = Bench::new(2, &[(0, "0\n1\n2\n"), (5, "5\n")]);
        assert_eq!([0, 1, 2, 5, 6, 7].map(|offset| bench.put("a", offset)), [false, false, true, true, false, false]);
        assert_eq!(bench.names(), [named("d/a/partition=0/a+0+006.json", "6 7 ")]);
        assert_eq!(bench.writer.frontier(), 6);
    }

    #[test]
    fn a_difference_names_object_and_place_and_shows_no_contents() {
        let mut bench = Bench::new(2, &[(0, "0\n9\n")]);
        bench.put("a", 0);
        let error = bench.take("a", 1, 0, None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Fatal);
        assert!(
            error.to_string().starts_with(
                "object d/a/partition=0/a+0+000.json exists and holds other records than the topic: at byte 2 it differs \
                 from the record at offset 1. Nothing was overwritten or skipped."
            ),
            "{error}"
        );
        let error = Bench::new(2, &[(10, "1")]).take("a", 10, 0, None).unwrap_err();
        assert!(error.message().contains("at byte 0 the record at offset 10 has 3 bytes, and the object ends after 1"));
        let error = Bench::new(2, &[(0, "")]).take("a", 0, 0, None).unwrap_err();
        assert!(error.message().contains("exists and is empty"), "{error}");
    }

    #[test]
    fn an_object_that_goes_on_behind_the_topic_is_an_error_only_at_the_end() {
        let mut bench = Bench::new(2, &[(0, "0\n1\n2\n")]);
        bench.put("a", 0);
        assert_eq!(bench.writer.frontier(), 0);
        let error = bench.writer.check_ended().unwrap_err();
        assert!(
            error.message().contains("after the record at offset 0 it has 4 more bytes, from byte 2 on"),
            "{error}"
        );
        bench.put("a", 1);
        assert!(bench.put("a", 2));
        bench.writer.check_ended().unwrap();
        assert_eq!(bench.writer.frontier(), 3);
    }

    /// Lane `a` has 0 and 2 in one durable object when lane `b` still waits with 1. Were 1 committed, an attempt that starts
    /// there would begin an object of lane `a` at 2, and write it a second time.
    #[test]
    fn the_frontier_lies_in_no_object_of_any_lane() {
        let mut bench = Bench::new(3, &[]);
        bench.put("a", 0);
        bench.put("b", 1);
        bench.put("a", 2);
        let sent = bench.sent();
        let mut created = sent.into_iter().map(|(_, _, finish)| What::Created(finish));
        assert!(bench.writer.uploaded(&mut created.next().unwrap()));
        assert_eq!(bench.writer.frontier(), 0);
        assert!(bench.writer.uploaded(&mut created.next().unwrap()));
        assert_eq!(bench.writer.frontier(), 3);
        assert_eq!((bench.writer.buffered(), bench.writer.is_uploading()), (0, false));
    }

    #[test]
    fn records_that_need_no_delivery_move_the_frontier_when_nothing_is_open() {
        let mut bench = Bench::new(2, &[]);
        bench.writer.pass(4);
        assert_eq!(bench.writer.frontier(), 4);
        bench.put("a", 4);
        bench.writer.pass(9);
        assert_eq!((bench.writer.frontier(), bench.writer.next()), (4, 9));
    }

    #[test]
    fn parts_leave_memory_before_the_file_ends() {
        let mut bench = Bench::new(1000, &[]);
        let rules = Arc::get_mut(&mut bench.writer.rules).unwrap();
        (rules.part_size, rules.part_size_min) = (4, 4);
        for offset in 0..5 {
            bench.put("a", offset);
        }
        bench.writer.cut();
        let mut carried = Vec::new();
        while let Ok(command) = bench.commands.try_recv() {
            carried.push(match command {
                Command::Part { body, .. } => (body, false),
                Command::Finish(finish) => {
                    assert!(finish.in_parts);
                    assert_eq!(finish.length, 10);
                    (finish.body, true)
                }
            });
        }
        let carried: Vec<(Bytes, bool)> = carried.iter().map(|(body, ends)| (body.to_bytes(), *ends)).collect();
        let part = |text: &'static str, ends| (Bytes::from_static(text.as_bytes()), ends);
        assert_eq!(carried, [part("0\n1\n", false), part("2\n3\n", false), part("4\n", true)]);
    }

    #[test]
    fn a_failed_upload_is_told_once_and_a_final_one_always() {
        let mut bench = Bench::new(1, &[]);
        assert!(bench.writer.uploaded(&mut What::Failed(Error::retriable("slow down"))));
        assert_eq!(bench.writer.take_trouble().unwrap().message(), "slow down");
        assert!(bench.writer.take_trouble().is_none() && bench.writer.is_troubled());
        assert!({
            bench.writer.queued_parts = 1;
            bench.writer.uploaded(&mut What::PartStored { held: 0 })
        });
        assert!(!bench.writer.is_troubled());
        assert!(bench.writer.uploaded(&mut What::Failed(Error::config("no such bucket"))));
        assert_eq!(bench.writer.take_trouble().unwrap().message(), "no such bucket");
        assert_eq!(bench.writer.take_trouble().unwrap().kind(), ErrorKind::Fatal);
    }

    /// Renamed topics, schemas that change, values decoded or not, time that goes back and forth, lines longer than chunks.
    fn random_record(offset: i64, random: &mut Random, schemas: &[Option<Arc<Schema>>]) -> SinkRecord {
        let longest = [4, 60, 3000, 200_000][(random.below(40) / 13) as usize];
        let text = "x".repeat(random.below(longest) as usize);
        let mut value = Payload::json(Bytes::from(format!("{{\"n\":{offset},\"x\":\"{text}\"}}")));
        if random.below(3) == 0 {
            value.value().unwrap();
        }
        if let (Payload::Data { schema, .. }, 0) = (&mut value, random.below(4)) {
            schema.clone_from(&schemas[random.below(schemas.len() as u64) as usize]);
        }
        let timestamp = (random.below(9) > 0).then(|| offset * 20 + random.below(30) as i64);
        let mut record = Record::new(["a", "a", "a", "b"][random.below(4) as usize], Value::Null);
        (record.value, record.timestamp, record.offset) = (value, timestamp, Some(offset));
        SinkRecord { record, raw: RawRecord { offset, timestamp, ..RawRecord::default() } }
    }

    /// What a writer has sent: parts and ends of objects, with their names and bytes.
    fn carried(commands: &mut mpsc::UnboundedReceiver<Command>) -> Vec<(String, Option<i64>, Option<u64>, u64, Bytes)> {
        let mut carried = Vec::new();
        while let Ok(command) = commands.try_recv() {
            carried.push(match command {
                Command::Part { object, body, .. } => (object.key, None, None, 0, body.to_bytes()),
                Command::Finish(Finish { object, body, length, .. }) => {
                    (object.key, object.last, object.records, length, body.to_bytes())
                }
            });
        }
        carried
    }

    #[test]
    fn runs_write_what_single_records_write() {
        let seed = std::env::var("OTTLA_SEED")
            .map_or_else(|_| uuid::Uuid::new_v4().as_u64_pair().0, |seed| seed.parse().expect("a number"));
        eprintln!("OTTLA_SEED={seed}");
        let mut random = Random::new(seed);
        let schemas = [None, Some(Schema::of(SchemaType::String)), Some(Schema::of(SchemaType::Int64))];
        let options = WriteOptions::default();
        for _ in 0..60 {
            let flush_size = [1, 2, 30, 500, 100_000][random.below(5) as usize];
            let (mut one, mut other) = (Bench::new(flush_size, &[]), Bench::new(flush_size, &[]));
            let part_size = [1000, 150_000, 1 << 20][random.below(3) as usize];
            for bench in [&mut one, &mut other] {
                let rules = Arc::get_mut(&mut bench.writer.rules).unwrap();
                (rules.part_size, rules.part_size_min) = (part_size, part_size / 2);
                rules.rotate_interval = [None, Some(1000)][(seed % 2) as usize];
            }
            let mut offset = 0;
            let mut records = Vec::new();
            for _ in 0..random.below(400) {
                offset += 1 + (random.below(10) / 9) as i64;
                records.push(random_record(offset, &mut random, &schemas));
            }
            let careful = |bench: &mut Bench, record: &SinkRecord| {
                let mut text = Vec::new();
                let line = Line::render(record, &options, &mut text);
                while let Offer::Look(look) = bench.writer.offer(&line).unwrap() {
                    assert!(bench.writer.looked(&line, look, None));
                }
            };
            let (mut left, mut scratch, mut in_runs) = (records.as_slice(), Vec::new(), 0);
            while !left.is_empty() {
                let batch = &left[..(1 + random.below(100) as usize).min(left.len())];
                let taken = one.writer.take_run(batch, &options, &mut scratch);
                if taken == 0 {
                    careful(&mut one, &left[0]);
                    // No upload ever ends here; that is no reason to stop.
                    (one.writer.queued_files, one.writer.queued_parts, one.writer.queued_bytes) = (0, 0, 0);
                }
                in_runs += taken;
                left = &left[taken.max(1)..];
            }
            assert!(in_runs * 2 >= records.len().saturating_sub(10), "{in_runs} of {} in runs", records.len());
            for record in &records {
                careful(&mut other, record);
            }
            for bench in [&mut one, &mut other] {
                bench.writer.cut();
            }
            assert_eq!((one.writer.next(), one.writer.frontier()), (other.writer.next(), other.writer.frontier()));
            let (one, other) = (carried(&mut one.commands), carried(&mut other.commands));
            assert_eq!(one.len(), other.len());
            for (one, other) in one.iter().zip(&other) {
                assert!(one == other, "{} with {} bytes is not {} with {}", one.0, one.4.len(), other.0, other.4.len());
            }
        }
    }
}
