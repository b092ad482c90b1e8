//! Noticing that somebody has saved a file.
//!
//! A crate has some dozen files: looking at their times now and then costs nothing one could measure, and works on every
//! disk, also on those of containers and networks, which tell nobody about changes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How often the files are looked at.
const EVERY: Duration = Duration::from_millis(250);

/// What tells that a file has changed: when it was written, and its length.
type Seen = BTreeMap<PathBuf, (Option<SystemTime>, u64)>;

/// Files and folders that are watched.
pub(super) struct Changes {
    roots: Vec<PathBuf>,
    noted: Seen,
}

impl Changes {
    /// Watches these. What is not there counts as changed when it appears.
    pub(super) fn of<'a>(roots: impl IntoIterator<Item = &'a Path>) -> Self {
        Self { roots: roots.into_iter().map(Path::to_owned).collect(), noted: Seen::new() }
    }

    /// Remembers how things are now; a change is one from this.
    pub(super) fn note(&mut self) {
        self.noted = self.look();
    }

    /// Waits until something differs from what was noted, and then until nobody has written for a moment: editors write
    /// several files, and some in two steps.
    pub(super) async fn wait(&self) {
        let mut last = None;
        loop {
            tokio::time::sleep(EVERY).await;
            let now = self.look();
            if now != self.noted && last.as_ref() == Some(&now) {
                return;
            }
            last = Some(now);
        }
    }

    fn look(&self) -> Seen {
        let mut seen = Seen::new();
        let mut left = self.roots.clone();
        while let Some(path) = left.pop() {
            let Ok(metadata) = std::fs::metadata(&path) else { continue };
            if metadata.is_dir() {
                left.extend(
                    std::fs::read_dir(&path).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())),
                );
            } else {
                seen.insert(path, (metadata.modified().ok(), metadata.len()));
            }
        }
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_change_is_noticed_wherever_it_is() {
        let folder = std::env::temp_dir().join(format!("ottla-changes-{}", std::process::id()));
        let file = folder.join("src/deep/lib.rs");
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        let mut changes = Changes::of([folder.as_path()]);
        changes.note();
        let patience = EVERY * 20;
        assert!(tokio::time::timeout(patience, changes.wait()).await.is_err(), "nothing has changed");
        for text in ["one", "other text"] {
            std::fs::write(&file, text).unwrap();
            tokio::time::timeout(patience, changes.wait()).await.expect("the change is noticed");
            changes.note();
        }
        std::fs::remove_file(&file).unwrap();
        tokio::time::timeout(patience, changes.wait()).await.expect("the change is noticed");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
