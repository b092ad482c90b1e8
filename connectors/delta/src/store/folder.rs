//! Tables in folders, safe from a power cut.
//!
//! `object_store`'s own file system creates files atomically but leaves it to the kernel when they reach the disk. Here a
//! file is written to a temporary one, synced, linked or renamed to its name, and the folder that holds the name is synced
//! too, before the answer. So a commit that was answered is there after a power cut, and so are the data files that it
//! names, because they were answered before it. A link fails where the name is taken: creation is atomic among processes.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyMode, CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};

/// Where unfinished files lie, beside the tables. It is on the same file system, which a link needs.
const TEMPORARY_FOLDER: &str = ".ottla-tmp";
/// An unfinished file that nobody has written to for so long belongs to a process that is gone.
const LEFTOVER_AGE: Duration = Duration::from_secs(24 * 60 * 60);
/// The name of the store in errors.
const STORE: &str = "folder";

/// The whole file system as a store; paths are absolute. Only files below one folder are written.
#[derive(Debug)]
pub(crate) struct DurableFolder {
    inner: LocalFileSystem,
    temporary: PathBuf,
}

impl DurableFolder {
    /// A store whose files lie below `base`, which is absolute.
    pub(crate) fn new(base: &FilePath) -> Self {
        Self { inner: LocalFileSystem::new(), temporary: base.join(TEMPORARY_FOLDER) }
    }

    /// Makes the folder and clears up what processes that are gone have left.
    pub(crate) async fn open(&self) -> io::Result<()> {
        let folder = self.temporary.clone();
        let work = move || {
            create_folder_durably(&folder)?;
            remove_leftovers(&folder);
            Ok(())
        };
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
    }
}

impl fmt::Display for DurableFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DurableFolder({})", self.temporary.parent().unwrap_or(FilePath::new("/")).display())
    }
}

#[async_trait]
impl ObjectStore for DurableFolder {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let create = match options.mode {
            PutMode::Create => true,
            PutMode::Overwrite => false,
            PutMode::Update(_) => return Err(not_implemented("put_opts with PutMode::Update")),
        };
        let (temporary, target) = (self.temporary.clone(), self.inner.path_to_filesystem(location)?);
        blocking(move || {
            let mut file = TemporaryFile::new(&temporary)?;
            for chunk in &payload {
                file.file.write_all(chunk)?;
            }
            file.take_name(&target, create)
        })
        .await
        .map_err(|error| error_of(error, location))?;
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn put_multipart_opts(&self, location: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let (temporary, target) = (self.temporary.clone(), self.inner.path_to_filesystem(location)?);
        let file = blocking(move || TemporaryFile::new(&temporary)).await.map_err(|error| error_of(error, location))?;
        Ok(Box::new(Upload { location: location.clone(), target, file: Some(Arc::new(file)), length: 0 }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.synced(prefix, self.inner.list(prefix))
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.synced(prefix, self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let create = matches!(options.mode, CopyMode::Create);
        let (source, target) = (self.inner.path_to_filesystem(from)?, self.inner.path_to_filesystem(to)?);
        let temporary = self.temporary.clone();
        blocking(move || {
            let mut file = TemporaryFile::new(&temporary)?;
            io::copy(&mut File::open(&source)?, &mut file.file)?;
            file.take_name(&target, create)
        })
        .await
        .map_err(|error| error_of(error, to))
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await?;
        let folder = parent(&self.inner.path_to_filesystem(to)?);
        blocking(move || sync_folder(&folder)).await.map_err(|error| error_of(error, to))
    }
}

impl DurableFolder {
    /// A listing whose entries are durable. Somebody may have died between naming a commit and making the name durable, and
    /// whoever lists a log is about to rely on what it says. A folder without news costs next to nothing.
    fn synced(
        &self,
        prefix: Option<&Path>,
        listing: BoxStream<'static, Result<ObjectMeta>>,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let log = prefix.filter(|prefix| prefix.filename() == Some("_delta_log"));
        let Some(Ok(folder)) = log.map(|log| self.inner.path_to_filesystem(log)) else { return listing };
        let sync = async move {
            match blocking(move || sync_folder(&folder)).await {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    stream::iter(vec![Err(Error::Generic { store: STORE, source: error.into() })]).boxed()
                }
                _ => stream::empty().boxed(),
            }
        };
        stream::once(sync).flatten().chain(listing).boxed()
    }
}

/// A file that comes in parts.
struct Upload {
    location: Path,
    target: PathBuf,
    file: Option<Arc<TemporaryFile>>,
    length: u64,
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Upload({}, {} bytes)", self.location, self.length)
    }
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (location, file, mut at) = (self.location.clone(), self.file.clone(), self.length);
        self.length += data.content_length() as u64;
        Box::pin(async move {
            let Some(file) = file else { return Err(gone(&location)) };
            blocking(move || {
                for chunk in &data {
                    file.file.write_all_at(chunk, at)?;
                    at += chunk.len() as u64;
                }
                Ok(())
            })
            .await
            .map_err(|error| error_of(error, &location))
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let file = self.file.take().and_then(Arc::into_inner).ok_or_else(|| gone(&self.location))?;
        let target = self.target.clone();
        blocking(move || file.take_name(&target, false)).await.map_err(|error| error_of(error, &self.location))?;
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn abort(&mut self) -> Result<()> {
        self.file = None;
        Ok(())
    }
}

/// A file without a final name. It is removed when dropped.
struct TemporaryFile {
    path: PathBuf,
    file: File,
}

impl TemporaryFile {
    fn new(folder: &FilePath) -> io::Result<Self> {
        let path = folder.join(uuid::Uuid::new_v4().to_string());
        let create = || OpenOptions::new().write(true).create_new(true).open(&path);
        let file = create().or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                create_folder_durably(folder)?;
                create()
            }
            _ => Err(error),
        })?;
        Ok(Self { path, file })
    }

    /// Gives the file its name, durably; with `create` only where the name is free.
    fn take_name(self, target: &FilePath, create: bool) -> io::Result<()> {
        self.file.sync_all()?;
        let folder = parent(target);
        create_folder_durably(&folder)?;
        if create {
            fs::hard_link(&self.path, target)?;
        } else {
            fs::rename(&self.path, target)?;
        }
        sync_folder(&folder)
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        // What can't be removed is removed as a leftover some day; after a rename there is nothing to remove.
        let _ = fs::remove_file(&self.path);
    }
}

fn parent(path: &FilePath) -> PathBuf {
    path.parent().unwrap_or(FilePath::new("/")).to_owned()
}

/// Makes a folder and those above it, and makes their entries durable.
fn create_folder_durably(folder: &FilePath) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(parent) = folder.parent() {
        create_folder_durably(parent)?;
    }
    match fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    sync_folder(&parent(folder))
}

fn sync_folder(folder: &FilePath) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn remove_leftovers(folder: &FilePath) {
    let now = SystemTime::now();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let age = entry.metadata().and_then(|data| data.modified()).ok().and_then(|time| now.duration_since(time).ok());
        if age.is_some_and(|age| age > LEFTOVER_AGE) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Runs file system work where it may block.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

fn error_of(error: io::Error, location: &Path) -> Error {
    let path = location.to_string();
    match error.kind() {
        io::ErrorKind::AlreadyExists => Error::AlreadyExists { path, source: error.into() },
        io::ErrorKind::NotFound => Error::NotFound { path, source: error.into() },
        io::ErrorKind::PermissionDenied => Error::PermissionDenied { path, source: error.into() },
        _ => Error::Generic { store: STORE, source: error.into() },
    }
}

fn gone(location: &Path) -> Error {
    Error::Generic { store: STORE, source: format!("the upload of {location} has ended already").into() }
}

fn not_implemented(operation: &str) -> Error {
    Error::NotImplemented { operation: operation.to_owned(), implementer: STORE.to_owned() }
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;
    use object_store::ObjectStoreExt;

    use super::*;

    fn path(folder: &FilePath, name: &str) -> Path {
        Path::from_absolute_path(folder.join(name)).unwrap()
    }

    async fn names(store: &DurableFolder, prefix: &Path) -> Vec<String> {
        let mut found: Vec<_> =
            store.list(Some(prefix)).map_ok(|meta| meta.location.to_string()).try_collect().await.unwrap();
        found.sort();
        found
    }

    #[tokio::test]
    async fn a_file_is_created_once_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let store = DurableFolder::new(folder.path());
        store.open().await.unwrap();
        let target = path(folder.path(), "t/_delta_log/00000000000000000000.json");
        let create = |text: &'static str| store.put_opts(&target, text.into(), PutMode::Create.into());
        create("first").await.unwrap();
        assert!(matches!(create("second").await, Err(Error::AlreadyExists { .. })));
        assert_eq!(store.get(&target).await.unwrap().bytes().await.unwrap(), "first");
        store.put(&target, "third".into()).await.unwrap();
        assert_eq!(store.get(&target).await.unwrap().bytes().await.unwrap(), "third");
        assert_eq!(names(&store, &path(folder.path(), "t/_delta_log")).await, [target.to_string()]);
        assert_eq!(names(&store, &path(folder.path(), "nothing/_delta_log")).await, [""; 0]);
        assert_eq!(fs::read_dir(folder.path().join(TEMPORARY_FOLDER)).unwrap().count(), 0);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn of_sixteen_writers_one_creates_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let target = path(folder.path(), "t/one");
        let create = |n: usize| {
            let (store, target) = (DurableFolder::new(folder.path()), target.clone());
            tokio::spawn(
                async move { store.put_opts(&target, n.to_string().into(), PutMode::Create.into()).await.is_ok() },
            )
        };
        let created = futures::future::join_all((0..16).map(create)).await;
        let winners: Vec<_> = (0..16).filter(|&n| *created[n].as_ref().unwrap()).collect();
        assert_eq!(winners.len(), 1);
        assert_eq!(fs::read_to_string(folder.path().join("t/one")).unwrap(), winners[0].to_string());
    }

    #[tokio::test]
    async fn parts_are_invisible_until_the_file_is_complete() {
        let folder = tempfile::tempdir().unwrap();
        let store = DurableFolder::new(folder.path());
        let target = path(folder.path(), "t/large");
        let mut upload = store.put_multipart(&target).await.unwrap();
        let (first, second) = (upload.put_part("abc".into()), upload.put_part("def".into()));
        second.await.unwrap();
        first.await.unwrap();
        assert!(matches!(store.get(&target).await, Err(Error::NotFound { .. })));
        upload.complete().await.unwrap();
        assert_eq!(store.get(&target).await.unwrap().bytes().await.unwrap(), "abcdef");

        let mut upload = store.put_multipart(&target).await.unwrap();
        upload.put_part("x".into()).await.unwrap();
        upload.abort().await.unwrap();
        assert_eq!(fs::read_dir(folder.path().join(TEMPORARY_FOLDER)).unwrap().count(), 0);
    }
}
