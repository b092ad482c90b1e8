//! Loading the tables into a database, and reading them back.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_api::prelude::*;
use ottla_connector_rds::demo;
use support::{Host, emulate, run, started, texts};

/// The newest progress of each table.
async fn load(url: &str) -> Result<BTreeMap<String, (u64, u64)>> {
    let mut seen = BTreeMap::new();
    demo::load(url, None, None, |table, rows, total| {
        seen.insert(table.to_owned(), (rows, total));
    })
    .await?;
    Ok(seen)
}

#[tokio::test]
async fn loaded_tables_are_the_emulated_ones() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("pins.db").display());
    let complete = ["geolocation_data", "pinterest_data", "user_data"].map(|name| (name.to_owned(), (11_154, 11_154)));
    assert_eq!(load(&url).await.unwrap(), complete.clone().into());
    // Once more: nothing is left to do, and it says so.
    assert_eq!(load(&url).await.unwrap(), complete.into());

    let more = [("emulate.rounds", "500")];
    let emulated = run(&emulate("emulator", &more), folder.path()).await;
    assert_eq!(texts(&run(&emulate(&url, &more), folder.path()).await), texts(&emulated));
}

#[tokio::test]
async fn a_table_of_another_shape_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("pins.db").display());
    support::sql(&url, &["CREATE TABLE geolocation_data (ind INTEGER PRIMARY KEY, place TEXT)"]).await;
    let error = load(&url).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert_eq!(
        error.to_string(),
        "table 'geolocation_data' exists with other columns (ind, place) than needed \
         (ind, timestamp, latitude, longitude, country)"
    );
    support::sql(&url, &["DROP TABLE geolocation_data", "DELETE FROM pinterest_data WHERE \"index\" > 9"]).await;
    let error = load(&url).await.unwrap_err();
    assert_eq!(error.to_string(), "table 'pinterest_data' holds 10 rows instead of 11154; drop it first");
}

#[tokio::test]
async fn rows_of_files_come_out_as_they_are_written() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("pins.db").display());
    let lines = [
        (
            "pin.jsonl",
            "pinterest_data",
            r#"{"index":0,"unique_id":"u","title":" a \"title\"\n","description":null,"poster_name":"é😀","follower_count":"2k","tag_list":"a,b","is_image_or_video":"image","image_src":"s","downloaded":1,"save_location":"l","category":"art"}"#,
        ),
        (
            "geo.jsonl",
            "geolocation_data",
            r#"{"ind":0,"timestamp":"2020-08-28 03:52:47","latitude":-88.8298,"longitude":17.0,"country":"Cote d'Ivoire"}"#,
        ),
        (
            "user.jsonl",
            "user_data",
            r#"{"ind":0,"first_name":"A","last_name":"B","age":20,"date_joined":"2015-10-21 21:26:45"}"#,
        ),
    ];
    for (file, _, line) in &lines {
        std::fs::write(folder.path().join(file), format!("{line}\n")).unwrap();
    }
    demo::load_jsonl(&url, None, None, folder.path(), |_, _, _| {}).await.unwrap();
    let more = [("emulate.rounds", "1"), ("emulate.draw.max", "0")];
    let records = run(&emulate(&url, &more), folder.path()).await;
    let expected: Vec<String> =
        lines.iter().zip(["t.pin", "t.geo", "t.user"]).map(|((_, _, line), topic)| format!("{topic} {line}")).collect();
    assert_eq!(texts(&records), expected);
}

#[tokio::test]
async fn a_file_with_a_gap_is_told_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("pins.db").display());
    std::fs::write(folder.path().join("pin.jsonl"), "{\"index\":0}\n").unwrap();
    let error = demo::load_jsonl(&url, None, None, folder.path(), |_, _, _| {}).await.unwrap_err();
    let path = folder.path().join("pin.jsonl");
    assert_eq!(error.to_string(), format!("there is no field 'unique_id' (line=1, path={})", path.display()));
}

#[tokio::test]
async fn a_database_that_is_not_there_is_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pins.db");
    let properties = emulate(&format!("sqlite://{}", path.display()), &[]);
    let error = started(&properties, &Arc::new(Host::default()), folder.path()).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    let expected =
        format!("connect: unable to open database file (SQLite error 14) (database=sqlite://{})", path.display());
    assert_eq!(error.to_string(), expected);
}
