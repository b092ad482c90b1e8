//! Checkpoints and what they make superfluous.
//!
//! A checkpoint is written by Delta's kernel from the log itself, never from a table that somebody holds in memory: one
//! that was loaded without its files would be written without its files.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use buoyant_kernel::snapshot::CheckpointWriteResult;
use buoyant_kernel::snapshot::Snapshot;
use deltalake_core::DeltaTableError;
use deltalake_core::checkpoints::cleanup_expired_logs_for;
use deltalake_core::logstore::LogStoreRef;
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStoreExt};

/// What a table's log keeps when the table says nothing (`delta.logRetentionDuration`).
const LOG_RETENTION_DEFAULT: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Versions younger than this stay, whatever the table says: a writer whose answer was lost looks for its commit in them.
const LOG_RETENTION_MIN: Duration = Duration::from_secs(60 * 60);

/// What was found or done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Written {
    /// The version that has a checkpoint now.
    pub(super) version: u64,
    /// True where this call made it.
    pub(super) by_us: bool,
    /// How many files of the log it made superfluous were removed.
    pub(super) removed: usize,
}

/// The version of the newest checkpoint and how old it is, as the table's own hint has it; none where there is none.
pub(super) async fn newest(log_store: &LogStoreRef) -> Result<Option<(u64, Duration)>, DeltaTableError> {
    let hint = Path::from("_delta_log/_last_checkpoint");
    let found = match log_store.object_store(None).get(&hint).await {
        Ok(found) => found,
        Err(StoreError::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let age = SystemTime::now().duration_since(found.meta.last_modified.into()).unwrap_or_default();
    // A hint that can't be read is none: the checkpoint is written anew.
    let hint = serde_json::from_slice::<serde_json::Value>(&found.bytes().await?).ok();
    Ok(hint.and_then(|hint| Some((hint.get("version")?.as_u64()?, age))))
}

/// Writes a checkpoint of the newest version, and removes the versions before it that the table does not keep.
pub(super) async fn write(log_store: &LogStoreRef) -> Result<Written, DeltaTableError> {
    let engine = log_store.engine(None);
    let url = log_store.root_url().clone();
    let work = move || {
        let snapshot = Snapshot::builder_for(url.as_str()).build(engine.as_ref())?;
        let (result, _) = snapshot.checkpoint(engine.as_ref(), None)?;
        let properties = snapshot.table_properties();
        let retention = properties.log_retention_duration.unwrap_or(LOG_RETENTION_DEFAULT).max(LOG_RETENTION_MIN);
        let retention = properties.enable_expired_log_cleanup.unwrap_or(true).then_some(retention);
        Ok::<_, buoyant_kernel::Error>((
            snapshot.version(),
            matches!(result, CheckpointWriteResult::Written),
            retention,
        ))
    };
    let (version, by_us, retention) = tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| DeltaTableError::Generic(format!("the checkpoint was cut off: {error}")))??;
    let removed = match retention {
        Some(retention) if by_us => clean_up(log_store, version, retention).await?,
        _ => 0,
    };
    Ok(Written { version, by_us, removed })
}

/// Removes the log's files that are older than `retention` and that the checkpoint of `version` makes superfluous.
async fn clean_up(log_store: &LogStoreRef, version: u64, retention: Duration) -> Result<usize, DeltaTableError> {
    let cutoff = SystemTime::now().checked_sub(retention).unwrap_or(SystemTime::UNIX_EPOCH);
    let cutoff = cutoff.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
    let cutoff = i64::try_from(cutoff).unwrap_or(i64::MAX);
    cleanup_expired_logs_for(version, Arc::as_ref(log_store), cutoff, None).await
}
