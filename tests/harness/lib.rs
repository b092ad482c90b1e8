//! What the suites share: the binary as a user starts it, the services around it, and an oracle that knows what must be true.
//!
//! Nothing here knows the product's code. A check reads what a user would read: files, objects, topics, committed offsets,
//! exit codes and words.

pub mod broker;
pub mod cleaning;
pub mod config;
pub mod databases;
pub mod delta_log;
pub mod draws;
pub mod kafka;
pub mod log_watch;
pub mod oracle;
pub mod posts;
pub mod python;
pub mod sequences;
pub mod services;
pub mod store;
pub mod stream;
pub mod wait;
pub mod worker;

use std::sync::atomic::{AtomicU64, Ordering};

/// A name that no other test of this or any other run uses: `prefix-5f0c2a-7`. For topics, buckets, connectors.
pub fn unique(prefix: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let run = std::process::id();
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let now = std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_millis() as u64) & 0xff_ffff;
    format!("{prefix}-{run:x}{now:x}-{number}")
}

/// A folder of its own for one test; removed at its end.
pub fn temp_dir() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("ottla-test-").tempdir().expect("a temporary folder")
}

/// A port on which nobody listens, below the range that the kernel gives to outgoing connections.
pub fn free_port() -> u16 {
    loop {
        let candidate = rand::random_range(10_000..30_000);
        if std::net::TcpListener::bind(("127.0.0.1", candidate)).is_ok() {
            return candidate;
        }
    }
}
