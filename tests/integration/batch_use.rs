//! Runs that a clock starts: twice in a row, and the second one moves nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use ottla_tests::config;
use ottla_tests::temp_dir;
use ottla_tests::worker::{Finished, Ottla};

const ROUNDS: usize = 150;
const RUN: Duration = Duration::from_secs(120);

/// How long a run may take that has nothing to do, on a busy machine with a debug build.
const QUICK: Duration = Duration::from_secs(15);

/// Every file below a folder: content, and when it was last written.
type Listing = BTreeMap<PathBuf, (Vec<u8>, SystemTime)>;

fn listing(folder: &Path) -> Listing {
    fn walk(folder: &Path, found: &mut Listing) {
        for entry in std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.expect("the folder can be listed").path();
            if path.is_dir() {
                walk(&path, found);
            } else {
                let written = path.metadata().and_then(|file| file.modified()).expect("files have a time");
                let content = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                found.insert(path, (content, written));
            }
        }
    }
    let mut found = Listing::new();
    walk(folder, &mut found);
    found
}

/// Files that were made, changed or removed, by name.
fn differences(before: &Listing, after: &Listing) -> Vec<String> {
    let names = before.keys().chain(after.keys().filter(|name| !before.contains_key(*name)));
    let changed = names.filter(|name| before.get(*name) != after.get(*name));
    changed.map(|name| name.display().to_string()).collect()
}

/// The row of a connector in the table at the end: read, dropped, failed, written, objects.
fn moved(finished: &Finished, connector: &str) -> Vec<String> {
    let of_it = |line: &&str| line.split_whitespace().next() == Some(connector);
    let row = finished.stdout.lines().find(of_it);
    let row = row.unwrap_or_else(|| panic!("no row for {connector}; {}", finished.report()));
    row.split_whitespace().skip(1).take(5).map(str::to_owned).collect()
}

/// Runs it three times, and expects of the second and third that they leave every file as it was.
fn runs_again_without_moving_anything(sink: &str) {
    let folder = temp_dir();
    let cleaning = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/pinterest/cleaning.toml");
    std::fs::copy(cleaning, folder.path().join("cleaning.toml")).expect("the chains can be copied");
    let lake = folder.path().join("lake");
    let text = "include = [\"cleaning.toml\"]\n\n".to_owned()
        + &config::worker("embedded", &folder.path().join("state"))
        + &config::posts("demo", ROUNDS)
        + &format!(
            "
[connectors.lake]
connector.class = \"{sink}\"
topics.regex = '{}'
store.url = \"file:{}\"
s3.bucket.name = \"posts\"
flush.size = 40
transforms = [\"clean-pin\", \"clean-geo\", \"clean-user\"]
",
            config::posts_regex("demo"),
            lake.display()
        );
    let file = config::write(folder.path(), "leg.toml", text);
    let run = || Ottla::run([&file]).until_caught_up().finish(RUN).exits_with(0);

    let first = run();
    let records = (3 * ROUNDS).to_string();
    assert_eq!(moved(&first, "posts")[3], records, "{}", first.report());
    assert_eq!(moved(&first, "lake")[..4], [records.as_str(), "0", "0", &records], "{}", first.report());
    let before = listing(&lake);
    assert!(!before.is_empty(), "{}", first.report());

    for again in ["second", "third"] {
        let finished = run();
        assert_eq!(differences(&before, &listing(&lake)), [""; 0], "the {again} run; {}", finished.report());
        for connector in ["posts", "lake"] {
            assert_eq!(moved(&finished, connector)[3], "0", "the {again} run wrote; {}", finished.report());
        }
        assert!(finished.took < QUICK, "the {again} run took {:?}; {}", finished.took, finished.report());
    }
}

#[test]
fn the_batch_leg_moves_nothing_when_it_runs_again() {
    runs_again_without_moving_anything("s3-sink");
}

#[test]
fn the_delta_leg_moves_nothing_when_it_runs_again() {
    runs_again_without_moving_anything("delta-sink");
}
