//! The ten questions over both legs: the same answers, those of the original on its own rows, and those that a few loops over
//! the rows give.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ottla_tests::cleaning::{clean_geo, clean_pin, clean_user};
use ottla_tests::config;
use ottla_tests::draws::draws;
use ottla_tests::posts::{Posts, fields, parse};
use ottla_tests::store::S3;
use ottla_tests::worker::{Finished, Ottla};
use ottla_tests::{free_port, services, temp_dir, unique};
use serde_json::{Value, json};

const RUN: Duration = Duration::from_secs(180);
const ASK: Duration = Duration::from_secs(60);

/// Answers by question: rows of values.
type Answers = BTreeMap<String, Vec<Vec<Value>>>;

/// The three tables of a leg, by location.
#[derive(Debug, Clone)]
struct Tables {
    pin: String,
    geo: String,
    user: String,
}

impl Tables {
    /// Where the cleaned rows of the example are below a folder or bucket.
    fn json(root: &str, prefix: &str) -> Self {
        let table = |name: &str| format!("{root}/{prefix}.{name}");
        Self { pin: table("pin"), geo: table("geo"), user: table("user") }
    }

    fn query(&self) -> Ottla {
        let mut query = Ottla::new(["query"]);
        for (name, place) in [("pin", &self.pin), ("geo", &self.geo), ("user", &self.user)] {
            query = query.arg("--table").arg(format!("{name}={place}"));
        }
        query
    }
}

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/pinterest")
}

/// The files of the questions, without the one that makes the view.
fn questions() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(examples().join("questions")).expect("the questions");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|file| file.extension().is_some_and(|ending| ending == "sql") && !name(file).starts_with('0'));
    files.sort();
    assert_eq!(files.iter().map(|file| number(file)).collect::<Vec<_>>(), NUMBERS);
    files
}

const NUMBERS: [&str; 10] = ["1", "2a", "2b", "3a", "3b", "4", "5", "6", "7", "8"];

fn name(file: &Path) -> String {
    file.file_name().expect("a name").to_string_lossy().into_owned()
}

/// `3a` of `3a-most-followed-user-by-country.sql`.
fn number(file: &Path) -> String {
    name(file).split('-').next().expect("a number").to_owned()
}

/// Asks all questions, each as a program would: JSON lines, and nothing else on standard output.
fn ask(query: &Ottla) -> Answers {
    let view = examples().join("questions/0-tables.sql").display().to_string();
    let one = |file: &Path| {
        let query = query.clone().arg("-f").arg(&view).arg("-f").arg(file.display().to_string());
        let finished = query.arg("--format").arg("json").finish(ASK).exits_with(0);
        let row = |line| fields(line).into_iter().map(|(_, value)| value).collect();
        (number(file), finished.stdout.lines().map(row).collect())
    };
    let files = questions();
    std::thread::scope(|scope| {
        let asked: Vec<_> = files.iter().map(|file| scope.spawn(|| one(file))).collect();
        asked.into_iter().map(|asked| asked.join().expect("an answer")).collect()
    })
}

/// Runs the commented example of the batch leg in a folder; where its cleaned rows are.
fn batch_leg(folder: &Path, rounds: usize, more: impl FnOnce(Ottla) -> Ottla) -> Tables {
    let run = Ottla::run([examples().join("batch.toml")]).in_dir(folder).set("connectors.posts.emulate.rounds", rounds);
    more(run).finish(RUN).exits_with(0);
    Tables::json(&folder.join("ottla-lake/posts/cleaned").display().to_string(), "0a4e65e909bd")
}

/// The same rows through the same chains into Delta tables; where those are. A small flush makes several commits a table.
fn delta_leg(folder: &Path, rounds: usize, more: impl FnOnce(Ottla) -> Ottla) -> Tables {
    let text = format!("include = [\"{}\"]\n", examples().join("cleaning.toml").display())
        + &config::worker("embedded", &folder.join("state"))
        + &config::posts("u", rounds)
        + "
[connectors.tables]
connector.class = \"delta-sink\"
topics.regex = 'u\\..*'
store.url = \"file:./delta-lake\"
table.name.format = \"${topic}_table\"
flush.size = 97
transforms = [\"clean-pin\", \"clean-geo\", \"clean-user\"]
";
    let file = config::write(folder, "delta.toml", text);
    more(Ottla::run([file]).until_caught_up().in_dir(folder)).finish(RUN).exits_with(0);
    let table = |name: &str| format!("delta:{}/delta-lake/tables/u_{name}_table", folder.display());
    Tables { pin: table("pin"), geo: table("geo"), user: table("user") }
}

/// One post, with what the questions ask about.
struct Post {
    category: String,
    poster: Option<String>,
    followers: Option<i64>,
    country: String,
    year: i64,
    user: (String, i64, String),
    group: usize,
    joined: i64,
}

const GROUPS: [&str; 4] = ["18-24", "25-35", "36-50", "+50"];

/// What the answers must be, by loops over the rows that were drawn.
fn computed(posts: &Posts, rounds: usize) -> Answers {
    let drawn: BTreeSet<u32> = draws(rounds).into_iter().collect();
    let post = |draw: &u32| {
        let (pin, geo, user) =
            (clean_pin(&posts.pin[draw]), clean_geo(&posts.geo[draw]), clean_user(&posts.user[draw]));
        let (pin, geo, user) = (fields(&pin), fields(&geo), fields(&user));
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let year = |value: &Value| text(value)[..4].parse().expect("a year");
        let age = user["age"].as_i64().expect("an age");
        let group = match age {
            18..=24 => 0,
            25..=35 => 1,
            36..=50 => 2,
            51.. => 3,
            _ => panic!("{age} is in no group"),
        };
        Post {
            category: text(&pin["category"]),
            poster: pin["poster_name"].as_str().map(str::to_owned),
            followers: pin["follower_count"].as_i64(),
            country: text(&geo["country"]),
            year: year(&geo["timestamp"]),
            user: (text(&user["user_name"]), age, text(&user["date_joined"])),
            group,
            joined: year(&user["date_joined"]),
        }
    };
    let posts: Vec<Post> = drawn.iter().map(post).collect();
    let in_years = |post: &&Post| (2018..=2022).contains(&post.year);
    let by_year = counted(posts.iter().filter(in_years).map(|post| (post.year, post.category.clone())));
    let mut posters = BTreeMap::new();
    for post in posts.iter().filter(|post| post.followers.is_some()) {
        let key = (post.country.clone(), post.poster.clone());
        let most = posters.entry(key).or_insert(post.followers);
        *most = (*most).max(post.followers);
    }
    let most = posts.iter().filter_map(|post| post.followers).max();
    let countries: BTreeSet<&str> =
        posts.iter().filter(|post| post.followers == most).map(|post| post.country.as_str()).collect();
    let mut joined: BTreeMap<i64, (BTreeSet<_>, i64)> = BTreeMap::new();
    for post in posts.iter().filter(|post| (2015..=2020).contains(&post.joined)) {
        let (users, count) = joined.entry(post.joined).or_default();
        users.insert(&post.user);
        *count += 1;
    }
    let joined_in_years = |post: &&Post| (2015..=2020).contains(&post.joined);
    let answers: [(&str, Vec<Vec<Value>>); 10] = [
        ("1", rows(most_of(counted(posts.iter().map(|post| (post.country.clone(), post.category.clone())))))),
        ("2a", by_year.iter().map(|((year, category), n)| vec![json!(year), json!(category), json!(n)]).collect()),
        ("2b", rows(most_of(by_year))),
        ("3a", rows(most_of(posters))),
        ("3b", countries.into_iter().map(|country| vec![json!(country), json!(most)]).collect()),
        (
            "4",
            most_of(counted(posts.iter().map(|post| (post.group, post.category.clone()))))
                .into_iter()
                .map(|((group, category), n)| vec![json!(GROUPS[group]), json!(category), json!(n)])
                .collect(),
        ),
        ("5", medians(posts.iter().map(|post| (post.group, post.followers)), |group| vec![json!(GROUPS[group])])),
        ("6", joined.iter().map(|(year, (users, n))| vec![json!(year), json!(users.len()), json!(n)]).collect()),
        (
            "7",
            medians(posts.iter().filter(joined_in_years).map(|post| (post.joined, post.followers)), |year| {
                vec![json!(year)]
            }),
        ),
        (
            "8",
            medians(
                posts.iter().filter(joined_in_years).map(|post| ((post.group, post.joined), post.followers)),
                |(group, year)| vec![json!(GROUPS[group]), json!(year)],
            ),
        ),
    ];
    answers.into_iter().map(|(number, rows)| (number.to_owned(), rows)).collect()
}

fn counted<K: Ord>(keys: impl Iterator<Item = K>) -> BTreeMap<K, i64> {
    let mut counts = BTreeMap::new();
    for key in keys {
        *counts.entry(key).or_insert(0) += 1;
    }
    counts
}

/// Of each first part of the key, the second ones with the greatest value.
fn most_of<A: Ord + Clone, B: Ord, N: Ord + Clone>(values: BTreeMap<(A, B), N>) -> Vec<((A, B), N)> {
    let mut greatest: BTreeMap<A, N> = BTreeMap::new();
    for ((first, _), value) in &values {
        let known = greatest.entry(first.clone()).or_insert_with(|| value.clone());
        *known = known.clone().max(value.clone());
    }
    values.into_iter().filter(|((first, _), value)| greatest[first] == *value).collect()
}

fn rows<A: Into<Value>, B: Into<Value>, N: Into<Value>>(of: Vec<((A, B), N)>) -> Vec<Vec<Value>> {
    of.into_iter().map(|((first, second), value)| vec![first.into(), second.into(), value.into()]).collect()
}

/// Both medians of each key, nulls left out.
fn medians<K: Ord + Copy>(
    values: impl Iterator<Item = (K, Option<i64>)>,
    shown: impl Fn(K) -> Vec<Value>,
) -> Vec<Vec<Value>> {
    let mut groups: BTreeMap<K, Vec<i64>> = BTreeMap::new();
    for (key, value) in values {
        groups.entry(key).or_default().extend(value);
    }
    let row = |(key, mut values): (K, Vec<i64>)| {
        values.sort_unstable();
        let (lower, upper) = (values.len().checked_sub(1).map(|n| values[n / 2]), values.get(values.len() / 2));
        let exact = lower.zip(upper).map(|(lower, upper)| (lower + upper) as f64 / 2.0);
        let mut row = shown(key);
        row.extend([json!(exact), json!(lower)]);
        row
    };
    groups.into_iter().map(row).collect()
}

/// Whole numbers and others that mean the same are the same.
fn as_numbers(answers: &Answers) -> Answers {
    let number = |value: &Value| match value.as_f64() {
        Some(number) => json!(number),
        None => value.clone(),
    };
    let rows = |rows: &Vec<Vec<Value>>| rows.iter().map(|row| row.iter().map(number).collect()).collect();
    answers.iter().map(|(question, of)| (question.clone(), rows(of))).collect()
}

#[track_caller]
fn assert_same<T: Debug>(found: &Answers, expected: &Answers, what: T) {
    let (found, expected) = (as_numbers(found), as_numbers(expected));
    assert_eq!(found.keys().collect::<Vec<_>>(), NUMBERS);
    for (question, rows) in &expected {
        assert_eq!(&found[question], rows, "question {question} of {what:?}");
    }
}

/// The original's answers, as [`ask`] gives them. The file has no 2b, which follows from 2a, and orders some rows otherwise.
fn original(data: &Path, rounds: usize) -> Answers {
    let text = std::fs::read_to_string(data.join(format!("first_{rounds}_dedup.json"))).expect("the answers");
    let file = parse(&text);
    let rows = |name: &str| -> Vec<Vec<Value>> {
        let rows = file[name].as_array().unwrap_or_else(|| panic!("{name} is no list"));
        rows.iter().map(|row| row.as_array().expect("a row").clone()).collect()
    };
    // It lists every age group for every year, also where nobody of that age joined in that year.
    let mut last = rows("q8");
    last.retain(|row| !row[2].is_null());
    let mut joined = rows("q6dist_user");
    for (row, all) in joined.iter_mut().zip(rows("q6rows")) {
        assert_eq!(row[0], all[0]);
        row.push(all[1].clone());
    }
    let counts = rows("q2").into_iter().map(|row| {
        let category = row[1].as_str().expect("a category").to_owned();
        ((row[0].as_i64().expect("a year"), category), row[2].as_i64().expect("a number"))
    });
    let by_year: BTreeMap<_, _> = counts.collect();
    let most = most_of(by_year).into_iter();
    let most = most.map(|((year, category), n)| vec![json!(year), json!(category), json!(n)]).collect();
    [
        ("1", rows("q1")),
        ("2a", rows("q2")),
        ("2b", most),
        ("3a", rows("q3a")),
        ("3b", rows("q3b")),
        ("4", rows("q4")),
        ("5", rows("q5")),
        ("6", joined),
        ("7", rows("q7")),
        ("8", last),
    ]
    .map(|(number, rows)| (number.to_owned(), rows))
    .into()
}

/// In an order that no collation decides.
fn sorted(answers: &Answers) -> Answers {
    let mut answers = as_numbers(answers);
    for rows in answers.values_mut() {
        rows.sort_by_key(|row| row.iter().map(Value::to_string).collect::<Vec<_>>());
    }
    answers
}

#[test]
fn both_legs_answer_as_the_original_on_its_rows() {
    let Some(data) = services::shared_data("both_legs_answer_as_the_original_on_its_rows") else { return };
    for rounds in [46, 500] {
        let folder = temp_dir();
        let url = format!("sqlite://{}", folder.path().join("posts.sqlite").display());
        let load = Ottla::new(["demo", "load", "--url", &url, "--from", &data.display().to_string()]);
        load.finish(RUN).exits_with(0);
        let of_the_original =
            |run: Ottla| run.set("connectors.posts.connection.url", &url).set("connectors.posts.emulate.row", "key");
        let tables = batch_leg(folder.path(), rounds, of_the_original);
        let answers = ask(&tables.query());
        assert_same(&answers, &computed(&Posts::from_jsonl(&data), rounds), ("loops", rounds));
        assert_same(&sorted(&answers), &sorted(&original(&data, rounds)), ("the original", rounds));
        let tables = delta_leg(folder.path(), rounds, of_the_original);
        assert_eq!(ask(&tables.query()), answers, "both legs, {rounds} rounds");
    }
}

#[test]
fn both_legs_answer_as_loops_over_the_rows_do() {
    let folder = temp_dir();
    let batch = ask(&batch_leg(folder.path(), 700, |run| run).query());
    let tables = delta_leg(folder.path(), 700, |run| run);
    assert_eq!(ask(&tables.query()), batch);
    assert_same(&batch, &computed(Posts::emulated(), 700), "both legs");

    // The newest state has all the rows; the first one held what the first commit brought.
    let count = |version: &str| -> u64 {
        let table = format!("pin={}{version}", tables.pin);
        let query = Ottla::new(["query", "--table", &table, "--format", "json", "select count(*) as n from pin"]);
        fields(query.finish(ASK).exits_with(0).stdout.trim())["n"].as_u64().expect("a number")
    };
    let first = count("@0").max(count("@1"));
    assert!(0 < first && first < 700, "{first} rows in the first state");
    assert_eq!(count(""), 700);
    let gone = Ottla::new(["query", "--table", &format!("pin={}@4711", tables.pin), "select 1"]).finish(ASK);
    gone.exits_with(2).says("has no version 4711; the newest is");
}

#[test]
fn a_folder_of_questions_is_asked_in_order_and_shows_which_is_which() {
    let folder = temp_dir();
    let tables = batch_leg(folder.path(), 50, |run| run);
    let folder_of_questions = examples().join("questions").display().to_string();
    let finished = tables.query().arg("-f").arg(folder_of_questions).finish(ASK).exits_with(0);
    let titles: Vec<&str> = finished.stdout.lines().filter_map(|line| line.strip_prefix("-- ")).collect();
    assert_eq!(titles, questions().iter().map(|file| name(file)).collect::<Vec<_>>());
    let expected = &computed(Posts::emulated(), 50)["6"];
    let lines: Vec<&str> = finished.stdout.lines().skip_while(|line| !line.starts_with("-- 6")).skip(1).collect();
    assert_eq!(lines[0].split_whitespace().collect::<Vec<_>>(), ["join_year", "number_users_joined", "number_posts"]);
    for (line, row) in lines[1..].iter().zip(expected) {
        assert_eq!(line.split_whitespace().collect::<Vec<_>>(), row.iter().map(Value::to_string).collect::<Vec<_>>());
    }
}

#[test]
fn objects_in_a_bucket_answer_as_those_in_a_folder() {
    let (folder, bucket) = (temp_dir(), unique("questions"));
    S3::connect().make_bucket(&bucket);
    let tables = batch_leg(folder.path(), 300, |run| {
        let run = run.s3_credentials();
        ["raw", "cleaned"].into_iter().fold(run, |run, sink| {
            run.set(format!("connectors.{sink}.store.url"), services::s3())
                .set(format!("connectors.{sink}.s3.bucket.name"), &bucket)
        })
    });
    assert!(!Path::new(&tables.pin).exists(), "the rows went to the bucket");
    let tables = Tables::json(&format!("s3://{bucket}/cleaned"), "0a4e65e909bd");
    let query = tables.query().s3_credentials().arg("--s3-endpoint").arg(services::s3());
    assert_same(&ask(&query), &computed(Posts::emulated(), 300), "a bucket");

    // What goes wrong with a bucket.
    let ask = |table: &str, endpoint: &str, change: &dyn Fn(Ottla) -> Ottla| -> Finished {
        let query = Ottla::new(["query", "--table", &format!("t={table}"), "select count(*) as n from t"]);
        change(query.arg("--s3-endpoint").arg(endpoint)).finish(ASK)
    };
    let known = |query: Ottla| query.s3_credentials();
    let stranger = |query: Ottla| query.env("AWS_ACCESS_KEY_ID", "stranger").env("AWS_SECRET_ACCESS_KEY", "hush-hush");
    let nobody = |query: Ottla| query;
    ask(&format!("s3://{bucket}/nothing"), &services::s3(), &known)
        .exits_with(2)
        .says(&format!("table t: there is nothing at s3://{bucket}/nothing"));
    ask("s3://no-such-bucket-here/x", &services::s3(), &known).exits_with(2).says("the bucket does not exist");
    let refused =
        ask(&tables.pin, &services::s3(), &stranger).exits_with(3).says("the store refuses these credentials");
    assert!(!refused.stderr.contains("hush-hush"), "{}", refused.stderr);
    ask(&tables.pin, &services::s3(), &nobody).exits_with(3).says("no AWS credentials are found");
    let closed = format!("http://127.0.0.1:{}", free_port());
    ask(&tables.pin, &closed, &known).exits_with(3).says("the store can't be reached");
}

#[test]
fn mistakes_have_the_exit_codes_of_other_commands() {
    let folder = temp_dir();
    config::write(folder.path(), "rows.json", "{\"a\":1,\"b\":\"x\"}\n{\"a\":2,\"b\":null}\n");
    config::write(folder.path(), "broken.json", "{\"a\":1}\n{\"a\":\n");
    config::write(folder.path(), "typo.sql", "select a from t;\nselect a frm t;\n");
    let ask = |args: &[&str]| Ottla::new(["query"].iter().chain(args).copied()).in_dir(folder.path()).finish(ASK);
    let good = ask(&["--table", "t=rows.json", "select a, b from t order by a"]).exits_with(0);
    assert_eq!(good.stdout, "a  b\n1  x\n2  null\n(2 rows)\n");
    for (args, code, says) in [
        (&["--table", "t=rows.json"][..], 2, "there is nothing to ask; give SQL, or a file of it with -f"),
        (&["--table", "t=rows.json", "select c from t"], 2, "ottla: there is no column 'c'"),
        (&["--table", "t=rows.json", "-f", "typo.sql"], 2, "ottla: typo.sql: "),
        (&["--table", "t=rows.json", "-f", "gone.sql"], 2, "ottla: read gone.sql: "),
        (&["--table", "t=gone", "select 1"], 2, "ottla: table t: gone does not exist"),
        (&["--table", "t=broken.json", "select 1"], 2, "broken.json line 2 column 5: broken JSON"),
        (&["--table", "rows.json", "select 1"], 2, "must be NAME=LOCATION"),
        (&["--table", "t=rows.json", "--format", "xml", "select 1"], 2, "[possible values: table, json, csv]"),
        (&["--table", "t=rows.json", "select cast(b as int) from t"], 1, "'x'"),
    ] {
        ask(args).exits_with(code).says(says);
    }
}
