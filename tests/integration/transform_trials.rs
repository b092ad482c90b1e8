//! Chains tried and tested without a broker: `ottla transform try` and `ottla transform test`.

use std::path::Path;
use std::time::Duration;

use ottla_tests::worker::Ottla;
use ottla_tests::{config, temp_dir};

const RUN: Duration = Duration::from_secs(30);

/// A sink with one chain of four stages, the last of which is for tombstones only.
const CONFIG: &str = r#"
[worker]
bootstrap.servers = "embedded"

[connectors.out]
connector.class = "s3-sink"
topics = "rows"
store.url = "file:lake"
s3.bucket.name = "rows"
flush.size = 1
transforms = ["tidy"]

[chains.tidy]

[[chains.tidy.transforms]]
type = "parse-quantity"
fields = "n"

[[chains.tidy.transforms]]
type = "replace-field"
renames = "n:count"

[[chains.tidy.transforms]]
type = "drop-if-all-null"

[[chains.tidy.transforms]]
type = "insert-header"
header = "dead"
value.literal = "yes"
when = { tombstone = true }
"#;

fn transform(args: &[&str], files: &[&Path]) -> Ottla {
    let args = ["transform"].iter().chain(args).map(|arg| (*arg).to_owned());
    let files = files.iter().map(|file| file.display().to_string());
    Ottla::new(args.chain(files).collect::<Vec<_>>())
}

#[test]
fn the_example_s_cases_come_out_as_it_says() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/pinterest/cleaning.test.toml");
    let out = transform(&["test"], &[&file]).finish(RUN).exits_with(0).stdout;
    assert!(out.ends_with("\n10 cases: 10 as expected, 0 not\n"), "{out}");
}

#[test]
fn a_case_that_comes_out_otherwise_is_told_and_can_be_blessed() {
    let folder = temp_dir();
    config::write(folder.path(), "pipeline.toml", CONFIG);
    let text = r#"# Kept as it is written.
config = "pipeline.toml"

[[cases]]
name = "a quantity" # also this
topic = "rows"
value = '{"n": "3k"}'
expected.value = '{"count":3}'

[[cases]]
topic = "rows"
value = '{"n":null}'
expected.dropped = true

[[cases]]
name = "a tombstone"
topic = "rows"
expected.value = 'null'
"#;
    let file = config::write(folder.path(), "tidy.test.toml", text);
    let name = file.display();
    let out = transform(&["test"], &[&file]).finish(RUN).exits_with(1).stdout;
    let wanted = format!(
        "FAILED  {name}:5 a quantity
          value     expected  {{\"count\":3}}
          value     found     {{\"count\":3000}}
ok      {name}:11 line 11
FAILED  {name}:16 a tombstone
          headers   expected  \n          headers   found     dead=\"yes\"

3 cases: 1 as expected, 2 not
"
    );
    assert_eq!(out, wanted);

    transform(&["test", "--bless"], &[&file]).finish(RUN).exits_with(0);
    let blessed = text
        .replace("'{\"count\":3}'", "'{\"count\":3000}'")
        .replace("expected.value = 'null'\n", "expected.value = \"null\"\nexpected.headers.dead = '\"yes\"'\n");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), blessed);
    transform(&["test"], &[&file]).finish(RUN).exits_with(0);
}

#[test]
fn mistakes_in_a_file_of_cases_are_told_all_at_once() {
    let folder = temp_dir();
    let text = "confg = \"pipeline.toml\"\n[[cases]]\nvaule = '1'\nexpected.value = '{'\ntimestamp = \"soon\"\n";
    let file = config::write(folder.path(), "wrong.test.toml", text);
    let err = transform(&["test"], &[&file]).finish(RUN).exits_with(2).stderr;
    let name = file.display();
    for line in [
        format!("{name}:1: confg: unknown key; did you mean 'config'?"),
        format!("{name}:3: vaule: unknown key; did you mean 'value'?"),
        format!("{name}:4: expected.value: is not JSON: "),
        format!("{name}:5: timestamp: must be a whole number of milliseconds"),
        format!("{name}:3: topic: is missing"),
        format!("{name}:1: config: is missing: name the configuration whose transformations are tested"),
    ] {
        assert!(err.contains(&line), "{line}\nis not in\n{err}");
    }
}

#[test]
fn each_record_is_shown_after_each_stage() {
    let folder = temp_dir();
    let file = config::write(folder.path(), "pipeline.toml", CONFIG);
    let rows = config::write(folder.path(), "rows.jsonl", "{\"n\":\"2M\"}\n{\"n\":\"many\"}\n[1]\nnull\n{\n");
    let rows = rows.display().to_string();
    let out = transform(&["try", "--topic", "rows", "--file", &rows], &[&file]).finish(RUN).exits_with(1).stdout;
    let wanted = r#"record 1
  before                 {"n":"2M"}
  tidy/parse-quantity    {"n":2000000}
  tidy/replace-field     {"count":2000000}
  tidy/drop-if-all-null  =
  tidy/insert-header     - not for this record

record 2
  before                 {"n":"many"}
  tidy/parse-quantity    {"n":null}
  tidy/replace-field     {"count":null}
  tidy/drop-if-all-null  dropped

record 3
  before                 [1]
  tidy/parse-quantity    failed: "#;
    assert!(out.starts_with(wanted), "{out}");
    assert!(out.contains("  tidy/insert-header     headers dead=\"yes\"\n"), "{out}");
    assert!(out.ends_with("5 records: 2 came through, 1 dropped, 2 failed (1 of them by the converters)\n"), "{out}");

    let out = transform(&["try", "--topic", "rows", "--file", &rows, "--summary", "--format", "json"], &[&file]);
    let out = out.finish(RUN).exits_with(1).stdout;
    let of = |stage, reached, guarded, changed, dropped, failed| {
        serde_json::json!({ "stage": stage, "reached": reached, "guarded": guarded, "changed": changed, "dropped": dropped,
            "failed": failed })
    };
    let wanted = serde_json::json!({ "records": 5, "through": 2, "dropped": 1, "failed": 2, "stages": [
        of("tidy/parse-quantity", 4, 0, 2, 0, 1), of("tidy/replace-field", 3, 0, 2, 0, 0),
        of("tidy/drop-if-all-null", 3, 0, 0, 1, 0), of("tidy/insert-header", 2, 1, 1, 0, 0),
    ]});
    assert_eq!(serde_json::from_str::<serde_json::Value>(&out).unwrap(), wanted, "{out}");

    // A connector that is not there, and one of several.
    let args = ["try", "--topic", "rows", "--connector", "in", "--file", &rows];
    let err = transform(&args, &[&file]).finish(RUN).exits_with(2).stderr;
    assert!(err.contains("no connector is called 'in'; there are: out"), "{err}");
}

/// Rules for which there is no transformation of their own.
#[test]
fn expressions_map_filter_route_and_guard() {
    let folder = temp_dir();
    let pipeline = r#"
[worker]
bootstrap.servers = "embedded"

[connectors.out]
connector.class = "s3-sink"
topics = "rows"
store.url = "file:lake"
s3.bucket.name = "rows"
flush.size = 1
transforms = ["adults", "names"]

[chains.adults]

[[chains.adults.transforms]]
type = "filter"
condition = "value.age >= 18"

[[chains.adults.transforms]]
type = "route"
topic = '"adults." + value.country.lowerAscii()'

[chains.names]
when = { expression = "has(value.first) && has(value.last)" }

[[chains.names.transforms]]
type = "map"
set.name = 'value.first + " " + value.last'
"#;
    config::write(folder.path(), "pipeline.toml", pipeline);
    let text = r#"
config = "pipeline.toml"

[[cases]]
topic = "rows"
value = '{"age":17}'
expected.dropped = true

[[cases]]
topic = "rows"
value = '{"age":20,"country":"AL","first":"Abigail","last":"Ali"}'
expected.topic = "adults.al"
expected.value = '{"age":20,"country":"AL","first":"Abigail","last":"Ali","name":"Abigail Ali"}'

[[cases]]
topic = "rows"
value = '{"age":20,"country":"AL","first":"Abigail"}'
expected.topic = "adults.al"
expected.value = '{"age":20,"country":"AL","first":"Abigail"}'

[[cases]]
topic = "rows"
value = '{"country":"AL"}'
expected.error = "evaluate value.age >= 18: there is no field 'age'"
"#;
    let file = config::write(folder.path(), "rules.test.toml", text);
    let out = transform(&["test"], &[&file]).finish(RUN).exits_with(0).stdout;
    assert!(out.ends_with("4 cases: 4 as expected, 0 not\n"), "{out}");

    // A mistake is told with its place, before anything runs.
    for (wrong, told) in [
        ("value.age >= * 18", "condition: at column "),
        ("agee > 1", "condition: there is no name or function 'agee', in: agee > 1; a record has value, key, topic"),
    ] {
        let file = config::write(folder.path(), "wrong.toml", pipeline.replace("value.age >= 18", wrong));
        let err = Ottla::new(["validate".to_owned(), file.display().to_string()]).finish(RUN).exits_with(2).stderr;
        assert!(err.contains(told) && err.contains("wrong.toml:"), "{err}");
    }
}
