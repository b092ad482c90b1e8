//! What the sink needs of an object store, and nothing else: create without overwriting, and read.
//!
//! Two stores implement it: [`s3`] and [`folder`]. The simulation in `tests/` brings a third, which fails on purpose.

mod body;
pub mod folder;
pub mod s3;

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use ottla_api::prelude::*;

pub use body::Body;
pub(crate) use body::Frames;

/// An object to be created.
#[derive(Debug, Clone)]
pub struct NewObject {
    /// Its name.
    pub key: String,
    /// Names this attempt to create it, the same in every repetition. A store that keeps metadata keeps it, so that a
    /// repetition whose first request did arrive recognizes its own object.
    pub attempt: String,
    /// Offset of its first record.
    pub first: i64,
    /// Offset of its last record; not known yet when a multipart upload begins.
    pub last: Option<i64>,
    /// How many records it holds; not known yet when a multipart upload begins.
    pub records: Option<u64>,
}

/// How an attempt to create an object ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The object is there, whole and durable, and this attempt made it.
    Created,
    /// Something else has the name, or may have: look at the store before going on. Nothing was overwritten.
    Contested,
}

/// A piece of an existing object.
#[derive(Debug, Clone)]
pub struct Chunk {
    /// The bytes asked for, fewer only where the object ends.
    pub bytes: Bytes,
    /// Length of the whole object.
    pub total: u64,
}

/// A store of objects that never change once they are created (K2).
///
/// # Errors
///
/// A retriable error leaves the outcome open: the request may have taken effect. Every call may be repeated as it was.
#[async_trait]
pub trait ObjectStore: Send + Sync + fmt::Debug {
    /// Connects, checks that the bucket is there, and clears up what an earlier run may have left.
    async fn open(&self) -> Result<()> {
        Ok(())
    }

    /// Creates an object at once, or not at all.
    async fn create(&self, object: &NewObject, body: Body) -> Result<Outcome>;

    /// Starts an object that comes in parts. Nothing is visible until it is complete.
    fn create_in_parts(&self, object: &NewObject) -> Box<dyn MultipartUpload>;

    /// Up to `length` bytes of an object from byte `from` on; none where there is no such object.
    async fn read(&self, key: &str, from: u64, length: u64) -> Result<Option<Chunk>>;

    /// Removes an object. Only ever called for the probe.
    async fn delete(&self, key: &str) -> Result<()>;

    /// Where an object lies, as a person would open it.
    fn location(&self, key: &str) -> String;
}

/// An object on its way in parts.
#[async_trait]
pub trait MultipartUpload: Send {
    /// Adds a part. After a retriable error the same part is given again. `Contested` means that the upload is gone.
    async fn part(&mut self, body: Body) -> Result<Outcome>;

    /// Adds the last part, which is never empty, and makes the object of all parts, or nothing. After a retriable error
    /// the same rest is given again.
    async fn finish(&mut self, rest: Body) -> Result<Outcome>;

    /// Throws the parts away, as far as the store can be reached. What stays is for the bucket's lifecycle rules.
    async fn abort(&mut self);
}

/// What a store does when an object is created that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conditional {
    /// It refuses: objects are safe, and delivery is exactly once.
    Refused,
    /// It overwrites: delivery is at least once.
    Overwritten,
}

/// Tries out whether the store refuses to overwrite an object (K7), with an object whose name nobody reads.
///
/// It is one object with a fixed name, so that a connector without the permission to delete leaves no more than that one.
pub async fn probe(store: &dyn ObjectStore, key: &str) -> Result<Conditional> {
    const TEXT: &[u8] = b"Ottla tries out here that this store does not overwrite an object. It may be deleted.\n";
    let object = || NewObject {
        key: key.to_owned(),
        attempt: uuid::Uuid::new_v4().to_string(),
        first: 0,
        last: None,
        records: None,
    };
    let attempt = async || store.create(&object(), Bytes::from_static(TEXT).into()).await;
    if attempt().await? == Outcome::Contested {
        return Ok(Conditional::Refused);
    }
    let second = attempt().await?;
    if let Err(error) = store.delete(key).await {
        tracing::debug!(%error, key, "the probe object stays");
    }
    Ok(match second {
        Outcome::Contested => Conditional::Refused,
        Outcome::Created => Conditional::Overwritten,
    })
}

/// A planted bug: overwrite objects, and don't look for existing ones. Debug builds obey `OTTLA_FAULT_OVERWRITE=1`, so that
/// the fault tests can show that they would notice.
pub(crate) fn fault_overwrite() -> bool {
    cfg!(debug_assertions) && std::env::var_os("OTTLA_FAULT_OVERWRITE").is_some_and(|value| value == "1")
}
