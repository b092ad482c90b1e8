//! What becomes of topics in tables: columns, several tables, partitions, upsert, topics made anew, rivals.

mod table;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ottla_api::prelude::*;
use ottla_connector_delta::DeltaSinkConnector;
use ottla_testkit::harness::SinkHarness;
use serde_json::json;

/// A folder of tables.
struct Lake(tempfile::TempDir);

impl Lake {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, table: &str) -> PathBuf {
        self.0.path().join("tables").join(table)
    }

    fn task(&self, extra: &[(&str, &str)]) -> Box<dyn SinkTask> {
        DeltaSinkConnector.task(&properties(self.0.path(), extra)).unwrap()
    }

    /// A task with these partitions of topic `t` open, from their first record on or from where the tables say.
    async fn open(&self, extra: &[(&str, &str)], committed: &[(i32, i64)]) -> (SinkHarness, Positions) {
        let mut harness = SinkHarness::start(self.task(extra)).await.unwrap();
        let committed = committed.iter().map(|(number, position)| (partition(*number), *position)).collect();
        let positions = harness.open(&committed).await.unwrap();
        (harness, positions)
    }

    fn rows(&self, table: &str) -> Vec<String> {
        table::rows(&self.path(table))
    }
}

fn properties(root: &Path, extra: &[(&str, &str)]) -> Properties {
    let url = format!("file:{}", root.display());
    let mut properties = Properties::from_iter([("store.url", url.as_str())]);
    for (key, value) in extra {
        properties.set(*key, *value);
    }
    properties
}

fn partition(number: i32) -> TopicPartition {
    TopicPartition::new("t", number)
}

fn record(topic: &str, offset: i64, key: Option<&str>, value: &str) -> SinkRecord {
    let payload = |text: Option<&str>| text.map_or(Payload::null(), |text| Payload::json(Bytes::from(text.to_owned())));
    let mut made = Record::new(topic, Value::Null);
    made.key = payload(key);
    made.value = payload((!value.is_empty()).then_some(value));
    SinkRecord { record: made, raw: RawRecord { offset, ..RawRecord::default() } }
}

/// Records of topic `t` from this offset on.
fn batch(number: i32, first: i64, values: &[&str]) -> SinkBatch {
    let records = values.iter().zip(first..).map(|(value, offset)| record("t", offset, None, value));
    batch_of(number, records.collect())
}

fn batch_of(number: i32, records: Vec<SinkRecord>) -> SinkBatch {
    let next_offset = records.last().map_or(0, |record| record.offset() + 1);
    SinkBatch { partition: partition(number), records, next_offset }
}

#[tokio::test]
async fn a_table_gets_its_columns_from_the_first_records_and_more_as_they_come() {
    let lake = Lake::new();
    let (mut harness, _) = lake.open(&[], &[(0, -1)]).await;
    harness.put(batch(0, 0, &[r#"{"ind":1,"x":1}"#, r#"{"ind":2,"x":0.5,"tags":["a"]}"#])).await.unwrap();
    harness.flush(FlushReason::CaughtUp).await.unwrap();
    assert_eq!(
        table::columns(&lake.path("t")),
        [
            ("ind".to_owned(), json!("long")),
            ("x".to_owned(), json!("double")),
            ("tags".to_owned(), json!({"type": "array", "elementType": "string", "containsNull": true})),
        ]
    );
    // A fraction has no place in a column of integers; a new field has.
    harness.put(batch(0, 2, &[r#"{"ind":2.5}"#, r#"{"ind":3,"at":{"lat":1.5}}"#])).await.unwrap();
    let positions = harness.flush(FlushReason::CaughtUp).await.unwrap();
    assert_eq!(positions, Positions::from([(partition(0), 4)]));
    let reported = harness.reported();
    assert_eq!((reported.len(), reported[0].1), (1, 2));
    assert!(reported[0].2.starts_with("field 'ind': the column is long, which does not take the float64 2.5"));
    assert_eq!(
        lake.rows("t"),
        [r#"{"ind":1,"x":1.0}"#, r#"{"ind":2,"x":0.5,"tags":["a"]}"#, r#"{"ind":3,"at":{"lat":1.5}}"#,]
    );
    assert_eq!(table::positions(&lake.path("t")), [("ottla/conformance/t/0".to_owned(), 4)].into());
    // Readers find statistics.
    let actions = table::versions(&lake.path("t")).into_iter().flatten();
    let last = actions.filter_map(|action| action.get("add").cloned()).next_back().unwrap();
    let stats: serde_json::Value = serde_json::from_str(last["stats"].as_str().unwrap()).unwrap();
    assert_eq!((&stats["numRecords"], &stats["maxValues"]["ind"]), (&json!(1), &json!(3)));
    harness.stop().await.unwrap();
}

#[tokio::test]
async fn columns_of_the_configuration_stay_and_nothing_else_gets_in() {
    let lake = Lake::new();
    let options = [("schema.t", "ind int, at timestamp, price decimal(8,2)"), ("schema.evolution", "none")];
    let (mut harness, _) = lake.open(&options, &[(0, -1)]).await;
    let values = [r#"{"ind":1,"at":"2020-08-28 03:52:47","price":1.5}"#, r#"{"ind":2,"x":1}"#, r#"{"ind":3,"x":null}"#];
    harness.put(batch(0, 0, &values)).await.unwrap();
    harness.flush(FlushReason::CaughtUp).await.unwrap();
    assert_eq!(
        table::columns(&lake.path("t")),
        [
            ("ind".to_owned(), json!("integer")),
            ("at".to_owned(), json!("timestamp")),
            ("price".to_owned(), json!("decimal(8,2)")),
        ]
    );
    assert_eq!(lake.rows("t"), [r#"{"ind":1,"at":"2020-08-28T03:52:47Z","price":1.50}"#, r#"{"ind":3}"#]);
    assert!(harness.reported()[0].2.starts_with("field 'x': the table has no such column"));
    harness.stop().await.unwrap();
    // The table is now what counts; a configuration that says otherwise is refused.
    let mut harness = SinkHarness::start(lake.task(&[("schema", "ind string")])).await.unwrap();
    let error = harness.open(&Positions::from([(partition(0), 0)])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(
        error.message().starts_with("schema says that the column 'ind' is string, but the table has int"),
        "{error}"
    );
}

/// A transformation sends the records of one partition to two tables, one of which is committed much later. The task dies in
/// between, and the next one begins with a committed offset that says nothing.
#[tokio::test]
async fn records_of_one_partition_in_several_tables_are_each_there_once() {
    let lake = Lake::new();
    let options = [("flush.size", "3")];
    let topic = |offset: i64| if offset % 4 == 3 { "rare" } else { "t" };
    let records = |from: i64, to: i64| {
        let of = |offset| record(topic(offset), offset, None, &format!("{{\"n\":{offset}}}"));
        batch_of(0, (from..to).map(of).collect())
    };
    let (mut harness, _) = lake.open(&options, &[(0, -1)]).await;
    harness.put(records(0, 4)).await.unwrap();
    let positions = harness.flush(FlushReason::Interval).await.unwrap();
    assert_eq!(positions, Positions::from([(partition(0), 3)]), "offset 3 is in no table yet");
    harness.put(records(4, 9)).await.unwrap();
    drop(harness);
    assert_eq!(
        table::positions(&lake.path("t")),
        [("ottla/conformance/t/0".to_owned(), 9), ("ottla/conformance/t/0#all".to_owned(), 3)].into()
    );
    let (mut harness, positions) = lake.open(&options, &[(0, -1)]).await;
    assert_eq!(positions, Positions::from([(partition(0), 3)]));
    harness.put(records(3, 12)).await.unwrap();
    assert_eq!(harness.flush(FlushReason::CaughtUp).await.unwrap(), Positions::from([(partition(0), 12)]));
    let lines = |of: &str| -> Vec<String> {
        (0..12).filter(|offset| topic(*offset) == of).map(|offset| format!("{{\"n\":{offset}}}")).collect()
    };
    assert_eq!((lake.rows("t"), lake.rows("rare")), (lines("t"), lines("rare")));
    assert_eq!(harness.counts()["rows.skipped"], 4);
    harness.stop().await.unwrap();
}

/// Rows that a table drops come again. Until then no other table's commit may let a restart begin behind them.
#[tokio::test]
async fn rows_that_one_table_drops_are_not_passed_over_by_the_commit_of_another() {
    let lake = Lake::new();
    let one = |number, offset, topic: &str| {
        batch_of(number, vec![record(topic, offset, None, &format!("{{\"n\":{offset}}}"))])
    };
    let (mut harness, _) = lake.open(&[], &[(0, -1), (1, -1)]).await;
    for (number, offset, topic) in [(0, 0, "t"), (0, 1, "rare"), (0, 2, "t"), (1, 0, "rare")] {
        harness.put(one(number, offset, topic)).await.unwrap();
    }
    let (mut rival, _) = lake.open(&[], &[(1, -1)]).await;
    rival.put(one(1, 0, "rare")).await.unwrap();
    rival.put(one(1, 1, "rare")).await.unwrap();
    rival.flush(FlushReason::CaughtUp).await.unwrap();
    // One call: `rare` gives way to the rival and drops its rows, then `t` is committed.
    harness.flush(FlushReason::CaughtUp).await.unwrap();
    assert_eq!(harness.take_rewinds(), [(partition(0), 1), (partition(1), 0)]);
    assert_eq!(lake.rows("t"), [r#"{"n":0}"#, r#"{"n":2}"#]);
    drop(harness);
    let (mut harness, positions) = lake.open(&[], &[(0, -1)]).await;
    assert_eq!(positions, Positions::from([(partition(0), 1)]));
    for (offset, topic) in [(1, "rare"), (2, "t")] {
        harness.put(one(0, offset, topic)).await.unwrap();
    }
    harness.flush(FlushReason::CaughtUp).await.unwrap();
    assert_eq!(lake.rows("t"), [r#"{"n":0}"#, r#"{"n":2}"#]);
    assert_eq!(lake.rows("rare"), [r#"{"n":0}"#, r#"{"n":1}"#, r#"{"n":1}"#]);
}

/// What was reported within a call of `put` is in memory until the runtime has written it to the dead letter queue. A commit
/// within the same call must not let a restart begin behind it.
#[tokio::test]
async fn a_reported_record_is_not_passed_over_before_the_queue_has_it() {
    let lake = Lake::new();
    let options = [("flush.size", "2")];
    let (mut harness, _) = lake.open(&options, &[(0, -1)]).await;
    harness.put(batch(0, 0, &[r#"{"n":0}"#, "7", r#"{"n":2}"#])).await.unwrap();
    assert_eq!(harness.reported()[0].1, 1);
    drop(harness);
    let (mut harness, positions) = lake.open(&options, &[(0, -1)]).await;
    assert_eq!(positions, Positions::from([(partition(0), 1)]));
    harness.put(batch(0, 1, &["7", r#"{"n":2}"#])).await.unwrap();
    // The next call finds the queue with all of that.
    harness.put(batch(0, 3, &[r#"{"n":3}"#, r#"{"n":4}"#])).await.unwrap();
    drop(harness);
    let (_, positions) = lake.open(&options, &[(0, -1)]).await;
    assert_eq!(positions, Positions::from([(partition(0), 5)]));
    assert_eq!(lake.rows("t"), [0, 2, 3, 4].map(|n| format!("{{\"n\":{n}}}")));
}

#[tokio::test]
async fn a_topic_made_anew_is_refused_before_anything_is_written() {
    let lake = Lake::new();
    let mut harness = SinkHarness::start(lake.task(&[])).await.unwrap();
    harness.set_topic_identity(Some("one"));
    harness.open(&Positions::from([(partition(0), -1)])).await.unwrap();
    harness.put(batch(0, 0, &[r#"{"n":0}"#])).await.unwrap();
    harness.flush(FlushReason::CaughtUp).await.unwrap();
    harness.stop().await.unwrap();
    let before = table::versions(&lake.path("t"));

    let mut harness = SinkHarness::start(lake.task(&[])).await.unwrap();
    harness.set_topic_identity(Some("another"));
    let error = harness.open(&Positions::from([(partition(0), -1)])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fatal);
    assert!(error.message().contains("holds the records of another topic 't' up to offset 1"), "{error}");
    assert!(error.message().contains("delta.app.id") && error.message().contains("state folder"), "{error}");
    assert_eq!(table::versions(&lake.path("t")), before);

    let mut harness = SinkHarness::start(lake.task(&[("delta.app.id", "second")])).await.unwrap();
    harness.set_topic_identity(Some("another"));
    let positions = harness.open(&Positions::from([(partition(0), -1)])).await.unwrap();
    assert_eq!(positions, Positions::from([(partition(0), 0)]));
    harness.put(batch(0, 0, &[r#"{"n":100}"#])).await.unwrap();
    harness.flush(FlushReason::CaughtUp).await.unwrap();
    assert_eq!(lake.rows("t"), [r#"{"n":0}"#, r#"{"n":100}"#]);
}

/// A task that was thought dead goes on beside its successor: whoever commits second drops its rows and reads again.
#[tokio::test]
async fn a_rival_commits_and_nothing_is_there_twice() {
    let lake = Lake::new();
    let values = ["a", "b", "c", "d"].map(|text| format!("{{\"n\":\"{text}\"}}"));
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    let (mut zombie, _) = lake.open(&[], &[(0, -1), (1, -1)]).await;
    let (mut owner, _) = lake.open(&[], &[(0, -1)]).await;
    zombie.put(batch(0, 0, &values[..3])).await.unwrap();
    zombie.put(batch(1, 0, &values[..1])).await.unwrap();
    owner.put(batch(0, 0, &values[..2])).await.unwrap();
    owner.flush(FlushReason::CaughtUp).await.unwrap();

    zombie.flush(FlushReason::CaughtUp).await.unwrap();
    assert_eq!(zombie.take_rewinds(), [(partition(0), 0), (partition(1), 0)]);
    zombie.put(batch(0, 0, &values)).await.unwrap();
    zombie.put(batch(1, 0, &values[..1])).await.unwrap();
    zombie.flush(FlushReason::CaughtUp).await.unwrap();
    assert_eq!(zombie.counts()["rows.skipped"], 2);

    owner.put(batch(0, 2, &values[2..])).await.unwrap();
    owner.flush(FlushReason::CaughtUp).await.unwrap();
    // The same records to the same end are in the table, whoever wrote them.
    assert_eq!(owner.counts()["commits.adopted"], 1);
    assert_eq!(owner.flushed()[&partition(0)], 4);
    assert_eq!(lake.rows("t"), [r#"{"n":"a"}"#, r#"{"n":"b"}"#, r#"{"n":"c"}"#, r#"{"n":"d"}"#, r#"{"n":"a"}"#]);
}

#[tokio::test]
async fn files_are_divided_by_partition_columns() {
    let lake = Lake::new();
    let (mut harness, _) = lake.open(&[("partition.columns", "year")], &[(0, -1)]).await;
    harness.put(batch(0, 0, &[r#"{"year":2020,"n":1}"#, r#"{"year":2021,"n":2}"#, r#"{"n":3}"#])).await.unwrap();
    harness.flush(FlushReason::CaughtUp).await.unwrap();
    let actions = table::versions(&lake.path("t")).into_iter().flatten();
    let mut values: Vec<String> =
        actions.filter_map(|action| Some(action.get("add")?["partitionValues"]["year"].to_string())).collect();
    values.sort();
    assert_eq!(values, [r#""2020""#, r#""2021""#, "null"]);
    let mut rows = lake.rows("t");
    rows.sort();
    assert_eq!(rows, [r#"{"n":1}"#, r#"{"n":2}"#, r#"{"n":3}"#], "the column is in the folder's name");
    harness.stop().await.unwrap();
}

#[tokio::test]
async fn what_can_not_divide_a_table_is_refused_before_there_is_one() {
    for (columns, value, wanted) in [
        (
            "n",
            r#"{"tags":["a"]}"#,
            "partition.columns names 'n', which none of the first 1 records has with a value; give the",
        ),
        (
            "tags",
            r#"{"tags":["a"],"n":1}"#,
            "partition.columns names 'tags', which is array<string>; only columns of single",
        ),
        (
            "at",
            r#"{"at":{"x":1},"n":1}"#,
            "partition.columns names 'at', which is struct<x:long>; only columns of single",
        ),
        (
            "n",
            r#"{"n":1}"#,
            "partition.columns names every column that the first records have; one at least must be left",
        ),
    ] {
        let lake = Lake::new();
        let (mut harness, _) = lake.open(&[("partition.columns", columns)], &[(0, -1)]).await;
        harness.put(batch(0, 0, &[value])).await.unwrap();
        let error = harness.flush(FlushReason::CaughtUp).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.message().starts_with(wanted), "{error}");
        assert!(table::versions(&lake.path("t")).is_empty());
    }
    let lake = Lake::new();
    let (mut harness, _) = lake.open(&[("delta.mode", "upsert"), ("upsert.key", "id")], &[(0, -1)]).await;
    harness.put(batch(0, 0, &[r#"{"id":{"x":1},"n":1}"#])).await.unwrap();
    let error = harness.flush(FlushReason::CaughtUp).await.unwrap_err();
    assert!(
        error.message().starts_with("upsert.key names 'id', which is struct<x:long>; only columns of single"),
        "{error}"
    );
    assert!(table::versions(&lake.path("t")).is_empty());
    // The column keeps its own spelling, also for the next task.
    let lake = Lake::new();
    for offset in 0..2 {
        let (mut harness, _) = lake.open(&[("partition.columns", "YEAR")], &[(0, offset)]).await;
        harness.put(batch(0, offset, &[r#"{"Year":2020,"n":1}"#])).await.unwrap();
        harness.flush(FlushReason::CaughtUp).await.unwrap();
        harness.stop().await.unwrap();
    }
    let metadata =
        table::versions(&lake.path("t")).into_iter().flatten().find_map(|action| action.get("metaData").cloned());
    assert_eq!(metadata.unwrap()["partitionColumns"], json!(["Year"]));
    assert_eq!(lake.rows("t"), [r#"{"n":1}"#, r#"{"n":1}"#]);
}

/// Rows of nothing but nulls make no table; they wait for one that does, and fail nobody.
#[tokio::test]
async fn rows_without_values_wait_for_columns() {
    let lake = Lake::new();
    let (mut harness, _) = lake.open(&[("flush.size", "1")], &[(0, -1)]).await;
    harness.put(batch(0, 0, &["{}", r#"{"n":null}"#])).await.unwrap();
    harness.tick().await.unwrap();
    assert_eq!(harness.flush(FlushReason::Interval).await.unwrap(), Positions::from([(partition(0), 0)]));
    assert!(!lake.path("t").exists());
    // Nor do they when memory is short: they hold none.
    assert_eq!(harness.flush(FlushReason::Pressure).await.unwrap(), Positions::from([(partition(0), 0)]));
    assert!(harness.buffered() < 100, "{}", harness.buffered());
    // Another task has values, and makes the table.
    let (mut other, _) = lake.open(&[], &[(1, -1)]).await;
    other.put(batch(1, 0, &[r#"{"n":1}"#])).await.unwrap();
    other.flush(FlushReason::CaughtUp).await.unwrap();
    // It is looked for again after a while.
    let deadline = Instant::now() + Duration::from_secs(20);
    while harness.flush(FlushReason::Interval).await.unwrap() != Positions::from([(partition(0), 2)]) {
        assert!(Instant::now() < deadline, "the table is not found");
        tokio::time::sleep(Duration::from_millis(50)).await;
        harness.tick().await.unwrap();
    }
    harness.put(batch(0, 2, &[r#"{"n":null,"m":{}}"#, r#"{"m":{"x":2}}"#])).await.unwrap();
    assert_eq!(harness.flush(FlushReason::CaughtUp).await.unwrap(), Positions::from([(partition(0), 4)]));
    let mut rows = lake.rows("t");
    rows.sort();
    assert_eq!(rows, [r#"{"m":{"x":2}}"#, r#"{"m":{}}"#, r#"{"n":1}"#, "{}", "{}"]);
}

/// When nothing more will come, rows without any value are reported one by one: no table can hold them.
#[tokio::test]
async fn rows_without_values_are_reported_at_the_end() {
    let lake = Lake::new();
    let (mut harness, _) = lake.open(&[], &[(0, -1)]).await;
    let rows = ["{}", r#"{"n":null,"o":{}}"#, "{}"];
    harness.put(batch(0, 0, &rows)).await.unwrap();
    assert_eq!(harness.flush(FlushReason::CaughtUp).await.unwrap(), Positions::from([(partition(0), 0)]));
    assert_eq!(harness.take_rewinds(), [(partition(0), 0)]);
    // They come again, and meanwhile one more, which has a value and makes the table.
    harness.put(batch(0, 0, &[rows[0], rows[1], r#"{"n":7}"#, rows[2]])).await.unwrap();
    let reported = harness.reported();
    assert_eq!(reported.iter().map(|(_, offset, _)| *offset).collect::<Vec<_>>(), [0, 1]);
    assert!(reported[0].2.contains("the record has no field with a value, nor has any before it"), "{reported:?}");
    assert_eq!(harness.flush(FlushReason::CaughtUp).await.unwrap(), Positions::from([(partition(0), 4)]));
    assert_eq!(lake.rows("t"), [r#"{"n":7}"#, "{}"]);
    // From here on such rows have columns, all of them null.
    harness.put(batch(0, 4, &["{}"])).await.unwrap();
    harness.flush(FlushReason::CaughtUp).await.unwrap();
    assert_eq!(lake.rows("t").len(), 3);
    // Where nothing is tolerated, the first of them fails the task.
    let lake = Lake::new();
    let (mut harness, _) = lake.open(&[], &[(0, -1)]).await;
    harness.tolerate_nothing();
    harness.put(batch(0, 0, &["{}"])).await.unwrap();
    harness.flush(FlushReason::CaughtUp).await.unwrap();
    harness.take_rewinds();
    let error = harness.put(batch(0, 0, &["{}"])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PoisonRecord);
    assert!(!lake.path("t").exists());
}

/// A column that holds an integer beyond what a double holds never becomes one of doubles, also when the rows were set aside
/// because another partition went.
#[tokio::test]
async fn integers_are_not_rounded_after_a_partition_was_closed() {
    let lake = Lake::new();
    let (mut harness, _) = lake.open(&[], &[(0, -1), (1, -1)]).await;
    harness.put(batch(0, 0, &[r#"{"a":9007199254740993}"#])).await.unwrap();
    harness.put(batch(1, 0, &[r#"{"a":1}"#])).await.unwrap();
    harness.close(&[partition(1)], CloseReason::Revoked).await.unwrap();
    harness.put(batch(0, 1, &[r#"{"a":0.5}"#, r#"{"a":2}"#])).await.unwrap();
    assert_eq!(harness.reported().iter().map(|(_, offset, _)| *offset).collect::<Vec<_>>(), [1]);
    harness.flush(FlushReason::CaughtUp).await.unwrap();
    assert_eq!(lake.rows("t"), [r#"{"a":9007199254740993}"#, r#"{"a":2}"#]);
}

/// What is said to be held is what the rows take in memory, not what their texts took: many columns take more, names less.
#[tokio::test]
async fn memory_is_counted_as_it_is_held() {
    let rows: Vec<String> = (0..500).map(|row| format!(r#"{{"a_long_name_for_a_number":{row}}}"#)).collect();
    let text: usize = rows.iter().map(String::len).sum();
    let lake = Lake::new();
    let (mut harness, _) = lake.open(&[], &[(0, -1)]).await;
    harness.put(batch(0, 0, &rows.iter().map(String::as_str).collect::<Vec<_>>())).await.unwrap();
    assert!((500 * 8..text).contains(&harness.buffered()), "{} of {text}", harness.buffered());
    harness.flush(FlushReason::CaughtUp).await.unwrap();
    assert_eq!(harness.buffered(), 0);
    // Each row has one of many columns.
    let rows: Vec<String> = (0..500).map(|row| format!(r#"{{"c{row}":1}}"#)).collect();
    harness.put(batch(0, 500, &rows.iter().map(String::as_str).collect::<Vec<_>>())).await.unwrap();
    assert!((500 * 500 * 8..4_000_000).contains(&harness.buffered()), "{}", harness.buffered());
}

#[tokio::test]
async fn upsert_keeps_the_last_row_of_each_key_and_deletes_by_tombstones() {
    let lake = Lake::new();
    let options = [("delta.mode", "upsert"), ("upsert.key", "id")];
    let (mut harness, _) = lake.open(&options, &[(0, -1)]).await;
    let row = |offset: i64, id: i64, name: &str| {
        let value = if name.is_empty() { String::new() } else { format!("{{\"id\":{id},\"name\":\"{name}\"}}") };
        record("t", offset, Some(&format!("{{\"id\":{id}}}")), &value)
    };
    harness.put(batch_of(0, vec![row(0, 1, "a"), row(1, 2, "b"), row(2, 1, "c"), row(3, 3, "d")])).await.unwrap();
    harness.flush(FlushReason::CaughtUp).await.unwrap();
    let sorted = || {
        let mut rows = lake.rows("t");
        rows.sort();
        rows
    };
    assert_eq!(sorted(), [r#"{"id":1,"name":"c"}"#, r#"{"id":2,"name":"b"}"#, r#"{"id":3,"name":"d"}"#]);
    harness.put(batch_of(0, vec![row(4, 2, ""), row(5, 3, "e"), row(6, 4, "f"), row(7, 4, "")])).await.unwrap();
    let keyless = record("t", 8, None, r#"{"name":"x"}"#);
    harness.put(batch_of(0, vec![keyless])).await.unwrap();
    let positions = harness.flush(FlushReason::CaughtUp).await.unwrap();
    assert_eq!(positions, Positions::from([(partition(0), 9)]));
    assert_eq!(sorted(), [r#"{"id":1,"name":"c"}"#, r#"{"id":3,"name":"e"}"#]);
    assert!(harness.reported()[0].2.starts_with("field 'id' of upsert.key is missing or null"));
    assert_eq!(table::positions(&lake.path("t")), [("ottla/conformance/t/0".to_owned(), 8)].into());
    // A deletion of what is not there changes no row, and still counts.
    harness.put(batch_of(0, vec![row(9, 77, "")])).await.unwrap();
    harness.flush(FlushReason::CaughtUp).await.unwrap();
    assert_eq!(table::positions(&lake.path("t")), [("ottla/conformance/t/0".to_owned(), 10)].into());
    harness.stop().await.unwrap();
    let (_, positions) = lake.open(&options, &[(0, 3)]).await;
    assert_eq!(positions, Positions::from([(partition(0), 10)]));
}

/// `1` and `1.0` are one value of a column of doubles.
#[tokio::test]
async fn keys_are_compared_as_the_table_holds_them() {
    let lake = Lake::new();
    let options = [("delta.mode", "upsert"), ("upsert.key", "ID, day"), ("schema", "id double, day timestamp, n long")];
    let (mut harness, _) = lake.open(&options, &[(0, -1)]).await;
    let values = [
        r#"{"id":1,"day":"2020-01-01 00:00:00","n":1}"#,
        r#"{"id":2,"day":"2020-01-01 00:00:00","n":2}"#,
        r#"{"id":1.0,"day":"2020-01-01T00:00:00Z","n":3}"#,
    ];
    harness.put(batch(0, 0, &values)).await.unwrap();
    harness.flush(FlushReason::CaughtUp).await.unwrap();
    let mut rows = lake.rows("t");
    rows.sort();
    assert_eq!(
        rows,
        [r#"{"id":1.0,"day":"2020-01-01T00:00:00Z","n":3}"#, r#"{"id":2.0,"day":"2020-01-01T00:00:00Z","n":2}"#,]
    );
    harness.stop().await.unwrap();
}

/// As with appends: whoever commits second drops its rows, reads again, and merges only what the table has not.
#[tokio::test]
async fn a_rival_merges_and_no_older_row_comes_back() {
    let lake = Lake::new();
    let options = [("delta.mode", "upsert"), ("upsert.key", "id")];
    let value = |offset: i64| format!("{{\"id\":{},\"n\":{offset}}}", offset % 2);
    let upto =
        |from: i64, to: i64| batch_of(0, (from..to).map(|offset| record("t", offset, None, &value(offset))).collect());
    let (mut zombie, _) = lake.open(&options, &[(0, -1)]).await;
    let (mut owner, _) = lake.open(&options, &[(0, -1)]).await;
    zombie.put(upto(0, 3)).await.unwrap();
    owner.put(upto(0, 5)).await.unwrap();
    owner.flush(FlushReason::CaughtUp).await.unwrap();
    zombie.flush(FlushReason::CaughtUp).await.unwrap();
    assert_eq!(zombie.take_rewinds(), [(partition(0), 0)]);
    zombie.put(upto(0, 6)).await.unwrap();
    zombie.flush(FlushReason::CaughtUp).await.unwrap();
    assert_eq!(zombie.counts()["rows.skipped"], 5);
    let mut rows = lake.rows("t");
    rows.sort();
    assert_eq!(rows, [r#"{"id":0,"n":4}"#, r#"{"id":1,"n":5}"#]);
    assert_eq!(table::positions(&lake.path("t")), [("ottla/conformance/t/0".to_owned(), 6)].into());
}

#[tokio::test]
async fn a_table_that_somebody_deletes_is_not_written_on() {
    for extra in [&[][..], &[("delta.mode", "upsert"), ("upsert.key", "n")]] {
        let lake = Lake::new();
        let (mut harness, _) = lake.open(extra, &[(0, -1)]).await;
        harness.put(batch(0, 0, &[r#"{"n":0}"#])).await.unwrap();
        harness.flush(FlushReason::CaughtUp).await.unwrap();
        std::fs::remove_dir_all(lake.path("t")).unwrap();
        harness.put(batch(0, 1, &[r#"{"n":1}"#])).await.unwrap();
        let error = harness.flush(FlushReason::CaughtUp).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Fatal, "{error}");
        assert!(
            error.message().starts_with("version 1 of the table is gone: somebody has deleted the table"),
            "{error}"
        );
        assert!(!lake.path("t").join("_delta_log").exists());
        // Partitions that come to the same task are met by the same.
        let error = harness.open(&Positions::from([(partition(1), -1)])).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Fatal, "{error}");
        assert!(error.message().contains("somebody has deleted the table"), "{error}");
    }
}

#[tokio::test]
async fn records_without_a_value_are_refused_or_left_out() {
    let lake = Lake::new();
    let (mut harness, _) = lake.open(&[], &[(0, -1)]).await;
    let error = harness.put(batch(0, 0, &[""])).await.unwrap_err();
    assert!(error.message().starts_with("record without a value; set behavior.on.null.values=ignore"), "{error}");
    let (mut harness, _) = lake.open(&[("behavior.on.null.values", "ignore")], &[(0, -1)]).await;
    harness.put(batch(0, 0, &["", r#"{"n":1}"#, "7"])).await.unwrap();
    assert_eq!(harness.flush(FlushReason::CaughtUp).await.unwrap(), Positions::from([(partition(0), 3)]));
    assert_eq!(lake.rows("t"), [r#"{"n":1}"#]);
    assert!(harness.reported()[0].2.starts_with("a row of a table is made of named fields"));
}

#[test]
fn mistakes_are_named_with_their_key() {
    let root = Path::new("/lake");
    for (extra, wanted) in [
        (&[("delta.mode", "upsert")][..], "upsert.key: is missing; delta.mode=upsert needs the columns of the key"),
        (&[("upsert.key", "id")], "upsert.key: has no effect without delta.mode=upsert"),
        (&[("schema.t", "id lnog")], "schema.t: has the type 'lnog', which is none of boolean,"),
        (
            &[("schema.t", "id long"), ("partition.columns.t", "day")],
            "partition.columns.t: names 'day', which schema.t does not have",
        ),
        (
            &[("schema", "id long, n long"), ("partition.columns", "day")],
            "partition.columns: names 'day', which schema does not have",
        ),
        (
            &[("schema.t", "id long"), ("partition.columns", "ID"), ("schema.evolution", "none")],
            "partition.columns: names every column of schema.t; one at least must be left",
        ),
        (
            &[("schema.t", "id array<long>, n long"), ("delta.mode", "upsert"), ("upsert.key", "id")],
            "upsert.key: names 'id', which is array<long>; only columns of single values will do",
        ),
        (
            &[("schema.t", "id long"), ("delta.mode", "upsert"), ("upsert.key", "no"), ("schema.evolution", "none")],
            "upsert.key: names 'no', which schema.t does not have",
        ),
        (&[("table.name.format", " ")], "table.name.format: must be a name, such as ${topic}_table"),
    ] {
        let errors = DeltaSinkConnector.validate(&properties(root, extra));
        assert!(errors.iter().any(|error| error.to_string().starts_with(wanted)), "{extra:?}: {errors:?}");
    }
    let names = Arc::new(properties(root, &[("schema.evolution", "none"), ("schema", "id long")]));
    assert!(DeltaSinkConnector.validate(&names).is_empty());
}
