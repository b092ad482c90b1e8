//! The rows behind the posts, and which of them an emulation posts when.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::config;
use crate::draws::draws;
use crate::oracle::Oracle;
use crate::store::folder_objects;
use crate::worker::Ottla;

/// How many rows each of the generated tables has.
pub const ROWS: usize = 11_154;

/// The three tables: compact JSON of each row, by its number.
#[derive(Debug, Clone, Default)]
pub struct Posts {
    /// `pinterest_data` by `index`.
    pub pin: BTreeMap<u32, String>,
    /// `geolocation_data` by `ind`.
    pub geo: BTreeMap<u32, String>,
    /// `user_data` by `ind`.
    pub user: BTreeMap<u32, String>,
}

impl Posts {
    /// The generated rows, read out of the emulator whole, once for all tests of this process.
    pub fn emulated() -> &'static Self {
        static POSTS: OnceLock<Posts> = OnceLock::new();
        POSTS.get_or_init(|| {
            let folder = crate::temp_dir();
            let store = format!("file:{}", folder.path().display());
            let file = config::write(
                folder.path(),
                "bulk.toml",
                config::worker("embedded", &folder.path().join("state"))
                    + "
[connectors.tables]
connector.class = \"rds-source\"
connection.url = \"emulator\"
mode = \"bulk\"
topic.prefix = \"all.\"
" + &config::sink("s3", r"all\..*", &store, "bulk", 1_000_000),
            );
            Ottla::run([file]).until_caught_up().finish(Duration::from_secs(180)).exits_with(0);
            let objects = folder_objects(&folder.path().join("bulk"));
            let table = |name: &str, key: &str| {
                let of_it = objects.iter().filter(|object| object.key.starts_with(&format!("topics/all.{name}/")));
                let rows = rows(of_it.flat_map(|object| object.text().lines()).map(str::to_owned), key);
                let numbers: Vec<u32> = rows.keys().copied().collect();
                assert_eq!(numbers, (0..ROWS as u32).collect::<Vec<_>>(), "{name} holds every row once");
                rows
            };
            Self {
                pin: table("pinterest_data", "index"),
                geo: table("geolocation_data", "ind"),
                user: table("user_data", "ind"),
            }
        })
    }

    /// The rows of a folder with `pin.jsonl`, `geo.jsonl` and `user.jsonl`.
    pub fn from_jsonl(folder: &Path) -> Self {
        let table = |file: &str, key: &str| {
            let path = folder.join(file);
            let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            rows(text.lines().map(|line| parse(line).to_string()), key)
        };
        Self { pin: table("pin.jsonl", "index"), geo: table("geo.jsonl", "ind"), user: table("user.jsonl", "ind") }
    }

    /// Expects what an emulation of so many rounds posts into `<prefix>.pin`, `.geo` and `.user`, one partition each.
    pub fn issue(&self, oracle: &mut Oracle, prefix: &str, rounds: usize) {
        for (table, rows) in [("pin", &self.pin), ("geo", &self.geo), ("user", &self.user)] {
            for (offset, draw) in draws(rounds).into_iter().enumerate() {
                oracle.issue(&format!("{prefix}.{table}"), 0, offset as i64, rows[&draw].as_str());
            }
        }
    }
}

/// Reads one row.
pub fn parse(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"))
}

/// One row as its fields.
pub fn fields(line: &str) -> Map<String, Value> {
    parse(line).as_object().unwrap_or_else(|| panic!("no object: {line}")).clone()
}

fn rows(lines: impl Iterator<Item = String>, key: &str) -> BTreeMap<u32, String> {
    let mut rows = BTreeMap::new();
    for line in lines {
        let number = parse(&line)[key].as_u64().and_then(|number| u32::try_from(number).ok());
        let number = number.unwrap_or_else(|| panic!("{key} is no row number in {line}"));
        assert!(rows.insert(number, line).is_none(), "row {number} is there twice");
    }
    rows
}
