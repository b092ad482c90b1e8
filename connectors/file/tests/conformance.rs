//! The file connector against the public suites, and the behaviour that is its own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ottla_api::data::SchemaType;
use ottla_api::prelude::*;
use ottla_connector_file::{FileSink, FileSinkConfig, FileSource, FileSourceConfig, PLUGINS};
use ottla_testkit::config_suite;
use ottla_testkit::harness::{SinkHarness, SourceHarness, sink_batch, sink_value};
use ottla_testkit::sink_suite::SinkSuite;
use ottla_testkit::source_suite::SourceSuite;
use tempfile::TempDir;

fn source_task(file: &Path, options: &[(&str, &str)]) -> Box<dyn SourceTask> {
    let mut properties = Properties::from_iter([("file", file.to_str().unwrap()), ("topic", "lines")]);
    for (name, value) in options {
        properties.set(*name, *value);
    }
    FileSource.tasks(&properties, 1).unwrap().remove(0)
}

fn sink_task(file: &Path) -> Box<dyn SinkTask> {
    FileSink.task(&Properties::from_iter([("file", file.to_str().unwrap())])).unwrap()
}

fn line(text: &str) -> Record {
    let mut record = Record::new("lines", Value::Null);
    record.value = Payload::with_schema(Schema::of(SchemaType::String), text);
    record
}

/// A folder with a file that holds this text.
fn file_with(text: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lines.txt");
    std::fs::write(&file, text).unwrap();
    (folder, file)
}

#[tokio::test]
async fn the_source_keeps_its_contract() {
    let lines = ["first", "", "«é😀»", "  with blanks ", "windows", "last"];
    let text = "first\n\n«é😀»\n  with blanks \nwindows\r\nlast";
    let expected: Vec<Record> = lines.iter().map(|text| line(text)).collect();

    // Read once, the last line counts without a line break.
    let (_folder, file) = file_with(text);
    for batch_size in ["1", "4", "2000"] {
        let task = || source_task(&file, &[("read", "once"), ("batch.size", batch_size)]);
        SourceSuite::new(lines.len(), task).expecting(expected.clone()).bounded().run().await;
    }

    // Followed, it does not.
    for batch_size in ["1", "4", "2000"] {
        SourceSuite::new(lines.len() - 1, || source_task(&file, &[("batch.size", batch_size)]))
            .expecting(expected[..lines.len() - 1].to_vec())
            .tasks(|_| vec![source_task(&file, &[])])
            .run()
            .await;
    }
}

#[tokio::test]
async fn lines_longer_than_any_buffer_are_whole() {
    let lines = ["a".repeat(1_000_000), "b".repeat(300_000), String::new(), "c".repeat(262_144)];
    let (_folder, file) = file_with(&format!("{}\n", lines.join("\n")));
    SourceSuite::new(lines.len(), || source_task(&file, &[("read", "once")]))
        .expecting(lines.iter().map(|text| line(text)).collect())
        .bounded()
        .run()
        .await;
}

#[tokio::test]
async fn a_line_is_read_when_its_line_break_comes() {
    let (_folder, file) = file_with("one\ntw");
    let mut source = SourceHarness::start(source_task(&file, &[]), &SourceOffsets::new()).await.unwrap();
    assert_eq!(source.read(1).await.unwrap()[0].record, line("one"));
    assert!(matches!(source.poll().await.unwrap(), SourcePoll::CaughtUp));
    std::fs::write(&file, "one\ntwo\nthree\n").unwrap();
    let records = source.read(2).await.unwrap();
    assert_eq!([&records[0].record, &records[1].record], [&line("two"), &line("three")]);
    assert_eq!(records[1].source_offset.get_i64("position"), Some(14));
    assert_eq!(records[1].source_partition.as_json(), format!("{{\"filename\":\"{}\"}}", file.display()));
}

#[tokio::test]
async fn a_file_that_is_not_there_yet_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("later.txt");
    let mut source = SourceHarness::start(source_task(&file, &[]), &SourceOffsets::new()).await.unwrap();
    let error = source.poll_for(Duration::from_secs(5)).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Retriable);
    assert!(error.to_string().starts_with(&format!("open {}: No such file", file.display())), "{error}");
    std::fs::write(&file, "one\n").unwrap();
    assert_eq!(source.read(1).await.unwrap()[0].record, line("one"));
}

#[tokio::test]
async fn a_file_that_became_shorter_stops_the_source() {
    let (_folder, file) = file_with("one\ntwo\n");
    let mut source = SourceHarness::start(source_task(&file, &[]), &SourceOffsets::new()).await.unwrap();
    source.read(2).await.unwrap();
    std::fs::write(&file, "1\n").unwrap();
    let words = "the file is shorter than what was read of it";
    let error = source.poll().await.unwrap_err();
    assert!(error.kind() == ErrorKind::Fatal && error.to_string().starts_with(words), "{error}");

    let mut successor = SourceHarness::start(source_task(&file, &[]), source.offsets()).await.unwrap();
    let error = successor.poll().await.unwrap_err();
    assert!(error.kind() == ErrorKind::Fatal && error.to_string().starts_with(words), "{error}");
}

#[tokio::test]
async fn a_line_that_is_no_text_is_named_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("latin1.txt");
    std::fs::write(&file, b"one\ncaf\xe9\n").unwrap();
    let mut source = SourceHarness::start(source_task(&file, &[]), &SourceOffsets::new()).await.unwrap();
    let error = source.poll().await.unwrap_err();
    assert_eq!(error.to_string(), format!("a line is not UTF-8 text (file={}, byte=7)", file.display()));
}

#[tokio::test]
async fn an_offset_that_cannot_be_read_is_no_beginning() {
    let (_folder, file) = file_with("one\n");
    let partition = SourcePartition::new([("filename", file.to_str().unwrap())]);
    let offsets = SourceOffsets::from([(partition, SourceOffset::new([("line", 1i64)]))]);
    let error = SourceHarness::start(source_task(&file, &[]), &offsets).await.unwrap_err();
    assert_eq!(error.to_string(), "the stored offset has no usable 'position' (offset={\"line\":1})");
}

#[tokio::test]
async fn the_sink_keeps_its_contract() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let read = |name: String| {
        let text = std::fs::read_to_string(file(&name)).unwrap();
        async move { text.lines().map(str::to_owned).collect() }
    };
    SinkSuite::new(|name| sink_task(&file(name)), read).run().await;
}

fn partition() -> TopicPartition {
    TopicPartition::new("my-topic", 0)
}

async fn sink(file: &Path) -> (SinkHarness, i64) {
    let mut sink = SinkHarness::start(sink_task(file)).await.unwrap();
    let positions = sink.open(&Positions::from([(partition(), -1)])).await.unwrap();
    (sink, positions[&partition()])
}

#[tokio::test]
async fn half_a_line_after_a_crash_is_cut_off() {
    let (_folder, file) = file_with("a line of others\n");
    let (mut first, _) = sink(&file).await;
    first.put(sink_batch(&partition(), 0..2, 2)).await.unwrap();
    first.flush(FlushReason::Interval).await.unwrap();
    first.put(sink_batch(&partition(), 2..4, 4)).await.unwrap();
    drop(first);
    // As the crash of a machine leaves it: part of what was written and not flushed.
    let length = std::fs::metadata(&file).unwrap().len();
    std::fs::File::options().write(true).open(&file).unwrap().set_len(length - 10).unwrap();

    let (mut second, position) = sink(&file).await;
    assert_eq!(position, 2);
    second.put(sink_batch(&partition(), 2..5, 5)).await.unwrap();
    second.flush(FlushReason::Closing).await.unwrap();
    let due: Vec<String> = (0..5).map(|offset| sink_value(&partition(), offset)).collect();
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(text, format!("a line of others\n{}\n", due.join("\n")));
    let delivery = &second.deliveries()[0];
    assert_eq!((delivery.records, delivery.sample.as_ref()), (3, Some(&due[2])));
    assert_eq!(delivery.location, format!("file:{}", file.display()));
}

#[tokio::test]
async fn a_file_that_somebody_cut_stops_the_sink() {
    let (_folder, file) = file_with("");
    let (mut first, _) = sink(&file).await;
    first.put(sink_batch(&partition(), 0..2, 2)).await.unwrap();
    first.flush(FlushReason::Interval).await.unwrap();
    drop(first);
    std::fs::write(&file, "").unwrap();
    let error = SinkHarness::start(sink_task(&file)).await.unwrap_err();
    assert!(error.to_string().starts_with("the file is shorter than what this sink has written"), "{error}");

    let positions = file.with_added_extension("positions");
    std::fs::write(&positions, "{}").unwrap();
    let error = SinkHarness::start(sink_task(&file)).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string()),
        (
            ErrorKind::Fatal,
            format!(
                "read {}: expected {{\"bytes\":..,\"positions\":{{\"<topic>-<partition>\":..}}}}",
                positions.display()
            )
        )
    );
}

#[tokio::test]
async fn a_second_task_waits_until_the_first_has_let_go() {
    let (_folder, file) = file_with("");
    let (mut first, _) = sink(&file).await;
    let second = SinkHarness::start(sink_task(&file));
    let (second, ()) = tokio::join!(second, async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        first.stop().await.unwrap();
    });
    second.unwrap();

    let properties = Properties::from_iter([("file", "x"), ("tasks.max", "2")]);
    assert_eq!(FileSink.validate(&properties)[0].to_string(), "tasks.max: must be 1: one task writes one file");
}

#[tokio::test]
async fn every_kind_of_value_is_a_line_and_a_line_break_is_reported() {
    let (_folder, file) = file_with("");
    let (mut sink, _) = sink(&file).await;
    let mut batch = sink_batch(&partition(), 0..6, 6);
    let text = |text: &str| Payload::with_schema(Schema::of(SchemaType::String), text);
    let number = Payload::schemaless(Value::Float64(0.5));
    let bytes = Payload::schemaless(Value::Bytes(b"bytes".as_slice().into()));
    let json = Payload::json(br#"{"a":1.50}"#.as_slice().into());
    let values = [text("text"), text("two\nlines"), number, bytes, json, Payload::null()];
    for (record, value) in batch.records.iter_mut().zip(values) {
        record.record.value = value;
    }
    sink.put(batch.clone()).await.unwrap();
    assert_eq!(sink.flush(FlushReason::Interval).await.unwrap()[&partition()], 6);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "text\n0.5\nbytes\n{\"a\":1.50}\nnull\n");
    let error = "the value has a line break in it, so it can't be one line of a file";
    assert_eq!(sink.reported(), [(partition(), 1, error.to_owned())]);

    // With errors.tolerance = none the task stops there, and nothing of the batch is written.
    let (_folder, file) = file_with("");
    let mut strict = SinkHarness::start(sink_task(&file)).await.unwrap();
    strict.tolerate_nothing();
    strict.open(&Positions::from([(partition(), -1)])).await.unwrap();
    assert_eq!(strict.put(batch).await.unwrap_err().to_string(), error);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "");
}

#[tokio::test]
async fn what_another_file_has_is_not_written_again() {
    let (_folder, file) = file_with("");
    let mut sink = SinkHarness::start(sink_task(&file)).await.unwrap();
    let positions = sink.open(&Positions::from([(partition(), 7)])).await.unwrap();
    assert_eq!(positions[&partition()], 7);
    sink.put(sink_batch(&partition(), 5..9, 9)).await.unwrap();
    assert_eq!(std::fs::read_to_string(&file).unwrap().lines().count(), 2);
}

#[test]
fn options_and_plugins_are_described_and_valid() {
    config_suite::check::<FileSourceConfig>(&Properties::from_iter([("file", "x"), ("topic", "t")]));
    config_suite::check::<FileSinkConfig>(&Properties::from_iter([("file", "x")]));
    config_suite::check_plugins(PLUGINS);
    for name in
        ["FileStreamSource", "FileStreamSourceConnector", "org.apache.kafka.connect.file.FileStreamSinkConnector"]
    {
        assert!(PLUGINS.iter().any(|plugin| plugin.answers_to(name)), "{name}");
    }
}
