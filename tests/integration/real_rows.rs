//! Real rows through the whole leg, where this machine has them: 998 rounds, compared byte for byte.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ottla_tests::cleaning::{clean_geo, clean_pin, clean_user};
use ottla_tests::config;
use ottla_tests::draws::draws;
use ottla_tests::oracle::Oracle;
use ottla_tests::posts::{Posts, fields, parse};
use ottla_tests::services;
use ottla_tests::store::folder_objects;
use ottla_tests::temp_dir;
use ottla_tests::worker::Ottla;

const ROUNDS: usize = 998;
const RUN: Duration = Duration::from_secs(180);

/// Writes the rows of a folder into a new SQLite database; its URL.
fn load_sqlite(rows: &Path, folder: &Path) -> String {
    let url = format!("sqlite://{}", folder.join("posts.sqlite").display());
    let load = Ottla::new(["demo", "load", "--url", &url, "--from", &rows.display().to_string()]);
    load.finish(RUN).exits_with(0);
    url
}

#[test]
fn the_draws_are_those_of_the_original() {
    let Some(rows) = services::shared_data("the_draws_are_those_of_the_original") else { return };
    let text = std::fs::read_to_string(rows.join("seed100_draws.json")).expect("the draws");
    let original: Vec<u32> =
        parse(&text)["rows"].as_array().expect("rows").iter().map(|n| n.as_u64().expect("a number") as u32).collect();
    assert!(original.len() > 1000);
    assert_eq!(draws(original.len()), original);
}

#[test]
fn object_k_holds_the_row_of_draw_k() {
    let Some(rows) = services::shared_data("object_k_holds_the_row_of_draw_k") else { return };
    let folder = temp_dir();
    let url = load_sqlite(&rows, folder.path());
    let store = format!("file:{}", folder.path().join("lake").display());
    let text = config::worker("embedded", &folder.path().join("state"))
        + &config::posts("real", ROUNDS).replace("\"emulator\"", &format!("\"{url}\""))
        + "emulate.row = \"key\"\n"
        + &config::sink("s3", &config::posts_regex("real"), &store, "posts", 1);
    let run = Ottla::run([config::write(folder.path(), "real.toml", text)]).until_caught_up();
    let finished = run.finish(RUN).exits_with(0);

    let mut oracle = Oracle::new();
    Posts::from_jsonl(&rows).issue(&mut oracle, "real", ROUNDS);
    let seen = oracle.assert(&folder_objects(&folder.path().join("lake/posts")), &finished.report());
    assert_eq!((seen.objects, seen.records), (3 * ROUNDS, 3 * ROUNDS));
}

#[test]
fn cleaned_rows_have_the_three_documented_shapes() {
    let Some(rows) = services::shared_data("cleaned_rows_have_the_three_documented_shapes") else { return };
    let folder = temp_dir();
    let url = load_sqlite(&rows, folder.path());
    // The chains are the example's own, so that what people copy is what is tested.
    let example = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples/pinterest/batch.toml");
    let run = Ottla::run([example])
        .in_dir(folder.path())
        .set("connectors.posts.connection.url", url)
        .set("connectors.posts.emulate.row", "key")
        .set("connectors.posts.emulate.rounds", ROUNDS);
    let finished = run.finish(RUN).exits_with(0);

    let posts = Posts::from_jsonl(&rows);
    let mut oracle = Oracle::in_dir("cleaned");
    let (mut garbage, mut millions, mut thousands) = (0, 0, 0);
    for (offset, draw) in draws(ROUNDS).into_iter().enumerate() {
        let pin = clean_pin(&posts.pin[&draw]);
        garbage += fields(&pin).values().filter(|value| value.is_null()).count();
        let followers = fields(&posts.pin[&draw])["follower_count"].as_str().unwrap_or_default().to_owned();
        millions += usize::from(followers.ends_with('M'));
        thousands += usize::from(followers.ends_with('k'));
        oracle.issue("0a4e65e909bd.pin", 0, offset as i64, pin);
        oracle.issue("0a4e65e909bd.geo", 0, offset as i64, clean_geo(&posts.geo[&draw]));
        oracle.issue("0a4e65e909bd.user", 0, offset as i64, clean_user(&posts.user[&draw]));
    }
    assert!(garbage > 50 && millions > 20 && thousands > 200, "{garbage} garbage values, {millions} M, {thousands} k");
    let lake = folder_objects(&folder.path().join("ottla-lake/posts"));
    assert_eq!(oracle.assert(&lake, &finished.report()).records, 3 * ROUNDS);
    let mut raw = Oracle::in_dir("topics");
    posts.issue(&mut raw, "0a4e65e909bd", ROUNDS);
    raw.assert(&lake, &finished.report());
}
