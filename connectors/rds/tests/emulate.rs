//! Mode `emulate` over the generated database: the draws, the offsets, the pace.

mod support;

use std::sync::Arc;
use std::time::Duration;

use ottla_api::prelude::*;
use support::{Host, emulate, field, run, started, text, texts};

#[tokio::test]
async fn rounds_yield_the_drawn_row_of_each_table_in_order() {
    let state = tempfile::tempdir().unwrap();
    let records = run(&emulate("emulator", &[("emulate.rounds", "4")]), state.path()).await;

    let topics: Vec<&str> = records.iter().map(|record| &*record.record.topic).collect();
    assert_eq!(topics, ["t.pin", "t.geo", "t.user"].repeat(4));
    for (records, draw) in records.chunks(3).zip([7528, 2863, 5730, 8304]) {
        assert_eq!(field(&records[0], "index"), &Value::Int64(draw));
        assert_eq!(field(&records[1], "ind"), &Value::Int64(draw));
        assert_eq!(field(&records[2], "ind"), &Value::Int64(draw));
    }
    let Payload::Data { schema: None, value: Value::Map(row) } = &records[0].record.value else { panic!("not a map") };
    let columns: Vec<&str> = row.iter().map(|(name, _)| name).collect();
    assert_eq!(
        columns.join(" "),
        "index unique_id title description poster_name follower_count tag_list is_image_or_video image_src downloaded \
         save_location category"
    );
    assert!(records[0].record.key.is_null());
}

#[tokio::test]
async fn a_thousand_rounds_are_quick_and_the_same_rows_as_one_by_one() {
    let state = tempfile::tempdir().unwrap();
    run(&emulate("emulator", &[("emulate.rounds", "1")]), state.path()).await;
    let started = std::time::Instant::now();
    let together = run(&emulate("emulator", &[("emulate.rounds", "1000")]), state.path()).await;
    let elapsed = started.elapsed();
    assert_eq!(together.len(), 3000);
    assert!(elapsed < Duration::from_secs(5), "1000 rounds took {elapsed:?}");

    // A batch of three rows reads each by its offset.
    let one_by_one =
        run(&emulate("emulator", &[("emulate.rounds", "40"), ("batch.max.rows", "3")]), state.path()).await;
    assert_eq!(texts(&together[..120]), texts(&one_by_one));
}

#[tokio::test]
async fn a_restart_goes_on_after_the_last_stored_offset_wherever_that_is() {
    let state = tempfile::tempdir().unwrap();
    let properties = emulate("emulator", &[("emulate.rounds", "5")]);
    let all = run(&properties, state.path()).await;

    for stored in 0..all.len() {
        let host = Arc::new(Host::default());
        host.store(&all[stored]);
        let mut task = started(&properties, &host, state.path()).await.unwrap();
        let rest = support::drain(&mut task).await;
        assert_eq!(rest, all[stored + 1..], "after record {stored}");
    }
}

#[tokio::test]
async fn another_seed_starts_anew() {
    let state = tempfile::tempdir().unwrap();
    let all = run(&emulate("emulator", &[("emulate.rounds", "3")]), state.path()).await;
    let host = Arc::new(Host::default());
    host.store(&all[8]);
    let other = emulate("emulator", &[("emulate.rounds", "3"), ("emulate.seed", "7")]);
    let mut task = started(&other, &host, state.path()).await.unwrap();
    let records = support::drain(&mut task).await;
    // Python: random.seed(7); random.randrange(0, 2); random.randint(0, 11000)
    assert_eq!((records.len(), field(&records[0], "index")), (9, &Value::Int64(2471)));
}

#[tokio::test]
async fn an_offset_that_cannot_be_read_stops_the_task() {
    let state = tempfile::tempdir().unwrap();
    let host = Arc::new(Host::default());
    let partition = SourcePartition::new([("emulate", "100")]);
    host.offsets.lock().unwrap().insert(partition, SourceOffset::new([("line", 3_i64)]));
    let error = started(&emulate("emulator", &[]), &host, state.path()).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Fatal);
    assert_eq!(error.to_string(), r#"the stored offset {"line":3} has no round and table"#);
}

#[tokio::test]
async fn the_original_pace_sleeps_as_drawn_and_a_dropped_poll_does_not_sleep_again() {
    let state = tempfile::tempdir().unwrap();
    let properties = emulate("emulator", &[("emulate.rounds", "6"), ("emulate.pace", "original")]);
    let mut task = started(&properties, &Arc::default(), state.path()).await.unwrap();
    let mut seconds = Vec::new();
    loop {
        let before = std::time::Instant::now();
        let poll = loop {
            if let Ok(poll) = tokio::time::timeout(Duration::from_millis(300), task.poll()).await {
                break poll.unwrap();
            }
        };
        match poll {
            SourcePoll::Records(records) => assert_eq!(records.len(), 3),
            SourcePoll::Finished => break,
            other => panic!("{other:?}"),
        }
        seconds.push(before.elapsed().as_secs_f64().round() as u64);
    }
    assert_eq!(seconds, [0, 1, 1, 1, 0, 0]);
}

#[tokio::test]
async fn a_rate_is_kept_although_polls_come_late() {
    let state = tempfile::tempdir().unwrap();
    let properties = emulate("emulator", &[("emulate.rounds", "50"), ("emulate.pace", "100/s")]);
    let mut task = started(&properties, &Arc::default(), state.path()).await.unwrap();
    let start = std::time::Instant::now();
    let records = support::drain(&mut task).await;
    let elapsed = start.elapsed();
    assert_eq!(records.len(), 150);
    assert!(elapsed >= Duration::from_millis(480), "50 rounds at 100/s took {elapsed:?}");
    assert!(elapsed < Duration::from_secs(3), "50 rounds at 100/s took {elapsed:?}");
}

#[tokio::test]
async fn draws_past_the_end_are_counted_and_left_out() {
    let state = tempfile::tempdir().unwrap();
    let more = [("emulate.rounds", "300"), ("emulate.draw.max", "22307")];
    for row in ["offset", "key"] {
        let host = Arc::new(Host::default());
        let mut properties = emulate("emulator", &more);
        properties.set("emulate.row", row);
        let mut task = started(&properties, &host, state.path()).await.unwrap();
        let records = support::drain(&mut task).await;
        let missing = host.count_of("rows.missing");
        assert_eq!(records.len() as u64 + missing, 900);
        assert!((300..600).contains(&missing), "{missing} missing");
    }
}

#[tokio::test]
async fn iso_date_times_have_a_t() {
    let state = tempfile::tempdir().unwrap();
    let properties = emulate("emulator", &[("emulate.rounds", "1"), ("datetime.format", "iso")]);
    let records = run(&properties, state.path()).await;
    let sql = run(&emulate("emulator", &[("emulate.rounds", "1")]), state.path()).await;
    let joined = field(&sql[2], "date_joined").as_str().unwrap();
    assert_eq!(joined.as_bytes()[10], b' ');
    assert_eq!(field(&records[2], "date_joined"), &Value::from(joined.replace(' ', "T")));
    assert_eq!(text(&records[0]), text(&sql[0]));
}

#[tokio::test]
async fn unknown_tables_and_columns_are_told_with_what_exists() {
    let state = tempfile::tempdir().unwrap();
    for (key, value, message) in [
        (
            "emulate.topics.user_dat",
            "t",
            "there is no table 'user_dat' in emulator; did you mean 'user_data'?; \
             there are: geolocation_data, pinterest_data, user_data",
        ),
        (
            "emulate.key.user_data",
            "index",
            "there is no column 'index' in table 'user_data'; \
             there are: ind, first_name, last_name, age, date_joined",
        ),
    ] {
        let error = started(&emulate("emulator", &[(key, value)]), &Arc::default(), state.path()).await.err().unwrap();
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Config, message));
    }
}
