//! Objects as files: a folder whose subfolders are buckets.
//!
//! An object is written to a temporary file beside the others, synced, and then linked to its name. A link fails where the
//! name is taken, so objects are created whole or not at all, and never overwritten, also by several processes at once.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use ottla_api::prelude::*;

use super::{Body, Chunk, MultipartUpload, NewObject, ObjectStore, Outcome, fault_overwrite};
use crate::error::from_io;

/// Where unfinished objects lie inside the bucket.
const TEMPORARY_FOLDER: &str = ".ottla-tmp";
/// An unfinished object that nobody has written to for so long belongs to a process that is gone.
const LEFTOVER_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// A folder as a store of objects. The bucket's folder is made when it is missing.
#[derive(Debug, Clone)]
pub struct FolderStore {
    bucket: Arc<Path>,
}

impl FolderStore {
    /// The bucket `bucket` in the folder `root`.
    pub fn new(root: &Path, bucket: &str) -> Self {
        Self { bucket: root.join(bucket).into() }
    }

    fn temporary_folder(&self) -> PathBuf {
        self.bucket.join(TEMPORARY_FOLDER)
    }

    fn object_path(&self, key: &str) -> PathBuf {
        self.bucket.join(key)
    }
}

#[async_trait]
impl ObjectStore for FolderStore {
    async fn open(&self) -> Result<()> {
        let folder = self.temporary_folder();
        blocking(move || {
            fs::create_dir_all(&folder).map_err(|error| from_io(error, "make the bucket's folder", &folder))?;
            remove_leftovers(&folder);
            Ok(())
        })
        .await
    }

    async fn create(&self, object: &NewObject, body: Body) -> Result<Outcome> {
        let (temporary, target) = (self.temporary_folder(), self.object_path(&object.key));
        blocking(move || {
            let mut file = TemporaryFile::new(&temporary)?;
            file.write_at(0, &body)?;
            file.link(&target)
        })
        .await
    }

    fn create_in_parts(&self, object: &NewObject) -> Box<dyn MultipartUpload> {
        Box::new(FolderUpload {
            folder: self.temporary_folder(),
            target: self.object_path(&object.key),
            file: None,
            length: 0,
        })
    }

    async fn read(&self, key: &str, from: u64, length: u64) -> Result<Option<Chunk>> {
        let path = self.object_path(key);
        blocking(move || match read_range(&path, from, length) {
            Ok(chunk) => Ok(Some(chunk)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(from_io(error, "read an object", &path)),
        })
        .await
    }

    async fn delete(&self, key: &str) -> Result<()> {
        let path = self.object_path(key);
        blocking(move || fs::remove_file(&path).map_err(|error| from_io(error, "remove an object", &path))).await
    }

    fn location(&self, key: &str) -> String {
        format!("file:{}", self.object_path(key).display())
    }
}

/// An object that comes in parts: a temporary file that grows.
struct FolderUpload {
    folder: PathBuf,
    target: PathBuf,
    file: Option<TemporaryFile>,
    /// How much of the file is whole parts. A part that failed half way is written again from here.
    length: u64,
}

#[async_trait]
impl MultipartUpload for FolderUpload {
    async fn part(&mut self, body: Body) -> Result<Outcome> {
        let (folder, file, at) = (self.folder.clone(), self.file.take(), self.length);
        let part_length = body.len();
        let (file, result) = blocking(move || {
            let mut file = match file {
                Some(file) => file,
                None => TemporaryFile::new(&folder)?,
            };
            let result = file.write_at(at, &body);
            Ok((file, result))
        })
        .await?;
        self.file = Some(file);
        result?;
        self.length += part_length;
        Ok(Outcome::Created)
    }

    async fn finish(&mut self, rest: Body) -> Result<Outcome> {
        // Gone after an earlier attempt: whether that one linked the object is for the store to say.
        let Some(mut file) = self.file.take() else { return Ok(Outcome::Contested) };
        let (target, at) = (self.target.clone(), self.length);
        blocking(move || {
            file.write_at(at, &rest)?;
            file.link(&target)
        })
        .await
    }

    async fn abort(&mut self) {
        self.file = None;
    }
}

/// A file without a final name. It is removed when dropped.
struct TemporaryFile {
    path: PathBuf,
    file: File,
}

impl TemporaryFile {
    fn new(folder: &Path) -> Result<Self> {
        let path = folder.join(uuid::Uuid::new_v4().to_string());
        let create = || OpenOptions::new().write(true).create_new(true).open(&path);
        let file = create()
            .or_else(|error| {
                // Somebody tidied up while we ran.
                if error.kind() == io::ErrorKind::NotFound {
                    fs::create_dir_all(folder)?;
                    create()
                } else {
                    Err(error)
                }
            })
            .map_err(|error| from_io(error, "make a temporary file", &path))?;
        Ok(Self { path, file })
    }

    fn write_at(&mut self, position: u64, body: &Body) -> Result<()> {
        self.file
            .seek(SeekFrom::Start(position))
            .and_then(|_| body.pieces().iter().try_for_each(|piece| self.file.write_all(piece)))
            .map_err(|error| from_io(error, "write a temporary file", &self.path))
    }

    /// Gives the file its name, durably, unless the name is taken.
    fn link(self, target: &Path) -> Result<Outcome> {
        let failed = |error| from_io(error, "create an object", target);
        self.file.sync_all().map_err(failed)?;
        let folder = target.parent().expect("an object lies in its bucket");
        create_folder_durably(folder).map_err(failed)?;
        let linked = if fault_overwrite() { fs::rename(&self.path, target) } else { fs::hard_link(&self.path, target) };
        match linked {
            Ok(()) => sync_folder(folder).map(|()| Outcome::Created).map_err(failed),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Outcome::Contested),
            Err(error) => Err(failed(error)),
        }
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        // What can't be removed is removed as a leftover some day.
        let _ = fs::remove_file(&self.path);
    }
}

fn read_range(path: &Path, from: u64, length: u64) -> io::Result<Chunk> {
    let mut file = File::open(path)?;
    let total = file.metadata()?.len();
    if from == 0
        && let Some(folder) = path.parent()
    {
        // Whoever wrote it may have died before it was durable, and the reader is about to rely on it.
        file.sync_all()?;
        sync_folder(folder)?;
    }
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes)?;
    Ok(Chunk { bytes: bytes.into(), total })
}

/// Makes a folder and those above it, and makes their entries durable.
fn create_folder_durably(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent {
        create_folder_durably(parent)?;
    }
    match fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    parent.map_or(Ok(()), sync_folder)
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn remove_leftovers(folder: &Path) {
    let now = SystemTime::now();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let age = entry.metadata().and_then(|data| data.modified()).ok().and_then(|time| now.duration_since(time).ok());
        if age.is_some_and(|age| age > LEFTOVER_AGE) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Runs file system work where it may block.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(Error::retriable("file system work was cut off").caused_by(error)))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::client::{Conditional, probe};

    fn object(key: &str) -> NewObject {
        NewObject { key: key.to_owned(), attempt: "a".to_owned(), first: 0, last: Some(0), records: Some(1) }
    }

    fn bytes(bytes: &'static [u8]) -> Body {
        Bytes::from_static(bytes).into()
    }

    fn files(folder: &Path) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

    #[tokio::test]
    async fn an_object_is_created_once_and_read_in_pieces() {
        let folder = tempfile::tempdir().unwrap();
        let store = FolderStore::new(folder.path(), "lake");
        store.open().await.unwrap();
        let object = object("topics/a/partition=0/a+0+0000000000.json");
        assert!(store.read(&object.key, 0, 10).await.unwrap().is_none());
        assert_eq!(store.create(&object, bytes(b"first\n")).await.unwrap(), Outcome::Created);
        assert_eq!(store.create(&object, bytes(b"second\n")).await.unwrap(), Outcome::Contested);

        let chunk = store.read(&object.key, 2, 3).await.unwrap().unwrap();
        assert_eq!((chunk.bytes.as_ref(), chunk.total), (b"rst".as_slice(), 6));
        assert_eq!(files(&folder.path().join("lake/.ottla-tmp")), 0);
        assert_eq!(probe(&store, "topics/.ottla/probe").await.unwrap(), Conditional::Refused);
        assert!(store.read("topics/.ottla/probe", 0, 1).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn parts_are_invisible_until_the_object_is_complete() {
        let folder = tempfile::tempdir().unwrap();
        let store = FolderStore::new(folder.path(), "lake");
        store.open().await.unwrap();
        let object = object("a/b.json");
        let (mut one, mut other) = (store.create_in_parts(&object), store.create_in_parts(&object));
        for upload in [&mut one, &mut other] {
            upload.part(bytes(b"abc")).await.unwrap();
        }
        assert!(store.read("a/b.json", 0, 1).await.unwrap().is_none());
        assert_eq!(one.finish(bytes(b"def")).await.unwrap(), Outcome::Created);
        assert_eq!(other.finish(bytes(b"def")).await.unwrap(), Outcome::Contested);
        assert_eq!(store.read("a/b.json", 0, 9).await.unwrap().unwrap().bytes.as_ref(), b"abcdef");

        let mut dropped = store.create_in_parts(&object);
        dropped.part(bytes(b"x")).await.unwrap();
        dropped.abort().await;
        assert_eq!(files(&folder.path().join("lake/.ottla-tmp")), 0);
    }
}
