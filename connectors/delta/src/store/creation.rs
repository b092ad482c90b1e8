//! Whether a file exists that could not be created: S3's two refusals told apart.
//!
//! S3 answers 412 where the object exists, and 409 while another request for the same object is being decided.
//! `object_store` makes one error of both. A writer that believes a 409 would wait for a version that never comes.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};

/// How often a creation is tried that another request for the same object has cut off.
const ATTEMPTS: u32 = 5;

/// A store that says of a file that it exists only where it does.
#[derive(Debug)]
pub(crate) struct HonestCreation {
    inner: Arc<dyn ObjectStore>,
}

impl HonestCreation {
    /// In front of `inner`.
    pub(crate) fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self { inner }
    }

    async fn create(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let mut attempt = 1;
        loop {
            let error = match self.inner.put_opts(location, payload.clone(), options.clone()).await {
                Err(error @ Error::AlreadyExists { .. }) => error,
                result => return result,
            };
            match self.inner.head(location).await {
                Err(Error::NotFound { .. }) if attempt < ATTEMPTS => {
                    let pause = 50 * attempt + rand::random_range(0..50);
                    tokio::time::sleep(Duration::from_millis(pause.into())).await;
                    attempt += 1;
                }
                Err(Error::NotFound { .. }) => return Err(Error::Generic { store: "S3", source: Box::new(error) }),
                // Where it can't be told, the caller finds out by reading.
                _ => return Err(error),
            }
        }
    }
}

impl fmt::Display for HonestCreation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for HonestCreation {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        match options.mode {
            PutMode::Create => self.create(location, payload, options).await,
            _ => self.inner.put_opts(location, payload, options).await,
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await
    }
}
