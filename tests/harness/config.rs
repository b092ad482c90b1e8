//! Configurations as a user would write them, with the few places that differ from test to test.

use std::path::{Path, PathBuf};

/// Writes a configuration file.
pub fn write(folder: &Path, name: &str, text: impl AsRef<str>) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text.as_ref()).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    path
}

/// The worker's table. Offsets are committed often, so that a short run sees many commits.
pub fn worker(servers: &str, state: &Path) -> String {
    format!(
        "[worker]
bootstrap.servers = \"{servers}\"
state.dir = \"{}\"
offset.flush.interval.ms = 200
task.restart.backoff.ms = 200
task.restart.backoff.max.ms = 2000
",
        state.display()
    )
}

/// The emulated posts of all three tables, into `<prefix>.pin`, `.geo` and `.user`, so many rounds.
pub fn posts(prefix: &str, rounds: usize) -> String {
    format!(
        "
[connectors.posts]
connector.class = \"rds-source\"
connection.url = \"emulator\"
mode = \"emulate\"
emulate.rounds = {rounds}
emulate.pace = \"none\"
emulate.topics.pinterest_data = \"{prefix}.pin\"
emulate.topics.geolocation_data = \"{prefix}.geo\"
emulate.topics.user_data = \"{prefix}.user\"
"
    )
}

/// A sink of the topics whose names match `topics_regex`.
pub fn sink(name: &str, topics_regex: &str, store_url: &str, bucket: &str, flush_size: usize) -> String {
    format!(
        "
[connectors.{name}]
connector.class = \"s3-sink\"
topics.regex = '{topics_regex}'
store.url = \"{store_url}\"
s3.bucket.name = \"{bucket}\"
flush.size = {flush_size}
"
    )
}

/// The topics of [`posts`], as a regular expression.
pub fn posts_regex(prefix: &str) -> String {
    format!(r"{}\..*", prefix.replace('.', r"\."))
}
