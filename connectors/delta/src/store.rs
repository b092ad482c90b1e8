//! Where tables live: a folder or a bucket in which every table is a folder.
//!
//! All that exactly once asks of it is that a file can be created only once. [`Store::probe`] tries that out.

pub mod config;
mod creation;
pub(crate) mod failure;
mod folder;
mod s3;

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use deltalake_core::logstore::{LogStoreRef, StorageConfig, default_logstore};
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{Error as StoreError, ObjectStore, ObjectStoreExt, ObjectStoreScheme, PutMode};
use ottla_api::prelude::*;
use url::Url;

pub use config::{StoreConfig, StoreUrl};
use creation::HonestCreation;
use failure::Place;
use folder::DurableFolder;

/// The folder of all tables. A clone is another handle of the same store.
#[derive(Clone)]
pub struct Store {
    /// The whole bucket, or the whole file system.
    root: Arc<dyn ObjectStore>,
    /// The folder of all tables, ending in a slash.
    base: Url,
    /// The same for a person, without the slash.
    shown: String,
    place: Place,
    /// The root again where it is a folder, which wants to be opened.
    folder: Option<Arc<DurableFolder>>,
    probe: bool,
}

impl Store {
    /// The store of this configuration. Nothing is connected yet.
    pub fn new(config: &StoreConfig) -> Result<Self> {
        if let Some(error) = config.check().into_iter().next() {
            return Err(Error::config(error.to_string()));
        }
        match &config.store_url {
            Some(StoreUrl::Folder(root)) => {
                let mut path = root.clone();
                path.extend(config.bucket.iter());
                path.extend(config.folder_in_bucket().split('/').filter(|part| !part.is_empty()));
                let path = std::path::absolute(&path)
                    .or_error(ErrorKind::Config, format!("store.url: make an absolute path of {}", path.display()))?;
                let base = Url::from_directory_path(&path)
                    .map_err(|()| Error::config(format!("store.url: {} can't be a URL", path.display())))?;
                let folder = Arc::new(DurableFolder::new(&path));
                Ok(Self {
                    root: Arc::clone(&folder) as Arc<dyn ObjectStore>,
                    base,
                    shown: config.destination(),
                    place: Place { bucket: None, endpoint: path.display().to_string() },
                    folder: Some(folder),
                    probe: config.probe,
                })
            }
            url => {
                let bucket = config.bucket_name().expect("checked above");
                let endpoint = match url {
                    Some(StoreUrl::Endpoint(url)) => url.clone(),
                    _ => format!("S3 in {}", config.region),
                };
                let place = Place { bucket: Some(bucket.to_owned()), endpoint };
                let root = s3::S3Tables::new(config, bucket)
                    .map_err(|error| failure::sort(&error, "set up the S3 client", &place, ErrorKind::Config))?;
                let mut base = Url::parse(&format!("s3://{bucket}/"))
                    .map_err(|error| Error::config(format!("'{bucket}' can't be the name of a bucket: {error}")))?;
                extend(&mut base, config.folder_in_bucket().split('/'));
                let shown = config.destination();
                let root = Arc::new(HonestCreation::new(Arc::new(root)));
                Ok(Self { root, base, shown, place, folder: None, probe: config.probe })
            }
        }
    }

    /// A store of one's own, such as one that fails on purpose. `base_url` is the folder of all tables in it:
    /// `memory:///lake`, or `file:///lake` where `store` is the whole file system.
    pub fn over(store: Arc<dyn ObjectStore>, base_url: &str) -> Result<Self> {
        let mut base = Url::parse(base_url).or_error(ErrorKind::Config, format!("read the address '{base_url}'"))?;
        extend(&mut base, std::iter::empty());
        let shown = base.as_str().trim_end_matches('/').to_owned();
        let place = Place { bucket: None, endpoint: shown.clone() };
        Ok(Self { root: Arc::new(HonestCreation::new(store)), base, shown, place, folder: None, probe: true })
    }

    /// The durable folder store under `path`, which is absolute, as tests wrap it.
    pub fn folder_store(path: &std::path::Path) -> Arc<dyn ObjectStore> {
        Arc::new(DurableFolder::new(path))
    }

    /// Tries out that the store can be written and refuses to overwrite a file, with a file that nobody reads.
    ///
    /// # Errors
    ///
    /// `Config` for a missing bucket or a store that overwrites, `RefreshAuth` for refused credentials, `Unreachable` where
    /// nobody answers.
    pub async fn probe(&self) -> Result<()> {
        const TEXT: &str = "Ottla tries out here that this store does not overwrite a file. It may be deleted.\n";
        const OPERATION: &str = "try out the store";
        if let Some(folder) = &self.folder {
            folder.open().await.map_err(|error| failure::sort(&error, OPERATION, &self.place, ErrorKind::Fatal))?;
        }
        if !self.probe {
            return Ok(());
        }
        let name = format!(".ottla-probe-{}", uuid::Uuid::new_v4());
        let path = path_of(&self.child(&name))?;
        let create = || self.root.put_opts(&path, TEXT.into(), PutMode::Create.into());
        match create().await {
            // Refused at once is the echo of a request whose answer was lost.
            Ok(_) | Err(StoreError::AlreadyExists { .. }) => {}
            Err(error) => return Err(self.failure(&error, OPERATION)),
        }
        let second = create().await;
        if let Err(error) = self.root.delete(&path).await {
            tracing::info!(error = %failure::causes(&error), file = %path, "the file of the trial stays");
        }
        match second {
            Err(StoreError::AlreadyExists { .. }) => Ok(()),
            Err(error) => Err(self.failure(&error, OPERATION)),
            Ok(_) => Err(Error::config(format!(
                "{} overwrites files although it is told not to (If-None-Match), so two writers would lose each other's \
                 commits; use a store with conditional writes (AWS S3, MinIO, a folder), or set store.probe=false if \
                 nothing else ever writes to these tables",
                self.place.endpoint
            ))),
        }
    }

    /// The log of the table of this name. Nothing is read yet; the table may not exist.
    pub fn log_store(&self, table: &str) -> Result<LogStoreRef> {
        let url = self.child(table);
        let table_root = PrefixStore::new(Arc::clone(&self.root), path_of(&url)?);
        Ok(default_logstore(Arc::new(table_root), Arc::clone(&self.root), &url, &StorageConfig::default()))
    }

    /// Where a table lies, as a user would open it: `file:/lake/tables/x`, `s3://bucket/tables/x`.
    pub fn location(&self, table: &str) -> String {
        format!("{}/{table}", self.shown)
    }

    /// Any error from below a table as ours: retriable, refused, unreachable, or a matter of configuration where the store
    /// says so, `Fatal` where it is not the store's.
    pub fn failure(&self, error: &(dyn StdError + 'static), operation: &str) -> Error {
        failure::sort(error, operation, &self.place, ErrorKind::Fatal)
    }

    fn child(&self, name: &str) -> Url {
        let mut url = self.base.clone();
        extend(&mut url, std::iter::once(name));
        url
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Store({})", self.shown)
    }
}

/// Adds folders to a URL and ends it with a slash.
fn extend<'a>(url: &mut Url, parts: impl Iterator<Item = &'a str>) {
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(parts.filter(|part| !part.is_empty())).push("");
    }
}

/// A URL's path inside its store.
fn path_of(url: &Url) -> Result<Path> {
    match ObjectStoreScheme::parse(url) {
        Ok((_, path)) => Ok(path),
        Err(_) => Path::from_url_path(url.path())
            .or_error(ErrorKind::Config, format!("'{url}' can't be an address of a store")),
    }
}

/// The shortest `delta.setTransactionRetentionDuration` with which positions are safe: longer than any topic of a leg is
/// likely to stand still.
const TRANSACTION_RETENTION_MIN: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Checks that a table does not throw away our positions. With `delta.setTransactionRetentionDuration` (`retention`, from
/// the snapshot's `table_properties()`), a checkpoint drops the transaction identifiers of partitions that were quiet for
/// so long, and their records could be written again.
///
/// # Errors
///
/// `Config`, with the way out.
pub fn check_table_properties(location: &str, retention: Option<Duration>) -> Result<()> {
    match retention {
        Some(retention) if retention < TRANSACTION_RETENTION_MIN => Err(Error::config(format!(
            "the table keeps positions for {} hours only (delta.setTransactionRetentionDuration), so records of a partition \
             that is quiet for longer could be written twice; unset that property or raise it to 30 days or more",
            retention.as_secs() / 3600
        ))
        .with("table", location)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;
    use object_store::memory::InMemory;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn tables_of_any_name_lie_below_the_base_and_can_be_created_once() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("file:{}", folder.path().display());
        let config = StoreConfig::from_properties(&Properties::from_iter([("store.url", url.as_str())])).unwrap();
        let on_disk = Store::new(&config).unwrap();
        let in_memory = Store::over(Arc::new(InMemory::new()), "memory:///some/lake").unwrap();
        for (store, base) in [(on_disk, format!("{url}/tables")), (in_memory, "memory:///some/lake".to_owned())] {
            store.probe().await.unwrap();
            for name in ["pin", "0a1b.geo", "with space", "größe"] {
                let log_store = store.log_store(name).unwrap();
                assert_eq!(store.location(name), format!("{base}/{name}"));
                let column = deltalake_core::kernel::StructField::nullable("a", deltalake_core::kernel::DataType::LONG);
                let create = || {
                    deltalake_core::operations::create::CreateBuilder::new()
                        .with_log_store(Arc::clone(&log_store))
                        .with_columns([column.clone()])
                };
                let table = create().await.unwrap();
                assert_eq!(table.version(), Some(0));
                assert!(create().await.is_err());
                let files: Vec<_> = log_store.object_store(None).list(None).try_collect().await.unwrap();
                let names: Vec<_> = files.iter().map(|meta| meta.location.as_ref()).collect();
                assert_eq!(names, ["_delta_log/00000000000000000000.json"], "{name}");
            }
        }
    }

    #[tokio::test]
    async fn positions_that_a_table_would_forget_are_refused() {
        check_table_properties("x", None).unwrap();
        check_table_properties("x", Some(TRANSACTION_RETENTION_MIN)).unwrap();
        let error = check_table_properties("file:/lake/pin", Some(Duration::from_secs(7200))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert_eq!(
            error.to_string(),
            "the table keeps positions for 2 hours only (delta.setTransactionRetentionDuration), so records of a partition \
             that is quiet for longer could be written twice; unset that property or raise it to 30 days or more \
             (table=file:/lake/pin)"
        );
    }
}
