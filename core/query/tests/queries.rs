//! Small folders and tables, asked through the public interface: what a user sees, and what they are told when it fails.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    Array, Float64Builder, Int64Array, ListBuilder, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use deltalake_core::DeltaTable;
use ottla_api::ErrorKind;
use ottla_query::{Answer, Format, Options, PrintError, Progress, S3Options, Session, print};
use tempfile::TempDir;

fn session() -> Session {
    let options = Options { s3: S3Options::default(), memory_limit: 256 << 20, progress: Progress::none() };
    Session::new(options).expect("a session")
}

/// A folder with these files.
fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, content) in files {
        write(folder.path(), name, content);
    }
    folder
}

fn write(folder: &Path, name: &str, content: &str) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
    std::fs::write(path, content).expect("a file");
}

/// Runs all statements; what they print, or the error with its kind. `{}` in a location is the folder.
async fn ask(folder: &Path, tables: &[&str], sql: &str, format: Format) -> Result<String, (ErrorKind, String)> {
    let session = session();
    let place = folder.display().to_string();
    let failed = |error: ottla_api::Error| (error.kind(), error.to_string().replace(&place, "{}"));
    for table in tables {
        let location = table.replace("{}", &place).parse().expect("a location");
        session.add_table(&location).await.map_err(failed)?;
    }
    let mut out = Vec::new();
    for statement in session.parse(sql, None).map_err(failed)? {
        if let Answer::Rows(rows) = session.run(&statement).await.map_err(failed)? {
            print(rows, format, &mut out).await.map_err(|error| match error {
                PrintError::Query(error) => failed(error),
                PrintError::Output(error) => panic!("a vector takes everything: {error}"),
            })?;
        }
    }
    Ok(String::from_utf8(out).expect("UTF-8"))
}

async fn json(folder: &Path, tables: &[&str], sql: &str) -> String {
    ask(folder, tables, sql, Format::Json).await.unwrap_or_else(|(_, error)| panic!("{error}"))
}

async fn error(folder: &Path, tables: &[&str], sql: &str) -> (ErrorKind, String) {
    match ask(folder, tables, sql, Format::Json).await {
        Ok(text) => panic!("no error, but {text}"),
        Err(error) => error,
    }
}

const POSTS: &[(&str, &str)] = &[
    ("u.pin/partition=0/u.pin+0+0000000000.json", "{\"ind\":1,\"title\":\"a\",\"count\":null}\n"),
    (
        "u.pin/partition=0/u.pin+0+0000000001.json",
        "{\"ind\":2,\"title\":null,\"count\":7}\n{\"ind\":3,\"title\":\"é\"}",
    ),
    ("u.pin/partition=1/u.pin+1+0000000000.json", "{\"ind\":4,\"title\":\"\",\"count\":1.5,\"tags\":[\"x\",null]}\n\n"),
    ("u.pin/partition=1/.hidden/u.json", "not a row"),
    ("u.pin/_SUCCESS", ""),
];

#[tokio::test]
async fn a_folder_of_objects_is_one_table_with_the_columns_of_all_rows() {
    let folder = folder(POSTS);
    let all = json(folder.path(), &["pin={}/u.pin"], "select * from pin order by ind").await;
    let expected = r#"{"ind":1,"title":"a","count":null,"tags":null}
{"ind":2,"title":null,"count":7.0,"tags":null}
{"ind":3,"title":"é","count":null,"tags":null}
{"ind":4,"title":"","count":1.5,"tags":["x",null]}
"#;
    assert_eq!(all, expected);
    for (location, rows) in [
        ("{}/u.pin/partition=1", 1),
        ("{}/*.pin/partition=0", 3),
        ("{}/**/*1.json", 2),
        ("file:{}/u.pin/partition=0/u.pin+0+0000000001.json", 2),
        ("json:{}/u.pin", 4),
    ] {
        let counted =
            json(folder.path(), &[&format!("pin={location}")], "select count(*) as n from pin where ind > 0").await;
        assert_eq!(counted, format!("{{\"n\":{rows}}}\n"), "{location}");
    }
}

#[tokio::test]
async fn types_come_from_every_row_and_numbers_keep_their_digits() {
    let mut rows: String = (0..3000).map(|n| format!("{{\"n\":{n},\"late\":null}}\n")).collect();
    rows += r#"{"n":9007199254740993,"late":"x","big":18446744073709551615,"mixed":1,"deep":{"a":[1,2.5]}}
{"n":-9223372036854775808,"big":1,"mixed":"1.0","deep":{"b":true}}
"#;
    let folder = folder(&[("a.jsonl", &rows)]);
    let tables = ["t={}/a.jsonl"];
    let types = json(folder.path(), &tables, "describe t").await;
    let expected = r#"{"column_name":"n","data_type":"Int64","is_nullable":"YES"}
{"column_name":"late","data_type":"Utf8","is_nullable":"YES"}
{"column_name":"big","data_type":"Decimal128(20, 0)","is_nullable":"YES"}
{"column_name":"mixed","data_type":"Utf8","is_nullable":"YES"}
{"column_name":"deep","data_type":"Struct(\"a\": List(Float64), \"b\": Boolean)","is_nullable":"YES"}
"#;
    assert_eq!(types, expected);
    let last = json(folder.path(), &tables, "select * from t where big is not null order by n desc").await;
    let expected = r#"{"n":9007199254740993,"late":"x","big":18446744073709551615,"mixed":"1","deep":{"a":[1.0,2.5],"b":null}}
{"n":-9223372036854775808,"late":null,"big":1,"mixed":"1.0","deep":{"a":null,"b":true}}
"#;
    assert_eq!(last, expected);
}

#[tokio::test]
async fn answers_come_as_table_csv_and_json_lines() {
    let folder = folder(&[(
        "a.json",
        "{\"name\":\"a \\\"b\\\", c\",\"n\":10,\"x\":0.1,\"list\":[1,null],\"at\":\"2026-11-21T10:00:00Z\"}
{\"name\":\"line\\nbreak\",\"n\":null,\"x\":1e300,\"list\":null,\"at\":\"2026-11-21T10:00:00.25Z\"}
{\"name\":\"\",\"n\":-3,\"x\":2,\"list\":[],\"at\":null}\n",
    )]);
    let sql = "select name, n, x, list, cast(at as timestamp) as at from t";
    let print = async |format| ask(folder.path(), &["t={}/a.json"], sql, format).await.expect("an answer");
    let table = print(Format::Table { rows_max: 10 }).await;
    let expected = "\
name            n      x  list      at
a \"b\", c       10    0.1  [1,null]  2026-11-21T10:00:00
line\\nbreak  null  1e300  null      2026-11-21T10:00:00.250
               -3    2.0  []        null
(3 rows)
";
    assert_eq!(table, expected);
    let csv = "\
name,n,x,list,at
\"a \"\"b\"\", c\",10,0.1,\"[1,null]\",2026-11-21T10:00:00
\"line\nbreak\",,1e300,,2026-11-21T10:00:00.250
\"\",-3,2.0,[],
";
    assert_eq!(print(Format::Csv).await, csv);
    let json = r#"{"name":"a \"b\", c","n":10,"x":0.1,"list":[1,null],"at":"2026-11-21T10:00:00"}
{"name":"line\nbreak","n":null,"x":1.0e300,"list":null,"at":"2026-11-21T10:00:00.250"}
{"name":"","n":-3,"x":2.0,"list":[],"at":null}
"#;
    assert_eq!(print(Format::Json).await, json);
    let short = print(Format::Table { rows_max: 1 }).await;
    assert!(
        short.ends_with("(1 row, and there are more: --max-rows N, or --format csv or json, shows them)\n"),
        "{short}"
    );
}

#[tokio::test]
async fn statements_share_views_and_tables_can_be_listed() {
    let folder = folder(POSTS);
    let sql = "create view known as select ind, title from pin where title <> '';
        show tables;
        select title from known order by title;
        set datafusion.execution.batch_size = 100;
        select count(*) as n from known";
    let expected = r#"{"table_name":"known","kind":"view"}
{"table_name":"pin","kind":"table"}
{"title":"a"}
{"title":"é"}
{"n":2}
"#;
    assert_eq!(json(folder.path(), &["PIN={}/u.pin"], sql).await, expected);
}

#[tokio::test]
async fn both_medians_leave_nulls_out_and_keep_their_types() {
    let rows: String = [("a", "1"), ("a", "4"), ("a", "null"), ("b", "9"), ("b", "7"), ("b", "8"), ("c", "null")]
        .map(|(group, value)| format!("{{\"g\":\"{group}\",\"v\":{value},\"nothing\":null}}\n"))
        .concat();
    let folder = folder(&[("a.json", &rows)]);
    let sql = "select g, percentile_cont(0.5) within group (order by v) as exact,
        percentile_disc(0.5) within group (order by v) as lower,
        percentile_disc(0) within group (order by v) as least,
        percentile_disc(1) within group (order by v) as most,
        percentile_disc(0.5) within group (order by v desc) as upper,
        percentile_disc(0.5) within group (order by nothing) as nothing
        from t group by g order by g";
    let expected = r#"{"g":"a","exact":2.5,"lower":1,"least":1,"most":4,"upper":4,"nothing":null}
{"g":"b","exact":8.0,"lower":8,"least":7,"most":9,"upper":8,"nothing":null}
{"g":"c","exact":null,"lower":null,"least":null,"most":null,"upper":null,"nothing":null}
"#;
    assert_eq!(json(folder.path(), &["t={}/a.json"], sql).await, expected);
    let text =
        json(folder.path(), &["t={}/a.json"], "select percentile_disc(0.5) within group (order by g) as g from t")
            .await;
    assert_eq!(text, "{\"g\":\"b\"}\n");
    let (kind, error) =
        error(folder.path(), &["t={}/a.json"], "select percentile_disc(50) within group (order by v) from t").await;
    assert_eq!(
        (kind, error.as_str()),
        (ErrorKind::Config, "percentile_disc needs a share between 0 and 1, such as 0.5, found 50")
    );
}

#[tokio::test]
async fn csv_and_parquet_files_are_tables_too() {
    let folder = folder(&[("c/a.csv", "n,name\n1,x\n2,\"y, z\"\n"), ("c/b.csv", "n,name\n3,w\n")]);
    let rows = "{\"n\":1,\"name\":\"x\"}\n{\"n\":2,\"name\":\"y, z\"}\n{\"n\":3,\"name\":\"w\"}\n";
    assert_eq!(json(folder.path(), &["c={}/c"], "select * from c order by n").await, rows);
    // A Delta table's own files are Parquet.
    let delta = folder.path().join("delta");
    delta_table(&delta, &[&[1, 2], &[3]]).await;
    let counted = json(folder.path(), &["p=parquet:{}/delta/*.parquet"], "select sum(ind) as n from p").await;
    assert_eq!(counted, "{\"n\":6}\n");
}

/// A Delta table with one commit for each list of numbers.
async fn delta_table(folder: &Path, commits: &[&[i64]]) {
    std::fs::create_dir_all(folder).expect("a folder");
    let url = url::Url::from_directory_path(folder).expect("a path");
    for numbers in commits {
        let mut places = ListBuilder::new(Float64Builder::new());
        for number in *numbers {
            places.append_value([Some(*number as f64 / 2.0), None]);
        }
        let second = |n: &i64| n * 1_000_000;
        let arrays: [Arc<dyn Array>; 4] = [
            Arc::new(Int64Array::from(numbers.to_vec())),
            Arc::new(StringArray::from_iter(numbers.iter().map(|n| (n % 2 == 0).then(|| format!("n{n}"))))),
            Arc::new(places.finish()),
            Arc::new(TimestampMicrosecondArray::from_iter_values(numbers.iter().map(second)).with_timezone("UTC")),
        ];
        let fields = ["ind", "name", "place", "at"].into_iter().zip(&arrays);
        let fields = fields.map(|(name, array)| Field::new(name, array.data_type().clone(), true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        assert_eq!(schema.field(3).data_type(), &DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())));
        let batch = RecordBatch::try_new(schema, arrays.to_vec()).expect("a batch");
        let table = DeltaTable::try_from_url(url.clone()).await.expect("a table");
        table.write([batch]).await.expect("a commit");
    }
}

#[tokio::test]
async fn a_delta_table_is_found_and_shows_its_older_states() {
    let folder = folder(&[]);
    delta_table(&folder.path().join("tables/t"), &[&[1, 2], &[3]]).await;
    let rows = r#"{"ind":1,"name":null,"place":[0.5,null],"at":"1970-01-01T00:00:01Z"}
{"ind":2,"name":"n2","place":[1.0,null],"at":"1970-01-01T00:00:02Z"}
{"ind":3,"name":null,"place":[1.5,null],"at":"1970-01-01T00:00:03Z"}
"#;
    let before: String = rows.split_inclusive('\n').take(2).collect();
    for (location, expected) in [
        ("{}/tables/t", rows),
        ("delta:{}/tables/t", rows),
        ("delta:file:{}/tables/t/", rows),
        ("{}/tables/t@1", rows),
        ("{}/tables/t@0", &before),
        ("{}/tables/t@2999-01-01", rows),
    ] {
        let answer = json(folder.path(), &[&format!("t={location}")], "select * from t order by ind").await;
        assert_eq!(answer, *expected, "{location}");
    }
    // Its time as text and as a time: the same questions go over both legs.
    let sql =
        "select extract(year from cast(at as timestamp)) as year, date_trunc('minute', at) as minute from t limit 1";
    let answer = json(folder.path(), &["t={}/tables/t"], sql).await;
    assert_eq!(answer, "{\"year\":1970,\"minute\":\"1970-01-01T00:00:00Z\"}\n");

    let (kind, text) = error(folder.path(), &["t={}/tables/t@1999-12-31"], "select 1").await;
    let expected = "table t: {}/tables/t was not there at 1999-12-31T00:00:00Z; its first state is of 20";
    assert!(kind == ErrorKind::Config && text.starts_with(expected), "{text}");
    for (location, expected) in [
        ("delta:{}/tables/t@7", "table t: {}/tables/t has no version 7; the newest is 1"),
        ("{}/tables", "table t: {}/tables holds Delta tables; name one: {}/tables/t"),
        (
            "delta:{}/tables",
            "table t: {}/tables is no Delta table; one has a folder _delta_log and versions, plain files have neither",
        ),
        ("delta:{}/nothing", "table t: {}/nothing does not exist"),
        ("delta:{}/tables/*", "table t: {}/tables/* is a pattern; a Delta table is one folder, name it"),
    ] {
        let found = error(folder.path(), &[&format!("t={location}")], "select 1").await;
        assert_eq!(found, (ErrorKind::Config, expected.to_owned()), "{location}");
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_location_is_said() {
    let folder = folder(POSTS);
    write(folder.path(), "broken/a.json", "{\"a\":1}\n\n{\"a\":}\n");
    write(folder.path(), "cut/a.json", "{\"a\":1}\n{\"a\":\"");
    write(folder.path(), "array/a.json", "[{\"a\":1}]\n");
    write(folder.path(), "several/a.json", "{\"a\":1}{\"a\":2}\n");
    write(folder.path(), "shapes/a.json", "{\"a\":1}\n");
    write(folder.path(), "shapes/b.json", "{\"a\":{\"x\":1}}\n");
    write(folder.path(), "kinds/a.json", "{}");
    write(folder.path(), "kinds/b.csv", "a\n1\n");
    write(folder.path(), "text/a.txt", "{}");
    write(folder.path(), "none/a.json", "{}\n{}\n");
    std::fs::create_dir(folder.path().join("empty")).expect("a folder");
    for (location, expected) in [
        ("{}/missing", "{}/missing does not exist"),
        ("{}/empty", "{}/empty is empty"),
        ("{}/u.pin/*.csv", "no file matches {}/u.pin/*.csv"),
        ("{}/missing/*.json", "no file matches {}/missing/*.json"),
        ("{}/broken", "{}/broken/a.json line 3 column 6: broken JSON: expected value"),
        ("{}/cut", "{}/cut/a.json line 2 column 6: broken JSON: EOF while parsing a string"),
        ("{}/array", "{}/array/a.json line 1: invalid type: sequence, expected one JSON object a line"),
        ("{}/several", "{}/several/a.json line 1 column 8: broken JSON: trailing characters"),
        ("{}/none", "{}/none holds no rows, or rows without fields"),
        (
            "{}/kinds",
            "{}/kinds holds files of several kinds ({}/kinds/a.json and {}/kinds/b.csv); choose by a pattern such as \
             '*.json'",
        ),
        (
            "{}/text",
            "{}/text/a.txt has no known ending (.json, .jsonl, .ndjson, .csv, .parquet); say what it is by json:, csv: \
             or parquet: before the location, or leave it out by a pattern such as '*.json'",
        ),
        (
            "{}/u.pin@3",
            "{}/u.pin is no Delta table; one has a folder _delta_log and versions, plain files have neither",
        ),
    ] {
        let found = error(folder.path(), &[&format!("t={location}")], "select 1").await;
        let (kind, text) = found;
        let text = text.strip_prefix("table t: ").unwrap_or(&text);
        assert_eq!((kind, text), (ErrorKind::Config, expected), "{location}");
    }
    let (_, text) = error(folder.path(), &["t={}/shapes"], "select 1").await;
    let either = ["'a' is an object here and a number elsewhere", "'a' is a number here and an object elsewhere"];
    assert!(either.iter().any(|part| text.contains(part)), "{text}");
    assert!(
        text.ends_with("a table needs rows of one shape, choose them by a pattern such as 'folder/*.json'"),
        "{text}"
    );
}

#[tokio::test]
async fn what_is_wrong_with_a_query_is_said() {
    let folder = folder(POSTS);
    write(folder.path(), "c/a.json", "{\"Count\":1}\n");
    let tables = ["pin={}/u.pin", "geo={}/c"];
    let only_reads = "queries read and change nothing; name tables with --table, and take results from standard output with --format";
    for (sql, expected) in [
        ("select lowwer(title) from pin", "Invalid function 'lowwer'. Did you mean 'lower'?"),
        ("select * from pinn", "there is no table 'pinn'; did you mean 'pin'? there are: geo, pin"),
        ("select * from posts_of_2020", "there is no table 'posts_of_2020'; there are: geo, pin"),
        (
            "select tittle from pin",
            "there is no column 'tittle'; did you mean 'pin.title'? there are: pin.ind, pin.title, pin.count, pin.tags",
        ),
        ("select Count from geo", "there is no column count; write \"Count\", in double quotes"),
        ("select 1;\nselect * form pin", "Expected: end of statement, found: form at Line: 2, Column: 10"),
        ("insert into pin values (1, 'x', 2, null)", only_reads),
        ("copy pin to 'somewhere.json'", only_reads),
        ("create external table x stored as csv location '/etc/passwd'", only_reads),
    ] {
        let found = error(folder.path(), &tables, sql).await;
        assert_eq!(found, (ErrorKind::Config, expected.to_owned()), "{sql}");
    }
    let (kind, text) = error(folder.path(), &tables, "select cast(title as int) from pin where title = 'a'").await;
    assert_eq!((kind, text.contains("'a'")), (ErrorKind::Fatal, true), "{text}");
    let twice = error(folder.path(), &["t={}/c", "t={}/c"], "select 1").await;
    assert_eq!(twice, (ErrorKind::Config, "table t: there are two of this name; give each its own".to_owned()));
}
