//! The folder that is written to. To write to another system, write this file anew: what can be claimed, where a partition
//! ends, and how some of its records become durable.

use std::fs::TryLockError;
use std::path::{Path, PathBuf};

use ottla_api::prelude::*;
use tokio::fs::{self, File};
use tokio::io::AsyncWriteExt;

/// A folder of files `<topic>-<partition>-<from>-<to>.jsonl`, each with the records from one offset to before another.
#[derive(Debug)]
pub(crate) struct Folder {
    dir: PathBuf,
}

/// As long as it lives, no other task writes the files of its partition.
#[derive(Debug)]
pub(crate) struct Claim {
    _locked: std::fs::File,
}

impl Folder {
    pub(crate) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// Makes the folder where it is missing.
    pub(crate) async fn make(&self) -> Result<()> {
        fs::create_dir_all(&self.dir).await.or_error(ErrorKind::Config, format!("dir: make {}", self.dir.display()))
    }

    /// Takes a partition. A task that was thought dead may still have it: then this is tried again until that one has ended.
    pub(crate) async fn claim(&self, partition: &TopicPartition) -> Result<Claim> {
        let path = self.dir.join(format!(".{partition}.lock"));
        let operation = format!("lock {}", path.display());
        let file = File::options().write(true).create(true).truncate(false).open(&path).await;
        let file = file.or_error(ErrorKind::Retriable, &operation)?.into_std().await;
        match file.try_lock() {
            Ok(()) => Ok(Claim { _locked: file }),
            Err(TryLockError::WouldBlock) => {
                Err(Error::retriable("another task writes this partition").with("lock", path.display()))
            }
            Err(TryLockError::Error(error)) => Err(Error::retriable(operation).caused_by(error)),
        }
    }

    /// Sees to it that the files are of this very topic; the first time, notes which one it is.
    pub(crate) async fn expect_topic(&self, _claim: &Claim, partition: &TopicPartition, identity: &str) -> Result<()> {
        let path = self.dir.join(format!(".{partition}.topic"));
        match fs::read_to_string(&path).await {
            Ok(known) if known == identity => Ok(()),
            Ok(_) => {
                let error = Error::fatal(
                    "the files are of an earlier topic of this name, whose offsets meant other records (was a state folder \
                     removed?): move them away, or name another folder in 'dir'",
                );
                Err(error.with("partition", partition).with("dir", self.dir.display()))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let new = self.dir.join(format!(".{partition}.new"));
                self.replace(&new, &path, identity.as_bytes()).await.or_error(ErrorKind::Retriable, "note the topic")
            }
            Err(error) => Err(Error::retriable(format!("read {}", path.display())).caused_by(error)),
        }
    }

    /// The offset behind the last record of a partition that is in a file; -1 where none is.
    pub(crate) async fn end_of(&self, partition: &TopicPartition) -> Result<i64> {
        let operation = format!("list {}", self.dir.display());
        let mut entries = fs::read_dir(&self.dir).await.or_error(ErrorKind::Retriable, &operation)?;
        let mut end = -1;
        while let Some(entry) = entries.next_entry().await.or_error(ErrorKind::Retriable, &operation)? {
            let name = entry.file_name();
            end = end.max(name.to_str().and_then(|name| end_in_name(partition, name)).unwrap_or(-1));
        }
        Ok(end)
    }

    /// Makes a file, durable when this returns: a crash leaves the whole of it, or nothing. Where the file is there already,
    /// because an earlier try went further than its error said, it is made anew with the same lines.
    pub(crate) async fn create(
        &self,
        _claim: &Claim,
        partition: &TopicPartition,
        from: i64,
        to: i64,
        lines: &[u8],
    ) -> Result<PathBuf> {
        let path = self.dir.join(file_name(partition, from, to));
        let new = self.dir.join(format!(".{partition}.new"));
        let written = self.replace(&new, &path, lines).await;
        written.or_error(ErrorKind::Retriable, format!("write {}", path.display()))?;
        Ok(path)
    }

    /// Writes a file under another name and then renames it, so that it is there whole or not at all, whatever happens.
    async fn replace(&self, new: &Path, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
        let mut file = File::create(new).await?;
        file.write_all(bytes).await?;
        file.sync_all().await?;
        fs::rename(new, path).await?;
        // The folder's entry has to be durable as well.
        File::open(&self.dir).await?.sync_all().await
    }
}

/// The digits make the files of a partition sort in the order of their records.
fn file_name(partition: &TopicPartition, from: i64, to: i64) -> String {
    format!("{partition}-{:019}-{to:019}.jsonl", from.max(0))
}

/// The offset at which a file ends, where it is one of this partition.
fn end_in_name(partition: &TopicPartition, name: &str) -> Option<i64> {
    let offsets = name.strip_suffix(".jsonl")?.strip_prefix(&format!("{partition}-"))?;
    let (from, to) = offsets.split_once('-')?;
    let digits = |text: &str| text.len() == 19 && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits(from) && digits(to) { to.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_of_the_partition_in_its_name() {
        let partition = TopicPartition::new("a", 1);
        let name = file_name(&partition, -1, 12);
        assert_eq!(name, "a-1-0000000000000000000-0000000000000000012.jsonl");
        assert_eq!(end_in_name(&partition, &name), Some(12));
        // Topic `a-1`, partition 0.
        assert_eq!(end_in_name(&partition, &format!("a-1-{}", &name[2..])), None);
        assert_eq!(end_in_name(&partition, ".a-1.lock"), None);
    }
}
